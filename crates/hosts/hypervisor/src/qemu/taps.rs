//! The taps of guests: made before QEMU starts, in the host's network namespace, and marked as ours by their alias.
//!
//! We leave a tap down: the network agent puts it up when it is wired, so that a guest never talks to the host itself.

use std::collections::BTreeSet;

use base::Json;
use contract::HostError;
use contract::guest::Nic;

use super::{Owner, process};

const ALIAS: &str = "ferrostack guest ";

/// Makes the taps of a guest that has no process; those that are there already are fine.
pub(crate) async fn ensure(
    netns: Option<&str>,
    guest: &str,
    nics: &[Nic],
    owner: Option<Owner>,
) -> Result<(), HostError> {
    if nics.is_empty() {
        return Ok(());
    }
    let user = owner.map(|owner| format!(" user {}", owner.uid)).unwrap_or_default();
    let mut batch = String::new();
    for Nic { tap, mtu, .. } in nics {
        batch += &format!("tuntap add dev {tap} mode tap{user}\n");
        batch += &format!("link set dev {tap} mtu {mtu} alias \"{ALIAS}{guest}\"\n");
    }
    ip(netns, &["-batch", "-"], Some(&batch)).await.map(|_| ())
}

/// Removes every tap that bears this guest's mark, also those that its order no longer names.
pub(crate) async fn remove(netns: Option<&str>, guest: &str) -> Result<(), HostError> {
    let ours = list(netns).await?.into_iter().filter(|tap| tap.guest == guest);
    let batch: String = ours.map(|tap| format!("link del dev {}\n", tap.name)).collect();
    match batch.is_empty() {
        true => Ok(()),
        // Another remover may have been faster with some of them.
        false => ip(netns, &["-force", "-batch", "-"], Some(&batch)).await.map(|_| ()),
    }
}

/// Removes the marked taps that the guest no longer has.
pub(crate) async fn remove_others(netns: Option<&str>, guest: &str, keep: &[Nic]) -> Result<(), HostError> {
    let keep: BTreeSet<&str> = keep.iter().map(|nic| nic.tap.as_str()).collect();
    for tap in list(netns).await?.iter().filter(|tap| tap.guest == guest && !keep.contains(tap.name.as_str())) {
        ip(netns, &["link", "del", "dev", &tap.name], None).await?;
    }
    Ok(())
}

pub(crate) struct Tap {
    pub(crate) name: String,
    pub(crate) guest: String,
}

/// Every tap that bears our mark.
pub(crate) async fn list(netns: Option<&str>) -> Result<Vec<Tap>, HostError> {
    let text = ip(netns, &["-j", "link", "show"], None).await?;
    let links: Vec<Json> =
        serde_json::from_str(&text).map_err(|error| HostError::again("listing interfaces").because(error))?;
    let marked = links.iter().filter_map(|link| {
        let guest = link["ifalias"].as_str()?.strip_prefix(ALIAS)?;
        Some(Tap { name: link["ifname"].as_str()?.to_string(), guest: guest.to_string() })
    });
    Ok(marked.collect())
}

async fn ip(netns: Option<&str>, words: &[&str], input: Option<&str>) -> Result<String, HostError> {
    let mut argv = vec!["ip"];
    if let Some(name) = netns {
        argv.extend(["-n", name]);
    }
    argv.extend(words);
    process::tool(&argv, input).await
}
