//! Choosing a host: placement says where there is room, filters say what else must be so, weighers say what is best.
//!
//! ```text
//! placement's candidates ─► filters ─► weighers ─► claim at placement ─► place in the group ─► host
//!        ▲                     │ none left                │ lost              │ taken meanwhile
//!        └─────────────────────┼──────────────────────────┴───────────────────┘ look again
//!                              ▼
//!                    a refusal that names each host and what it lacked
//! ```
//!
//! - [`settings`] `[scheduler]` and `[filter_scheduler]` under upstream's names
//! - [`hints`]    what clients may say about the host that they want
//! - `demand`     what a server takes, as a question to placement
//! - `places`     the hosts as filters and weighers see them
//! - `filters`, `weighers` by upstream's names; `matching` the language of their conditions
//! - `lacking`    what hosts without a candidate lack

mod demand;
mod filters;
pub mod hints;
mod lacking;
mod matching;
mod places;
pub mod settings;
mod weighers;

use clients::{PeerError, Rights};
use db::sql;

pub use self::demand::resources;
pub use self::settings::Settings;

use self::demand::Demand;
use self::places::{Offer, Place, Wanted};
use crate::Compute;
use crate::hosts;
use crate::servers::store::Server;

/// Why no host could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum NoHost {
    /// In words for the user.
    #[error("No valid host was found. {0}")]
    Fits(String),
    #[error("placement cannot be asked")]
    Placement(#[from] PeerError),
    #[error("the database cannot be asked")]
    Database(#[from] db::Error),
}

/// Limit: claims tried before looking again; each lost one means that somebody else won.
const CLAIMS: usize = 5;
/// Limit: how often to look again.
const LOOKS: usize = 20;

/// Claims a host for a server and returns its name. Asking again for a server that has its claim returns the same host.
pub async fn claim(compute: &Compute, server: &Server) -> Result<String, NoHost> {
    if let Some(host) = held(compute, server).await? {
        return Ok(host);
    }
    let mut lost = Vec::new();
    for _ in 0..LOOKS {
        let wanted = Wanted::read(compute, server).await?;
        let demand = Demand::of(server);
        let places = places::read(compute, &wanted, &demand).await?;
        let (fitting, objections) = filters::sift(&wanted, places);
        if fitting.is_empty() {
            return Err(NoHost::Fits(lacking::words(compute, &demand, objections).await));
        }
        lost.clear();
        for place in weighers::best_first(&wanted, fitting).iter().take(CLAIMS) {
            match take(compute, &wanted, place).await? {
                true => return Ok(place.host.name.clone()),
                false => lost.push((place.host.clone(), Some("taken by another server".to_string()))),
            }
        }
    }
    Err(NoHost::Fits(lacking::words(compute, &Demand::of(server), lost).await))
}

/// Gives the claim back. Nothing happens when there is none.
pub async fn release(compute: &Compute, server: &str) -> Result<(), NoHost> {
    let gone = compute.peers.placement.delete(Rights::Service, &format!("/allocations/{server}")).await;
    match gone {
        Err(error) if !error.is_missing() => return Err(error.into()),
        _ => {}
    }
    compute.db.run(sql("UPDATE servers SET claimed_host = NULL WHERE id = ?").bind(server)).await?;
    Ok(())
}

/// The host that the server has a claim on already: an earlier try of ours may have been cut short.
async fn held(compute: &Compute, server: &Server) -> Result<Option<String>, NoHost> {
    let target = format!("/allocations/{}", server.id);
    let held = compute.peers.placement.get(Rights::Service, &target).await?;
    let claimed = held["allocations"].as_object().filter(|claims| !claims.is_empty());
    let Some(claims) = claimed else { return Ok(None) };
    let all = hosts::all(&compute.db).await?;
    let found = all.into_iter().find(|host| claims.contains_key(&host.uuid));
    let wanted = Wanted::read(compute, server).await?;
    match found {
        Some(host) if settle(compute, &wanted, &host.name).await? => Ok(Some(host.name)),
        _ => {
            release(compute, &server.id).await?;
            Ok(None)
        }
    }
}

/// Claims one place. Returns false when somebody else was faster, at placement or in the group.
async fn take(compute: &Compute, wanted: &Wanted<'_>, place: &Place) -> Result<bool, NoHost> {
    let Some(offer) = &place.offer else { return Ok(false) };
    match allocate(compute, wanted.server, offer).await {
        Ok(()) => {}
        Err(error) if error.status() == 409 => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    if settle(compute, wanted, &place.host.name).await? {
        return Ok(true);
    }
    release(compute, &wanted.server.id).await?;
    Ok(false)
}

async fn allocate(compute: &Compute, server: &Server, offer: &Offer) -> Result<(), PeerError> {
    let body = api::json!({
        "allocations": offer.allocations,
        "project_id": server.project_id,
        "user_id": server.user_id,
        "consumer_generation": null,
        "consumer_type": "INSTANCE",
    });
    let target = format!("/allocations/{}", server.id);
    compute.peers.placement.put(Rights::Service, &target, &body).await.map(|_| ())
}

/// Writes down where a server of a group will live, unless the group's policy no longer allows it there.
///
/// Invariant: the servers of one group are settled one after the other, under the lock of the group's row; what they
/// see of each other is `host`, or `claimed_host` until the host has been handed the server.
async fn settle(compute: &Compute, wanted: &Wanted<'_>, host: &str) -> Result<bool, NoHost> {
    let Some(group) = &wanted.group else { return Ok(true) };
    let mut tx = compute.db.begin().await?;
    // A group that has been deleted meanwhile asks for nothing.
    if tx.run(sql("UPDATE server_groups SET name = name WHERE id = ?").bind(&group.id)).await? == 0 {
        return Ok(true);
    }
    let members = places::members(&mut tx, &group.id, &wanted.server.id).await?;
    if filters::group_objection(group, &members, host).is_some() {
        return Ok(false);
    }
    let place = sql("UPDATE servers SET claimed_host = ? WHERE id = ?");
    tx.run(place.bind(host).bind(&wanted.server.id)).await?;
    tx.commit().await?;
    Ok(true)
}
