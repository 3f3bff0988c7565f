//! Roles, what they imply, and who has them on what.

use api::{Json, json};

use crate::cloud::{Client, Cloud, named};

/// Which roles somebody has where, as `actor target role` lines.
async fn lines(admin: &Client<'_>, query: &str) -> Vec<String> {
    let body = admin.get(&format!("/v3/role_assignments?include_names{query}")).await.ok(200);
    let name = |value: &Json| value["name"].as_str().unwrap_or("system").to_string();
    let line = |one: &Json| {
        let actor = if one.get("user").is_some() { &one["user"] } else { &one["group"] };
        let scope = &one["scope"];
        let target = if scope.get("project").is_some() { &scope["project"] } else { &scope["domain"] };
        format!("{} {} {}", name(actor), name(target), name(&one["role"]))
    };
    let mut lines: Vec<String> = body["role_assignments"].as_array().unwrap().iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn grants_are_given_listed_checked_and_taken_back() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let user = admin.make_user("u").await;
    let group = admin.make("/v3/groups", "group", json!({"name": "g"})).await;
    let project = admin.make("/v3/projects", "project", json!({"name": "p"})).await;
    let role = admin.make("/v3/roles", "role", json!({"name": "r"})).await;
    for place in [
        format!("/v3/projects/{project}/users/{user}/roles"),
        format!("/v3/projects/{project}/groups/{group}/roles"),
        format!("/v3/domains/default/users/{user}/roles"),
        format!("/v3/domains/default/groups/{group}/roles"),
        format!("/v3/system/users/{user}/roles"),
        format!("/v3/system/groups/{group}/roles"),
    ] {
        let one = format!("{place}/{role}");
        admin.head(&one).await.ok(404);
        admin.put(&one).await.ok(204);
        admin.put(&one).await.ok(204);
        admin.head(&one).await.ok(204);
        assert_eq!(admin.get(&place).await.ok(200)["roles"][0]["name"], "r");
        admin.delete(&one).await.ok(204);
        assert!(admin.delete(&one).await.refused(404).starts_with("Could not find role assignment with role: "));
    }
    admin.put(&format!("/v3/projects/{project}/users/none/roles/{role}")).await.refused(404);
    admin.put(&format!("/v3/projects/none/users/{user}/roles/{role}")).await.refused(404);
    admin.put(&format!("/v3/projects/{project}/users/{user}/roles/none")).await.refused(404);
}

#[tokio::test]
async fn effective_lists_expand_groups_inheritance_and_implications() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let user = admin.make_user("u").await;
    let group = admin.make("/v3/groups", "group", json!({"name": "g"})).await;
    admin.put(&format!("/v3/groups/{group}/users/{user}")).await.ok(204);
    let top = admin.make("/v3/projects", "project", json!({"name": "top"})).await;
    let leaf = admin.make("/v3/projects", "project", json!({"name": "leaf", "parent_id": top})).await;
    let member = admin.role("member").await;
    let below = format!("/v3/OS-INHERIT/projects/{top}/groups/{group}/roles/{member}/inherited_to_projects");
    admin.put(&below).await.ok(204);
    admin.head(&below).await.ok(204);

    assert_eq!(lines(&admin, &format!("&group.id={group}")).await, ["g top member"]);
    let query = format!("&effective&user.id={user}");
    assert_eq!(lines(&admin, &query).await, ["u leaf member", "u leaf reader"]);
    let query = format!("&effective&scope.project.id={leaf}&role.id={member}");
    assert_eq!(lines(&admin, &query).await, ["u leaf member"]);
    let query = format!("&include_subtree&scope.project.id={top}&effective");
    assert_eq!(lines(&admin, &query).await, ["u leaf member", "u leaf reader"]);

    let body = admin.get(&format!("/v3/role_assignments?effective&user.id={user}&role.id={member}")).await.ok(200);
    let one = &body["role_assignments"][0];
    assert_eq!(one["scope"]["OS-INHERIT:inherited_to"], "projects");
    let base = "http://cloud:5000/v3";
    assert_eq!(
        one["links"]["assignment"],
        format!("{base}/OS-INHERIT/projects/{top}/groups/{group}/roles/{member}/inherited_to_projects")
    );
    assert_eq!(one["links"]["membership"], format!("{base}/groups/{group}/users/{user}"));

    cloud.log_in(named("u", "secret"), json!({"project": {"id": leaf}})).await.token();
    cloud.log_in(named("u", "secret"), json!({"project": {"id": top}})).await.refused(401);
    let mine = admin.get(&format!("/v3/users/{user}/projects")).await.ok(200);
    assert_eq!(mine["projects"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_domain_passes_roles_on_to_its_projects() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let domain = admin.make("/v3/domains", "domain", json!({"name": "d"})).await;
    let project = admin.make("/v3/projects", "project", json!({"name": "p", "domain_id": domain})).await;
    let user = admin.make_user("u").await;
    let role = admin.role("reader").await;
    let place = format!("/v3/OS-INHERIT/domains/{domain}/users/{user}/roles");
    admin.put(&format!("{place}/{role}/inherited_to_projects")).await.ok(204);
    let listed = admin.get(&format!("{place}/inherited_to_projects")).await.ok(200);
    assert_eq!(listed["roles"][0]["id"], role);
    cloud.log_in(named("u", "secret"), json!({"project": {"id": project}})).await.token();
    cloud.log_in(named("u", "secret"), json!({"domain": {"id": domain}})).await.refused(401);
    assert_eq!(lines(&admin, &format!("&user.id={user}&scope.OS-INHERIT:inherited_to=projects")).await, ["u d reader"]);
}

#[tokio::test]
async fn roles_imply_roles() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let chief = admin.make("/v3/roles", "role", json!({"name": "chief"})).await;
    let helper = admin.make("/v3/roles", "role", json!({"name": "helper"})).await;
    let path = format!("/v3/roles/{chief}/implies/{helper}");
    admin.head(&path).await.ok(404);
    let made = admin.put(&path).await.ok(201);
    assert_eq!(made["role_inference"]["prior_role"]["name"], "chief");
    assert_eq!(made["role_inference"]["implies"]["name"], "helper");
    admin.get(&path).await.ok(200);
    admin.head(&path).await.ok(204);
    let listed = admin.get(&format!("/v3/roles/{chief}/implies")).await.ok(200);
    assert_eq!(listed["role_inference"]["implies"][0]["id"], helper);
    let all = admin.get("/v3/role_inferences").await.ok(200);
    assert_eq!(all["role_inferences"].as_array().unwrap().len(), 4);
    let top = admin.role("admin").await;
    assert_eq!(
        admin.put(&format!("/v3/roles/{chief}/implies/{top}")).await.refused(403),
        format!("{top} cannot be an implied roles.")
    );
    admin.delete(&path).await.ok(204);
    assert_eq!(admin.delete(&path).await.refused(404), format!("{chief} does not imply {helper}."));
}

#[tokio::test]
async fn a_domains_role_implies_but_is_not_shown() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let domain = admin.make("/v3/domains", "domain", json!({"name": "d"})).await;
    let project = admin.make("/v3/projects", "project", json!({"name": "p", "domain_id": domain})).await;
    let role = admin.make("/v3/roles", "role", json!({"name": "local", "domain_id": domain})).await;
    let user = admin.make_user("u").await;
    let reader = admin.role("reader").await;
    admin.put(&format!("/v3/projects/{project}/users/{user}/roles/{role}")).await.ok(204);
    cloud.log_in(named("u", "secret"), json!({"project": {"id": project}})).await.refused(401);
    admin.put(&format!("/v3/roles/{role}/implies/{reader}")).await.ok(201);
    let token = cloud.log_in(named("u", "secret"), json!({"project": {"id": project}})).await.ok(201);
    assert_eq!(token["token"]["roles"], json!([{"id": reader, "name": "reader"}]));

    assert_eq!(admin.get("/v3/roles?name=local").await.ok(200)["roles"], json!([]));
    let listed = admin.get(&format!("/v3/roles?domain_id={domain}")).await.ok(200);
    assert_eq!(listed["roles"][0]["domain_id"], domain);
    let elsewhere = admin.make("/v3/projects", "project", json!({"name": "q"})).await;
    admin.put(&format!("/v3/projects/{elsewhere}/users/{user}/roles/{role}")).await.refused(403);
    admin.put(&format!("/v3/system/users/{user}/roles/{role}")).await.refused(400);
}

#[tokio::test]
async fn filters_that_make_no_sense_are_refused() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    for query in
        ["user.id=a&group.id=b", "scope.domain.id=a&scope.project.id=b", "effective&group.id=a", "include_subtree"]
    {
        admin.get(&format!("/v3/role_assignments?{query}")).await.refused(400);
    }
    let system = lines(&admin, "&scope.system=all").await;
    assert_eq!(system, ["admin system admin"]);
}

#[tokio::test]
async fn the_manager_of_a_domain_rules_its_users() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let domain = admin.make("/v3/domains", "domain", json!({"name": "d"})).await;
    let body = json!({"name": "boss", "password": "secret", "domain_id": domain});
    let boss = admin.make("/v3/users", "user", body).await;
    let manager = admin.role("manager").await;
    admin.put(&format!("/v3/domains/{domain}/users/{boss}/roles/{manager}")).await.ok(204);
    let token =
        cloud.log_in(json!({"id": boss, "password": "secret"}), json!({"domain": {"id": domain}})).await.token();
    let boss = Client { cloud: &cloud, token };
    let user = boss.make("/v3/users", "user", json!({"name": "u", "domain_id": domain})).await;
    let project = boss.make("/v3/projects", "project", json!({"name": "p", "domain_id": domain})).await;
    let member = boss.role("member").await;
    boss.put(&format!("/v3/projects/{project}/users/{user}/roles/{member}")).await.ok(204);
    let top = admin.role("admin").await;
    boss.put(&format!("/v3/projects/{project}/users/{user}/roles/{top}")).await.refused(403);
    boss.post("/v3/users", &json!({"user": {"name": "x", "domain_id": "default"}})).await.refused(403);
    boss.post("/v3/domains", &json!({"domain": {"name": "x"}})).await.refused(403);
    let seen = boss.get("/v3/users").await.ok(200);
    assert!(seen["users"].as_array().unwrap().iter().all(|user| user["domain_id"] == domain));
}
