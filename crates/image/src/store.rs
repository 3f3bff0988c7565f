//! Keeps the files of images in a directory: one file per image, named by its id.
//!
//! ```text
//! begin ──► <id>.part, locked ──write…──► finish: fsync, rename ──► <id>, still locked ──keep──► <id>
//!                │                                                   │
//!                └── dropped or killed: the file is worth nothing ───┘
//! ```
//!
//! The lock on the file is the upload's lease: the kernel drops it when the process dies, on whatever instruction, so
//! whoever can take the lock knows that nobody is writing. That is how [`Store::abandoned`] tells a transfer that is
//! slow from one that is dead, without clocks, and also between several processes that share the directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;

mod incoming;

pub use incoming::{Arrived, Incoming};

/// Limit: what one download holds in memory, and reads from the disk at once.
const READ_BYTES: usize = 256 * 1024;
/// Limit: a sweep holds a file's lock for microseconds; an upload that is alive holds it for longer than this.
const LOCK_TRIES: usize = 5;
const PART: &str = ".part";

/// Why a file could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("image {0} has no file")]
    Missing(String),
    /// Another upload to the same image is under way.
    #[error("image {0} is being uploaded")]
    Busy(String),
    #[error("the disk of the image store is full")]
    Full,
    #[error("the image is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    #[error("the image store may not be written to")]
    Denied(#[source] io::Error),
    #[error("cannot {0} the file of an image")]
    Io(&'static str, #[source] io::Error),
}

impl Error {
    fn from_io(doing: &'static str) -> impl Fn(io::Error) -> Error {
        move |error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::Full,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Error::Denied(error),
            _ => Error::Io(doing, error),
        }
    }
}

/// A directory of images. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    dir: Arc<Path>,
}

/// A file without a live upload behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kept {
    pub image: String,
    /// Whole, or what a dead upload left.
    pub whole: bool,
}

impl Store {
    /// Makes the directory if it is not there.
    pub async fn open(dir: impl Into<PathBuf>) -> Result<Store, Error> {
        let dir: PathBuf = dir.into();
        blocking("make the directory for", move || {
            fs::create_dir_all(&dir)?;
            Ok(Store { dir: dir.into() })
        })
        .await
    }

    fn whole(&self, image: &str) -> PathBuf {
        self.dir.join(image)
    }

    fn part(&self, image: &str) -> PathBuf {
        self.dir.join(format!("{image}{PART}"))
    }

    /// Starts an upload. One at a time for each image; the second is [`Error::Busy`].
    ///
    /// `image` is an id that we checked: it becomes a file name.
    pub async fn begin(&self, image: &str) -> Result<Incoming, Error> {
        debug_assert!(is_file_name(image), "an image id is a file name");
        let (part, whole) = (self.part(image), self.whole(image));
        let file = blocking("create", move || lease(&part, &whole)).await?;
        let file = file.ok_or_else(|| Error::Busy(image.to_owned()))?;
        Ok(Incoming::new(self.clone(), image.to_owned(), file))
    }

    /// How large the file is.
    pub async fn size(&self, image: &str) -> Result<u64, Error> {
        Ok(self.open_whole(image).await?.1)
    }

    /// The bytes of `range`, in pieces, as fast as the reader takes them and not faster.
    ///
    /// The file stays readable to its end though it be removed meanwhile. A range beyond the end yields less.
    pub async fn read(
        &self,
        image: &str,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, Error>> + Send + 'static, Error> {
        let (file, size) = self.open_whole(image).await?;
        let file = Arc::new(file);
        let end = range.end.min(size);
        Ok(stream::try_unfold(range.start, move |at| {
            let file = file.clone();
            async move {
                let wanted = end.saturating_sub(at).min(READ_BYTES as u64) as usize;
                if wanted == 0 {
                    return Ok(None);
                }
                let piece = blocking("read", move || read_piece(&file, at, wanted)).await?;
                let next = at + piece.len() as u64;
                Ok((!piece.is_empty()).then_some((piece, next)))
            }
        }))
    }

    /// The whole file, open for reading, and its size: for callers on this host that can use a file better than bytes.
    pub async fn open_whole(&self, image: &str) -> Result<(File, u64), Error> {
        let path = self.whole(image);
        let opened = blocking("open", move || match File::open(path) {
            Ok(file) => file.metadata().map(|about| Some((file, about.len()))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        opened.await?.ok_or_else(|| Error::Missing(image.to_owned()))
    }

    /// Removes the file of an image that is gone, and what a dead upload left of it; neither need be there.
    /// False when a live upload still writes: ask again later.
    pub async fn remove(&self, image: &str) -> Result<bool, Error> {
        let (dir, paths) = (self.dir.clone(), [self.whole(image), self.part(image)]);
        blocking("remove", move || {
            let mut gone = true;
            for path in paths {
                gone &= remove_unlocked(&path)?;
            }
            sync_dir(&dir)?;
            Ok(gone)
        })
        .await
    }

    /// Every file that nobody is writing, by image. What has no row among them is a leak.
    ///
    /// A file with a name that we did not give is not ours, and is not listed.
    pub async fn abandoned(&self) -> Result<Vec<Kept>, Error> {
        let dir = self.dir.clone();
        blocking("list", move || {
            let mut kept = Vec::new();
            for entry in fs::read_dir(&dir)? {
                let name = entry?.file_name();
                let Some(name) = name.to_str().filter(|name| is_file_name(name.trim_end_matches(PART))) else {
                    continue;
                };
                if is_unlocked(&dir.join(name))? {
                    let image = name.trim_end_matches(PART).to_owned();
                    kept.push(Kept { image, whole: !name.ends_with(PART) });
                }
            }
            kept.sort();
            Ok(kept)
        })
        .await
    }

    /// Whether an upload to this image is alive, in this process or another one.
    pub async fn is_arriving(&self, image: &str) -> Result<bool, Error> {
        let paths = [self.part(image), self.whole(image)];
        blocking("look at", move || {
            for path in paths {
                if path.exists() && !is_unlocked(&path)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

/// Ids only: no dots but ours, no separators.
fn is_file_name(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// The file of a new upload, locked; none if another upload is alive. Whoever holds it is the only one to write the
/// image.
fn lease(part: &Path, whole: &Path) -> io::Result<Option<File>> {
    let Some(file) = lock_new(part)? else { return Ok(None) };
    // Another upload may be past its renaming, so that its lock is on the file of the final name.
    if whole.exists() && !is_unlocked(whole)? {
        fs::remove_file(part)?;
        return Ok(None);
    }
    Ok(Some(file))
}

/// Opens or creates a file and takes its lock; none if somebody else has it.
fn lock_new(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..LOCK_TRIES {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
        match file.try_lock() {
            Ok(()) if is_at(&file, path)? => {
                file.set_len(0)?;
                return Ok(Some(file));
            }
            // Somebody removed what a dead upload left between our open and our lock.
            Ok(()) => {}
            // Perhaps only a sweep that looks whether we are alive.
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether the path still means this file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_unlocked(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => taken(&file),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the lock until the file is closed, if nobody has it.
fn taken(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether the file is gone, by us or before. A live upload removes its own when it learns that its image is gone.
fn remove_unlocked(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        opened => opened?,
    };
    if !taken(&file)? || !is_at(&file, path)? {
        return Ok(false);
    }
    fs::remove_file(path).map(|()| true)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn read_piece(file: &File, at: u64, wanted: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; wanted];
    let mut got = 0;
    while got < wanted {
        match file.read_at(&mut piece[got..], at + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    piece.truncate(got);
    Ok(piece.into())
}

/// Runs a piece of disk work where it may block.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await.expect("disk work does not panic, and nobody aborts it");
    done.map_err(Error::from_io(doing))
}

#[cfg(test)]
mod tests;
