//! Projects and domains.

use api::json;

use crate::cloud::Cloud;

#[tokio::test]
async fn projects_form_trees_below_domains() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let top = admin.make("/v3/projects", "project", json!({"name": "top"})).await;
    let middle = admin.make("/v3/projects", "project", json!({"name": "middle", "parent_id": top})).await;
    let leaf = admin.make("/v3/projects", "project", json!({"name": "leaf", "parent_id": middle})).await;

    let shown = admin.get(&format!("/v3/projects/{middle}?parents_as_ids&subtree_as_ids")).await.ok(200);
    assert_eq!(shown["project"]["parents"], json!({&*top: {"default": null}}));
    assert_eq!(shown["project"]["subtree"], json!({&*leaf: null}));
    let role = admin.role("admin").await;
    let me = admin.get("/v3/users?name=admin").await.ok(200)["users"][0]["id"].as_str().unwrap().to_string();
    admin.put(&format!("/v3/projects/{leaf}/users/{me}/roles/{role}")).await.ok(204);
    let shown = admin.get(&format!("/v3/projects/{top}?subtree_as_list")).await.ok(200);
    assert_eq!(shown["project"]["subtree"].as_array().unwrap().len(), 1);
    assert_eq!(shown["project"]["subtree"][0]["project"]["id"], leaf);
    admin.get(&format!("/v3/projects/{top}?subtree_as_list&subtree_as_ids")).await.refused(400);

    admin.delete(&format!("/v3/projects/{top}")).await.refused(403);
    admin.patch(&format!("/v3/projects/{top}"), &json!({"project": {"enabled": false}})).await.refused(403);
    for id in [&leaf, &middle, &top] {
        admin.patch(&format!("/v3/projects/{id}"), &json!({"project": {"enabled": false}})).await.ok(200);
    }
    admin.patch(&format!("/v3/projects/{leaf}"), &json!({"project": {"enabled": true}})).await.refused(403);
    for id in [&leaf, &middle, &top] {
        admin.delete(&format!("/v3/projects/{id}")).await.ok(204);
    }
}

#[tokio::test]
async fn trees_are_not_deeper_than_configured() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let mut parent = "default".to_string();
    for depth in 0..5 {
        let body = json!({"name": format!("p{depth}"), "parent_id": parent});
        parent = admin.make("/v3/projects", "project", body).await;
    }
    let body = json!({"project": {"name": "deep", "parent_id": parent}});
    let message = admin.post("/v3/projects", &body).await.refused(403);
    assert_eq!(message, format!("Max hierarchy depth reached for {parent} branch."));
}

#[tokio::test]
async fn a_name_is_taken_within_its_domain_only() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    admin.make("/v3/projects", "project", json!({"name": "p"})).await;
    let message = admin.post("/v3/projects", &json!({"project": {"name": "p"}})).await.refused(409);
    assert!(message.starts_with("Conflict occurred attempting to store project - it is not permitted"), "{message}");
    let domain = admin.make("/v3/domains", "domain", json!({"name": "d"})).await;
    admin.make("/v3/projects", "project", json!({"name": "p", "domain_id": domain})).await;
    admin.post("/v3/domains", &json!({"domain": {"name": "d"}})).await.refused(409);
    admin.post("/v3/projects", &json!({"project": {"name": "q", "domain_id": "none"}})).await.refused(400);
    admin.post("/v3/projects", &json!({"project": {"name": "x".repeat(65)}})).await.refused(400);
}

#[tokio::test]
async fn projects_are_found_by_tags() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let body = json!({"project": {"name": "p", "tags": ["blue", "big"], "colour": "unknown keys are kept"}});
    let made = admin.post("/v3/projects", &body).await.ok(201);
    assert_eq!(made["project"]["colour"], "unknown keys are kept");
    let path = format!("/v3/projects/{}/tags", made["project"]["id"].as_str().unwrap());
    admin.make("/v3/projects", "project", json!({"name": "q", "tags": ["blue"]})).await;
    let count = |body: api::Json| body["projects"].as_array().unwrap().len();
    assert_eq!(count(admin.get("/v3/projects?tags=blue,big").await.ok(200)), 1);
    assert_eq!(count(admin.get("/v3/projects?tags-any=blue,big").await.ok(200)), 2);
    assert_eq!(count(admin.get("/v3/projects?not-tags=blue,big&name__startswith=q").await.ok(200)), 1);
    assert_eq!(count(admin.get("/v3/projects?not-tags-any=blue").await.ok(200)), 1);

    assert_eq!(admin.get(&path).await.ok(200)["tags"], json!(["big", "blue"]));
    assert_eq!(admin.put(&format!("{path}/new")).await.status, 201);
    admin.get(&format!("{path}/new")).await.ok(204);
    admin.delete(&format!("{path}/big")).await.ok(204);
    admin.delete(&format!("{path}/big")).await.refused(404);
    let replaced = admin.send(api::Method::PUT, &path, Some(&json!({"tags": ["only"]}))).await.ok(200);
    assert_eq!(replaced["tags"], json!(["only"]));
    admin.delete(&path).await.ok(204);
    assert_eq!(admin.get(&path).await.ok(200)["tags"], json!([]));
}

#[tokio::test]
async fn a_domain_is_disabled_before_it_goes_with_all_it_holds() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let domain = admin.make("/v3/domains", "domain", json!({"name": "d", "description": "x"})).await;
    let project = admin.make("/v3/projects", "project", json!({"name": "p", "domain_id": domain})).await;
    let user = admin.make("/v3/users", "user", json!({"name": "u", "domain_id": domain})).await;
    let group = admin.make("/v3/groups", "group", json!({"name": "g", "domain_id": domain})).await;
    let role = admin.make("/v3/roles", "role", json!({"name": "r", "domain_id": domain})).await;
    admin.put(&format!("/v3/projects/{project}/users/{user}/roles/{role}")).await.ok(204);
    let path = format!("/v3/domains/{domain}");
    let message = admin.delete(&path).await.refused(403);
    assert_eq!(message, "Cannot delete a domain that is enabled, please disable it first.");
    admin.patch(&path, &json!({"domain": {"enabled": false}})).await.ok(200);
    admin.delete(&path).await.ok(204);
    for gone in [
        path,
        format!("/v3/projects/{project}"),
        format!("/v3/users/{user}"),
        format!("/v3/groups/{group}"),
        format!("/v3/roles/{role}"),
    ] {
        admin.get(&gone).await.refused(404);
    }
    let left = identity::manage::doctor(&cloud.identity.db, &cloud.identity.settings).await;
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_domain_is_a_project_that_acts_as_one() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let id = admin.make("/v3/projects", "project", json!({"name": "d", "is_domain": true})).await;
    let shown = admin.get(&format!("/v3/projects/{id}")).await.ok(200);
    assert_eq!((&shown["project"]["domain_id"], &shown["project"]["parent_id"]), (&json!(null), &json!(null)));
    admin.get(&format!("/v3/domains/{id}")).await.ok(200);
    let listed = admin.get("/v3/projects?is_domain=true").await.ok(200);
    assert_eq!(listed["projects"].as_array().unwrap().len(), 2);
    let with_parent = json!({"project": {"name": "e", "is_domain": true, "domain_id": "default"}});
    admin.post("/v3/projects", &with_parent).await.refused(400);
}

#[tokio::test]
async fn what_is_immutable_stays() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let id = admin.make("/v3/projects", "project", json!({"name": "p", "options": {"immutable": true}})).await;
    let path = format!("/v3/projects/{id}");
    admin.delete(&path).await.refused(403);
    admin.patch(&path, &json!({"project": {"name": "q"}})).await.refused(403);
    admin.patch(&path, &json!({"project": {"options": {"immutable": null}}})).await.ok(200);
    admin.delete(&path).await.ok(204);
    let member = admin.role("member").await;
    admin.delete(&format!("/v3/roles/{member}")).await.refused(403);
}
