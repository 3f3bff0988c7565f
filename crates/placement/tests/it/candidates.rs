//! Allocation candidates: plain, nested, shared, granular.

use std::collections::BTreeSet;

use api::{Json, json};
use placement::Settings;

use crate::cloud::{Client, Cloud, id};

/// The candidates of a query, each as `p1:VCPU=2 p2:DISK_GB=5`, sorted.
async fn found(client: &Client, query: &str) -> Vec<String> {
    let body = client.get(&format!("/allocation_candidates?{query}")).await.is(200);
    let number = |uuid: &str| uuid[24..].trim_start_matches('0').to_string();
    let mut all = Vec::new();
    for request in body["allocation_requests"].as_array().unwrap() {
        let mut parts = BTreeSet::new();
        for (provider, allocation) in request["allocations"].as_object().unwrap() {
            for (class, amount) in allocation["resources"].as_object().unwrap() {
                parts.insert(format!("p{}:{class}={amount}", number(provider)));
            }
        }
        all.push(parts.into_iter().collect::<Vec<_>>().join(" "));
    }
    all.sort();
    all
}

/// Two hosts with processors; the first has a disk of its own; both may use the shared disk 3.
async fn sharing(client: &Client) {
    for number in [1, 2, 3] {
        client.provider(number, None).await;
        client.joins(&id(number), &[&id(100)]).await;
    }
    client.has(&id(1), json!({"VCPU": {"total": 4}, "DISK_GB": {"total": 20}})).await;
    client.has(&id(2), json!({"VCPU": {"total": 4}})).await;
    client.has(&id(3), json!({"DISK_GB": {"total": 100}})).await;
    client.can(&id(3), &["MISC_SHARES_VIA_AGGREGATE", "CUSTOM_SSD"]).await;
}

/// A host with two processor nodes and a card below each.
async fn nested(client: &Client) {
    client.provider(1, None).await;
    for (node, card) in [(2, 4), (3, 5)] {
        client.provider(node, Some(1)).await;
        client.provider(card, Some(node)).await;
        client.has(&id(node), json!({"VCPU": {"total": 4}, "MEMORY_MB": {"total": 100}})).await;
        client.has(&id(card), json!({"SRIOV_NET_VF": {"total": 2}})).await;
        client.can(&id(node), &["HW_NUMA_ROOT"]).await;
    }
    client.has(&id(1), json!({"DISK_GB": {"total": 50}})).await;
    client.can(&id(5), &["CUSTOM_FAST"]).await;
}

#[tokio::test]
async fn room_is_what_is_left_in_allowed_units() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 4, "allocation_ratio": 2.0, "max_unit": 6, "step_size": 2}})).await;
    client.claim(9, &provider, json!({"VCPU": 4})).await.is(204);
    assert_eq!(found(&client, "resources=VCPU:4").await, ["p1:VCPU=4"]);
    for amount in [3, 6, 8] {
        assert!(found(&client, &format!("resources=VCPU:{amount}")).await.is_empty(), "{amount}");
    }
}

#[tokio::test]
async fn each_version_has_its_form_of_the_answer() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let provider = client.provider(1, None).await;
    client.has(&provider, json!({"VCPU": {"total": 4}, "DISK_GB": {"total": 9}})).await;
    client.can(&provider, &["HW_CPU_X86_AVX"]).await;
    let ask = async |minor: u16| cloud.at(minor).get("/allocation_candidates?resources=VCPU:1").await.is(200);
    let listed = json!([{"resource_provider": {"uuid": provider}, "resources": {"VCPU": 1}}]);
    assert_eq!(ask(10).await["allocation_requests"], json!([{"allocations": listed}]));
    let keyed = json!({&provider: {"resources": {"VCPU": 1}}});
    assert_eq!(ask(12).await["allocation_requests"], json!([{"allocations": keyed}]));
    let mapped = json!([{"allocations": keyed, "mappings": {"": [provider]}}]);
    assert_eq!(ask(34).await["allocation_requests"], mapped);

    let vcpu = json!({"capacity": 4, "used": 0});
    let summary = |body: Json| body["provider_summaries"][&provider].clone();
    assert_eq!(summary(ask(16).await), json!({"resources": {"VCPU": vcpu}}));
    assert_eq!(summary(ask(17).await), json!({"resources": {"VCPU": vcpu}, "traits": ["HW_CPU_X86_AVX"]}));
    assert_eq!(summary(ask(27).await)["resources"]["DISK_GB"], json!({"capacity": 9, "used": 0}));
    assert_eq!(summary(ask(29).await)["root_provider_uuid"], json!(provider));
    assert_eq!(summary(ask(29).await)["parent_provider_uuid"], Json::Null);
}

#[tokio::test]
async fn what_is_shared_counts_for_everybody_in_the_aggregate() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    sharing(&client).await;
    let both = ["p1:DISK_GB=5 p1:VCPU=1", "p1:VCPU=1 p3:DISK_GB=5", "p2:VCPU=1 p3:DISK_GB=5"];
    assert_eq!(found(&client, "resources=VCPU:1,DISK_GB:5").await, both);
    let large = ["p1:VCPU=1 p3:DISK_GB=50", "p2:VCPU=1 p3:DISK_GB=50"];
    assert_eq!(found(&client, "resources=VCPU:1,DISK_GB:50").await, large);
    let tree = format!("resources=VCPU:1,DISK_GB:5&in_tree={}", id(1));
    assert_eq!(found(&client, &tree).await, both[..1], "a tree that is asked for does not share");
    assert_eq!(found(&client, "resources=VCPU:1,DISK_GB:5&required=CUSTOM_SSD").await, both[1..]);
    assert_eq!(found(&client, "resources=VCPU:1,DISK_GB:5&required=!CUSTOM_SSD").await, both[..1]);
    assert_eq!(found(&client, "resources=VCPU:1&resources_D=DISK_GB:5&required_D=CUSTOM_SSD").await, both[1..]);
    client.joins(&id(2), &[]).await;
    assert_eq!(found(&client, "resources=VCPU:1,DISK_GB:5").await, both[..2]);
}

#[tokio::test]
async fn a_request_may_be_spread_over_a_tree_from_1_29() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    nested(&client).await;
    let spread = found(&client, "resources=VCPU:2,SRIOV_NET_VF:1,DISK_GB:5").await;
    assert_eq!(spread.len(), 4, "two nodes times two cards: {spread:?}");
    assert!(found(&cloud.at(28), "resources=VCPU:2,SRIOV_NET_VF:1").await.is_empty());
    assert_eq!(found(&cloud.at(28), "resources=VCPU:2").await.len(), 2);
    let traits = found(&client, "resources=VCPU:2,SRIOV_NET_VF:1&required=CUSTOM_FAST").await;
    assert_eq!(traits, ["p2:VCPU=2 p5:SRIOV_NET_VF=1", "p3:VCPU=2 p5:SRIOV_NET_VF=1"]);

    let body = client.get("/allocation_candidates?resources=SRIOV_NET_VF:1&required=CUSTOM_FAST").await.is(200);
    assert_eq!(body["provider_summaries"].as_object().unwrap().len(), 5, "the whole tree is summed up");
}

#[tokio::test]
async fn a_group_with_a_suffix_is_met_by_one_provider() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    nested(&client).await;
    let together = found(&client, "resources_N=VCPU:2,MEMORY_MB:10").await;
    assert_eq!(together, ["p2:MEMORY_MB=10 p2:VCPU=2", "p3:MEMORY_MB=10 p3:VCPU=2"]);
    let two = "resources_A=VCPU:3&resources_B=VCPU:3";
    let apart = ["p2:VCPU=3 p3:VCPU=3"; 2];
    assert_eq!(found(&client, &format!("{two}&group_policy=none")).await, apart, "six do not fit on one node");
    let small = "resources_A=VCPU:1&resources_B=VCPU:1";
    assert_eq!(found(&client, &format!("{small}&group_policy=isolate")).await.len(), 2);
    assert_eq!(found(&client, &format!("{small}&group_policy=none")).await.len(), 4);
    let why = client.get(&format!("/allocation_candidates?{small}")).await.why(400);
    assert!(why.starts_with("The \"group_policy\" parameter is required"), "{why}");

    let body = client.get(&format!("/allocation_candidates?{two}&group_policy=isolate&limit=1")).await.is(200);
    let mappings = &body["allocation_requests"][0]["mappings"];
    let one = |suffix: &str| mappings[suffix].as_array().unwrap().len();
    assert_eq!((one("_A"), one("_B")), (1, 1));
}

#[tokio::test]
async fn groups_may_have_to_stand_in_one_subtree() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    nested(&client).await;
    let groups = "resources_N=VCPU:1&resources_C=SRIOV_NET_VF:1&group_policy=none";
    assert_eq!(found(&client, groups).await.len(), 4);
    let near = found(&client, &format!("{groups}&same_subtree=_N,_C")).await;
    assert_eq!(near, ["p2:VCPU=1 p4:SRIOV_NET_VF=1", "p3:VCPU=1 p5:SRIOV_NET_VF=1"]);
    let rooted = "required_R=HW_NUMA_ROOT&resources_C=SRIOV_NET_VF:1&group_policy=none&same_subtree=_R,_C";
    assert_eq!(found(&client, rooted).await, ["p4:SRIOV_NET_VF=1", "p5:SRIOV_NET_VF=1"]);
    let loose = "/allocation_candidates?required_R=HW_NUMA_ROOT&resources_C=SRIOV_NET_VF:1&group_policy=none";
    assert_eq!(client.get(loose).await.code(400), "placement.query.bad_value");
    assert_eq!(
        client.get("/allocation_candidates?required_R=HW_NUMA_ROOT&same_subtree=_R").await.code(400),
        "placement.query.missing_value"
    );
}

#[tokio::test]
async fn aggregates_trees_and_roots_narrow_the_choice() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    for number in [1, 2, 3] {
        client.provider(number, None).await;
        client.has(&id(number), json!({"VCPU": {"total": 4}})).await;
    }
    client.provider(4, Some(1)).await;
    client.has(&id(4), json!({"VGPU": {"total": 1}})).await;
    client.joins(&id(1), &[&id(100)]).await;
    client.joins(&id(2), &[&id(100), &id(101)]).await;
    client.can(&id(2), &["COMPUTE_NODE"]).await;
    let vcpu = "resources=VCPU:1";
    for (filter, expected) in [
        (format!("member_of={}", id(100)), vec![1, 2]),
        (format!("member_of=in:{},{}", id(101), id(102)), vec![2]),
        (format!("member_of={}&member_of={}", id(100), id(101)), vec![2]),
        (format!("member_of=!{}", id(100)), vec![3]),
        (format!("member_of={}&member_of=!{}", id(100), id(101)), vec![1]),
        (format!("in_tree={}", id(3)), vec![3]),
        (format!("in_tree={}", id(77)), vec![]),
        ("root_required=COMPUTE_NODE".to_string(), vec![2]),
        ("root_required=!COMPUTE_NODE".to_string(), vec![1, 3]),
        ("required=in:COMPUTE_NODE,HW_CPU_X86_AVX".to_string(), vec![2]),
    ] {
        let expected: Vec<String> = expected.iter().map(|number| format!("p{number}:VCPU=1")).collect();
        assert_eq!(found(&client, &format!("{vcpu}&{filter}")).await, expected, "{filter}");
    }
    // The aggregate of a root is one of its whole tree.
    assert_eq!(found(&client, &format!("resources=VGPU:1&member_of={}", id(100))).await, ["p4:VGPU=1"]);
    assert!(found(&client, &format!("resources=VGPU:1&member_of=!{}", id(100))).await.is_empty());
}

#[tokio::test]
async fn no_more_candidates_are_given_than_asked_for() {
    let cloud = Cloud::with(Settings { max_allocation_candidates: Some(3), ..Settings::default() }).await;
    let client = cloud.latest();
    for number in 1..=5 {
        client.provider(number, None).await;
        client.has(&id(number), json!({"VCPU": {"total": 4}})).await;
    }
    let body = client.get("/allocation_candidates?resources=VCPU:1&limit=2").await.is(200);
    assert_eq!(body["allocation_requests"].as_array().unwrap().len(), 2);
    assert_eq!(body["provider_summaries"].as_object().unwrap().len(), 2);
    assert_eq!(found(&client, "resources=VCPU:1").await.len(), 3);
    client.get("/allocation_candidates?resources=VCPU:1&limit=0").await.is(400);
}

#[tokio::test]
async fn breadth_first_takes_from_every_tree_in_turn() {
    let cloud = Cloud::with(Settings { depth_first: false, ..Settings::default() }).await;
    let client = cloud.latest();
    for root in [1, 10] {
        client.provider(root, None).await;
        for child in 1..=3 {
            client.provider(root + child, Some(root)).await;
            client.has(&id(root + child), json!({"VGPU": {"total": 1}})).await;
        }
    }
    let two = found(&client, "resources=VGPU:1&limit=2").await;
    assert_eq!(two, ["p11:VGPU=1", "p2:VGPU=1"]);
}

#[tokio::test]
async fn names_that_nobody_knows_are_refused() {
    let cloud = Cloud::new().await;
    let client = cloud.latest();
    let why = async |query: &str| client.get(&format!("/allocation_candidates?{query}")).await.why(400);
    assert_eq!(
        why("resources=NOPE:1").await,
        "Invalid resource class in resources parameter: No such resource class NOPE."
    );
    assert_eq!(why("resources=VCPU:1&required=CUSTOM_NOPE").await, "No such trait(s): CUSTOM_NOPE.");
    assert!(why("resources=VCPU:1&required=A,!A").await.starts_with("Conflicting required and forbidden traits"));
    let twice = client.get("/allocation_candidates?resources=VCPU:1&root_required=A&root_required=B").await;
    assert_eq!(twice.code(400), "placement.query.duplicate_key");
    let why = cloud.at(24).get("/allocation_candidates?resources1=VCPU:1").await.why(400);
    assert!(why.contains("'resources1' was unexpected"), "{why}");
    let why = cloud.at(32).get("/allocation_candidates?resources_A=VCPU:1").await.why(400);
    assert!(why.contains("'resources_A' does not match any of the regexes"), "{why}");
    let why = cloud.at(35).get("/allocation_candidates?resources=VCPU:1&required_A=HW_NUMA_ROOT").await.why(400);
    assert!(why.ends_with("orphaned traits keys: required_A"), "{why}");
}
