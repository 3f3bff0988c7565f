//! Files in a directory of their own: whole, broken, abandoned, removed.

use futures_util::TryStreamExt;

use super::*;
use crate::digest::Algorithm;
use crate::inspect::Inspector;

/// A store in a directory that goes away with the test.
struct Scratch {
    store: Store,
    dir: PathBuf,
}

impl Scratch {
    async fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("store-{name}-{}", std::process::id()));
        Scratch { store: Store::open(&dir).await.unwrap(), dir }
    }

    async fn upload(&self, image: &str, bytes: &[u8]) -> Arrived {
        let mut upload = self.begin(image).await;
        upload.write(bytes).await.unwrap();
        let arrived = upload.finish().await.unwrap();
        upload.keep();
        arrived
    }

    async fn begin(&self, image: &str) -> Incoming {
        let mut upload = self.store.begin(image).await.unwrap();
        upload.prepare(Algorithm::Sha512, Some(Inspector::new("raw"))).await.unwrap();
        upload
    }

    async fn download(&self, image: &str, range: Range<u64>) -> Vec<u8> {
        let pieces = self.store.read(image, range).await.unwrap();
        pieces.try_fold(Vec::new(), |all, piece| async move { Ok([&all[..], &piece].concat()) }).await.unwrap()
    }

    fn files(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[tokio::test]
async fn an_uploaded_file_comes_back_whole_and_in_ranges() {
    let scratch = Scratch::new("whole").await;
    let bytes: Vec<u8> = (0..700_001u32).map(|n| (n % 251) as u8).collect();
    let arrived = scratch.upload("a1", &bytes).await;
    assert_eq!(arrived.size, 700_001);
    assert_eq!(arrived.inspected.unwrap().unwrap().virtual_size, Some(700_001));
    assert_eq!(arrived.checksum.len(), 32);
    assert_eq!(arrived.hash.len(), 128);

    assert_eq!(scratch.store.size("a1").await.unwrap(), 700_001);
    assert!(scratch.download("a1", 0..u64::MAX).await == bytes);
    assert_eq!(scratch.download("a1", 3..7).await, &bytes[3..7]);
    assert!(scratch.download("a1", 300_000..600_000).await == bytes[300_000..600_000]);
    assert!(scratch.download("a1", 900_000..900_010).await.is_empty());
    assert_eq!(scratch.files(), ["a1"]);
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let scratch = Scratch::new("empty").await;
    assert_eq!(scratch.upload("a1", b"").await.checksum, "d41d8cd98f00b204e9800998ecf8427e");
    assert!(scratch.download("a1", 0..u64::MAX).await.is_empty());
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let scratch = Scratch::new("broken").await;
    let mut upload = scratch.begin("a1").await;
    upload.write(&[1; 600_000]).await.unwrap();
    assert_eq!(scratch.files(), ["a1.part"]);
    drop(upload);
    assert!(scratch.files().is_empty());

    let mut upload = scratch.begin("a1").await;
    upload.write(&[1; 10]).await.unwrap();
    upload.finish().await.unwrap();
    assert_eq!(scratch.files(), ["a1"]);
    upload.discard().await.unwrap();
    assert!(scratch.files().is_empty());
    assert!(matches!(scratch.store.size("a1").await, Err(Error::Missing(_))));
}

#[tokio::test]
async fn an_upload_larger_than_allowed_is_refused() {
    let scratch = Scratch::new("large").await;
    let mut upload = scratch.begin("a1").await;
    upload.allow(100);
    upload.write(&[0; 100]).await.unwrap();
    assert!(matches!(upload.write(&[0]).await, Err(Error::TooLarge(100))));
}

#[tokio::test]
async fn only_one_upload_at_a_time_writes_an_image() {
    let scratch = Scratch::new("one").await;
    let first = scratch.begin("a1").await;
    assert!(matches!(scratch.store.begin("a1").await, Err(Error::Busy(_))));
    assert!(scratch.store.is_arriving("a1").await.unwrap());
    drop(first);
    assert!(!scratch.store.is_arriving("a1").await.unwrap());
    scratch.begin("a1").await.discard().await.unwrap();
}

#[tokio::test]
async fn the_files_of_the_dead_are_told_from_those_of_the_living() {
    let scratch = Scratch::new("dead").await;
    scratch.upload("a1", b"whole").await;
    fs::write(scratch.dir.join("b2.part"), b"half").unwrap();
    fs::write(scratch.dir.join("not.ours"), b"").unwrap();
    let living = scratch.begin("c3").await;

    let kept = |image: &str, whole| Kept { image: image.into(), whole };
    assert_eq!(scratch.store.abandoned().await.unwrap(), [kept("a1", true), kept("b2", false)]);

    // A dead upload's leftovers do not stand in the way of the next.
    let mut next = scratch.begin("b2").await;
    next.write(b"all").await.unwrap();
    next.finish().await.unwrap();
    next.keep();
    assert_eq!(scratch.download("b2", 0..9).await, b"all");
    drop(living);
}

#[tokio::test]
async fn removing_a_file_spares_a_live_upload_and_readers() {
    let scratch = Scratch::new("remove").await;
    scratch.upload("a1", b"whole").await;
    let mut reader = Box::pin(scratch.store.read("a1", 0..5).await.unwrap());
    scratch.store.remove("a1").await.unwrap();
    scratch.store.remove("a1").await.unwrap();
    assert!(scratch.files().is_empty());
    assert_eq!(reader.try_next().await.unwrap().unwrap(), "whole");

    let living = scratch.begin("a1").await;
    scratch.store.remove("a1").await.unwrap();
    assert_eq!(scratch.files(), ["a1.part"]);
    drop(living);
}

#[tokio::test]
async fn a_full_disk_is_told_from_a_broken_one() {
    // Every write to /dev/full fails as on a full disk.
    let scratch = Scratch::new("full").await;
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut upload = Incoming::new(scratch.store.clone(), "a1".into(), full);
    upload.prepare(Algorithm::Sha512, None).await.unwrap();
    upload.write(b"x").await.unwrap();
    assert!(matches!(upload.finish().await, Err(Error::Full)));
}
