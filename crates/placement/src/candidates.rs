//! Allocation candidates: where a request would fit, whole trees and shared providers considered.
//!
//! - [`ask`]    reads the query into a [`ask::Question`]
//! - [`search`] finds the answers in the index
//! - [`render`] writes them, in the shape of each version

use api::message::Reply;
use api::{Answer, Call, Operation, Permitted, failed, get, v};
use base::clock;

use crate::Placement;
use crate::exchange::{AcceptsJson, dated};

mod ask;
mod render;
mod search;

pub fn operations() -> Vec<Operation<Placement>> {
    vec![get("/allocation_candidates", list).rule("placement:allocation_candidates:list").since(v(1, 10))]
}

async fn list(call: Call<Placement>, _: AcceptsJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let question = ask::read(&call).await?;
    let index = call.index.newest(&call.db).await?;
    let (settings, version) = (call.settings.clone(), call.version);
    // A wide tree with many groups keeps a processor busy for a while.
    let found = tokio::task::spawn_blocking(move || {
        let answer = search::search(&index, &question, &settings);
        render::render(&index, &question, &answer, version)
    });
    let text = found.await.map_err(|error| failed("the search for candidates", &error))?;
    let reply = Reply::text(200, "application/json", text);
    Ok(permitted.map(|()| dated(&call, reply, clock::now())))
}
