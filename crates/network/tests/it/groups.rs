//! Security groups and their rules.

use api::{Json, json};

use crate::cloud::{Cloud, text};

async fn group(cloud: &Cloud, name: &str) -> String {
    let body = json!({"security_group": {"name": name, "description": name}});
    text(&cloud.by("alice").post("/security-groups", body).await.ok(201)["security_group"]["id"])
}

#[tokio::test]
async fn a_project_has_its_default_group_from_the_first_look_on() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let groups = alice.get("/security-groups").await.ok(200)["security_groups"].clone();
    assert_eq!(groups[0]["name"], "default");
    let rules = groups[0]["security_group_rules"].as_array().unwrap().clone();
    let kinds = rules.iter().filter(|rule| rule["remote_group_id"] == groups[0]["id"]).count();
    assert_eq!((rules.len(), kinds), (4, 2));
    assert_eq!(alice.list("/security-groups", "id").await.len(), 1);
    let at = format!("/security-groups/{}", text(&groups[0]["id"]));
    let rename = json!({"security_group": {"name": "x"}});
    assert_eq!(alice.put(&at, rename).await.refused(409), "SecurityGroupCannotUpdateDefault");
    assert_eq!(alice.delete(&at).await.refused(409), "SecurityGroupCannotRemoveDefault");
    let second = json!({"security_group": {"name": "Default"}});
    assert_eq!(alice.post("/security-groups", second).await.refused(409), "SecurityGroupDefaultAlreadyExists");
}

#[tokio::test]
async fn equal_rules_are_refused_whatever_their_spelling() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let group = group(&cloud, "web").await;
    let rule = |more: Json| {
        let mut body = json!({"security_group_id": group, "direction": "ingress"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"security_group_rule": body})
    };
    let ssh = alice
        .post("/security-group-rules", rule(json!({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22})));
    let id = text(&ssh.await.ok(201)["security_group_rule"]["id"]);
    for same in [
        json!({"protocol": "tcp", "port_range_min": "22", "port_range_max": 22}),
        json!({"protocol": 6, "port_range_min": 22, "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0"}),
    ] {
        let got = alice.post("/security-group-rules", rule(same)).await;
        assert_eq!(got.refused(409), "SecurityGroupRuleExists");
        assert_eq!(got.words(409), format!("Security group rule already exists. Rule id is {id}."));
    }
    let six = alice.post("/security-group-rules", rule(json!({"protocol": "icmp", "ethertype": "IPv6"}))).await.ok(201);
    assert_eq!(six["security_group_rule"]["protocol"], "ipv6-icmp");
    let shown = alice.get(&format!("/security-groups/{group}")).await.ok(200);
    assert_eq!(shown["security_group"]["revision_number"], 3);
    alice.delete(&format!("/security-group-rules/{id}")).await.ok(204);
    assert_eq!(alice.get(&format!("/security-group-rules/{id}")).await.refused(404), "SecurityGroupRuleNotFound");
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let group = group(&cloud, "web").await;
    for (more, kind) in [
        (json!({"protocol": "tcp", "port_range_min": 22, "port_range_max": 1}), "SecurityGroupInvalidPortRange"),
        (json!({"protocol": "tcp", "port_range_min": 0, "port_range_max": 9}), "SecurityGroupInvalidPortValue"),
        (json!({"protocol": "tcp", "port_range_min": 1, "port_range_max": 70000}), "SecurityGroupInvalidPortValue"),
        (json!({"port_range_min": 1, "port_range_max": 9}), "SecurityGroupProtocolRequiredWithPorts"),
        (json!({"protocol": "icmp", "port_range_min": 256}), "SecurityGroupInvalidIcmpValue"),
        (json!({"protocol": "icmp", "port_range_max": 1}), "SecurityGroupMissingIcmpType"),
        (json!({"protocol": "gre", "port_range_min": 1, "port_range_max": 2}), "SecurityGroupInvalidProtocolForPort"),
        (json!({"protocol": "nonsense"}), "SecurityGroupRuleInvalidProtocol"),
        (json!({"protocol": "icmpv6"}), "SecurityGroupEthertypeConflictWithProtocol"),
        (json!({"ethertype": "IPv5"}), "SecurityGroupRuleInvalidEtherType"),
        (json!({"remote_ip_prefix": "fd00::/8"}), "SecurityGroupRuleParameterConflict"),
        (json!({"remote_ip_prefix": "10.0.0.0/8", "remote_group_id": group}), "SecurityGroupMultipleRemoteEntites"),
        (json!({"remote_ip_prefix": "10.0.0.0/99"}), "HTTPBadRequest"),
        (json!({"direction": "sideways"}), "HTTPBadRequest"),
    ] {
        let mut body = json!({"security_group_id": group, "direction": "ingress"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let got = alice.post("/security-group-rules", json!({"security_group_rule": body})).await;
        assert_eq!(got.refused(400), kind, "{more}");
    }
    for gone in [
        json!({"security_group_id": base::id::uuid(), "direction": "ingress"}),
        json!({"security_group_id": group, "direction": "ingress", "remote_group_id": "nosuch"}),
    ] {
        let got = alice.post("/security-group-rules", json!({"security_group_rule": gone})).await;
        assert_eq!(got.refused(404), "SecurityGroupNotFound");
    }
}

#[tokio::test]
async fn a_group_in_use_stays() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let group = group(&cloud, "web").await;
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let port = alice.port(json!({"network_id": network, "security_groups": [group]})).await;
    let at = format!("/security-groups/{group}");
    assert_eq!(alice.delete(&at).await.words(409), format!("Security Group {group} in use."));
    alice.delete(&format!("/ports/{}", text(&port["id"]))).await.ok(204);
    alice.delete(&at).await.ok(204);
    assert_eq!(alice.get(&at).await.refused(404), "SecurityGroupNotFound");
}

#[tokio::test]
async fn groups_of_others_are_not_there() {
    let cloud = Cloud::new().await;
    let group = group(&cloud, "web").await;
    let bob = cloud.by("bob");
    assert_eq!(bob.get(&format!("/security-groups/{group}")).await.refused(404), "SecurityGroupNotFound");
    let rule = json!({"security_group_rule": {"security_group_id": group, "direction": "ingress"}});
    assert_eq!(bob.post("/security-group-rules", rule).await.refused(404), "SecurityGroupNotFound");
    let own = bob.get(&format!("/security-group-rules?security_group_id={group}")).await.ok(200);
    assert_eq!(own["security_group_rules"], json!([]));
}
