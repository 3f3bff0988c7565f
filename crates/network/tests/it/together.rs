//! Many at once: what must be unique stays unique on every database.

use std::collections::HashSet;

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ports_made_at_once_share_no_address() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, subnet) = alice.joined("10.0.0.0/27").await;
    // 29 addresses for 40 who want one.
    let tries = (0..40).map(|_| alice.post("/ports", json!({"port": {"network_id": network}})));
    let got = futures_util::future::join_all(tries).await;
    let mut addresses = HashSet::new();
    let mut refused = 0;
    for got in got {
        match got.status {
            201 => {
                let address = text(&got.body["port"]["fixed_ips"][0]["ip_address"]);
                assert!(addresses.insert(address), "{}", got.raw);
            }
            _ => {
                assert_eq!(got.refused(409), "IpAddressGenerationFailure");
                refused += 1;
            }
        }
    }
    assert_eq!((addresses.len(), refused), (29, 11));
    let left = alice.list(&format!("/ports?fixed_ips=subnet_id%3D{subnet}"), "id").await;
    assert_eq!(left.len(), 29, "who got no address left nothing behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_is_not_passed_by_many_at_once() {
    let cloud = Cloud::new().await;
    cloud.by("admin").put("/quotas/blue", json!({"quota": {"network": 5}})).await.ok(200);
    let alice = cloud.by("alice");
    let tries = (0..12).map(|_| alice.post("/networks", json!({"network": {}})));
    let made = futures_util::future::join_all(tries).await.iter().filter(|got| got.status == 201).count();
    assert_eq!(made, 5);
    assert_eq!(alice.list("/networks", "id").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn equal_rules_sent_at_once_leave_one() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let group = text(&alice.get("/security-groups").await.ok(200)["security_groups"][0]["id"]);
    let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress", "protocol": "tcp"}});
    let tries = (0..8).map(|_| alice.post("/security-group-rules", rule.clone()));
    let statuses: Vec<u16> = futures_util::future::join_all(tries).await.iter().map(|got| got.status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 7, "{statuses:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_project_gets_one_default_group_however_many_ask() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let looks = (0..10).map(|_| alice.get("/security-groups"));
    for got in futures_util::future::join_all(looks).await {
        assert_eq!(got.ok(200)["security_groups"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_network_does_not_go_away_under_a_new_port() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    for _ in 0..6 {
        let (network, _) = alice.joined("10.0.0.0/24").await;
        let at = format!("/networks/{network}");
        let tries = (0..4).map(|_| alice.post("/ports", json!({"port": {"network_id": network}})));
        let (made, gone) = futures_util::future::join(futures_util::future::join_all(tries), alice.delete(&at)).await;
        let made: Vec<u16> = made.iter().map(|got| got.status).collect();
        assert!(made.iter().all(|status| [201, 404].contains(status)), "{made:?}");
        let left = alice.list(&format!("/ports?network_id={network}"), "id").await.len();
        match gone.status {
            204 => assert_eq!(left, 0, "ports without a network: {made:?}"),
            _ => assert_eq!(gone.refused(409), "NetworkInUse"),
        }
    }
}
