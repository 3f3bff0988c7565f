//! Sharing an image with projects.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn a_shared_image_is_found_by_its_member_once_accepted() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.by("alice"), cloud.by("bob"));
    let id = alice.active("shared", "data").await;
    let members = format!("/v2/images/{id}/members");

    let member = alice.post(&members, json!({"member": "red"})).await.ok(200);
    assert_eq!(member["member_id"], "red");
    assert_eq!(member["status"], "pending");
    assert_eq!(member["schema"], "/v2/schemas/member");

    // Offered: it can be looked at, but lists do not push it.
    assert_eq!(bob.show(&id).await["name"], "shared");
    assert!(bob.names("").await.is_empty());
    assert_eq!(bob.names("member_status=pending").await, ["shared"]);
    assert_eq!(bob.names("member_status=all&visibility=shared").await, ["shared"]);

    let own = format!("{members}/red");
    let words = "You are not authorized to complete modify_member action.";
    assert_eq!(alice.put(&own, json!({"status": "accepted"})).await.refused(403), words);
    assert_eq!(bob.put(&own, json!({"status": "accepted"})).await.ok(200)["status"], "accepted");
    assert_eq!(bob.names("").await, ["shared"]);
    bob.get(&format!("/v2/images/{id}/file")).await.ok(200);
    bob.patch(&id, json!([{"op": "replace", "path": "/name", "value": "x"}])).await.ok(403);

    assert_eq!(bob.put(&own, json!({"status": "rejected"})).await.ok(200)["status"], "rejected");
    assert!(bob.names("").await.is_empty());
    assert_eq!(
        bob.put(&own, json!({"status": "perhaps"})).await.refused(400),
        "Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\"."
    );

    bob.delete(&own).await.ok(403);
    alice.delete(&own).await.ok(204);
    bob.get(&format!("/v2/images/{id}")).await.ok(404);
    let gone = format!("red not found in the member list of the image {id}.");
    assert_eq!(alice.delete(&own).await.refused(404), gone);
}

#[tokio::test]
async fn members_see_themselves_and_the_owner_sees_all() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("shared").await;
    let members = format!("/v2/images/{id}/members");
    for project in ["red", "green"] {
        alice.post(&members, json!({"member": project})).await.ok(200);
    }
    let seen = async |person: &str| {
        let list = cloud.by(person).get(&members).await.ok(200);
        assert_eq!(list["schema"], "/v2/schemas/members");
        list["members"].as_array().unwrap().iter().map(|member| text(&member["member_id"])).collect::<Vec<_>>()
    };
    assert_eq!(seen("alice").await, ["red", "green"]);
    assert_eq!(seen("admin").await.len(), 2);
    assert_eq!(seen("bob").await, ["red"]);
    cloud.by("bob").get(&format!("{members}/red")).await.ok(200);
    cloud.by("bob").get(&format!("{members}/green")).await.ok(404);
    cloud.by("carol").put(&format!("{members}/red"), json!({"status": "accepted"})).await.ok(404);
    // A member does not pass the offer on.
    let words = "You are not authorized to complete add_member action.";
    assert_eq!(cloud.by("bob").post(&members, json!({"member": "x"})).await.refused(403), words);
}

#[tokio::test]
async fn only_shared_images_have_members() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = text(&alice.create(json!({"visibility": "private"})).await["id"]);
    let members = format!("/v2/images/{id}/members");
    let words = format!("Not allowed to list members for image {id}: Only shared images have members.");
    assert_eq!(alice.get(&members).await.refused(403), words);
    assert_eq!(alice.get(&format!("{members}/red")).await.refused(404), "Only shared images have members.");
    alice.post(&members, json!({"member": "red"})).await.ok(403);
    alice.delete(&format!("{members}/red")).await.ok(403);
    assert_eq!(alice.get("/v2/images/nosuch/members").await.refused(404), "Image nosuch not found.");
}

#[tokio::test]
async fn an_offer_must_name_somebody_new_within_the_quota() {
    let cloud = Cloud::configured("image_member_quota = 1").await;
    let alice = cloud.by("alice");
    let id = alice.queued("shared").await;
    let members = format!("/v2/images/{id}/members");
    assert_eq!(alice.post(&members, json!({})).await.refused(400), "Member to be added not specified");
    assert_eq!(alice.post(&members, json!({"member": ""})).await.refused(400), "Member can't be empty");
    alice.post(&members, json!({"member": "red"})).await.ok(200);
    assert!(alice.post(&members, json!({"member": "green"})).await.refused(413).contains("Attempted: 2, Maximum: 1"));

    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let id = alice.queued("shared").await;
    let members = format!("/v2/images/{id}/members");
    alice.post(&members, json!({"member": "red"})).await.ok(200);
    let words = format!("Member red is duplicated for image {id}");
    assert_eq!(alice.post(&members, json!({"member": "red"})).await.refused(409), words);
}
