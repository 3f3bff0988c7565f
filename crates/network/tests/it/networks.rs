//! Networks and their segments.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn a_member_makes_a_vxlan_network_and_does_not_see_what_carries_it() {
    let cloud = Cloud::new().await;
    let mine = cloud.by("alice").network(json!({"name": "a"})).await;
    assert_eq!(mine["mtu"], 1450);
    assert_eq!(mine["revision_number"], 1);
    assert!(mine.get("provider:network_type").is_none());
    let same = cloud.by("admin").get(&format!("/networks/{}", text(&mine["id"]))).await.ok(200)["network"].clone();
    assert_eq!(same["provider:network_type"], "vxlan");
    assert!(same["provider:segmentation_id"].as_i64().unwrap() >= 1);
}

#[tokio::test]
async fn segments_are_never_given_twice() {
    let cloud = Cloud::configured("[ml2_type_vxlan]\nvni_ranges = 7:9\n").await;
    let admin = cloud.by("admin");
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let network = admin.network(json!({})).await;
        numbers.push(network["provider:segmentation_id"].as_i64().unwrap());
    }
    numbers.sort();
    assert_eq!(numbers, [7, 8, 9]);
    assert_eq!(admin.post("/networks", json!({"network": {}})).await.refused(503), "NoNetworkAvailable");

    let flat = json!({"network": {"provider:network_type": "flat", "provider:physical_network": "physnet1"}});
    admin.post("/networks", flat.clone()).await.ok(201);
    assert_eq!(admin.post("/networks", flat).await.refused(409), "FlatNetworkInUse");
    let vlan = json!({"network": {
        "provider:network_type": "vlan", "provider:physical_network": "physnet1", "provider:segmentation_id": 5,
    }});
    admin.post("/networks", vlan.clone()).await.ok(201);
    assert_eq!(admin.post("/networks", vlan).await.refused(409), "VlanIdInUse");
    let odd = json!({"network": {"provider:network_type": "gre"}});
    assert_eq!(
        admin.post("/networks", odd).await.words(400),
        "Invalid input for operation: network_type value 'gre' not supported."
    );
}

#[tokio::test]
async fn rights_are_asked_for_each_attribute() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let words = alice.post("/networks", json!({"network": {"router:external": true}})).await.words(403);
    assert_eq!(words, "(rule:create_network and rule:create_network:router:external) is disallowed by policy");
    let words = cloud.by("reader").post("/networks", json!({"network": {}})).await.words(403);
    assert_eq!(words, "rule:create_network is disallowed by policy");
    // What equals the default is as good as not said.
    alice.post("/networks", json!({"network": {"shared": false}})).await.ok(201);
}

#[tokio::test]
async fn a_network_of_others_is_not_there() {
    let cloud = Cloud::new().await;
    let id = text(&cloud.by("alice").network(json!({})).await["id"]);
    let bob = cloud.by("bob");
    let at = format!("/networks/{id}");
    assert_eq!(bob.get(&at).await.refused(404), "NetworkNotFound");
    assert_eq!(bob.put(&at, json!({"network": {"name": "x"}})).await.refused(404), "NetworkNotFound");
    assert_eq!(bob.delete(&at).await.refused(404), "NetworkNotFound");
    assert!(bob.list("/networks", "id").await.is_empty());
    // Seen but not owned: refused, not hidden.
    cloud.by("admin").put(&at, json!({"network": {"shared": true}})).await.ok(200);
    assert_eq!(bob.get(&at).await.ok(200)["network"]["shared"], true);
    assert_eq!(bob.put(&at, json!({"network": {"name": "x"}})).await.refused(403), "PolicyNotAuthorized");
    assert_eq!(cloud.by("reader").delete(&at).await.refused(403), "PolicyNotAuthorized");
}

#[tokio::test]
async fn bodies_are_checked_in_upstreams_words() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let said = |body| async { alice.post("/networks", body).await.words(400) };
    assert_eq!(said(json!({"network": {"nom": "x"}})).await, "Unrecognized attribute(s) 'nom'");
    assert_eq!(said(json!({"name": "x"})).await, "Unable to find 'network' in request body");
    assert_eq!(
        said(json!({"network": {"name": "x".repeat(256)}})).await,
        format!("Invalid input for name. Reason: '{}' exceeds maximum length of 255.", "x".repeat(256))
    );
    assert_eq!(
        said(json!({"network": {"admin_state_up": "perhaps"}})).await,
        "Invalid input for admin_state_up. Reason: 'perhaps' cannot be converted to boolean."
    );
    assert_eq!(
        said(json!({"network": {"mtu": 9000}})).await,
        "Invalid input for operation: Requested MTU is too big, maximum is 1450."
    );
    assert_eq!(said(json!({"network": {"status": "DOWN"}})).await, "Attribute 'status' not allowed in POST");
    let other = json!({"network": {"project_id": "red"}});
    assert!(said(other).await.starts_with("Specifying 'project_id' or 'tenant_id' other than"));
}

#[tokio::test]
async fn many_networks_are_made_at_once_or_none() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let made = alice.post("/networks", json!({"networks": [{"name": "b1"}, {"name": "b2"}]})).await.ok(201);
    assert_eq!(made["networks"][0]["name"], "b1");
    assert_eq!(made["networks"].as_array().unwrap().len(), 2);
    let bad = json!({"networks": [{"name": "b3"}, {"mtu": 9000}]});
    alice.post("/networks", bad).await.ok(400);
    assert_eq!(alice.list("/networks?sort_key=name&sort_dir=asc", "name").await, ["b1", "b2"]);
}

#[tokio::test]
async fn a_change_raises_the_revision_and_may_be_tied_to_one() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let at = format!("/networks/{}", text(&alice.network(json!({})).await["id"]));
    let change = |name: &str| Some(json!({"network": {"name": name}}));
    let tied = |number: &'static str| Some(("if-match", number));
    let put = api::Method::PUT;
    let done = alice.send(put.clone(), &at, change("a"), tied("revision_number=1")).await.ok(200);
    assert_eq!(done["network"]["revision_number"], 2);
    let late = alice.send(put.clone(), &at, change("b"), tied("revision_number=1")).await;
    assert_eq!(late.refused(412), "RevisionNumberConstraintFailed");
    assert_eq!(late.words(412), "Constrained to 1, but current revision is 2");
    assert_eq!(alice.get(&at).await.ok(200)["network"]["name"], "a");
    alice.send(put, &at, change("b"), tied("revision_number=x")).await.ok(400);
}

#[tokio::test]
async fn a_network_with_ports_stays() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let port = text(&alice.port(json!({"network_id": network})).await["id"]);
    let words = alice.delete(&format!("/networks/{network}")).await.words(409);
    assert!(words.ends_with(&format!("id for these ports is: {port}.")), "{words}");
    assert_eq!(alice.delete(&format!("/subnets/{subnet}")).await.refused(409), "SubnetInUse");
    alice.delete(&format!("/ports/{port}")).await.ok(204);
    alice.delete(&format!("/networks/{network}")).await.ok(204);
    assert_eq!(alice.get(&format!("/subnets/{subnet}")).await.refused(404), "SubnetNotFound");
}

#[tokio::test]
async fn the_documents_name_versions_and_extensions() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    assert_eq!(alice.get("/").await.ok(200)["resources"][0]["collection"], "networks");
    assert_eq!(alice.get("/extensions/router").await.ok(200)["extension"]["alias"], "router");
    let missing = alice.get("/extensions/nosuch").await;
    assert_eq!(missing.status, 404);
    assert!(missing.raw.contains("Extension with alias nosuch does not exist"));
    assert_eq!(alice.get("/nosuch").await.refused(404), "HTTPNotFound");
    assert_eq!(alice.get("/trunks").await.refused(501), "HTTPNotImplemented");
    let dns = Cloud::configured("[ml2]\nextension_drivers = port_security,dns\n").await;
    let alice = dns.by("alice");
    alice.get("/extensions/dns-integration").await.ok(200);
    assert_eq!(alice.network(json!({"dns_domain": "x.org."})).await["dns_domain"], "x.org.");
}
