//! Groups and who is in them.

use api::{Method, json};

use crate::cloud::{Cloud, named};

#[tokio::test]
async fn members_have_the_roles_of_their_groups() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let user = admin.make_user("u").await;
    let group = admin.make("/v3/groups", "group", json!({"name": "g", "description": "x"})).await;
    let project = admin.make("/v3/projects", "project", json!({"name": "p"})).await;
    let role = admin.role("reader").await;
    admin.put(&format!("/v3/projects/{project}/groups/{group}/roles/{role}")).await.ok(204);
    let log_in = || cloud.log_in(named("u", "secret"), json!({"project": {"id": project}}));
    log_in().await.refused(401);

    let membership = format!("/v3/groups/{group}/users/{user}");
    admin.head(&membership).await.ok(404);
    admin.put(&membership).await.ok(204);
    admin.put(&membership).await.ok(204);
    admin.head(&membership).await.ok(204);
    let members = admin.get(&format!("/v3/groups/{group}/users")).await.ok(200);
    assert_eq!(members["users"][0]["id"], user);
    let groups = admin.get(&format!("/v3/users/{user}/groups")).await.ok(200);
    assert_eq!(groups["groups"][0]["name"], "g");
    let token = log_in().await.token();
    admin.subject(Method::GET, &token).await.ok(200);

    admin.delete(&membership).await.ok(204);
    assert_eq!(admin.delete(&membership).await.refused(404), format!("User '{user}' not found in group '{group}'"));
    admin.subject(Method::GET, &token).await.refused(404);
    log_in().await.refused(401);
}

#[tokio::test]
async fn a_group_is_changed_and_removed() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let id = admin.make("/v3/groups", "group", json!({"name": "g"})).await;
    let path = format!("/v3/groups/{id}");
    let changed = admin.patch(&path, &json!({"group": {"name": "h", "description": "d"}})).await.ok(200);
    assert_eq!((&changed["group"]["name"], &changed["group"]["description"]), (&json!("h"), &json!("d")));
    admin.post("/v3/groups", &json!({"group": {"name": "h"}})).await.refused(409);
    assert_eq!(admin.get("/v3/groups?name=h").await.ok(200)["groups"].as_array().unwrap().len(), 1);
    admin.delete(&path).await.ok(204);
    admin.get(&path).await.refused(404);
}
