//! What is left after somebody died, and what the sweep makes of it.

use api::{Content, json};
use bytes::Bytes;
use futures_util::stream;
use image::digest::Algorithm;
use tokio::sync::mpsc;

use crate::cloud::{Cloud, bytes};

/// What a process leaves that is killed while it takes an upload: a row in `saving`, and a file at either name.
async fn killed_upload(cloud: &Cloud, id: &str, renamed: bool) {
    let saving = db::sql("UPDATE images SET status = 'saving' WHERE id = ?").bind(id);
    cloud.images.db.run(saving).await.unwrap();
    let name = if renamed { id.to_string() } else { format!("{id}.part") };
    std::fs::write(cloud.dir.join(name), b"half").unwrap();
}

#[tokio::test]
async fn an_image_whose_upload_died_is_queued_again_without_its_file() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    for renamed in [false, true] {
        let id = alice.queued("i").await;
        killed_upload(&cloud, &id, renamed).await;
        assert_eq!(cloud.images.leaks().await.unwrap().len(), 2, "the file, and the image that waits for it");
        cloud.images.sweep().await.unwrap();
        assert_eq!(alice.show(&id).await["status"], "queued");
        assert!(cloud.files().is_empty());
        assert!(cloud.images.leaks().await.unwrap().is_empty());
        alice.upload(&id, bytes("whole")).await.ok(204);
        alice.delete(&format!("/v2/images/{id}")).await.ok(204);
    }
    // Killed before the first byte, and after the row went back.
    let id = alice.queued("i").await;
    killed_upload(&cloud, &id, false).await;
    std::fs::remove_file(cloud.dir.join(format!("{id}.part"))).unwrap();
    cloud.images.sweep().await.unwrap();
    assert_eq!(alice.show(&id).await["status"], "queued");
    std::fs::write(cloud.dir.join(format!("{id}.part")), b"half").unwrap();
    cloud.images.sweep().await.unwrap();
    assert!(cloud.files().is_empty());
}

#[tokio::test]
async fn a_deletion_that_died_is_finished() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.active("i", "data").await;
    alice.delete(&format!("/v2/images/{id}")).await.ok(204);
    // As if we had died between the row and the file.
    std::fs::write(cloud.dir.join(&id), b"data").unwrap();
    let undone = db::sql("UPDATE deleted_images SET has_file = 1 WHERE id = ?").bind(&id);
    cloud.images.db.run(undone).await.unwrap();
    assert_eq!(cloud.images.leaks().await.unwrap(), [format!("image {id}: a file, but no image")]);
    cloud.images.sweep().await.unwrap();
    assert!(cloud.files().is_empty());
}

#[tokio::test]
async fn what_is_not_ours_and_what_is_lost_is_told_and_left_alone() {
    let cloud = Cloud::new().await;
    let id = cloud.by("alice").active("i", "data").await;
    std::fs::remove_file(cloud.dir.join(&id)).unwrap();
    std::fs::write(cloud.dir.join("stranger"), b"x").unwrap();
    cloud.images.sweep().await.unwrap();
    let mut told = [format!("image {id}: active, but no file"), "image stranger: a file, but no image".to_string()];
    told.sort();
    assert_eq!(cloud.images.leaks().await.unwrap(), told);
    assert_eq!(cloud.files(), ["stranger"]);
}

#[tokio::test]
async fn a_sweep_of_another_process_leaves_a_living_upload_alone() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let (send, receive) = mpsc::channel::<std::io::Result<Bytes>>(1);
    let chunks =
        stream::unfold(receive, |mut receive| async move { receive.recv().await.map(|chunk| (chunk, receive)) });
    let body = Content::Chunks { length: None, chunks: Box::pin(chunks) };
    let other = cloud.second().await;

    let sweeping = async {
        send.send(Ok(Bytes::from_static(b"da"))).await.unwrap();
        // The channel takes a second piece only once the upload has taken the first.
        send.send(Ok(Bytes::from_static(b"t"))).await.unwrap();
        send.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
        assert_eq!(alice.show(&id).await["status"], "saving");
        other.sweep().await.unwrap();
        assert!(other.leaks().await.unwrap().is_empty());
        let second = alice.upload(&id, bytes("x")).await;
        second.ok(409);
        drop(send);
    };
    let (uploaded, ()) = tokio::join!(alice.upload(&id, body), sweeping);
    uploaded.ok(204);
    assert_eq!(alice.get(&format!("/v2/images/{id}/file")).await.bytes, "data");
}

#[tokio::test]
async fn an_image_deleted_under_its_upload_leaves_nothing() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let (send, receive) = mpsc::channel::<std::io::Result<Bytes>>(1);
    let chunks =
        stream::unfold(receive, |mut receive| async move { receive.recv().await.map(|chunk| (chunk, receive)) });
    let body = Content::Chunks { length: None, chunks: Box::pin(chunks) };
    let deleting = async {
        for _ in 0..3 {
            send.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
        }
        alice.delete(&format!("/v2/images/{id}")).await.ok(204);
        drop(send);
    };
    let (uploaded, ()) = tokio::join!(alice.upload(&id, body), deleting);
    assert!(uploaded.refused(410).starts_with(&format!("Image {id} could not be found after upload.")));
    assert!(cloud.files().is_empty());
    cloud.images.sweep().await.unwrap();
    let pending = db::sql("SELECT COUNT(*) FROM deleted_images WHERE has_file = 1");
    assert_eq!(cloud.images.db.count(pending).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_nothing_with_it() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let (send, receive) = mpsc::channel::<std::io::Result<Bytes>>(1);
    let chunks =
        stream::unfold(receive, |mut receive| async move { receive.recv().await.map(|chunk| (chunk, receive)) });
    let body = Content::Chunks { length: None, chunks: Box::pin(chunks) };
    {
        let upload = alice.upload(&id, body);
        let feeding = async {
            for _ in 0..3 {
                send.send(Ok(Bytes::from_static(b"x"))).await.unwrap();
            }
        };
        // The server drops the request of a client that is gone, wherever it was.
        tokio::select! {
            _ = upload => panic!("the upload waits for more"),
            () = feeding => {}
        }
    }
    send.send(Err(std::io::Error::other("reset"))).await.unwrap();
    send.closed().await;
    while alice.show(&id).await["status"] != "queued" {
        tokio::task::yield_now().await;
    }
    assert!(cloud.files().is_empty());
}

#[tokio::test]
async fn another_hash_may_be_chosen() {
    let cloud = Cloud::configured("hashing_algorithm = sha256").await;
    assert_eq!(cloud.images.options.hashing_algorithm, Algorithm::Sha256);
    let id = cloud.by("alice").active("i", "abc").await;
    let image = cloud.by("alice").show(&id).await;
    assert_eq!(image["os_hash_algo"], "sha256");
    assert_eq!(image["os_hash_value"], json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}
