//! Data in and out.

use api::{Content, json};
use bytes::Bytes;
use futures_util::stream;

use crate::cloud::{Cloud, bytes, text};

/// A body that arrives in pieces of `chunk` bytes.
fn pieces(data: Vec<u8>, chunk: usize) -> Content {
    let pieces: Vec<_> = data.chunks(chunk).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    Content::Chunks { length: None, chunks: Box::pin(stream::iter(pieces)) }
}

#[tokio::test]
async fn data_comes_back_as_it_went_in() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let file = format!("/v2/images/{id}/file");
    assert_eq!(alice.get(&file).await.status, 204, "there is nothing yet");

    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    alice.upload(&id, pieces(data.clone(), 70_001)).await.ok(204);
    let image = alice.show(&id).await;
    assert_eq!(image["status"], "active");
    assert_eq!(image["size"], 3_000_000);
    assert_eq!(image["virtual_size"], 3_000_000);
    assert_eq!(image["os_hash_algo"], "sha512");
    assert_eq!(image["stores"], "fs");

    let got = alice.get(&file).await;
    assert_eq!(got.status, 200);
    assert!(got.bytes == data);
    assert_eq!(got.header("content-type"), "application/octet-stream");
    assert_eq!(got.header("content-length"), "3000000");
    assert_eq!(got.header("content-md5"), text(&image["checksum"]));
    assert_eq!(cloud.files(), std::slice::from_ref(&id));

    let part = alice.get_with(&file, "range", "bytes=10-19").await;
    assert_eq!(part.status, 206);
    assert_eq!(part.bytes, &data[10..20]);
    assert_eq!(part.header("content-range"), "bytes 10-19/3000000");
    let beyond = alice.get_with(&file, "range", "bytes=5000000-").await.ok(416);
    assert_eq!(
        text(&beyond["message"]),
        "The Range requested is not available.<br /><br />\nInvalid start position in Range header. Start position \
         MUST be in the inclusive range [0, 2999999].\n\n"
    );
    assert_eq!(beyond["code"], "416 Request Range Not Satisfiable");
}

#[tokio::test]
async fn data_comes_once() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.active("i", "one").await;
    let again = alice.upload(&id, bytes("two")).await;
    assert_eq!(again.refused(409), "Image status transition from active to saving is not allowed");
    assert_eq!(alice.get(&format!("/v2/images/{id}/file")).await.bytes, "one");
    let wrong = alice.upload_as("text/plain", &id, bytes("x")).await.ok(415);
    assert!(text(&wrong["message"]).ends_with("<br /><br />\nInvalid content type text/plain"));
    cloud.by("bob").upload(&id, bytes("x")).await.ok(404);
    cloud.by("reader").upload(&id, bytes("x")).await.ok(403);
    cloud.by("reader").get(&format!("/v2/images/{id}/file")).await.ok(403);
}

#[tokio::test]
async fn an_empty_image_is_one() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("empty").await;
    alice.upload(&id, Content::Empty).await.ok(204);
    let image = alice.show(&id).await;
    assert_eq!((&image["status"], &image["size"]), (&json!("active"), &json!(0)));
    assert_eq!(image["virtual_size"], json!(null));
    assert_eq!(image["checksum"], "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(alice.get(&format!("/v2/images/{id}/file")).await.status, 200);
}

#[tokio::test]
async fn the_formats_come_before_the_data() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.create(json!({"name": "i"})).await["id"]);
    let words = "Properties disk_format, container_format must be set prior to saving data.";
    assert_eq!(alice.upload(&id, bytes("x")).await.refused(400), words);
    assert_eq!(alice.show(&id).await["status"], "queued");
}

#[tokio::test]
async fn a_broken_upload_may_be_tried_again() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))]);
    let got = alice.upload(&id, Content::Chunks { length: None, chunks: Box::pin(broken) }).await;
    got.ok(400);
    assert_eq!(alice.show(&id).await["status"], "queued");
    assert!(cloud.files().is_empty());
    alice.upload(&id, bytes("whole")).await.ok(204);
}

#[tokio::test]
async fn a_file_that_is_not_what_it_claims_is_refused_with_the_reason() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let body = json!({"name": "i", "disk_format": "qcow2", "container_format": "bare"});
    let id = text(&alice.create(body).await["id"]);
    let got = alice.upload(&id, bytes(&"x".repeat(4000))).await.ok(415);
    let words = text(&got["message"]);
    assert!(words.ends_with("Image disk_format qcow2 does not match stream data raw"), "{words}");
    assert_eq!(alice.show(&id).await["status"], "queued");
    assert!(cloud.files().is_empty());

    let mut backed = vec![0; 1024];
    backed[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    backed[15] = 200;
    for claimed in [&id, &alice.queued("raw").await] {
        let got = alice.upload(claimed, pieces(backed.clone(), 100)).await.ok(415);
        assert!(text(&got["message"]).ends_with("Image failed safety checks: the image has a backing file"));
    }
    // Inside an archive it is not ours to judge.
    let body = json!({"name": "i", "disk_format": "qcow2", "container_format": "ova"});
    let id = text(&alice.create(body).await["id"]);
    alice.upload(&id, bytes("x")).await.ok(204);
    assert_eq!(alice.show(&id).await["virtual_size"], json!(null));
}

#[tokio::test]
async fn a_mismatch_may_be_waived_but_not_a_danger() {
    let cloud = Cloud::configured("[image_format]\nrequire_image_format_match = false").await;
    let alice = cloud.by("alice");
    let body = json!({"name": "i", "disk_format": "qcow2", "container_format": "bare"});
    let id = text(&alice.create(body.clone()).await["id"]);
    alice.upload(&id, bytes("bogus")).await.ok(204);
    let id = text(&alice.create(body).await["id"]);
    alice.upload(&id, bytes("QED\0bogus")).await.ok(415);
}

#[tokio::test]
async fn an_image_is_no_larger_than_allowed() {
    let cloud = Cloud::configured("image_size_cap = 10").await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let words = "The incoming image is too large: The provided image is too large.";
    assert_eq!(alice.upload(&id, bytes("0123456789a")).await.refused(413), words);
    let got = alice.upload(&id, pieces(vec![0; 11], 3)).await;
    assert_eq!(got.refused(413), words);
    assert_eq!(got.ok(413)["code"], "413 Request Entity Too Large");
    alice.upload(&id, bytes("0123456789")).await.ok(204);
}

#[tokio::test]
async fn a_projects_images_fit_into_its_storage_quota_together() {
    let cloud = Cloud::configured("user_storage_quota = 10").await;
    let alice = cloud.by("alice");
    let first = alice.active("a", "0123456").await;
    let second = alice.queued("b").await;
    let words = "Image exceeds the storage quota: The size of the data will exceed the limit. 3 bytes remaining.";
    assert_eq!(alice.upload(&second, bytes("0123")).await.refused(413), words);
    assert_eq!(alice.upload(&second, pieces(vec![1; 4], 1)).await.refused(413), words);
    assert_eq!(cloud.files(), std::slice::from_ref(&first));
    alice.delete(&format!("/v2/images/{first}")).await.ok(204);
    alice.upload(&second, bytes("0123")).await.ok(204);
    // Another project has its own.
    cloud.by("bob").active("c", "0123456789").await;
}

#[tokio::test]
async fn deleting_an_image_removes_its_file_and_spares_who_reads_it() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.active("i", "data").await;
    let reading = cloud.images.store.read(&id, 0..4).await.unwrap();
    alice.delete(&format!("/v2/images/{id}")).await.ok(204);
    assert!(cloud.files().is_empty());
    let content = Content::Chunks {
        length: None,
        chunks: Box::pin(futures_util::StreamExt::map(reading, |piece| piece.map_err(std::io::Error::other))),
    };
    assert_eq!(content.bytes(100).await.unwrap(), "data");
    assert!(cloud.images.leaks().await.unwrap().is_empty());
}
