//! An upload on its way to the disk: written, summed up and inspected while it passes.
//!
//! The bytes are gathered into large pieces. Each piece is written, hashed and hashed again by three threads at once
//! while the next one gathers, so that a transfer takes as long as the slowest of the three and holds two pieces.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use tokio::task::JoinHandle;

use super::{Error, Store, blocking, is_at, remove_unlocked, sync_dir};
use crate::digest::{Algorithm, Sum};
use crate::inspect::{Inspected, Inspector, Refusal};

/// Limit: two of these are what one upload holds in memory, beside the inspector's share.
const PIECE_BYTES: usize = 256 * 1024;

/// An upload under way. Dropping it removes what was written.
pub struct Incoming {
    store: Store,
    image: String,
    /// Held for its lock; `None` once the file is kept.
    lease: Option<File>,
    gathered: BytesMut,
    size: u64,
    allowed: u64,
    lanes: Option<Lanes>,
}

/// What each lane carries from piece to piece.
struct Lanes {
    writer: Lane<Writer>,
    checksum: Lane<Sum>,
    hash: Lane<Sum>,
}

/// A whole upload: on the disk under its final name, but not yet kept.
#[derive(Debug)]
pub struct Arrived {
    pub size: u64,
    /// MD5, in hex.
    pub checksum: String,
    pub hash: String,
    /// The verdict; none when nobody asked for one.
    pub inspected: Option<Result<Inspected, Refusal>>,
}

impl Incoming {
    pub(super) fn new(store: Store, image: String, lease: File) -> Incoming {
        Incoming {
            store,
            image,
            lease: Some(lease),
            gathered: BytesMut::new(),
            size: 0,
            allowed: u64::MAX,
            lanes: None,
        }
    }

    /// Refuses the upload with [`Error::TooLarge`] once it exceeds this.
    pub fn allow(&mut self, bytes: u64) {
        self.allowed = bytes;
    }

    /// Says how to sum up and inspect; before the first byte.
    pub async fn prepare(&mut self, algorithm: Algorithm, inspector: Option<Inspector>) -> Result<(), Error> {
        let lease = self.lease.as_ref().expect("an upload has its file until it is kept");
        let file = lease.try_clone().map_err(Error::from_io("open"))?;
        let writer = Lane::Idle(Writer { file, inspector, failed: None });
        let (checksum, hash) = (Lane::Idle(Sum::md5()), Lane::Idle(Sum::of(algorithm)));
        self.lanes = Some(Lanes { writer, checksum, hash });
        Ok(())
    }

    /// The next bytes. Waits while the disk is behind.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        self.size += bytes.len() as u64;
        if self.size > self.allowed {
            return Err(Error::TooLarge(self.allowed));
        }
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.gathered.len()));
            self.gathered.extend_from_slice(now);
            bytes = rest;
            if self.gathered.len() == PIECE_BYTES {
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    /// Hands the gathered piece to the lanes once they are done with the one before.
    async fn pass_on(&mut self) -> Result<(), Error> {
        let piece = std::mem::replace(&mut self.gathered, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        let lanes = self.lanes.as_mut().expect("prepared before the first byte");
        lanes.writer.settle().await.failed.take().map_or(Ok(()), |error| Err(Error::from_io("write")(error)))?;
        lanes.checksum.settle().await;
        lanes.hash.settle().await;
        lanes.writer.run(piece.clone(), Writer::write);
        lanes.checksum.run(piece.clone(), |sum, piece| sum.add(&piece));
        lanes.hash.run(piece, |sum, piece| sum.add(&piece));
        Ok(())
    }

    /// No more bytes: brings them all to the disk, under the image's name. Then [`Incoming::keep`] or drop it.
    pub async fn finish(&mut self) -> Result<Arrived, Error> {
        self.pass_on().await?;
        let Lanes { writer, checksum, hash } = self.lanes.take().expect("pass_on has used them");
        let mut writer = writer.into_settled().await;
        if let Some(error) = writer.failed.take() {
            return Err(Error::from_io("write")(error));
        }
        let inspected = writer.inspector.take().map(Inspector::finish);
        let (dir, part, whole) = (self.store.dir.clone(), self.store.part(&self.image), self.store.whole(&self.image));
        blocking("store", move || {
            writer.file.sync_all()?;
            fs::rename(part, whole)?;
            sync_dir(&dir)
        })
        .await?;
        let (checksum, hash) = (checksum.into_settled().await.finish(), hash.into_settled().await.finish());
        Ok(Arrived { size: self.size, checksum, hash, inspected })
    }

    /// The image's row names the file now: it stays.
    pub fn keep(mut self) {
        self.lease = None;
    }

    /// Removes what was written and waits until it is gone.
    pub async fn discard(mut self) -> Result<(), Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        self.lanes = None;
        let paths = self.paths();
        blocking("remove", move || remove_own(&lease, &paths)).await
    }

    /// Removes also what an earlier, dead upload left. Only for who knows that the image has no file that counts.
    pub async fn clear(mut self) -> Result<(), Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let (paths, whole) = (self.paths(), self.store.whole(&self.image));
        blocking("remove", move || {
            // First the other's, while our lock still keeps new uploads out.
            remove_unlocked(&whole)?;
            remove_own(&lease, &paths)
        })
        .await
    }

    fn paths(&self) -> [PathBuf; 2] {
        [self.store.part(&self.image), self.store.whole(&self.image)]
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        // A lane may still be writing: harmless, its file has no name any more.
        if let Err(error) = remove_own(&lease, &self.paths()) {
            tracing::warn!(image = self.image, %error, "cannot remove what a broken upload left; the sweep will");
        }
    }
}

/// Removes the file behind our lock by whichever name it has, and nothing that took its place.
fn remove_own(lease: &File, paths: &[PathBuf]) -> io::Result<()> {
    for path in paths {
        if is_at(lease, path)? {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

struct Writer {
    file: File,
    inspector: Option<Inspector>,
    failed: Option<io::Error>,
}

impl Writer {
    fn write(&mut self, piece: Bytes) {
        if let Some(inspector) = &mut self.inspector {
            inspector.feed(&piece);
        }
        self.failed = self.file.write_all(&piece).err();
    }
}

/// A worker that is either waiting for a piece or busy with one on a thread of its own.
enum Lane<T> {
    Idle(T),
    Busy(JoinHandle<T>),
    /// Only within a call.
    Moving,
}

impl<T: Send + 'static> Lane<T> {
    async fn settle(&mut self) -> &mut T {
        if let Lane::Busy(work) = self {
            let done = work.await.expect("a lane does not panic, and nobody aborts it");
            *self = Lane::Idle(done);
        }
        match self {
            Lane::Idle(worker) => worker,
            Lane::Busy(_) | Lane::Moving => unreachable!("settled above"),
        }
    }

    async fn into_settled(mut self) -> T {
        self.settle().await;
        match self {
            Lane::Idle(worker) => worker,
            Lane::Busy(_) | Lane::Moving => unreachable!("settled above"),
        }
    }

    /// Only on a settled lane.
    fn run(&mut self, piece: Bytes, work: impl FnOnce(&mut T, Bytes) + Send + 'static) {
        let Lane::Idle(mut worker) = std::mem::replace(self, Lane::Moving) else { unreachable!("run after settle") };
        *self = Lane::Busy(tokio::task::spawn_blocking(move || {
            work(&mut worker, piece);
            worker
        }));
    }
}
