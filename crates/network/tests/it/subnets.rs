//! Subnets, pools and scopes.

use api::json;

use crate::cloud::{Cloud, text};

#[tokio::test]
async fn subnets_of_a_network_do_not_overlap() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.77.0.0/24").await;
    let again = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.77.0.0/25"}});
    let got = alice.post("/subnets", again).await;
    assert_eq!(got.refused(400), "InvalidInput");
    let words = format!(
        "Invalid input for operation: Requested subnet with cidr: 10.77.0.0/25 for network: {network} overlaps with \
         another subnet."
    );
    assert_eq!(got.words(400), words);
    let broken = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "300.1.1.0/24"}});
    let words = alice.post("/subnets", broken).await.words(400);
    assert_eq!(words, "Invalid input for operation: 300.1.1.0/24 is not in a CIDR format.");
    let other = alice.joined("10.77.0.0/24").await;
    assert_ne!(other.0, network, "two networks may use the same addresses");
}

#[tokio::test]
async fn gateways_and_pools_follow_the_rules() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let network = text(&alice.network(json!({})).await["id"]);
    let none = json!({"network_id": network, "ip_version": 4, "cidr": "10.1.0.0/24", "gateway_ip": null});
    let none = alice.subnet(none).await;
    assert!(none["gateway_ip"].is_null());
    assert_eq!(none["allocation_pools"][0]["start"], "10.1.0.1");
    let inside = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.2.0.0/24",
        "allocation_pools": [{"start": "10.2.0.1", "end": "10.2.0.9"}]}});
    assert_eq!(alice.post("/subnets", inside).await.refused(409), "GatewayConflictWithAllocationPools");
    let at = format!("/subnets/{}", text(&none["id"]));
    let routes = json!({"subnet": {"host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.1.0.254"}]}});
    let changed = alice.put(&at, routes).await.ok(200)["subnet"].clone();
    assert_eq!(changed["revision_number"], 0);
    let changed = alice.put(&at, json!({"subnet": {"name": "n", "dns_nameservers": ["8.8.8.8"]}})).await.ok(200);
    assert_eq!(changed["subnet"]["revision_number"], 1);
    let fixed = alice.put(&at, json!({"subnet": {"cidr": "10.3.0.0/24"}})).await.words(400);
    assert_eq!(fixed, "Cannot update read-only attribute cidr");
}

#[tokio::test]
async fn ports_make_their_own_addresses_where_the_subnet_says_so() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let (network, _) = alice.joined("10.0.0.0/24").await;
    let early = text(&alice.port(json!({"network_id": network})).await["id"]);
    let six = json!({"network_id": network, "ip_version": 6, "cidr": "fd00:1::/64",
        "ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"});
    let six = alice.subnet(six).await;
    assert_eq!(six["gateway_ip"], "fd00:1::");
    assert_eq!(six["allocation_pools"][0]["end"], "fd00:1::ffff:ffff:ffff:ffff");
    let body =
        json!({"network_id": network, "mac_address": "fa:16:3e:f0:42:9f", "fixed_ips": [{"ip_address": "10.0.0.50"}]});
    let port = alice.port(body).await;
    assert_eq!(port["fixed_ips"][0]["ip_address"], "10.0.0.50");
    assert_eq!(port["fixed_ips"][1]["ip_address"], "fd00:1::f816:3eff:fef0:429f");
    let early = alice.get(&format!("/ports/{early}")).await.ok(200);
    assert_eq!(early["port"]["fixed_ips"].as_array().unwrap().len(), 2, "older ports get theirs, too");
    // The addresses of such a subnet do not hold it.
    alice.delete(&format!("/subnets/{}", text(&six["id"]))).await.ok(204);
}

#[tokio::test]
async fn subnets_are_cut_from_pools() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let body = json!({"subnetpool": {"name": "pool1", "prefixes": ["10.100.0.0/16"], "default_prefixlen": 24, "default_quota": 600}});
    let pool = alice.post("/subnetpools", body).await.ok(201)["subnetpool"].clone();
    assert_eq!(pool["default_prefixlen"], "24");
    let id = text(&pool["id"]);
    let network = text(&alice.network(json!({})).await["id"]);
    let cut = |more: api::Json| {
        let mut body = json!({"network_id": network, "ip_version": 4, "subnetpool_id": id});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(alice.subnet(cut(json!({}))).await["cidr"], "10.100.0.0/24");
    assert_eq!(alice.subnet(cut(json!({"prefixlen": 26}))).await["cidr"], "10.100.1.0/26");
    assert_eq!(alice.subnet(cut(json!({"cidr": "10.100.9.0/25"}))).await["cidr"], "10.100.9.0/25");
    let taken = alice.post("/subnets", json!({"subnet": cut(json!({"cidr": "10.100.9.0/26"}))})).await;
    assert_eq!(taken.refused(409), "SubnetAllocationError");
    let much = alice.post("/subnets", json!({"subnet": cut(json!({}))})).await;
    assert_eq!(much.refused(409), "SubnetPoolQuotaExceeded");
    let beside = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.200.0.0/24"}});
    assert_eq!(alice.post("/subnets", beside).await.refused(400), "NetworkSubnetPoolAffinityError");
    assert_eq!(alice.delete(&format!("/subnetpools/{id}")).await.refused(400), "SubnetPoolDeleteError");
    let more =
        alice.put(&format!("/subnetpools/{id}/add_prefixes"), json!({"prefixes": ["10.101.0.0/16"]})).await.ok(200);
    assert_eq!(more["prefixes"], json!(["10.100.0.0/15"]));
    let less =
        alice.put(&format!("/subnetpools/{id}/remove_prefixes"), json!({"prefixes": ["10.101.0.0/16"]})).await.ok(200);
    assert_eq!(less["prefixes"], json!(["10.100.0.0/16"]));
}

#[tokio::test]
async fn pools_of_one_scope_stay_apart() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let scope = alice.post("/address-scopes", json!({"address_scope": {"name": "as1", "ip_version": 4}})).await.ok(201);
    let scope = text(&scope["address_scope"]["id"]);
    let pool = |prefix: &str| json!({"subnetpool": {"name": "p", "prefixes": [prefix], "address_scope_id": scope}});
    alice.post("/subnetpools", pool("10.0.0.0/16")).await.ok(201);
    assert_eq!(alice.post("/subnetpools", pool("10.0.9.0/24")).await.refused(409), "AddressScopePrefixConflict");
    assert_eq!(alice.post("/subnetpools", pool("fd00::/48")).await.status, 400);
    assert_eq!(alice.delete(&format!("/address-scopes/{scope}")).await.refused(409), "AddressScopeInUse");
}

#[tokio::test]
async fn availability_counts_addresses() {
    let cloud = Cloud::new().await;
    let admin = cloud.by("admin");
    let (network, _) = admin.joined("172.16.1.0/24").await;
    admin.port(json!({"network_id": network, "fixed_ips": [{"ip_address": "172.16.1.1"}]})).await;
    admin.port(json!({"network_id": network})).await;
    let body = admin.get("/network-ip-availabilities?ip_version=4").await.ok(200);
    let details = &body["network_ip_availabilities"][0]["subnet_ip_availability"][0]["ip_availability_details"];
    let wanted = json!({
        "total_ips_in_subnet": 254, "total_ips_in_allocation_pool": 253, "used_ips_in_subnet": 2,
        "used_ips_in_allocation_pool": 1,
    });
    assert_eq!(*details, wanted);
    assert!(cloud.by("alice").list("/network-ip-availabilities", "network_id").await.is_empty());
}
