//! Hosts as administrators see them: services, hypervisors, aggregates, zones.

use api::{Json, json};

use crate::cloud::{Cloud, Got};

const AGGREGATES: &str = "/v2.1/os-aggregates";

/// The UUID of a host's service.
async fn service(cloud: &Cloud, host: &str) -> String {
    let target = format!("/v2.1/os-services?binary=nova-compute&host={host}");
    let got = cloud.by("admin").at("2.53").get(&target).await.expect(200);
    got.body["services"][0]["id"].as_str().unwrap().to_string()
}

async fn aggregate(cloud: &Cloud, name: &str, zone: Option<&str>) -> String {
    let body = json!({"aggregate": {"name": name, "availability_zone": zone}});
    let made = cloud.by("admin").post(AGGREGATES, body).await.expect(200);
    format!("{AGGREGATES}/{}", made.body["aggregate"]["id"])
}

async fn add(cloud: &Cloud, aggregate: &str, host: &str) -> Got {
    cloud.by("admin").post(&format!("{aggregate}/action"), json!({"add_host": {"host": host}})).await
}

#[tokio::test]
async fn services_are_listed_switched_and_forgotten() {
    let cloud = Cloud::idle().await;
    let host = cloud.host("h1").await;
    let admin = cloud.by("admin");
    cloud.by("alice").get("/v2.1/os-services").await.expect(403);
    let all = admin.at("2.69").get("/v2.1/os-services").await.expect(200).body;
    let names: Vec<&str> =
        all["services"].as_array().unwrap().iter().map(|row| row["binary"].as_str().unwrap()).collect();
    assert_eq!(names, ["nova-scheduler", "nova-conductor", "nova-compute"]);
    let agent = &all["services"][2];
    let id = service(&cloud, "h1").await;
    assert_eq!(
        *agent,
        json!({
            "binary": "nova-compute", "host": "h1", "id": id, "zone": "nova", "status": "enabled", "state": "up",
            "updated_at": agent["updated_at"], "disabled_reason": null, "forced_down": false,
        })
    );
    assert_eq!(all["services"][0]["zone"], "internal");

    let path = format!("/v2.1/os-services/{id}");
    let put = async |body: Json| admin.at("2.69").put(&path, body).await;
    let got = put(json!({"status": "disabled", "disabled_reason": "maint"})).await.expect(200);
    assert_eq!(
        (&got.body["service"]["status"], &got.body["service"]["disabled_reason"]),
        (&json!("disabled"), &json!("maint"))
    );
    put(json!({"status": "enabled", "disabled_reason": "x"})).await.expect(400);
    put(json!({})).await.expect(400);
    let got = put(json!({"status": "enabled"})).await.expect(200);
    assert_eq!(got.body["service"]["disabled_reason"], json!(null));
    let got = put(json!({"forced_down": true})).await.expect(200);
    assert_eq!(got.body["service"]["state"], "down");

    let conductor = all["services"][1]["id"].as_str().unwrap();
    let got = admin.at("2.53").put(&format!("/v2.1/os-services/{conductor}"), json!({"status": "disabled"})).await;
    let words = "Updating a nova-conductor service is not supported. Only nova-compute services can be updated.";
    assert_eq!(got.expect(400).message(), words);
    assert_eq!(admin.at("2.53").delete("/v2.1/os-services/peer").await.expect(400).message(), "Invalid uuid peer");
    let other = "05b1d049-1be3-4435-96e2-a6e8f4dfae50";
    admin.at("2.53").delete(&format!("/v2.1/os-services/{other}")).await.expect(404);

    let group = aggregate(&cloud, "g", None).await;
    add(&cloud, &group, "h1").await.expect(200);
    drop(host);
    admin.at("2.53").delete(&path).await.expect(204);
    assert_eq!(admin.at("2.53").get("/v2.1/os-hypervisors").await.expect(200).body, json!({"hypervisors": []}));
    assert_eq!(admin.get(&group).await.expect(200).body["aggregate"]["hosts"], json!([]));
}

#[tokio::test]
async fn up_to_2_52_services_are_switched_by_name() {
    let cloud = Cloud::idle().await;
    let _host = cloud.host("h1").await;
    let put = async |version: &str, verb: &str, more: Json| {
        let mut body = json!({"host": "h1", "binary": "nova-compute"});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        cloud.by("admin").at(version).put(&format!("/v2.1/os-services/{verb}"), body).await
    };
    let got = put("2.1", "disable", json!({})).await.expect(200);
    assert_eq!(got.body, json!({"service": {"host": "h1", "binary": "nova-compute", "status": "disabled"}}));
    let got = put("2.1", "disable-log-reason", json!({"disabled_reason": "why"})).await.expect(200);
    assert_eq!(got.body["service"]["disabled_reason"], "why");
    put("2.1", "disable-log-reason", json!({})).await.expect(400);
    put("2.1", "enable", json!({})).await.expect(200);
    put("2.10", "force-down", json!({})).await.expect(404);
    let got = put("2.11", "force-down", json!({"forced_down": true})).await.expect(200);
    assert_eq!(got.body["service"]["forced_down"], true);
    put("2.1", "paint", json!({})).await.expect(404);
    put("2.1", "enable", json!({"host": "h9"})).await.expect(404);
    put("2.1", "enable", json!({"binary": "nova-scheduler"})).await.expect(400);
    let list = cloud.by("admin").get("/v2.1/os-services?host=h1").await.expect(200);
    assert_eq!(list.body["services"][0]["id"], 1);
    assert!(list.body["services"][0].get("forced_down").is_none());
    cloud.by("admin").delete("/v2.1/os-services/1").await.expect(204);
}

#[tokio::test]
async fn a_host_with_servers_is_not_forgotten() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    cloud.boot("web").await;
    let path = format!("/v2.1/os-services/{}", service(&cloud, "h1").await);
    cloud.by("admin").at("2.53").delete(&path).await.expect(409);
}

#[tokio::test]
async fn a_hypervisor_looks_as_upstream_shows_it_at_each_version() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    cloud.boot("web").await;
    let admin = cloud.by("admin");
    let words = "Policy doesn't allow os_compute_api:os-hypervisors:list to be performed.";
    assert_eq!(cloud.by("alice").get("/v2.1/os-hypervisors").await.expect(403).message(), words);
    let brief = admin.at("2.88").get("/v2.1/os-hypervisors").await.expect(200).body["hypervisors"][0].clone();
    let id = brief["id"].as_str().unwrap().to_string();
    assert_eq!(brief, json!({"id": id, "hypervisor_hostname": "h1", "state": "up", "status": "enabled"}));
    let full = admin.at("2.88").get("/v2.1/os-hypervisors/detail").await.expect(200).body["hypervisors"][0].clone();
    let service = service(&cloud, "h1").await;
    assert_eq!(
        full,
        json!({
            "id": id, "hypervisor_hostname": "h1", "state": "up", "status": "enabled", "hypervisor_type": "fake",
            "hypervisor_version": 1000, "host_ip": "192.0.2.1", "uptime": full["uptime"],
            "service": {"id": service, "host": "h1", "disabled_reason": null},
        })
    );

    let older = admin.at("2.27").get("/v2.1/os-hypervisors/1").await.expect(200).body["hypervisor"].clone();
    let numbers = [
        ("vcpus", 4),
        ("vcpus_used", 1),
        ("memory_mb", 8192),
        ("memory_mb_used", 1024),
        ("local_gb", 100),
        ("local_gb_used", 1),
        ("free_ram_mb", 7168),
        ("free_disk_gb", 99),
        ("current_workload", 0),
        ("running_vms", 1),
        ("disk_available_least", 99),
    ];
    for (key, number) in numbers {
        assert_eq!(older[key], json!(number), "{key}");
    }
    assert!(older["cpu_info"].is_string(), "{older}");
    let object = admin.at("2.28").get("/v2.1/os-hypervisors/1").await.expect(200);
    assert!(object.body["hypervisor"]["cpu_info"].is_object());
    let sums = admin.get("/v2.1/os-hypervisors/statistics").await.expect(200).body["hypervisor_statistics"].clone();
    assert_eq!((&sums["count"], &sums["vcpus"], &sums["memory_mb_used"]), (&json!(1), &json!(4), &json!(1024)));
    admin.at("2.88").get("/v2.1/os-hypervisors/statistics").await.expect(404);
    assert_eq!(admin.at("2.88").get("/v2.1/os-hypervisors/h1").await.expect(400).message(), "Invalid uuid h1");
    let got = admin.get("/v2.1/os-hypervisors/h1").await.expect(404);
    assert_eq!(got.message(), "Hypervisor with ID 'h1' could not be found.");
    let uptime = admin.at("2.87").get(&format!("/v2.1/os-hypervisors/{id}/uptime")).await.expect(200);
    assert!(uptime.body["hypervisor"]["uptime"].is_string());
    admin.at("2.88").get(&format!("/v2.1/os-hypervisors/{id}/uptime")).await.expect(404);
}

#[tokio::test]
async fn hypervisors_are_searched_paged_and_shown_with_their_servers() {
    let cloud = Cloud::new().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let server = cloud.boot("web").await;
    let at = cloud.server(&server).await["OS-EXT-SRV-ATTR:host"].as_str().unwrap().to_string();
    let admin = cloud.by("admin");
    let found = admin.at("2.52").get(&format!("/v2.1/os-hypervisors/{at}/search")).await.expect(200);
    assert_eq!(found.body["hypervisors"].as_array().unwrap().len(), 1);
    let with = admin.at("2.52").get("/v2.1/os-hypervisors/h/servers").await.expect(200);
    let with = with.body["hypervisors"].as_array().unwrap().clone();
    assert_eq!(with.iter().filter(|row| row.get("servers").is_some()).count(), 1);
    let search =
        async |version: &str, query: &str| admin.at(version).get(&format!("/v2.1/os-hypervisors?{query}")).await;
    let got = search("2.53", &format!("hypervisor_hostname_pattern={at}&with_servers=True")).await.expect(200);
    assert_eq!(got.body["hypervisors"][0]["servers"][0]["uuid"], json!(server));
    let count = |got: &Got| {
        let rows = got.body["hypervisors"].as_array().unwrap();
        rows.iter().filter(|row| row.get("servers").is_some()).count()
    };
    assert_eq!(count(&search("2.74", "with_servers=1").await.expect(200)), 1);
    assert_eq!(count(&search("2.75", "with_servers=1").await.expect(200)), 2);
    search("2.53", "with_servers=perhaps").await.expect(400);
    search("2.53", "hypervisor_hostname_pattern=zz").await.expect(404);
    search("2.53", "hypervisor_hostname_pattern=h&limit=1").await.expect(400);
    search("2.53", "colour=red").await.expect(400);
    search("2.52", "colour=red").await.expect(200);

    let page = search("2.33", "limit=1").await.expect(200);
    assert_eq!(page.body["hypervisors"][0]["hypervisor_hostname"], "h1");
    let next = page.body["hypervisors_links"][0]["href"].as_str().unwrap();
    assert_eq!(next, "http://controller:8774/v2.1/os-hypervisors?limit=1&marker=1");
    let rest = search("2.33", "limit=5&marker=1").await.expect(200);
    assert_eq!(rest.body["hypervisors"][0]["hypervisor_hostname"], "h2");
    assert!(rest.body.get("hypervisors_links").is_none());
    assert_eq!(search("2.53", "marker=zz").await.expect(400).message(), "marker [zz] not found");
}

#[tokio::test]
async fn an_aggregate_looks_as_upstream_shows_it() {
    let cloud = Cloud::idle().await;
    let _host = cloud.host("h1").await;
    let admin = cloud.by("admin").at("2.81");
    let body = json!({"aggregate": {"name": "agg1", "availability_zone": "az1"}});
    let made = admin.post(AGGREGATES, body.clone()).await.expect(200).body["aggregate"].clone();
    assert_eq!(
        made,
        json!({
            "id": 1, "uuid": made["uuid"], "name": "agg1", "created_at": made["created_at"], "updated_at": null,
            "deleted_at": null, "deleted": false, "availability_zone": "az1",
        })
    );
    assert_eq!(admin.post(AGGREGATES, body).await.expect(409).message(), "Aggregate agg1 already exists.");
    let path = format!("{AGGREGATES}/1");
    let got = add(&cloud, &path, "h1").await.expect(200);
    assert_eq!(
        got.body["aggregate"],
        json!({
            "id": 1, "name": "agg1", "hosts": ["h1"], "metadata": {"availability_zone": "az1"},
            "created_at": made["created_at"], "updated_at": null, "deleted_at": null, "deleted": false,
            "availability_zone": "az1",
        })
    );
    add(&cloud, &path, "h1").await.expect(409);
    add(&cloud, &path, "h9").await.expect(404);
    let act = async |body: Json| admin.post(&format!("{path}/action"), body).await;
    let got = act(json!({"set_metadata": {"metadata": {"ssd": "true"}}})).await.expect(200);
    assert_eq!(got.body["aggregate"]["metadata"], json!({"availability_zone": "az1", "ssd": "true"}));
    let got = act(json!({"set_metadata": {"metadata": {"ssd": null}}})).await.expect(200);
    assert_eq!(got.body["aggregate"]["metadata"], json!({"availability_zone": "az1"}));
    act(json!({"set_metadata": {"metadata": {"availability_zone": null}}})).await.expect(400);
    act(json!({"set_metadata": {"metadata": {"b@d": "x"}}})).await.expect(400);
    let got = admin.put(&path, json!({"aggregate": {"name": "agg2"}})).await.expect(200);
    assert_eq!(got.body["aggregate"]["name"], "agg2");
    admin.put(&path, json!({"aggregate": {}})).await.expect(400);
    assert_eq!(
        admin.delete(&path).await.expect(400).message(),
        "Cannot remove host from aggregate 1. Reason: Host aggregate is not empty."
    );
    act(json!({"remove_host": {"host": "h9"}})).await.expect(404);
    act(json!({"remove_host": {"host": "h1"}})).await.expect(200);
    admin.delete(&path).await.expect(200);
    assert_eq!(admin.get(&path).await.expect(404).message(), "Aggregate 1 could not be found.");
    let got = admin.get(&format!("{AGGREGATES}/agg1")).await.expect(400);
    assert_eq!(got.message(), "Invalid input received: id must be an integer");
    cloud.by("alice").get(AGGREGATES).await.expect(403);
    cloud.by("alice").post(AGGREGATES, json!({"aggregate": {"name": "x"}})).await.expect(403);
}

#[tokio::test]
async fn a_host_is_in_one_zone_and_its_servers_keep_theirs() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let (one, two) = (aggregate(&cloud, "one", Some("az1")).await, aggregate(&cloud, "two", Some("az2")).await);
    add(&cloud, &one, "h1").await.expect(200);
    let got = add(&cloud, &two, "h1").await.expect(409);
    let words = "Cannot add host to aggregate 2. Reason: One or more hosts already in availability zone(s) ['az1'].";
    assert_eq!(got.message(), words);
    let plain = aggregate(&cloud, "plain", None).await;
    add(&cloud, &plain, "h1").await.expect(200);
    let rezone = async |path: &str, zone: &str| {
        cloud.by("admin").put(path, json!({"aggregate": {"availability_zone": zone}})).await
    };
    rezone(&plain, "az2").await.expect(400);
    rezone(&one, "az3").await.expect(200);

    let server = cloud.boot("web").await;
    assert_eq!(cloud.server(&server).await["OS-EXT-AZ:availability_zone"], "az3");
    let got = rezone(&one, "az4").await.expect(400);
    assert!(got.message().ends_with("One or more hosts contain instances in this zone."), "{}", got.message());
    let remove = json!({"remove_host": {"host": "h1"}});
    cloud.by("admin").post(&format!("{one}/action"), remove.clone()).await.expect(409);
    cloud.by("admin").post(&format!("{plain}/action"), remove).await.expect(200);
}

#[tokio::test]
async fn zones_are_made_of_aggregates() {
    let cloud = Cloud::idle().await;
    let _hosts = (cloud.host("h1").await, cloud.host("h2").await);
    let path = aggregate(&cloud, "one", Some("az1")).await;
    add(&cloud, &path, "h2").await.expect(200);
    let listed = cloud.by("alice").get("/v2.1/os-availability-zone").await.expect(200);
    let zone = |name: &str| json!({"zoneName": name, "zoneState": {"available": true}, "hosts": null});
    assert_eq!(listed.body, json!({"availabilityZoneInfo": [zone("az1"), zone("nova")]}));
    cloud.by("alice").get("/v2.1/os-availability-zone/detail").await.expect(403);
    let detail = cloud.by("admin").get("/v2.1/os-availability-zone/detail").await.expect(200).body;
    let names: Vec<&str> = detail["availabilityZoneInfo"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["zoneName"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["az1", "internal", "nova"]);
    let agent = &detail["availabilityZoneInfo"][0]["hosts"]["h2"]["nova-compute"];
    assert_eq!(*agent, json!({"available": true, "active": true, "updated_at": agent["updated_at"]}));

    let disable = json!({"status": "disabled"});
    let id = service(&cloud, "h2").await;
    cloud.by("admin").at("2.53").put(&format!("/v2.1/os-services/{id}"), disable).await.expect(200);
    let detail = cloud.by("admin").get("/v2.1/os-availability-zone/detail").await.expect(200);
    let wanted = json!({"zoneName": "az1", "zoneState": {"available": false}, "hosts": null});
    assert_eq!(detail.body["availabilityZoneInfo"][0], wanted);
}

#[tokio::test]
async fn the_older_words_for_hosts_end_with_2_42() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    cloud.boot("web").await;
    let admin = cloud.by("admin");
    let list = admin.get("/v2.1/os-hosts").await.expect(200).body;
    assert_eq!(list["hosts"][2], json!({"host_name": "h1", "service": "compute", "zone": "nova"}));
    let zone = admin.get("/v2.1/os-hosts?zone=nova").await.expect(200);
    assert_eq!(zone.body["hosts"].as_array().unwrap().len(), 1);
    let show = admin.get("/v2.1/os-hosts/h1").await.expect(200);
    let row = |project: &str, cpu: i64, memory: i64, disk: i64| json!({"resource": {"host": "h1", "project": project, "cpu": cpu, "memory_mb": memory, "disk_gb": disk}});
    let rows = [
        row("(total)", 4, 8192, 100),
        row("(used_now)", 1, 1024, 1),
        row("(used_max)", 1, 512, 1),
        row("blue", 1, 512, 1),
    ];
    assert_eq!(show.body, json!({"host": rows}));
    let got = admin.put("/v2.1/os-hosts/h1", json!({"status": "disable"})).await.expect(200);
    assert_eq!(got.body, json!({"host": "h1", "status": "disabled"}));
    admin.put("/v2.1/os-hosts/h1", json!({"maintenance_mode": "enable"})).await.expect(501);
    admin.put("/v2.1/os-hosts/h1", json!({})).await.expect(400);
    admin.get("/v2.1/os-hosts/h1/reboot").await.expect(501);
    admin.get("/v2.1/os-hosts/h9").await.expect(404);
    cloud.by("alice").get("/v2.1/os-hosts").await.expect(403);
    admin.at("2.43").get("/v2.1/os-hosts").await.expect(404);
}
