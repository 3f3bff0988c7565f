//! Users, their passwords and what an operator demands of them.

use api::{Method, json};
use base::Time;

use crate::cloud::{Cloud, named};

#[tokio::test]
async fn a_user_is_made_shown_changed_and_removed() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    let body = json!({"user": {"name": "u", "password": "p", "email": "u@x.org", "description": "d", "enabled": true}});
    let made = admin.post("/v3/users", &body).await.ok(201);
    let id = made["user"]["id"].as_str().unwrap();
    assert_eq!(made["user"]["domain_id"], "default");
    assert_eq!(made["user"]["email"], "u@x.org");
    assert_eq!(made["user"].get("password"), None);
    assert_eq!(made["user"].get("default_project_id"), None);
    assert_eq!(
        admin.post("/v3/users", &body).await.refused(409),
        "Conflict occurred attempting to store user - Duplicate entry found with name u at domain ID default."
    );

    let path = format!("/v3/users/{id}");
    let changed = admin.patch(&path, &json!({"user": {"email": "v@x.org", "name": "v"}})).await.ok(200);
    assert_eq!(changed["user"]["extra"], json!({"email": "v@x.org", "description": "d"}));
    assert_eq!(admin.get(&path).await.ok(200)["user"]["name"], "v");
    admin.patch(&path, &json!({"user": {"domain_id": "other"}})).await.refused(400);
    admin.delete(&path).await.ok(204);
    assert_eq!(admin.get(&path).await.refused(404), format!("Could not find user: {id}."));
    admin.delete(&path).await.refused(404);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    for name in ["ann", "anton", "bea"] {
        admin.make_user(name).await;
    }
    let names = |body: api::Json| {
        let users = body["users"].as_array().unwrap().iter();
        let mut names: Vec<String> = users.map(|user| user["name"].as_str().unwrap().to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(admin.get("/v3/users?name=bea").await.ok(200)), ["bea"]);
    assert_eq!(names(admin.get("/v3/users?name__startswith=an").await.ok(200)), ["ann", "anton"]);
    assert_eq!(names(admin.get("/v3/users?name__contains=nt&enabled=true").await.ok(200)), ["anton"]);
    assert_eq!(names(admin.get("/v3/users?enabled=0").await.ok(200)), [""; 0]);
    assert_eq!(names(admin.get("/v3/users?domain_id=none").await.ok(200)), [""; 0]);
    let mut seen = Vec::new();
    let mut next = "/v3/users?limit=3".to_string();
    loop {
        let page = admin.get(&next).await.ok(200);
        let link = page["links"]["next"].as_str().map(|link| link.replace("http://cloud:5000", ""));
        seen.extend(names(page));
        match link {
            Some(link) => next = link,
            None => break,
        }
    }
    seen.sort();
    assert_eq!(seen, ["admin", "ann", "anton", "bea"]);
}

#[tokio::test]
async fn an_operator_can_cut_lists() {
    let cloud = Cloud::with(|settings| settings.list_limit = Some(2)).await;
    let admin = cloud.admin().await;
    admin.make_user("u").await;
    admin.make_user("v").await;
    let body = admin.get("/v3/users").await.ok(200);
    assert_eq!(body["users"].as_array().unwrap().len(), 2);
    assert_eq!(body["truncated"], true);
    assert_eq!(admin.get("/v3/users?name=u").await.ok(200).get("truncated"), None);
}

#[tokio::test]
async fn users_see_themselves_and_no_others() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "member").await);
    let client = cloud.as_user(&alice).await;
    client.get(&format!("/v3/users/{}", alice.id)).await.ok(200);
    client.get(&format!("/v3/users/{}", bob.id)).await.refused(403);
    client.get("/v3/users").await.refused(403);
    client.get("/v3/users/none").await.refused(403);
    let refused = client.post("/v3/users", &json!({"user": {"name": "x", "domain_id": "default"}})).await.refused(403);
    assert_eq!(refused, "You are not authorized to perform the requested action: identity:create_user.");
    let mine = client.get(&format!("/v3/users/{}/projects", alice.id)).await.ok(200);
    assert_eq!(mine["projects"][0]["id"], alice.project);
}

#[tokio::test]
async fn a_user_changes_the_own_password_and_older_tokens_are_void() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let client = cloud.as_user(&alice).await;
    let path = format!("/v3/users/{}/password", alice.id);
    let change = |old: &str, new: &str| json!({"user": {"original_password": old, "password": new}});
    cloud.send(Method::POST, &path, &[], Some(&change("wrong", "new"))).await.refused(401);
    cloud.send(Method::POST, &path, &[], Some(&change("secret", "new"))).await.ok(204);
    client.get("/v3/auth/projects").await.refused(401);
    cloud.log_in(named("alice", "secret"), json!(null)).await.refused(401);
    let token = cloud.log_in(named("alice", "new"), json!(null)).await.token();
    let again = crate::cloud::Client { cloud: &cloud, token };
    again.get("/v3/auth/projects").await.ok(200);
}

#[tokio::test]
async fn a_user_makes_all_own_tokens_void() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "member").await);
    let (one, two, other) = (cloud.as_user(&alice).await, cloud.as_user(&alice).await, cloud.as_user(&bob).await);
    other.delete(&format!("/v3/users/{}/tokens", alice.id)).await.refused(403);
    one.delete(&format!("/v3/users/{}/tokens", alice.id)).await.ok(204);
    two.get("/v3/auth/projects").await.refused(401);
    cloud.as_user(&alice).await.get("/v3/auth/projects").await.ok(200);
}

#[tokio::test]
async fn earlier_passwords_are_refused_to_users_but_not_to_admins() {
    let cloud = Cloud::with(|settings| settings.compliance.unique_last_password_count = 2).await;
    let alice = cloud.user("alice", "member").await;
    let path = format!("/v3/users/{}/password", alice.id);
    let change = |old: &str, new: &str| json!({"user": {"original_password": old, "password": new}});
    let send = |body: api::Json| {
        let path = path.clone();
        let cloud = &cloud;
        async move { cloud.send(Method::POST, &path, &[], Some(&body)).await }
    };
    assert!(send(change("secret", "secret")).await.refused(400).starts_with("The new password cannot be identical"));
    send(change("secret", "second")).await.ok(204);
    send(change("second", "secret")).await.refused(400);
    send(change("second", "third")).await.ok(204);
    send(change("third", "secret")).await.ok(204);
    let admin = cloud.admin().await;
    admin.patch(&format!("/v3/users/{}", alice.id), &json!({"user": {"password": "secret"}})).await.ok(200);
    cloud.log_in(named("alice", "secret"), json!(null)).await.token();
}

#[tokio::test]
async fn an_account_is_locked_after_wrong_passwords() {
    let cloud = Cloud::with(|settings| {
        settings.compliance.lockout_failure_attempts = Some(2);
        settings.compliance.lockout_duration_s = 10;
    })
    .await;
    let alice = cloud.user("alice", "member").await;
    for _ in 0..2 {
        cloud.log_in(named("alice", "wrong"), json!(null)).await.refused(401);
    }
    let message = cloud.log_in(named("alice", "secret"), json!(null)).await.refused(401);
    assert_eq!(message, format!("The account is locked for user: {}.", alice.id));
    let later = db::sql("UPDATE users SET failed_auth_at = failed_auth_at - 11000000 WHERE id = ?").bind(&alice.id);
    cloud.identity.db.run(later).await.unwrap();
    cloud.log_in(named("alice", "secret"), json!(null)).await.token();
}

#[tokio::test]
async fn passwords_expire_and_can_still_be_changed() {
    let cloud = Cloud::with(|settings| settings.compliance.password_expires_days = Some(1)).await;
    let alice = cloud.user("alice", "member").await;
    let gone = db::sql("UPDATE users SET password_expires_at = ? WHERE id = ?").bind(Time(1)).bind(&alice.id);
    cloud.identity.db.run(gone).await.unwrap();
    let message = cloud.log_in(named("alice", "secret"), json!(null)).await.refused(401);
    assert!(message.starts_with("The password is expired and needs to be changed"));
    let body = json!({"user": {"original_password": "secret", "password": "new"}});
    cloud.send(Method::POST, &format!("/v3/users/{}/password", alice.id), &[], Some(&body)).await.ok(204);
    let token = cloud.log_in(named("alice", "new"), json!(null)).await.ok(201);
    assert!(token["token"]["user"]["password_expires_at"].is_string());
}

#[tokio::test]
async fn passwords_must_look_as_the_operator_wants() {
    let cloud = Cloud::with(|settings| {
        settings.compliance.password_regex = Some(r".*\d.*".into());
        settings.compliance.password_regex_description = Some("a digit".into());
    })
    .await;
    let admin = cloud.admin().await;
    let body = |password: &str| json!({"user": {"name": "u", "password": password}});
    let message = admin.post("/v3/users", &body("nodigit")).await.refused(400);
    assert_eq!(message, "The password does not match the requirements: a digit.");
    admin.post("/v3/users", &body("digit1")).await.ok(201);
    let shown = admin.get("/v3/domains/default/config/security_compliance").await.ok(200);
    assert_eq!(shown["config"]["security_compliance"]["password_regex_description"], "a digit");
}

#[tokio::test]
async fn several_factors_can_be_demanded() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let admin = cloud.admin().await;
    let options = json!({"user": {"options": {
        "multi_factor_auth_enabled": true, "multi_factor_auth_rules": [["password", "token"]],
    }}});
    admin.patch(&format!("/v3/users/{}", alice.id), &options).await.ok(200);
    cloud.log_in(named("alice", "secret"), json!(null)).await.refused(401);
    let off = json!({"user": {"options": {"multi_factor_auth_enabled": null}}});
    let shown = admin.patch(&format!("/v3/users/{}", alice.id), &off).await.ok(200);
    assert_eq!(shown["user"]["options"], json!({"multi_factor_auth_rules": [["password", "token"]]}));
    cloud.log_in(named("alice", "secret"), json!(null)).await.token();
}

#[tokio::test]
async fn bodies_are_checked() {
    let cloud = Cloud::new().await;
    let admin = cloud.admin().await;
    assert_eq!(admin.post("/v3/users", &json!({"name": "x"})).await.refused(400), "'user' is a required property");
    let message = admin.post("/v3/users", &json!({"user": {"name": ""}})).await.refused(400);
    assert!(message.starts_with("Invalid input for field/attribute name. Value: "), "{message}");
    admin.post("/v3/users", &json!({"user": {"name": "x", "options": {"unknown": true}}})).await.refused(400);
    admin.post("/v3/users", &json!({"user": {"name": "x", "domain_id": "none"}})).await.refused(404);
}
