//! The bytes of an image: uploaded once, downloaded as often as anybody likes, in constant memory both ways.

use std::ops::Range;

use api::message::Chunks;
use api::{Answer, Call, Content, Done, NoInput, Operation, Path, Permitted, Refusal, Reply, Upload, failed, get, put};
use futures_util::StreamExt;

use crate::Images;
use crate::images::{ImageFault, Status, Whole, found, is_admin, store};
use crate::inspect::{Inspector, Refusal as Verdict};
use crate::store::{Arrived, Error, Incoming};

pub fn operations() -> Vec<Operation<Images>> {
    vec![
        put("/images/{image_id}/file", upload).rule("upload_image"),
        get("/images/{image_id}/file", download).rule("download_image"),
    ]
}

api::faults! {
    /// Why bytes are not taken or not given.
    pub enum DataFault {
        Transition(from: &'static str) = 409 "" "Image status transition from {from} to saving is not allowed",
        Busy() = 409 "" "Image status transition from saving to saving is not allowed",
        Unset(names: String) = 400 "" "{names} must be set prior to saving data.",
        BadSize() = 400 "" "Invalid or missing image size in request headers.",
        TooLarge() = 413 "" "The incoming image is too large: The provided image is too large.",
        OverQuota(left: u64) = 413 "" "Image exceeds the storage quota: The size of the data will exceed the limit. {left} bytes remaining.",
        Full() = 413 "" "Image storage media is full: There is not enough disk space on the image storage media.",
        Denied() = 503 "" "Insufficient permissions on image storage media: Permission to write image storage media denied.",
        Gone(id: String) = 410 "" "Image {id} could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded.",
        BrokenOff() = 400 "" "The upload broke off.",
        Deactivated() = 403 "" "The requested image has been deactivated. Image data download is forbidden.",
        ManyRanges() = 400 "" "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests instead.",
        BadRange() = 416 "" "Invalid Range header.",
        BadStart(last: i64) = 416 "" "Invalid start position in Range header. Start position MUST be in the inclusive range [0, {last}].",
    }
}

async fn upload(call: Call<Images>, (Path(id), Upload(content)): (Path<String>, Upload)) -> Answer<Done> {
    let media = call.header("content-type").unwrap_or("None");
    if media.split(';').next() != Some("application/octet-stream") {
        return Err(Refusal::new(415, media, format!("Invalid content type {media}")));
    }
    let declared = declared_size(&call, &content)?;
    let whole = call.permit(found(&call, &id).await?)?;
    check_status(&whole)?;
    let (allowed, over) = allowance(&call, &whole).await?;
    if declared.is_some_and(|size| size > allowed) {
        return Err(over);
    }

    let mut incoming = call.store.begin(&id).await.map_err(|error| refusal(&error))?;
    incoming.allow(allowed);
    let transfer = Transfer { service: call.service.clone(), whole: (*whole).clone(), incoming, over };
    // A client that goes away takes its request with it; what must happen then happens in a task of its own.
    let done = tokio::spawn(transfer.run(content.chunks())).await;
    done.map_err(|error| failed("an upload", &error))??;
    Ok(Done::with(whole))
}

fn declared_size(call: &Call<Images>, content: &Content) -> Answer<Option<u64>> {
    match call.header("x-openstack-image-size") {
        Some(text) => text.trim().parse().map(Some).map_err(|_| DataFault::BadSize {}.into()),
        None => Ok(match content {
            Content::Empty => Some(0),
            Content::Bytes(bytes) => Some(bytes.len() as u64),
            Content::Chunks { length, .. } => *length,
        }),
    }
}

fn check_status(whole: &Whole) -> Answer<()> {
    let image = &whole.image;
    if image.status != Status::Queued {
        return Err(DataFault::Transition { from: image.status.word() }.into());
    }
    let unset: Vec<&str> = [("disk_format", &image.disk_format), ("container_format", &image.container_format)]
        .iter()
        .filter(|(_, format)| format.is_none())
        .map(|(name, _)| *name)
        .collect();
    match unset[..] {
        [] => Ok(()),
        [name] => Err(DataFault::Unset { names: format!("Property {name}") }.into()),
        _ => Err(DataFault::Unset { names: format!("Properties {}", unset.join(", ")) }.into()),
    }
}

/// How many bytes may come, and what to say to more.
async fn allowance(call: &Call<Images>, whole: &Whole) -> Answer<(u64, Refusal)> {
    let cap = call.options.image_size_cap;
    let Some(quota) = call.options.user_storage_quota else { return Ok((cap, DataFault::TooLarge {}.into())) };
    let used = store::bytes_of(&call.db, whole.image.owner.as_deref()).await?;
    let left = quota.saturating_sub(used);
    if left < cap { Ok((left, DataFault::OverQuota { left }.into())) } else { Ok((cap, DataFault::TooLarge {}.into())) }
}

/// An upload under way, with all that it needs to end well or badly without its client.
struct Transfer {
    service: std::sync::Arc<Images>,
    whole: Whole,
    incoming: Incoming,
    over: Refusal,
}

impl Transfer {
    async fn run(mut self, chunks: Chunks) -> Answer<()> {
        let id = self.whole.image.id.clone();
        if !store::change_status(&self.service.db, &id, Status::Queued, Status::Saving).await? {
            return Err(DataFault::Busy {}.into());
        }
        let outcome = match self.receive(chunks).await {
            Ok((arrived, virtual_size)) => self.activate(arrived, virtual_size).await,
            Err(refusal) => Err(refusal),
        };
        let Err(refusal) = outcome else {
            self.incoming.keep();
            tracing::info!(image = id, "image uploaded");
            return Ok(());
        };
        tracing::info!(image = id, why = refusal.message, "an upload was not kept");
        // Invariant: no file outlives this for a queued image; if we die between the two, the sweep does the rest.
        if let Err(error) = self.incoming.discard().await {
            tracing::warn!(image = id, %error, "cannot remove what a broken upload left; the sweep will");
        }
        store::change_status(&self.service.db, &id, Status::Saving, Status::Queued).await?;
        Err(refusal)
    }

    async fn receive(&mut self, mut chunks: Chunks) -> Answer<(Arrived, Option<u64>)> {
        let image = &self.whole.image;
        // Upstream: only a bare file is what its disk format says; others are archives with it inside.
        let bare = image.container_format.as_deref() == Some("bare");
        let inspector = image.disk_format.as_deref().filter(|_| bare).map(Inspector::new);
        let prepared = self.incoming.prepare(self.service.options.hashing_algorithm, inspector);
        prepared.await.map_err(|error| refusal(&error))?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| DataFault::BrokenOff {})?;
            self.incoming.write(&chunk).await.map_err(|error| {
                if matches!(error, Error::TooLarge(_)) { self.over.clone() } else { refusal(&error) }
            })?;
        }
        let mut arrived = self.incoming.finish().await.map_err(|error| refusal(&error))?;
        let virtual_size = match arrived.inspected.take() {
            Some(verdict) => judge(verdict, self.service.options.require_image_format_match)?,
            None => None,
        };
        Ok((arrived, virtual_size))
    }

    async fn activate(&self, arrived: Arrived, virtual_size: Option<u64>) -> Answer<()> {
        let Images { db, options, .. } = &*self.service;
        let id = &self.whole.image.id;
        let mut tx = db.begin().await?;
        if !store::activate(&mut tx, id, &arrived, options.hashing_algorithm.name(), virtual_size).await? {
            return Err(DataFault::Gone { id: id.clone() }.into());
        }
        // Two uploads at once may each have fitted alone.
        if let Some(quota) = options.user_storage_quota
            && store::bytes_of(&mut tx, self.whole.image.owner.as_deref()).await? > quota
        {
            return Err(self.over.clone());
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Upstream: what the inspector refuses is a wrong media type.
fn judge(verdict: Result<crate::inspect::Inspected, Verdict>, must_match: bool) -> Answer<Option<u64>> {
    match verdict {
        Ok(inspected) => Ok(inspected.virtual_size),
        Err(Verdict::Mismatch { .. }) if !must_match => Ok(None),
        Err(verdict) => Err(Refusal::new(415, "application/octet-stream", verdict.to_string())),
    }
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Busy(_) => DataFault::Busy {}.into(),
        Error::Full => DataFault::Full {}.into(),
        Error::TooLarge(_) => DataFault::TooLarge {}.into(),
        Error::Denied(_) => {
            tracing::error!(%error, "the image store refuses us");
            DataFault::Denied {}.into()
        }
        Error::Missing(id) => ImageFault::NotFound { id: id.clone() }.into(),
        Error::Io(..) => failed("the image store", error),
    }
}

async fn download(call: Call<Images>, (Path(id), _): (Path<String>, NoInput)) -> Answer<Permitted<Reply>> {
    let whole = found(&call, &id).await?;
    if whole.image.status == Status::Deactivated && !is_admin(&call) {
        return Err(DataFault::Deactivated {}.into());
    }
    let whole = call.permit(whole)?;
    if !whole.image.has_data() {
        return Ok(whole.map(|_| Reply::new(204)));
    }
    let size = call.store.size(&id).await.map_err(|error| refusal(&error))?;
    let range = asked_range(call.header("range"), size)?;
    let bytes = range.clone().unwrap_or(0..size);
    let length = bytes.end - bytes.start;
    let chunks = call.store.read(&id, bytes).await.map_err(|error| refusal(&error))?;

    let mut reply = Reply::new(if range.is_some() { 206 } else { 200 })
        .header("content-type", "application/octet-stream")
        .header("content-length", &length.to_string());
    if let Some(range) = range {
        reply = reply.header("content-range", &format!("bytes {}-{}/{size}", range.start, range.end - 1));
    }
    if let Some(checksum) = &whole.image.checksum {
        reply = reply.header("content-md5", checksum);
    }
    let chunks: Chunks = Box::pin(chunks.map(|piece| piece.map_err(std::io::Error::other)));
    reply.content = Content::Chunks { length: Some(length), chunks };
    Ok(whole.map(|_| reply))
}

/// `bytes=10-19`, `bytes=10-`, `bytes=-5`: one range, within a file of `size` bytes.
fn asked_range(header: Option<&str>, size: u64) -> Answer<Option<Range<u64>>> {
    let Some(header) = header else { return Ok(None) };
    if header.contains(',') {
        return Err(DataFault::ManyRanges {}.into());
    }
    let bad = || Refusal::from(DataFault::BadRange {});
    let (unit, span) = header.split_once('=').ok_or_else(bad)?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Err(bad());
    }
    let (first, last) = span.trim().split_once('-').ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    if first.trim().is_empty() {
        let length = number(last)?;
        return if length == 0 { Err(bad()) } else { Ok(Some(size.saturating_sub(length)..size)) };
    }
    let start = number(first)?;
    if start >= size {
        return Err(DataFault::BadStart { last: size as i64 - 1 }.into());
    }
    let end = if last.trim().is_empty() { size } else { number(last)?.saturating_add(1).min(size) };
    if end <= start { Err(bad()) } else { Ok(Some(start..end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_as_clients_write_it() {
        let read = |header: &str| asked_range(Some(header), 100).map_err(|refusal| refusal.status);
        assert_eq!(read("bytes=10-19"), Ok(Some(10..20)));
        assert_eq!(read("bytes=10-"), Ok(Some(10..100)));
        assert_eq!(read("bytes=-5"), Ok(Some(95..100)));
        assert_eq!(read("bytes=-500"), Ok(Some(0..100)));
        assert_eq!(read("bytes=0-1000"), Ok(Some(0..100)));
        for bad in ["bytes=100-", "bytes=9-3", "bytes=-0", "bytes=a-b", "lines=1-2", "bytes"] {
            assert_eq!(read(bad), Err(416), "{bad}");
        }
        assert_eq!(read("bytes=1-2,4-5"), Err(400));
        assert_eq!(asked_range(None, 0).unwrap(), None);
    }
}
