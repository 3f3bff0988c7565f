//! RBAC, quotas, tags.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn a_network_is_lent_to_one_project() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.by("alice"), cloud.by("bob"));
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let policy = |target: &str| {
        json!({"rbac_policy": {
            "action": "access_as_shared", "object_id": network, "object_type": "network", "target_tenant": target,
        }})
    };
    let made = alice.post("/rbac-policies", policy("red")).await.ok(201)["rbac_policy"].clone();
    assert_eq!(made["target_tenant"], "red");
    assert_eq!(alice.post("/rbac-policies", policy("red")).await.refused(409), "DuplicateRbacPolicy");
    assert_eq!(alice.post("/rbac-policies", policy("*")).await.refused(403), "PolicyNotAuthorized");
    assert_eq!(bob.post("/rbac-policies", policy("red")).await.status, 404);
    let seen = bob.get(&format!("/networks/{network}")).await.ok(200)["network"].clone();
    assert_eq!(seen["shared"], true);
    assert_eq!(alice.get(&format!("/networks/{network}")).await.ok(200)["network"]["shared"], false);
    assert_eq!(bob.list("/subnets", "network_id").await, std::slice::from_ref(&network));
    let port = bob.port(json!({"network_id": network})).await;
    let at = format!("/rbac-policies/{}", text(&made["id"]));
    assert_eq!(alice.delete(&at).await.refused(409), "RbacPolicyInUse");
    bob.delete(&format!("/ports/{}", text(&port["id"]))).await.ok(204);
    alice.delete(&at).await.ok(204);
    assert_eq!(bob.get(&format!("/networks/{network}")).await.refused(404), "NetworkNotFound");
}

#[tokio::test]
async fn an_external_network_is_seen_by_all_and_used_by_nobody() {
    let cloud = Cloud::new().await;
    let outside = cloud.by("admin").external().await;
    let alice = cloud.by("alice");
    assert_eq!(alice.list("/networks?router:external=True", "id").await, std::slice::from_ref(&outside));
    assert!(alice.list("/networks?router:external=False", "id").await.is_empty());
    let port = alice.post("/ports", json!({"port": {"network_id": outside}})).await;
    assert_eq!(port.refused(403), "PolicyNotAuthorized");
    let policies = cloud.by("admin").list("/rbac-policies", "action").await;
    assert_eq!(policies, ["access_as_external"]);
}

#[tokio::test]
async fn quotas_are_counted_from_rows() {
    let cloud = Cloud::new().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let own = alice.get("/quotas/blue").await.ok(200)["quota"].clone();
    assert_eq!((own["network"].clone(), own["port"].clone()), (json!(100), json!(500)));
    assert_eq!(alice.get("/quotas/red").await.refused(403), "PolicyNotAuthorized");
    assert_eq!(alice.put("/quotas/blue", json!({"quota": {"network": 9}})).await.refused(403), "PolicyNotAuthorized");
    let set = admin.put("/quotas/blue", json!({"quota": {"network": "2", "check_limit": true}})).await.ok(200);
    assert_eq!(set["quota"]["network"], 2);
    alice.post("/networks", json!({"networks": [{}, {}]})).await.ok(201);
    let full = alice.post("/networks", json!({"network": {}})).await;
    assert_eq!(full.refused(409), "OverQuota");
    assert_eq!(full.words(409), "Quota exceeded for resources: ['network'].");
    let less = admin.put("/quotas/blue", json!({"quota": {"network": 1}})).await.words(400);
    assert_eq!(less, "Quota limit 1 for network must be greater than or equal to already used 2");
    let details = admin.get("/quotas/blue/details").await.ok(200);
    assert_eq!(details["quota"]["network"], json!({"limit": 2, "used": 2, "reserved": 0}));
    assert_eq!(admin.get("/quotas").await.ok(200)["quotas"][0]["project_id"], "blue");
    admin.delete("/quotas/blue").await.ok(204);
    assert_eq!(admin.delete("/quotas/blue").await.refused(404), "TenantQuotaNotFound");
    assert_eq!(alice.get("/quotas/blue/default").await.ok(200)["quota"]["network"], 100);
    alice.network(json!({})).await;
}

#[tokio::test]
async fn things_are_found_by_their_tags() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let mut ids = Vec::new();
    for tags in [vec!["red", "big"], vec!["red"], vec![]] {
        let id = text(&alice.network(json!({})).await["id"]);
        alice.put(&format!("/networks/{id}/tags"), json!({"tags": tags})).await.ok(200);
        ids.push(id);
    }
    let found = |query: &'static str| async move { alice.list(&format!("/networks?{query}"), "id").await.len() };
    assert_eq!(found("tags=red").await, 2);
    assert_eq!(found("tags=red,big").await, 1);
    assert_eq!(found("tags-any=big,blue").await, 1);
    assert_eq!(found("not-tags=red,big").await, 2);
    assert_eq!(found("not-tags-any=red").await, 1);
    let at = format!("/networks/{}/tags", ids[0]);
    alice.put(&format!("{at}/new"), json!(null)).await.ok(201);
    assert_eq!(alice.get(&at).await.ok(200)["tags"], json!(["big", "new", "red"]));
    alice.get(&format!("{at}/new")).await.ok(204);
    alice.delete(&format!("{at}/new")).await.ok(204);
    assert_eq!(alice.get(&format!("{at}/new")).await.refused(404), "TagNotFound");
    alice.delete(&at).await.ok(204);
    assert_eq!(alice.get(&at).await.ok(200)["tags"], json!([]));
    assert_eq!(cloud.by("bob").get(&at).await.refused(404), "TagResourceNotFound");
    assert_eq!(cloud.by("reader").put(&at, json!({"tags": ["x"]})).await.refused(403), "PolicyNotAuthorized");
}
