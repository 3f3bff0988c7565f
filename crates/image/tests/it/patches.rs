//! Changing an image.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn changes_are_applied_in_order_and_shown() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("old").await;
    let changes = json!([
        {"op": "add", "path": "/os_distro", "value": "debian"},
        {"op": "replace", "path": "/os_distro", "value": "ubuntu"},
        {"op": "add", "path": "/gone", "value": "x"},
        {"op": "remove", "path": "/gone"},
        {"op": "replace", "path": "/name", "value": "new"},
        {"op": "replace", "path": "/tags", "value": ["b", "a"]},
        {"op": "add", "path": "/min_ram", "value": 64},
        {"op": "replace", "path": "/os_hidden", "value": true},
        {"op": "add", "path": "/a~1b", "value": "slash"},
    ]);
    let image = alice.patch(&id, changes).await.ok(200);
    assert_eq!(image["os_distro"], "ubuntu");
    assert!(image.get("gone").is_none());
    assert_eq!(image["name"], "new");
    assert_eq!(image["tags"], json!(["a", "b"]));
    assert_eq!(image["min_ram"], 64);
    assert_eq!(image["os_hidden"], true);
    assert_eq!(image["a/b"], "slash");
    let mut shown = alice.show(&id).await;
    shown["updated_at"] = image["updated_at"].clone();
    assert_eq!(shown, image);
}

#[tokio::test]
async fn one_bad_change_spoils_them_all() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("old").await;
    let good = json!({"op": "replace", "path": "/name", "value": "new"});
    for (bad, status, words) in [
        (json!({"op": "replace", "path": "/nosuch", "value": "x"}), 409, "Property nosuch does not exist."),
        (json!({"op": "remove", "path": "/nosuch"}), 409, "Property nosuch does not exist."),
        (json!({"op": "remove", "path": "/name"}), 403, "Property name may not be removed."),
        (json!({"op": "replace", "path": "/status", "value": "active"}), 403, "Attribute 'status' is read-only."),
        (json!({"op": "replace", "path": "/id", "value": "x"}), 403, "Attribute 'id' is read-only."),
        (json!({"op": "replace", "path": "/owner", "value": "red"}), 403, "Owner can't be updated by non admin."),
        (
            json!({"op": "replace", "path": "/visibility", "value": "public"}),
            403,
            "You are not authorized to complete publicize_image action.",
        ),
        (
            json!({"op": "replace", "path": "/min_disk", "value": -1}),
            400,
            "Invalid value '-1' for parameter 'min_disk': Cannot be a negative value",
        ),
    ] {
        assert_eq!(alice.patch(&id, json!([good, bad])).await.refused(status), words);
    }
    assert_eq!(alice.show(&id).await["name"], "old");
}

#[tokio::test]
async fn the_older_draft_is_spoken_too() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("old").await;
    let older = "application/openstack-images-v2.0-json-patch";
    let changes = json!([{"replace": "/name", "value": "new"}, {"add": "/a", "value": "1"}]);
    assert_eq!(alice.patch_as(older, &id, changes).await.ok(200)["a"], "1");
    // Unlike the newer one, its add does not replace.
    let again = alice.patch_as(older, &id, json!([{"add": "/a", "value": "2"}])).await;
    assert_eq!(again.refused(409), "Property a already present.");
}

#[tokio::test]
async fn another_media_type_is_refused_with_those_that_are_taken() {
    let cloud = Cloud::new().await;
    let id = cloud.by("alice").queued("i").await;
    let got = cloud.by("alice").patch_as("application/json", &id, json!([])).await;
    assert_eq!(
        text(&got.ok(415)["message"]),
        "The request media type application/json is not supported by this server.\n<br /><br />\nImage PATCH expects \
         Content-Type one of: application/openstack-images-v2.0-json-patch, application/openstack-images-v2.1-json-patch"
    );
    assert!(got.header("accept-patch").contains("v2.0-json-patch, application/openstack-images-v2.1"));
}

#[tokio::test]
async fn the_formats_of_an_image_with_data_are_settled() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.active("i", "data").await;
    let change = |key: &str, value: &str| json!([{"op": "replace", "path": format!("/{key}"), "value": value}]);
    let words = "Attribute disk_format can be only replaced for a queued image.";
    assert_eq!(alice.patch(&id, change("disk_format", "qcow2")).await.refused(403), words);
    alice.patch(&id, change("container_format", "ova")).await.ok(403);
    alice.patch(&id, change("name", "still free")).await.ok(200);
}

#[tokio::test]
async fn an_administrator_gives_an_image_away_and_publishes_it() {
    let cloud = Cloud::new().await;
    let id = cloud.by("alice").queued("i").await;
    let changes = json!([
        {"op": "replace", "path": "/owner", "value": "red"},
        {"op": "replace", "path": "/visibility", "value": "public"},
    ]);
    let image = cloud.by("admin").patch(&id, changes).await.ok(200);
    assert_eq!((&image["owner"], &image["visibility"]), (&json!("red"), &json!("public")));
    cloud.by("alice").patch(&id, json!([{"op": "replace", "path": "/name", "value": "x"}])).await.ok(403);
    // Its owner may keep it public or make it smaller, and open it to those who know of it.
    let communal = json!([{"op": "replace", "path": "/visibility", "value": "community"}]);
    cloud.by("bob").patch(&id, communal).await.ok(200);
}
