//! Ports: addresses, MACs, port security, options.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn addresses_are_checked_and_never_given_twice() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, subnet) = alice.joined("10.77.0.0/24").await;
    let ask = |address: &str| json!({"port": {"network_id": network, "fixed_ips": [{"ip_address": address}]}});
    let port = alice.post("/ports", ask("10.77.0.5")).await.ok(201)["port"].clone();
    assert_eq!(port["status"], "DOWN");
    let twice = alice.post("/ports", ask("10.77.0.5")).await;
    assert_eq!(twice.refused(409), "IpAddressAlreadyAllocated");
    assert_eq!(twice.words(409), format!("IP address 10.77.0.5 already allocated in subnet {subnet}"));
    assert_eq!(alice.post("/ports", ask("10.78.0.5")).await.refused(400), "InvalidIpForNetwork");
    let wrong =
        json!({"port": {"network_id": network, "fixed_ips": [{"subnet_id": subnet, "ip_address": "10.78.0.5"}]}});
    assert_eq!(alice.post("/ports", wrong).await.refused(400), "InvalidIpForSubnet");
    let nothing = alice.port(json!({"network_id": network, "fixed_ips": []})).await;
    assert_eq!(nothing["fixed_ips"], json!([]));
    assert_eq!(nothing["ip_allocation"], "none");
}

#[tokio::test]
async fn a_full_subnet_says_so() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/29").await;
    let body = json!({"ports": vec![json!({"network_id": network}); 5]});
    let ports = alice.post("/ports", body).await.ok(201);
    let mut addresses: Vec<String> =
        ports["ports"].as_array().unwrap().iter().map(|port| text(&port["fixed_ips"][0]["ip_address"])).collect();
    addresses.sort();
    assert_eq!(addresses, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    let full = alice.post("/ports", json!({"port": {"network_id": network}})).await;
    assert_eq!(full.refused(409), "IpAddressGenerationFailure");
}

#[tokio::test]
async fn a_mac_is_unique_on_its_network() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let body = json!({"port": {"network_id": network, "mac_address": "FA-16-3E-00-00-01"}});
    let port = alice.post("/ports", body.clone()).await.ok(201)["port"].clone();
    assert_eq!(port["mac_address"], "fa:16:3e:00:00:01");
    assert_eq!(alice.post("/ports", body).await.refused(409), "MacAddressInUse");
    // A port of one's own network may move; one that is not may not.
    let at = format!("/ports/{}", text(&port["id"]));
    let change = json!({"port": {"mac_address": "fa:16:3e:00:00:02"}});
    assert_eq!(alice.put(&at, change.clone()).await.refused(403), "PolicyNotAuthorized");
    assert_eq!(cloud.by("admin").put(&at, change).await.ok(200)["port"]["mac_address"], "fa:16:3e:00:00:02");
}

#[tokio::test]
async fn port_security_groups_and_pairs_depend_on_each_other() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let port = alice.port(json!({"network_id": network})).await;
    assert_eq!(port["security_groups"].as_array().unwrap().len(), 1, "the default group");
    let at = format!("/ports/{}", text(&port["id"]));
    let at = &at;
    let put = |body: api::Json| async move { alice.put(at, json!({"port": body})).await };
    let pair = put(json!({"allowed_address_pairs": [{"ip_address": "10.0.0.1"}]})).await.ok(200);
    assert_eq!(pair["port"]["allowed_address_pairs"][0]["mac_address"], port["mac_address"]);
    assert_eq!(put(json!({"port_security_enabled": false})).await.refused(409), "PortSecurityPortHasSecurityGroup");
    let still = put(json!({"security_groups": [], "port_security_enabled": false})).await;
    assert_eq!(still.refused(409), "AddressPairAndPortSecurityRequired");
    let off = json!({"security_groups": [], "allowed_address_pairs": [], "port_security_enabled": false});
    assert_eq!(put(off).await.ok(200)["port"]["port_security_enabled"], false);
    let group = json!({"security_groups": port["security_groups"]});
    assert_eq!(put(group.clone()).await.refused(400), "PortSecurityAndIPRequiredForSecurityGroups");
    put(json!({"port_security_enabled": true})).await.ok(200);
    assert_eq!(put(group).await.ok(200)["port"]["security_groups"], port["security_groups"]);
    let unknown = put(json!({"security_groups": [base::id::uuid()]})).await;
    assert_eq!(unknown.refused(404), "SecurityGroupNotFound");
}

#[tokio::test]
async fn a_port_changes_its_addresses() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, subnet) = alice.joined("10.0.0.0/24").await;
    let port = alice.port(json!({"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.9"}]})).await;
    let at = format!("/ports/{}", text(&port["id"]));
    let both = json!({"port": {"fixed_ips": [{"ip_address": "10.0.0.9"}, {"subnet_id": subnet}]}});
    let both = alice.put(&at, both).await.ok(200)["port"]["fixed_ips"].clone();
    assert_eq!(both.as_array().unwrap().len(), 2);
    assert_eq!(both[0]["ip_address"], "10.0.0.9");
    let moved = alice.put(&at, json!({"port": {"fixed_ips": [{"ip_address": "10.0.0.10"}]}})).await.ok(200);
    assert_eq!(moved["port"]["fixed_ips"], json!([{"subnet_id": subnet, "ip_address": "10.0.0.10"}]));
    // The address given back is free again.
    alice.port(json!({"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.9"}]})).await;
}

#[tokio::test]
async fn options_for_dhcp_are_merged_by_name() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let options =
        json!([{"opt_name": "bootfile-name", "opt_value": "a"}, {"opt_name": "tftp-server", "opt_value": "b"}]);
    let port = alice.port(json!({"network_id": network, "extra_dhcp_opts": options})).await;
    let at = format!("/ports/{}", text(&port["id"]));
    let change = json!([{"opt_name": "bootfile-name", "opt_value": null}, {"opt_name": "x", "opt_value": "c"}]);
    let changed = alice.put(&at, json!({"port": {"extra_dhcp_opts": change}})).await.ok(200);
    let names: Vec<String> =
        changed["port"]["extra_dhcp_opts"].as_array().unwrap().iter().map(|option| text(&option["opt_name"])).collect();
    assert_eq!(names, ["tftp-server", "x"]);
}

#[tokio::test]
async fn a_strangers_network_takes_no_ports() {
    let cloud = Cloud::new().await;
    let (network, _) = cloud.by("alice").joined("10.0.0.0/24").await;
    let bob = cloud.by("bob");
    assert_eq!(bob.post("/ports", json!({"port": {"network_id": network}})).await.refused(404), "NetworkNotFound");
    cloud.by("admin").put(&format!("/networks/{network}"), json!({"network": {"shared": true}})).await.ok(200);
    let port = bob.port(json!({"network_id": network})).await;
    let chosen = json!({"port": {"network_id": network, "fixed_ips": [{"ip_address": "10.0.0.77"}]}});
    assert_eq!(bob.post("/ports", chosen).await.refused(403), "PolicyNotAuthorized");
    // Who owns the network sees the ports on it.
    assert_eq!(cloud.by("alice").list("/ports", "id").await, [text(&port["id"])]);
    let host = json!({"port": {"network_id": network, "binding:host_id": "h1"}});
    assert_eq!(bob.post("/ports", host).await.refused(403), "PolicyNotAuthorized");
    assert!(port.get("binding:host_id").is_none());
}

#[tokio::test]
async fn names_of_ports_come_with_the_dns_driver() {
    let cloud = Cloud::configured("[ml2]\nextension_drivers = port_security,dns\n").await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let body = json!({"network_id": network, "dns_name": "Web", "fixed_ips": [{"ip_address": "10.0.0.7"}]});
    let port = alice.port(body).await;
    let wanted = json!([{"ip_address": "10.0.0.7", "hostname": "web", "fqdn": "web.openstacklocal."}]);
    assert_eq!(port["dns_assignment"], wanted);
    let plain = Cloud::new().await;
    let (network, _) = plain.by("alice").joined("10.0.0.0/24").await;
    let body = json!({"port": {"network_id": network, "dns_name": "web"}});
    assert_eq!(plain.by("alice").post("/ports", body).await.words(400), "Unrecognized attribute(s) 'dns_name'");
}
