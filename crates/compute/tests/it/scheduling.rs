//! Where servers go, and why they do not.

use api::{Json, json};
use contract::guest::State;

use crate::cloud::{Cloud, Got, new_server};
use crate::fakes::image::IMAGE;

/// Asks for a server with more in its body, and waits until nothing goes on any more.
async fn boot(cloud: &Cloud, who: &str, change: impl FnOnce(&mut Json)) -> Json {
    let id = ask(cloud, who, change).await.expect(202).body["server"]["id"].as_str().unwrap().to_string();
    cloud.settled().await;
    cloud.server(&id).await
}

async fn ask(cloud: &Cloud, who: &str, change: impl FnOnce(&mut Json)) -> Got {
    let mut body = new_server("web");
    change(&mut body);
    cloud.by(who).at("2.74").post("/v2.1/servers", body).await
}

fn host(server: &Json) -> &str {
    server["OS-EXT-SRV-ATTR:host"].as_str().unwrap_or_default()
}

fn fault(server: &Json) -> &str {
    assert_eq!(server["status"], "ERROR", "{server}");
    server["fault"]["message"].as_str().unwrap()
}

async fn spec(cloud: &Cloud, key: &str, value: &str) {
    let mut body = json!({"extra_specs": {}});
    body["extra_specs"][key] = json!(value);
    cloud.by("admin").post("/v2.1/flavors/1/os-extra_specs", body).await.expect(200);
}

async fn aggregate(cloud: &Cloud, name: &str, hosts: &[&str], metadata: Json) {
    let admin = cloud.by("admin");
    let made = admin.post("/v2.1/os-aggregates", json!({"aggregate": {"name": name}})).await.expect(200);
    let path = format!("/v2.1/os-aggregates/{}/action", made.body["aggregate"]["id"]);
    admin.post(&path, json!({"set_metadata": {"metadata": metadata}})).await.expect(200);
    for host in hosts {
        admin.post(&path, json!({"add_host": {"host": host}})).await.expect(200);
    }
}

async fn group(cloud: &Cloud, policy: &str, rules: Json) -> String {
    let mut body = json!({"server_group": {"name": policy, "policy": policy}});
    if !rules.is_null() {
        body["server_group"]["rules"] = rules;
    }
    let made = cloud.by("alice").at("2.64").post("/v2.1/os-server-groups", body).await.expect(200);
    made.body["server_group"]["id"].as_str().unwrap().to_string()
}

fn in_group(id: &str) -> impl Fn(&mut Json) {
    let id = id.to_string();
    move |body| body["os:scheduler_hints"] = json!({"group": id})
}

#[tokio::test]
async fn a_refusal_names_each_host_in_order_and_says_what_it_lacked() {
    let cloud = Cloud::new().await;
    let _small = cloud.host_like("h2", |facts| facts.memory_mb = 768).await;
    let _old = cloud.host_like("h1", |facts| facts.cpu = json!({"arch": "aarch64"})).await;
    let _plain = cloud.host_like("h3", |facts| facts.traits = Vec::new()).await;
    cloud.images.add(IMAGE, json!({"hw_architecture": "x86_64"}));
    spec(&cloud, "trait:COMPUTE_NODE", "required").await;
    let server = boot(&cloud, "alice", |_| ()).await;
    let words = "No valid host was found. h1: architecture aarch64, not x86_64; \
                 h2: MEMORY_MB: 512 wanted, 256 of 256 free; h3: lacks the trait COMPUTE_NODE";
    assert_eq!(fault(&server), words);
    let again = boot(&cloud, "alice", |_| ()).await;
    assert_eq!(fault(&again), words, "the same words each time");
    assert_eq!(cloud.leaks(), [""; 0]);
}

#[tokio::test]
async fn without_hosts_that_is_said() {
    let cloud = Cloud::new().await;
    let server = boot(&cloud, "alice", |_| ()).await;
    assert_eq!(fault(&server), "No valid host was found. There is no host.");
}

#[tokio::test]
async fn the_emptiest_host_is_taken_first() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let (one, two) = (boot(&cloud, "alice", |_| ()).await, boot(&cloud, "alice", |_| ()).await);
    assert_eq!((host(&one), host(&two)), ("h1", "h2"));
}

#[tokio::test]
async fn a_weigher_can_be_turned_around() {
    let options =
        "[filter_scheduler]\nram_weight_multiplier = -1\ncpu_weight_multiplier = -1\ndisk_weight_multiplier = -1\n";
    let cloud = Cloud::configured(options).await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let (one, two) = (boot(&cloud, "alice", |_| ()).await, boot(&cloud, "alice", |_| ()).await);
    assert_eq!((host(&one), host(&two)), ("h1", "h1"));
}

#[tokio::test]
async fn a_server_goes_into_the_zone_asked_for() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    aggregate(&cloud, "a", &["h2"], json!({"availability_zone": "az1"})).await;
    let zone = |name: &str| {
        let name = name.to_string();
        move |body: &mut Json| body["server"]["availability_zone"] = json!(name)
    };
    for _ in 0..2 {
        let server = boot(&cloud, "alice", zone("az1")).await;
        assert_eq!((host(&server), &server["OS-EXT-AZ:availability_zone"]), ("h2", &json!("az1")));
    }
    assert_eq!(host(&boot(&cloud, "alice", zone("nova")).await), "h1");
    ask(&cloud, "alice", zone("az9")).await.expect(400);
    ask(&cloud, "alice", zone("internal")).await.expect(400);
    let id = cloud.by("admin").at("2.53").get("/v2.1/os-services?host=h2").await.expect(200).body["services"][0]["id"]
        .clone();
    let path = format!("/v2.1/os-services/{}", id.as_str().unwrap());
    cloud.by("admin").at("2.53").put(&path, json!({"status": "disabled"})).await.expect(200);
    let server = boot(&cloud, "alice", zone("az1")).await;
    let words = "No valid host was found. h1: in the availability zone nova, not az1; h2: disabled (no reason given)";
    assert_eq!(fault(&server), words);
}

#[tokio::test]
async fn an_administrator_names_a_host() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let zone = |body: &mut Json| body["server"]["availability_zone"] = json!("nova:h2");
    let named = |body: &mut Json| body["server"]["host"] = json!("h2");
    ask(&cloud, "alice", zone).await.expect(403);
    ask(&cloud, "alice", named).await.expect(403);
    ask(&cloud, "admin", |body| body["server"]["host"] = json!("h9")).await.expect(400);
    assert_eq!(host(&boot(&cloud, "admin", zone).await), "h2");
    assert_eq!(host(&boot(&cloud, "admin", named).await), "h2");

    let service = cloud.by("admin").at("2.53").get("/v2.1/os-services?host=h2").await.expect(200);
    let path = format!("/v2.1/os-services/{}", service.body["services"][0]["id"].as_str().unwrap());
    cloud.by("admin").at("2.53").put(&path, json!({"status": "disabled"})).await.expect(200);
    let words = "No valid host was found. h1: another host was asked for; h2: disabled (no reason given)";
    assert_eq!(fault(&boot(&cloud, "admin", named).await), words);
    assert_eq!(host(&boot(&cloud, "admin", zone).await), "h2", "who forces a host answers for it");
}

#[tokio::test]
async fn nobody_smuggles_a_forced_host_in() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let smuggle = |body: &mut Json| body["os:scheduler_hints"] = json!({"forced_host": "h2", "requested_host": "h2"});
    assert_eq!(host(&boot(&cloud, "alice", smuggle).await), "h1");
}

#[tokio::test]
async fn hints_name_servers_to_be_near_or_far() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let first = boot(&cloud, "alice", |_| ()).await;
    let hint = |key: &str, value: Json| {
        let key = key.to_string();
        move |body: &mut Json| body["os:scheduler_hints"] = json!({key: value})
    };
    for _ in 0..2 {
        let far = boot(&cloud, "alice", hint("different_host", json!([first["id"]]))).await;
        assert_eq!(host(&far), "h2");
    }
    let near = boot(&cloud, "alice", hint("same_host", first["id"].clone())).await;
    assert_eq!(host(&near), "h1");
    ask(&cloud, "alice", hint("same_host", json!("web"))).await.expect(400);
    ask(&cloud, "alice", hint("group", json!("web"))).await.expect(400);
}

#[tokio::test]
async fn a_query_chooses_among_hosts_where_the_filter_is_enabled() {
    let cloud = Cloud::configured("[filter_scheduler]\nenabled_filters = ComputeFilter,JsonFilter\n").await;
    let _big = cloud.host_like("h1", |facts| facts.memory_mb = 65536).await;
    let _small = cloud.host("h2").await;
    let hint = |body: &mut Json| body["os:scheduler_hints"] = json!({"query": "[\"<\", \"$free_ram_mb\", 10000]"});
    assert_eq!(host(&boot(&cloud, "alice", |_| ()).await), "h1");
    assert_eq!(host(&boot(&cloud, "alice", hint).await), "h2");
    ask(&cloud, "alice", |body| body["os:scheduler_hints"] = json!({"query": "?"})).await.expect(400);
}

#[tokio::test]
async fn servers_of_an_anti_affinity_group_are_kept_apart_even_when_asked_for_at_once() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let id = group(&cloud, "anti-affinity", Json::Null).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        let got = ask(&cloud, "alice", in_group(&id)).await.expect(202);
        asked.push(got.body["server"]["id"].as_str().unwrap().to_string());
    }
    cloud.settled().await;
    let mut hosts = Vec::new();
    for server in &asked {
        let server = cloud.server(server).await;
        hosts.push(host(&server).to_string());
        if host(&server).is_empty() {
            let kept = "1 of the servers that the server group anti-affinity keeps apart";
            assert_eq!(fault(&server), format!("No valid host was found. h1: has {kept}; h2: has {kept}"));
        }
    }
    hosts.sort();
    assert_eq!(hosts, ["", "h1", "h2"]);
    assert_eq!(cloud.placement.claims().len(), 2, "a server that found no host has no claim");
}

#[tokio::test]
async fn max_server_per_host_loosens_a_group() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = group(&cloud, "anti-affinity", json!({"max_server_per_host": 2})).await;
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(boot(&cloud, "alice", in_group(&id)).await["status"].as_str().unwrap().to_string());
    }
    assert_eq!(states, ["ACTIVE", "ACTIVE", "ERROR"]);
}

#[tokio::test]
async fn servers_of_an_affinity_group_stay_together_even_when_asked_for_at_once() {
    let cloud = Cloud::new().await;
    let hosts = [cloud.host("h1").await, cloud.host("h2").await, cloud.host("h3").await];
    let id = group(&cloud, "affinity", Json::Null).await;
    for _ in 0..4 {
        ask(&cloud, "alice", in_group(&id)).await.expect(202);
    }
    cloud.settled().await;
    let mut counts: Vec<usize> = hosts.iter().map(|host| host.guests().len()).collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 4]);
}

#[tokio::test]
async fn soft_policies_are_wishes() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let apart = group(&cloud, "soft-anti-affinity", Json::Null).await;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        hosts.push(host(&boot(&cloud, "alice", in_group(&apart)).await).to_string());
    }
    assert_eq!((hosts[0].as_str(), hosts[1].as_str()), ("h1", "h2"));
    assert!(!hosts[2].is_empty());
}

#[tokio::test]
async fn a_deleted_member_makes_room_in_its_group() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = group(&cloud, "anti-affinity", Json::Null).await;
    let first = boot(&cloud, "alice", in_group(&id)).await;
    let shown = cloud.by("alice").at("2.64").get(&format!("/v2.1/os-server-groups/{id}")).await.expect(200);
    assert_eq!(shown.body["server_group"]["members"], json!([first["id"]]));
    fault(&boot(&cloud, "alice", in_group(&id)).await);
    cloud.by("alice").delete(&format!("/v2.1/servers/{}", first["id"].as_str().unwrap())).await.expect(204);
    cloud.settled().await;
    assert_eq!(host(&boot(&cloud, "alice", in_group(&id)).await), "h1");
}

#[tokio::test]
async fn extra_specs_choose_by_aggregates_and_capabilities() {
    let options = "[filter_scheduler]\nenabled_filters = ComputeFilter,ComputeCapabilitiesFilter,AggregateInstanceExtraSpecsFilter\n";
    let cloud = Cloud::configured(options).await;
    let _hosts = (cloud.host("h1").await, cloud.host_like("h2", |facts| facts.hypervisor_version = 9_000_000).await);
    aggregate(&cloud, "fast", &["h2"], json!({"ssd": "true,fast"})).await;
    spec(&cloud, "aggregate_instance_extra_specs:ssd", "true").await;
    spec(&cloud, "capabilities:hypervisor_version", ">= 8000000").await;
    let server = boot(&cloud, "alice", |_| ()).await;
    assert_eq!(host(&server), "h2");
    spec(&cloud, "aggregate_instance_extra_specs:ssd", "slow").await;
    let words = "No valid host was found. h1: capability hypervisor_version: >= 8000000 wanted, 1000 there; \
                 h2: no aggregate with ssd: slow, but fast, true";
    assert_eq!(fault(&boot(&cloud, "alice", |_| ()).await), words);
}

#[tokio::test]
async fn aggregates_are_kept_for_projects_where_the_filter_is_enabled() {
    let options = "[filter_scheduler]\nenabled_filters = AggregateMultiTenancyIsolation,NumInstancesFilter\nmax_instances_per_host = 1\n";
    let cloud = Cloud::configured(options).await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    aggregate(&cloud, "red", &["h1"], json!({"filter_tenant_id": "red"})).await;
    assert_eq!(host(&boot(&cloud, "alice", |_| ()).await), "h2");
    let words =
        "No valid host was found. h1: its aggregates are kept for other projects; h2: has 1 servers, 1 are allowed";
    assert_eq!(fault(&boot(&cloud, "alice", |_| ()).await), words);
}

#[tokio::test]
async fn a_class_that_placement_does_not_know_is_a_refusal() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    spec(&cloud, "resources:CUSTOM_GOLD", "1").await;
    let server = boot(&cloud, "alice", |_| ()).await;
    assert_eq!(fault(&server), "No valid host was found. h1: CUSTOM_GOLD: 1 wanted, 0 of 0 free");
}

#[tokio::test]
async fn a_host_that_has_been_silent_is_passed_over() {
    let cloud = Cloud::new().await;
    let hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let service = cloud.by("admin").at("2.53").get("/v2.1/os-services?host=h1").await.expect(200);
    let path = format!("/v2.1/os-services/{}", service.body["services"][0]["id"].as_str().unwrap());
    cloud.by("admin").at("2.53").put(&path, json!({"forced_down": true})).await.expect(200);
    let server = boot(&cloud, "alice", |_| ()).await;
    assert_eq!(host(&server), "h2");
    assert_eq!(hosts.1.guest(server["id"].as_str().unwrap()).unwrap().1, State::Running);
}
