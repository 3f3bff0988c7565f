//! Base images of this host: each is fetched once, verified, and never written again.
//!
//! Invariant: a file under its final name is complete and was verified. It is mode 0444, because a careless block
//! commit of one guest's overlay would otherwise change every other guest's disk.
//!
//! Later: images that no guest has used for a day are removed; today an operator deletes them by hand.

use std::collections::HashMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use contract::HostError;
use sha2::digest::DynDigest;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::qcow2;
use crate::hypervisor::Images;
use crate::limits::{IMAGE_CHUNKS, IMAGE_STALL};

/// What an order says about an image.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) image: String,
    pub(crate) format: String,
    pub(crate) size_bytes: u64,
    pub(crate) os_hash_algo: String,
    pub(crate) os_hash_value: String,
}

/// A verified image on this host.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) format: &'static str,
    pub(crate) virtual_size: u64,
}

pub(crate) struct Cache {
    dir: PathBuf,
    source: Arc<dyn Images>,
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Cache {
    /// Opens the cache in `dir` and forgets downloads that were cut off.
    pub(crate) fn open(dir: PathBuf, source: Arc<dyn Images>) -> std::io::Result<Cache> {
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&dir)?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Cache { dir, source, flights: Mutex::default() })
    }

    /// The image, fetched if it is not here yet. Many may ask at once: one fetches, and goes on even if its asker is
    /// gone.
    pub(crate) async fn ensure(&self, wanted: &Wanted) -> Result<Base, HostError> {
        if !base::id::is_uuid(&wanted.image) {
            return Err(HostError::never(format!("{:?} is not the id of an image", wanted.image)));
        }
        let path = self.dir.join(&wanted.image);
        if fs::try_exists(&path).await.unwrap_or(false) {
            return inspect(&path, wanted);
        }
        let turn = self.flight(&wanted.image).lock_owned().await;
        if !fs::try_exists(&path).await.unwrap_or(false) {
            let (source, wanted, path) = (self.source.clone(), wanted.clone(), path.clone());
            let fetched = tokio::spawn(async move {
                let _turn = turn;
                download(&*source, &wanted, &path).await
            });
            fetched.await.map_err(|error| HostError::again("fetching the image").because(error))??;
        }
        inspect(&path, wanted)
    }

    fn flight(&self, image: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(image).and_then(Weak::upgrade) {
            return flight;
        }
        flights.retain(|_, flight| flight.strong_count() > 0);
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(image.to_string(), Arc::downgrade(&flight));
        flight
    }
}

async fn download(source: &dyn Images, wanted: &Wanted, path: &Path) -> Result<(), HostError> {
    let part = path.with_extension("part");
    let (to, from) = mpsc::channel(IMAGE_CHUNKS);
    // Whoever fails first ends both.
    let done = match tokio::try_join!(source.fetch(&wanted.image, to), receive(from, wanted, &part)) {
        Ok(((), ())) => finish(&part, path).await,
        Err(error) => Err(error),
    };
    if done.is_err() {
        let _ = fs::remove_file(&part).await;
    }
    done
}

async fn receive(mut from: mpsc::Receiver<Bytes>, wanted: &Wanted, part: &Path) -> Result<(), HostError> {
    let disk = |error: std::io::Error| HostError::again(format!("keeping image {}", wanted.image)).because(error);
    let mut hash = hasher(wanted)?;
    let mut file = File::create(part).await.map_err(disk)?;
    let mut length: u64 = 0;
    let stalled = |_| HostError::again(format!("fetching image {}", wanted.image)).because("no bytes came");
    while let Some(bytes) = timeout(IMAGE_STALL, from.recv()).await.map_err(stalled)? {
        length += bytes.len() as u64;
        if length > wanted.size_bytes {
            break;
        }
        if let Some(hash) = &mut hash {
            hash.update(&bytes);
        }
        file.write_all(&bytes).await.map_err(disk)?;
    }
    file.sync_all().await.map_err(disk)?;
    let right = match hash {
        Some(hash) => hex(&hash.finalize()).eq_ignore_ascii_case(&wanted.os_hash_value),
        None => true,
    };
    match right && length == wanted.size_bytes {
        true => Ok(()),
        false => Err(HostError::again(format!("verifying image {}", wanted.image))),
    }
}

async fn finish(part: &Path, path: &Path) -> Result<(), HostError> {
    let disk = |error: std::io::Error| HostError::again("keeping an image").because(error);
    fs::set_permissions(part, Permissions::from_mode(0o444)).await.map_err(disk)?;
    fs::rename(part, path).await.map_err(disk)
}

/// None when the image has no hash, as those that were uploaded to an old upstream cloud.
fn hasher(wanted: &Wanted) -> Result<Option<Box<dyn DynDigest + Send>>, HostError> {
    Ok(Some(match wanted.os_hash_algo.to_ascii_lowercase().as_str() {
        "sha512" => Box::<sha2::Sha512>::default(),
        "sha256" => Box::<sha2::Sha256>::default(),
        "sha1" => Box::<sha1::Sha1>::default(),
        "md5" => Box::<md5::Md5>::default(),
        "" => {
            tracing::warn!(image = wanted.image, "an image without a hash cannot be verified");
            return Ok(None);
        }
        other => return Err(HostError::never(format!("this host cannot verify an image by {other}"))),
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses what QEMU must not open. Runs for each use: the format is the order's, not the file's.
fn inspect(path: &Path, wanted: &Wanted) -> Result<Base, HostError> {
    let disk = |error: std::io::Error| HostError::again(format!("reading image {}", wanted.image)).because(error);
    let never = |what: &str| Err(HostError::never(format!("image {} {what}", wanted.image)));
    match wanted.format.as_str() {
        "raw" => {
            // QEMU wants whole sectors, and reads the missing rest of the last one as zeros.
            let length = std::fs::metadata(path).map_err(disk)?.len();
            Ok(Base { format: "raw", virtual_size: length.next_multiple_of(512) })
        }
        "qcow2" => match qcow2::read(path).map_err(disk)? {
            None => never("says that it is qcow2, but it is not"),
            Some(header) if header.refers_elsewhere => never("refers to another file, which is not allowed"),
            Some(header) => Ok(Base { format: "qcow2", virtual_size: header.virtual_size }),
        },
        other => never(&format!("has the format {other}, which this host cannot boot; raw and qcow2 it can")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypervisor::Work;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const CONTENT: &[u8] = b"twelve bytes";

    #[derive(Default)]
    struct Source {
        fetched: AtomicUsize,
        damage: AtomicUsize,
    }

    impl Images for Source {
        fn fetch<'a>(&'a self, _: &'a str, to: mpsc::Sender<Bytes>) -> Work<'a, ()> {
            Box::pin(async move {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                let damaged = self.damage.swap(0, Ordering::SeqCst) > 0;
                let bytes = if damaged { Bytes::from_static(b"twelve bites") } else { Bytes::from_static(CONTENT) };
                for byte in bytes.chunks(5) {
                    let _ = to.send(Bytes::copy_from_slice(byte)).await;
                }
                Ok(())
            })
        }
    }

    fn wanted() -> Wanted {
        let mut hash = hasher(&Wanted { os_hash_algo: "sha256".into(), ..blank() }).unwrap().unwrap();
        hash.update(CONTENT);
        Wanted { os_hash_algo: "sha256".into(), os_hash_value: hex(&hash.finalize()), ..blank() }
    }

    fn blank() -> Wanted {
        Wanted {
            image: "7f1c3c39-6e7b-4a7e-9d8b-0e9f4f5f6a11".into(),
            format: "raw".into(),
            size_bytes: CONTENT.len() as u64,
            os_hash_algo: String::new(),
            os_hash_value: String::new(),
        }
    }

    fn cache(source: Arc<Source>) -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"), source).unwrap();
        (dir, cache)
    }

    #[tokio::test]
    async fn ten_guests_fetch_an_image_once() {
        let source = Arc::new(Source::default());
        let (_dir, cache) = cache(source.clone());
        let wanted = wanted();
        let (a, b) = tokio::join!(cache.ensure(&wanted), cache.ensure(&wanted));
        assert_eq!(a.unwrap().virtual_size, 512);
        b.unwrap();
        let path = cache.dir.join(&wanted.image);
        assert_eq!(std::fs::read(&path).unwrap(), CONTENT);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
        assert_eq!(source.fetched.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_damaged_image_is_forgotten_and_fetched_again() {
        let source = Arc::new(Source { damage: 1.into(), ..Source::default() });
        let (_dir, cache) = cache(source);
        let error = cache.ensure(&wanted()).await.unwrap_err();
        assert!(matches!(error, HostError::Again { .. }), "{error}");
        cache.ensure(&wanted()).await.unwrap();
    }

    #[tokio::test]
    async fn an_image_that_is_larger_than_announced_is_not_kept() {
        let (_dir, cache) = cache(Arc::default());
        assert!(cache.ensure(&Wanted { size_bytes: 5, ..wanted() }).await.is_err());
        assert_eq!(std::fs::read_dir(&cache.dir).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_is_no_qcow2_is_refused_for_good() {
        let (_dir, cache) = cache(Arc::default());
        let error = cache.ensure(&Wanted { format: "qcow2".into(), ..wanted() }).await.unwrap_err();
        assert!(matches!(error, HostError::Never { .. }), "{error}");
        let error = cache.ensure(&Wanted { format: "vmdk".into(), ..wanted() }).await.unwrap_err();
        assert!(error.to_string().contains("vmdk"), "{error}");
    }
}
