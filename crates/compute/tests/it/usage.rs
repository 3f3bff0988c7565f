//! Usage of projects, and the small documents that nothing else holds.

use api::json;

use crate::cloud::Cloud;

const USAGE: &str = "/v2.1/os-simple-tenant-usage";

#[tokio::test]
async fn usage_is_summed_by_project_and_shown_by_server() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let (first, second) = (cloud.boot("one").await, cloud.boot("two").await);
    cloud.by("alice").delete(&format!("/v2.1/servers/{second}")).await.expect(204);
    cloud.settled().await;
    let admin = cloud.by("admin").at("2.40");
    const SPAN: &str = "start=2020-01-01T00:00:00&end=2099-01-01T00:00:00.000000";

    let list = admin.get(&format!("{USAGE}?{SPAN}&detailed=True")).await.expect(200).body;
    let blue = &list["tenant_usages"][0];
    assert_eq!(blue["tenant_id"], "blue");
    assert!(blue.get("server_usages").is_none(), "only a digit asks for details: {blue}");
    assert_eq!(blue["start"], "2020-01-01T00:00:00.000000");
    let hours = blue["total_hours"].as_f64().unwrap();
    assert!(hours > 0.0 && (blue["total_memory_mb_usage"].as_f64().unwrap() - 512.0 * hours).abs() < 1e-6);

    let detailed = admin.get(&format!("{USAGE}?{SPAN}&detailed=1")).await.expect(200).body;
    let servers = detailed["tenant_usages"][0]["server_usages"].as_array().unwrap().clone();
    let live = servers.iter().find(|row| row["instance_id"] == first.as_str()).unwrap();
    let wanted = json!({
        "hours": live["hours"], "flavor": "small", "instance_id": first, "name": "one", "tenant_id": "blue",
        "memory_mb": 512, "local_gb": 1, "vcpus": 1, "started_at": live["started_at"], "ended_at": null,
        "state": "active", "uptime": live["uptime"],
    });
    assert_eq!(*live, wanted);
    let gone = servers.iter().find(|row| row["instance_id"] == second.as_str()).unwrap();
    assert_eq!(gone["state"], "terminated");
    assert!(gone["ended_at"].is_string());

    let page = admin.get(&format!("{USAGE}?{SPAN}&detailed=1&limit=1")).await.expect(200).body;
    assert_eq!(page["tenant_usages"][0]["server_usages"].as_array().unwrap().len(), 1);
    let next = page["tenant_usages_links"][0]["href"].as_str().unwrap();
    let rest = admin.get(next.strip_prefix("http://controller:8774").unwrap()).await.expect(200).body;
    let rest = &rest["tenant_usages"][0]["server_usages"][0]["instance_id"];
    assert_ne!(*rest, page["tenant_usages"][0]["server_usages"][0]["instance_id"]);
    assert_eq!(
        admin.get(&format!("{USAGE}?{SPAN}&marker=zz")).await.expect(400).message(),
        "Marker zz could not be found."
    );

    let own = cloud.by("reader").at("2.40").get(&format!("{USAGE}/blue?{SPAN}")).await.expect(200).body;
    assert_eq!(own["tenant_usage"]["server_usages"].as_array().unwrap().len(), 2);
    cloud.by("bob").get(&format!("{USAGE}/blue?{SPAN}")).await.expect(403);
    cloud.by("alice").get(USAGE).await.expect(403);
}

#[tokio::test]
async fn a_span_must_be_one() {
    let cloud = Cloud::idle().await;
    let admin = cloud.by("admin");
    assert_eq!(admin.get(USAGE).await.expect(200).body, json!({"tenant_usages": []}));
    let empty = admin.get(&format!("{USAGE}/blue?start=2020-01-01T00:00:00")).await.expect(200);
    assert_eq!(empty.body, json!({"tenant_usage": {}}));
    let got = admin.get(&format!("{USAGE}?start=2020-01-02T00:00:00&end=2020-01-01T00:00:00")).await.expect(400);
    assert_eq!(got.message(), "Invalid start time. The start time cannot occur after the end time.");
    for bad in ["2020-01-01", "2020-01-01T00:00:00Z", "yesterday"] {
        let got = admin.get(&format!("{USAGE}?start={bad}")).await.expect(400);
        assert_eq!(got.message(), "Invalid datetime string: Datetime is in invalid format");
    }
    admin.at("2.75").get(&format!("{USAGE}?colour=red")).await.expect(400);
}

#[tokio::test]
async fn extensions_are_the_fixed_list_of_upstream() {
    let cloud = Cloud::idle().await;
    let list = cloud.by("alice").get("/v2.1/extensions").await.expect(200).body;
    let all = list["extensions"].as_array().unwrap();
    assert_eq!(all.len(), 99);
    assert_eq!(
        all[0],
        json!({
            "alias": "NMN", "description": "Multiple network support.", "links": [], "name": "Multinic",
            "namespace": "http://docs.openstack.org/compute/ext/fake_xml", "updated": "2014-12-03T00:00:00Z",
        })
    );
    let one = cloud.by("alice").get("/v2.1/extensions/os-keypairs").await.expect(200);
    assert_eq!(one.body["extension"]["alias"], "os-keypairs");
    cloud.by("alice").get("/v2.1/extensions/nosuch").await.expect(404);
    cloud.by("alice").at("2.102").get("/v2.1/extensions?colour=red").await.expect(400);
}

#[tokio::test]
async fn what_upstream_removed_is_gone() {
    let cloud = Cloud::idle().await;
    let got = cloud.by("admin").get("/v2.1/os-agents").await.expect(410);
    let words = "This resource is no longer available. No forwarding address is given.";
    assert_eq!(got.body, json!({"computeFault": {"code": 410, "message": words}}));
    let admin = cloud.by("admin").at("2.104");
    admin.post("/v2.1/os-networks", json!({"network": {}})).await.expect(410);
    admin.get("/v2.1/os-cells/capacities").await.expect(410);
    admin.delete("/v2.1/os-tenant-networks/1").await.expect(410);
    let server = "05b1d049-1be3-4435-96e2-a6e8f4dfae50";
    admin.act(server, json!({"resetNetwork": null})).await.expect(410);
    admin.get(&format!("/v2.1/servers/{server}/os-virtual-interfaces")).await.expect(410);
}

#[tokio::test]
async fn there_are_no_migrations_and_no_audits() {
    let cloud = Cloud::idle().await;
    let _host = cloud.host("h1").await;
    let admin = cloud.by("admin");
    assert_eq!(admin.at("2.80").get("/v2.1/os-migrations").await.expect(200).body, json!({"migrations": []}));
    cloud.by("alice").get("/v2.1/os-migrations").await.expect(403);
    admin.at("2.58").get("/v2.1/os-migrations?limit=x&colour=red").await.expect(200);
    admin.at("2.59").get("/v2.1/os-migrations?colour=red").await.expect(400);
    admin.at("2.59").get("/v2.1/os-migrations?changes-since=then").await.expect(400);
    admin.at("2.65").get("/v2.1/os-migrations?changes-before=2020-01-01").await.expect(400);
    let log = admin.get("/v2.1/os-instance_usage_audit_log").await.expect(200).body;
    let log = &log["instance_usage_audit_logs"];
    assert_eq!((&log["num_hosts"], &log["hosts_not_run"]), (&json!(1), &json!(["h1"])));
    assert_eq!(log["overall_status"], "0 of 1 hosts done. 0 errors.");
    let before = admin.get("/v2.1/os-instance_usage_audit_log/2020-02-03%2004:05:06").await.expect(200);
    assert_eq!(before.body["instance_usage_audit_log"]["period_beginning"], "2020-01-01 00:00:00");
    admin.get("/v2.1/os-instance_usage_audit_log/then").await.expect(400);
    cloud.by("alice").get("/v2.1/os-instance_usage_audit_log").await.expect(403);
}
