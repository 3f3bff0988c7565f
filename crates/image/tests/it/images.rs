//! Images: made, seen, tagged, protected, deactivated, deleted.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn a_new_image_belongs_to_its_makers_project_and_waits_for_data() {
    let cloud = Cloud::new().await;
    let got = cloud
        .by("alice")
        .post("/v2/images", json!({"name": "i", "os_distro": "debian", "tags": ["b", "a", "b"]}))
        .await;
    let image = got.ok(201);
    assert_eq!(image["owner"], "blue");
    assert_eq!(image["status"], "queued");
    assert_eq!(image["visibility"], "shared");
    assert_eq!(image["os_distro"], "debian");
    assert_eq!(image["tags"], json!(["a", "b"]));
    assert_eq!(got.header("location"), format!("http://localhost/v2/images/{}", text(&image["id"])));
    assert_eq!(got.header("openstack-image-store-ids"), "fs");
    assert_eq!(cloud.by("alice").show(&text(&image["id"])).await, image);
}

#[tokio::test]
async fn an_image_may_bring_its_own_id_once() {
    let cloud = Cloud::new().await;
    let id = "46e448c8-aa70-4cc6-99b4-9eb11c89b582";
    assert_eq!(cloud.by("alice").create(json!({"id": id})).await["id"], id);
    let again = cloud.by("alice").post("/v2/images", json!({"id": id})).await;
    assert_eq!(again.refused(409), format!("Image ID {id} already exists!"));
    // Not even after it is gone: what refers to it must not find another image.
    cloud.by("alice").delete(&format!("/v2/images/{id}")).await.ok(204);
    cloud.by("alice").post("/v2/images", json!({"id": id})).await.ok(409);
    cloud.by("alice").post("/v2/images", json!({"id": "short"})).await.ok(400);
}

#[tokio::test]
async fn what_a_client_may_not_say_about_a_new_image_is_refused() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    for (body, status, words) in [
        (json!({"status": "active"}), 403, "Attribute 'status' is read-only."),
        (json!({"self": "x"}), 403, "Attribute 'self' is read-only."),
        (json!({"deleted": "x"}), 403, "Attribute 'deleted' is reserved."),
        (json!({"os_glance_x": "x"}), 403, "Attribute 'os_glance_x' is reserved."),
        (json!({"locations": []}), 403, "Attribute 'locations' is reserved."),
        (json!({"visibility": "public"}), 403, "You are not authorized to complete publicize_image action."),
        (json!({"owner": "red"}), 403, "You are not permitted to create images owned by 'red'"),
        (json!({"min_disk": -1}), 400, "Invalid value '-1' for parameter 'min_disk': Cannot be a negative value"),
        (json!({"min_ram": "x"}), 400, "Provided object does not match schema 'image': 'x' is not of type 'integer'"),
        (json!({"a": 1}), 400, "Provided object does not match schema 'image': 1 is not of type 'string'"),
        (
            json!({"protected": null}),
            400,
            "Provided object does not match schema 'image': None is not of type 'boolean'",
        ),
        (json!([]), 400, "Provided object does not match schema 'image': [] is not of type 'object'"),
        (json!(null), 400, "Provided object does not match schema 'image': None is not of type 'object'"),
    ] {
        let got = alice.post("/v2/images", body.clone()).await;
        if body.is_null() {
            assert_eq!(got.refused(400), "Body expected in request.");
        } else {
            assert_eq!(got.refused(status), words, "{body}");
        }
    }
    let long = "x".repeat(256);
    assert!(alice.post("/v2/images", json!({"name": long})).await.refused(400).ends_with("is too long"));
    alice.post("/v2/images", json!({(long): "x"})).await.ok(400);
    let got = alice.post("/v2/images", json!({"disk_format": "zzz"})).await.refused(400);
    assert!(got.contains("'zzz' is not one of [None, 'ami', 'ari'"), "{got}");
    assert!(cloud.by("admin").names("visibility=all").await.is_empty());
}

#[tokio::test]
async fn readers_and_strangers_make_no_images() {
    let cloud = Cloud::new().await;
    let words = "You are not authorized to complete add_image action.";
    assert_eq!(cloud.by("reader").post("/v2/images", json!({})).await.refused(403), words);
    cloud.by("nobody").post("/v2/images", json!({})).await.ok(403);
    cloud.by("nonsense").post("/v2/images", json!({})).await.ok(401);
    // An administrator may make them for others, and public.
    let image = cloud.by("admin").create(json!({"owner": "red", "visibility": "public"})).await;
    assert_eq!(image["owner"], "red");
}

#[tokio::test]
async fn an_image_is_seen_by_whom_its_visibility_says() {
    let cloud = Cloud::new().await;
    let seen = async |id: &str| {
        let mut seen = Vec::new();
        for person in ["admin", "alice", "reader", "bob", "nobody"] {
            if cloud.by(person).get(&format!("/v2/images/{id}")).await.status == 200 {
                seen.push(person);
            }
        }
        seen
    };
    for (visibility, who) in [
        ("private", vec!["admin", "alice", "reader"]),
        ("shared", vec!["admin", "alice", "reader"]),
        ("community", vec!["admin", "alice", "reader", "bob"]),
        ("public", vec!["admin", "alice", "reader", "bob"]),
    ] {
        let image = cloud.by("admin").create(json!({"owner": "blue", "visibility": visibility})).await;
        assert_eq!(seen(&text(&image["id"])).await, who, "{visibility}");
    }
}

#[tokio::test]
async fn others_learn_nothing_of_an_image_and_may_not_touch_what_they_see() {
    let cloud = Cloud::new().await;
    let id = cloud.by("alice").queued("mine").await;
    let bob = cloud.by("bob");
    let unseen = format!("No image found with ID {id}");
    assert_eq!(bob.get(&format!("/v2/images/{id}")).await.refused(404), unseen);
    assert_eq!(bob.patch(&id, json!([])).await.refused(404), unseen);
    let to_delete = format!("Failed to find image {id} to delete");
    assert_eq!(bob.delete(&format!("/v2/images/{id}")).await.refused(404), to_delete);
    assert_eq!(bob.get("/v2/images/tiny").await.refused(404), "No image found with ID tiny");

    cloud.by("admin").patch(&id, json!([{"op": "replace", "path": "/visibility", "value": "public"}])).await.ok(200);
    let denied = |verb: &str| format!("You are not authorized to complete {verb} action.");
    assert_eq!(bob.delete(&format!("/v2/images/{id}")).await.refused(403), denied("delete_image"));
    assert_eq!(bob.patch(&id, json!([{"op": "remove", "path": "/a"}])).await.refused(403), denied("modify_image"));
    let put = bob.put(&format!("/v2/images/{id}/tags/t"), json!(null)).await;
    assert_eq!(put.refused(403), denied("modify_image"));
    cloud.by("reader").delete(&format!("/v2/images/{id}")).await.ok(403);
}

#[tokio::test]
async fn a_protected_image_stays() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.create(json!({"protected": true})).await["id"]);
    let words = format!("Image {id} is protected and cannot be deleted.");
    assert_eq!(alice.delete(&format!("/v2/images/{id}")).await.refused(403), words);
    alice.patch(&id, json!([{"op": "replace", "path": "/protected", "value": false}])).await.ok(200);
    alice.delete(&format!("/v2/images/{id}")).await.ok(204);
    alice.get(&format!("/v2/images/{id}")).await.ok(404);
    assert!(alice.delete(&format!("/v2/images/{id}")).await.refused(404).starts_with("Failed to find"));
}

#[tokio::test]
async fn a_deactivated_image_is_there_but_gives_no_data() {
    let cloud = Cloud::new().await;
    let (alice, admin) = (cloud.by("alice"), cloud.by("admin"));
    let id = alice.active("i", "data").await;
    let act = |verb: &str| format!("/v2/images/{id}/actions/{verb}");
    alice.post(&act("deactivate"), json!(null)).await.ok(204);
    alice.post(&act("deactivate"), json!(null)).await.ok(204);
    assert_eq!(alice.show(&id).await["status"], "deactivated");
    let file = format!("/v2/images/{id}/file");
    let words = "The requested image has been deactivated. Image data download is forbidden.";
    assert_eq!(alice.get(&file).await.refused(403), words);
    admin.get(&file).await.ok(200);
    alice.post(&act("reactivate"), json!(null)).await.ok(204);
    alice.get(&file).await.ok(200);

    let queued = alice.queued("q").await;
    let got = alice.post(&format!("/v2/images/{queued}/actions/deactivate"), json!(null)).await;
    assert_eq!(got.refused(403), "Not allowed to deactivate image in status 'queued'");
    cloud.by("bob").post(&act("deactivate"), json!(null)).await.ok(404);
}

#[tokio::test]
async fn tags_come_and_go_one_by_one() {
    let cloud = Cloud::configured("image_tag_quota = 2").await;
    let alice = cloud.by("alice");
    let id = alice.queued("i").await;
    let tag = |tag: &str| format!("/v2/images/{id}/tags/{tag}");
    alice.put(&tag("one"), json!(null)).await.ok(204);
    alice.put(&tag("one"), json!(null)).await.ok(204);
    alice.put(&tag("t%20wo"), json!(null)).await.ok(204);
    assert_eq!(alice.show(&id).await["tags"], json!(["one", "t wo"]));
    assert!(alice.put(&tag("three"), json!(null)).await.refused(413).contains("image tags"));
    alice.delete(&tag("one")).await.ok(204);
    alice.delete(&tag("one")).await.ok(404);
    alice.put(&tag(&"x".repeat(256)), json!(null)).await.ok(400);
    let missing = alice.put("/v2/images/nosuch/tags/t", json!(null)).await;
    assert_eq!(missing.refused(404), "Image nosuch not found.");
}

#[tokio::test]
async fn an_image_has_at_most_as_many_properties_as_the_quota_says() {
    let cloud = Cloud::configured("image_property_quota = 1").await;
    let alice = cloud.by("alice");
    let got = alice.post("/v2/images", json!({"a": "1", "b": "2"})).await.refused(413);
    assert!(got.contains("allowed image properties. Attempted: 2, Maximum: 1"), "{got}");
    let id = text(&alice.create(json!({"a": "1"})).await["id"]);
    alice.patch(&id, json!([{"op": "add", "path": "/b", "value": "2"}])).await.ok(413);
    alice.patch(&id, json!([{"op": "replace", "path": "/a", "value": "2"}])).await.ok(200);
}
