//! Credentials, application credentials, access rules and trusts.

use api::{Json, Method, json};

use crate::cloud::{Client, Cloud, Reply, User, named};

async fn by_credential(cloud: &Cloud, credential: Json) -> Reply {
    let auth = json!({"identity": {"methods": ["application_credential"], "application_credential": credential}});
    cloud.send(Method::POST, "/v3/auth/tokens", &[], Some(&json!({"auth": auth}))).await
}

#[tokio::test]
async fn a_program_logs_in_with_an_application_credential() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let client = cloud.as_user(&alice).await;
    let path = format!("/v3/users/{}/application_credentials", alice.id);
    let made = client.post(&path, &json!({"application_credential": {"name": "a"}})).await.ok(201);
    let made = &made["application_credential"];
    assert_eq!(made["roles"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&made["unrestricted"], &made["system"], &made["expires_at"]),
        (&json!(false), &json!(null), &json!(null))
    );
    let proof = json!({"id": made["id"], "secret": made["secret"]});
    let reply = by_credential(&cloud, proof.clone()).await;
    let token = reply.token();
    assert_eq!(reply.body["token"]["application_credential"]["name"], "a");
    assert_eq!(reply.body["token"]["application_credential"]["restricted"], true);
    assert_eq!(reply.body["token"]["project"]["id"], alice.project);
    by_credential(&cloud, json!({"name": "a", "user": {"id": alice.id}, "secret": made["secret"]})).await.token();
    by_credential(&cloud, json!({"id": made["id"], "secret": "wrong"})).await.refused(401);
    by_credential(&cloud, json!({"id": "none", "secret": "wrong"})).await.refused(401);

    let program = Client { cloud: &cloud, token };
    program.get("/v3/auth/projects").await.ok(200);
    program.post(&path, &json!({"application_credential": {"name": "b"}})).await.refused(403);
    let listed = client.get(&format!("{path}?name=a")).await.ok(200);
    assert_eq!(listed["application_credentials"][0].get("secret"), None);
    client.post(&path, &json!({"application_credential": {"name": "a"}})).await.refused(409);
    client.delete(&format!("{path}/{}", made["id"].as_str().unwrap())).await.ok(204);
    program.get("/v3/auth/projects").await.refused(401);
    by_credential(&cloud, proof).await.refused(401);
}

#[tokio::test]
async fn an_application_credential_carries_only_roles_of_its_owner() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let (admin, client) = (cloud.admin().await, cloud.as_user(&alice).await);
    let path = format!("/v3/users/{}/application_credentials", alice.id);
    let body = |role: &str| json!({"application_credential": {"name": "a", "roles": [{"name": role}]}});
    client.post(&path, &body("admin")).await.refused(400);
    let made = client.post(&path, &body("reader")).await.ok(201);
    assert_eq!(made["application_credential"]["roles"].as_array().unwrap().len(), 1);
    admin.post(&path, &body("reader")).await.refused(403);
    let proof = json!({"id": made["application_credential"]["id"], "secret": made["application_credential"]["secret"]});
    let token = by_credential(&cloud, proof).await.ok(201);
    assert_eq!(token["token"]["roles"][0]["name"], "reader");
    let late = json!({"application_credential": {"name": "b", "expires_at": "2001-01-01T00:00:00"}});
    client.post(&path, &late).await.refused(400);
}

#[tokio::test]
async fn access_rules_are_kept_while_they_are_used() {
    let cloud = Cloud::new().await;
    let alice = cloud.user("alice", "member").await;
    let (admin, client) = (cloud.admin().await, cloud.as_user(&alice).await);
    let path = format!("/v3/users/{}/application_credentials", alice.id);
    let rule = json!({"path": "/v2.1/servers", "method": "GET", "service": "compute"});
    let body = json!({"application_credential": {"name": "a", "access_rules": [rule]}});
    let made = client.post(&path, &body).await.ok(201);
    let made = &made["application_credential"];
    let rule = made["access_rules"][0]["id"].as_str().unwrap();
    let rules = format!("/v3/users/{}/access_rules", alice.id);
    assert_eq!(client.get(&rules).await.ok(200)["access_rules"][0]["path"], "/v2.1/servers");
    client.get(&format!("{rules}/{rule}")).await.ok(200);
    assert_eq!(client.delete(&format!("{rules}/{rule}")).await.refused(403), "May not delete access rule in use");

    let token = by_credential(&cloud, json!({"id": made["id"], "secret": made["secret"]})).await.token();
    admin.subject(Method::GET, &token).await.refused(404);
    let program = Client { cloud: &cloud, token: token.clone() };
    program.get("/v3/auth/projects").await.refused(401);
    let headers = [
        ("x-auth-token", admin.token.as_str()),
        ("x-subject-token", token.as_str()),
        ("openstack-identity-access-rules", "1.0"),
    ];
    let shown = cloud.send(Method::GET, "/v3/auth/tokens", &headers, None).await.ok(200);
    assert_eq!(shown["token"]["application_credential"]["access_rules"][0]["id"], rule);
    client.delete(&format!("{path}/{}", made["id"].as_str().unwrap())).await.ok(204);
    client.delete(&format!("{rules}/{rule}")).await.ok(204);
}

#[tokio::test]
async fn credentials_are_sealed_and_belong_to_their_users() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "member").await);
    let (one, other) = (cloud.as_user(&alice).await, cloud.as_user(&bob).await);
    let body = json!({"blob": "very-secret", "type": "cert", "user_id": alice.id});
    let id = one.make("/v3/credentials", "credential", body.clone()).await;
    let path = format!("/v3/credentials/{id}");
    other.post("/v3/credentials", &json!({"credential": body})).await.refused(403);
    other.get(&path).await.refused(403);
    assert_eq!(other.get("/v3/credentials").await.ok(200)["credentials"], json!([]));
    assert_eq!(one.get("/v3/credentials?type=cert").await.ok(200)["credentials"][0]["blob"], "very-secret");
    let changed =
        one.patch(&path, &json!({"credential": {"blob": "other", "project_id": alice.project}})).await.ok(200);
    assert_eq!(changed["credential"]["blob"], "other");
    one.patch(&path, &json!({"credential": {"user_id": bob.id}})).await.refused(403);
    let rows = cloud.identity.db.rows(db::sql("SELECT sealed FROM credentials")).await.unwrap();
    assert!(rows[0].get::<String>(0).unwrap().starts_with("gAAAA"));

    identity::manage::credential_rotate(&cloud.identity).await.unwrap();
    identity::manage::credential_rotate(&cloud.identity).await.unwrap_err();
    assert_eq!(identity::manage::credential_migrate(&cloud.identity).await.unwrap(), 1);
    identity::manage::credential_rotate(&cloud.identity).await.unwrap();
    assert_eq!(one.get(&path).await.ok(200)["credential"]["blob"], "other");
    one.delete(&path).await.ok(204);
    one.get(&path).await.refused(403);
}

#[tokio::test]
async fn ec2_pairs_are_found_by_their_access_key() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "member").await);
    let (one, other) = (cloud.as_user(&alice).await, cloud.as_user(&bob).await);
    let path = format!("/v3/users/{}/credentials/OS-EC2", alice.id);
    let made = one.post(&path, &json!({"tenant_id": alice.project})).await.ok(201);
    let access = made["credential"]["access"].as_str().unwrap();
    assert_eq!(one.get(&path).await.ok(200)["credentials"][0]["access"], access);
    assert_eq!(one.get(&format!("{path}/{access}")).await.ok(200)["credential"]["tenant_id"], alice.project);
    other.get(&path).await.refused(403);
    other.get(&format!("{path}/{access}")).await.refused(403);
    one.delete(&format!("{path}/{access}")).await.ok(204);
    one.get(&format!("{path}/{access}")).await.refused(404);
}

async fn trust(client: &Client<'_>, from: &User, to: &User, change: Json) -> Reply {
    let mut trust = json!({"trustor_user_id": from.id, "trustee_user_id": to.id, "project_id": from.project,
        "impersonation": false, "roles": [{"name": "member"}]});
    trust.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    client.post("/v3/OS-TRUST/trusts", &json!({"trust": trust})).await
}

#[tokio::test]
async fn a_trustee_acts_with_the_roles_of_the_trustor() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "reader").await);
    let (admin, client, trustee) = (cloud.admin().await, cloud.as_user(&alice).await, cloud.as_user(&bob).await);
    for impersonation in [false, true] {
        let made = trust(&client, &alice, &bob, json!({"impersonation": impersonation})).await.ok(201);
        let id = made["trust"]["id"].as_str().unwrap();
        assert_eq!(made["trust"]["roles"][0]["name"], "member");
        let scope = json!({"OS-TRUST:trust": {"id": id}});
        let reply = cloud.log_in(named("bob", "secret"), scope.clone()).await;
        let token = reply.token();
        assert_eq!(reply.body["token"]["project"]["id"], alice.project);
        assert_eq!(reply.body["token"]["OS-TRUST:trust"]["impersonation"], impersonation);
        let user = if impersonation { &alice.id } else { &bob.id };
        assert_eq!(reply.body["token"]["user"]["id"], *user);
        assert_eq!(reply.body["token"]["roles"].as_array().unwrap().len(), 2);
        cloud.log_in(named("alice", "secret"), scope).await.refused(403);
        let again = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}});
        cloud.send(Method::POST, "/v3/auth/tokens", &[], Some(&again)).await.refused(403);

        trustee.get(&format!("/v3/OS-TRUST/trusts/{id}")).await.ok(200);
        trustee.get(&format!("/v3/OS-TRUST/trusts/{id}/roles")).await.ok(200);
        trustee.delete(&format!("/v3/OS-TRUST/trusts/{id}")).await.refused(403);
        client.delete(&format!("/v3/OS-TRUST/trusts/{id}")).await.ok(204);
        admin.subject(Method::GET, &token).await.refused(404);
        client.get(&format!("/v3/OS-TRUST/trusts/{id}")).await.refused(404);
    }
}

#[tokio::test]
async fn trusts_are_bounded() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.user("alice", "member").await, cloud.user("bob", "reader").await);
    let (admin, client, trustee) = (cloud.admin().await, cloud.as_user(&alice).await, cloud.as_user(&bob).await);
    trust(&client, &alice, &bob, json!({"roles": [{"name": "admin"}]})).await.refused(404);
    trust(&client, &alice, &bob, json!({"roles": []})).await.refused(403);
    trust(&trustee, &alice, &bob, json!({})).await.refused(403);
    trust(&client, &alice, &bob, json!({"expires_at": "2001-01-01T00:00:00Z"})).await.refused(400);
    let made =
        trust(&client, &alice, &bob, json!({"remaining_uses": 1, "expires_at": "2099-01-01T00:00:00Z"})).await.ok(201);
    assert_eq!(made["trust"]["expires_at"], "2099-01-01T00:00:00.000000Z");
    let scope = json!({"OS-TRUST:trust": {"id": made["trust"]["id"]}});
    let token = cloud.log_in(named("bob", "secret"), scope.clone()).await.token();
    assert_eq!(cloud.log_in(named("bob", "secret"), scope).await.status, 403);
    admin.subject(Method::GET, &token).await.ok(200);

    client.get("/v3/OS-TRUST/trusts").await.refused(403);
    assert_eq!(admin.get("/v3/OS-TRUST/trusts").await.ok(200)["trusts"].as_array().unwrap().len(), 1);
    let query = format!("/v3/OS-TRUST/trusts?trustee_user_id={}", bob.id);
    assert_eq!(trustee.get(&query).await.ok(200)["trusts"].as_array().unwrap().len(), 1);
    client.get(&query).await.refused(403);
    let role = admin.role("member").await;
    admin.delete(&format!("/v3/projects/{}/users/{}/roles/{role}", alice.project, alice.id)).await.ok(204);
    admin.subject(Method::GET, &token).await.refused(404);
}
