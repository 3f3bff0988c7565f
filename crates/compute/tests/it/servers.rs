//! What can be said about servers, and changed.

use std::collections::BTreeSet;

use api::{Json, json};

use crate::cloud::{Cloud, new_server};
use crate::fakes::network::{PRIVATE, WEB};

fn keys(of: &Json) -> BTreeSet<String> {
    of.as_object().unwrap().keys().cloned().collect()
}

fn added(now: &Json, before: &Json) -> Vec<String> {
    keys(now).difference(&keys(before)).cloned().collect()
}

#[tokio::test]
async fn each_microversion_shows_what_it_brought() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let path = format!("/v2.1/servers/{id}");
    let brought: &[(&str, &[&str])] = &[
        (
            "2.3",
            &[
                "OS-EXT-SRV-ATTR:hostname",
                "OS-EXT-SRV-ATTR:kernel_id",
                "OS-EXT-SRV-ATTR:launch_index",
                "OS-EXT-SRV-ATTR:ramdisk_id",
                "OS-EXT-SRV-ATTR:reservation_id",
                "OS-EXT-SRV-ATTR:root_device_name",
                "OS-EXT-SRV-ATTR:user_data",
            ],
        ),
        ("2.9", &["locked"]),
        ("2.16", &["host_status"]),
        ("2.19", &["description"]),
        ("2.26", &["tags"]),
        ("2.63", &["trusted_image_certificates"]),
        ("2.71", &["server_groups"]),
        ("2.73", &["locked_reason"]),
        ("2.96", &["pinned_availability_zone"]),
        ("2.100", &["scheduler_hints"]),
    ];
    let admin = cloud.by("admin");
    let mut before = admin.get(&path).await.expect(200).body["server"].clone();
    for (version, wanted) in brought {
        let now = admin.at(version).get(&path).await.expect(200).body["server"].clone();
        assert_eq!(added(&now, &before), *wanted, "{version}");
        assert_eq!(added(&before, &now), [""; 0], "{version} took something away");
        before = now;
    }
    let alice = cloud.by("alice").at("2.100").get(&path).await.expect(200).body["server"].clone();
    let hers = added(&before, &alice);
    assert!(hers.iter().all(|key| key.starts_with("OS-EXT-SRV-ATTR:") || key == "host_status"), "{hers:?}");
    assert!(keys(&alice).contains("OS-EXT-SRV-ATTR:hostname"), "since 2.90 everybody sees it");

    let list = admin.at("2.100").get("/v2.1/servers/detail?all_tenants=1").await.expect(200).body["servers"][0].clone();
    assert_eq!(added(&before, &list), ["server_groups"], "lists leave the groups out");
    assert_eq!(before["flavor"]["original_name"], "small");
    assert_eq!(keys(&before["image"]), BTreeSet::from(["id".into(), "links".into(), "properties".into()]));
}

#[tokio::test]
async fn a_server_is_renamed_and_described() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let path = format!("/v2.1/servers/{id}");
    let alice = cloud.by("alice");

    let got = alice.put(&path, json!({"server": {"name": "mail", "accessIPv4": "192.0.2.7"}})).await.expect(200);
    let short = got.body["server"].clone();
    assert_eq!(short["name"], "mail");
    assert_eq!(short["accessIPv4"], "192.0.2.7");
    assert_eq!(short["addresses"]["private"][0], json!({"version": 4, "addr": "10.0.0.11"}));
    assert!(!keys(&short).contains("key_name") && !keys(&short).contains("OS-EXT-STS:vm_state"), "{short}");

    let body = json!({"server": {"description": null, "hostname": "mail.example.org", "accessIPv4": ""}});
    let whole = alice.at("2.100").put(&path, body).await.expect(200).body["server"].clone();
    assert_eq!(whole["OS-EXT-SRV-ATTR:hostname"], "mail.example.org");
    assert_eq!(whole["description"], json!(null));
    assert_eq!(whole["accessIPv4"], "");
    assert_eq!(whole, alice.at("2.100").get(&path).await.expect(200).body["server"]);

    for (version, body) in [
        ("2.1", json!({"name": ""})),
        ("2.1", json!({"name": "  "})),
        ("2.1", json!({"name": 12345})),
        ("2.1", json!({"name": "x".repeat(256)})),
        ("2.1", json!({"accessIPv4": "::1"})),
        ("2.18", json!({"description": "new"})),
        ("2.93", json!({"hostname": "mail.example.org"})),
        ("2.103", json!({"pinned_availability_zone": null})),
    ] {
        alice.at(version).put(&path, json!({"server": body})).await.expect(400);
    }
    alice.at("2.104").put(&path, json!({"server": {"pinned_availability_zone": "moon"}})).await.expect(409);
    alice.at("2.104").put(&path, json!({"server": {"pinned_availability_zone": "nova"}})).await.expect(200);
    cloud.by("reader").put(&path, json!({"server": {"name": "mine"}})).await.expect(403);
    cloud.by("bob").put(&path, json!({"server": {"name": "mine"}})).await.expect(404);
}

#[tokio::test]
async fn a_locked_server_is_left_alone() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let (alice, admin) = (cloud.by("alice"), cloud.by("admin"));

    alice.act(&id, json!({"lock": null})).await.expect(202);
    alice.act(&id, json!({"os-stop": null})).await.expect(409);
    alice.delete(&format!("/v2.1/servers/{id}")).await.expect(409);
    assert_eq!(cloud.server(&id).await["locked"], true);
    alice.act(&id, json!({"unlock": null})).await.expect(202);
    alice.at("2.72").act(&id, json!({"lock": {"locked_reason": "audit"}})).await.expect(400);
    admin.at("2.73").act(&id, json!({"lock": {"locked_reason": "audit"}})).await.expect(202);
    assert_eq!(cloud.server(&id).await["locked_reason"], "audit");
    alice.act(&id, json!({"unlock": null})).await.expect(403);
    admin.act(&id, json!({"os-stop": null})).await.expect(202);
    cloud.settled().await;
    admin.act(&id, json!({"unlock": null})).await.expect(202);
    alice.act(&id, json!({"os-start": null})).await.expect(202);
    cloud.settled().await;
}

#[tokio::test]
async fn metadata_is_kept_changed_and_removed() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    let all = format!("/v2.1/servers/{id}/metadata");
    let one = format!("{all}/a");

    let got = alice.post(&all, json!({"metadata": {"a": "1", "b": "2"}})).await.expect(200);
    assert_eq!(got.body, json!({"metadata": {"a": "1", "b": "2"}}));
    assert_eq!(alice.get(&one).await.expect(200).body, json!({"meta": {"a": "1"}}));
    assert_eq!(alice.put(&one, json!({"meta": {"a": "3"}})).await.expect(200).body, json!({"meta": {"a": "3"}}));
    assert_eq!(alice.get(&all).await.expect(200).body, json!({"metadata": {"a": "3", "b": "2"}}));
    assert_eq!(alice.put(&all, json!({"metadata": {"c": ""}})).await.expect(200).body, json!({"metadata": {"c": ""}}));
    alice.get(&one).await.expect(404);
    alice.delete(&one).await.expect(404);
    alice.delete(&format!("{all}/c")).await.expect(204);
    assert_eq!(alice.get(&all).await.expect(200).body, json!({"metadata": {}}));

    alice.put(&one, json!({"meta": {"b": "3"}})).await.expect(400);
    alice.put(&one, json!({"meta": {"a": "3", "b": "3"}})).await.expect(400);
    alice.post(&all, json!({"metadata": {"": "1"}})).await.expect(400);
    alice.post(&all, json!({"metadata": {"ä": "1"}})).await.expect(400);
    alice.post(&all, json!({"metadata": {"a": "x".repeat(256)}})).await.expect(400);
    alice.post(&all, json!({"metadata": null})).await.expect(400);
    let many: serde_json::Map<String, Json> = (0..129).map(|n| (format!("k{n}"), json!("v"))).collect();
    alice.post(&all, json!({"metadata": many})).await.expect(403);
    cloud.by("bob").get(&all).await.expect(404);
    let nobody = base::id::uuid();
    alice.get(&format!("/v2.1/servers/{nobody}/metadata")).await.expect(404);
}

#[tokio::test]
async fn tags_are_put_and_found() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice").at("2.26");
    let all = format!("/v2.1/servers/{id}/tags");

    cloud.by("alice").at("2.25").get(&all).await.expect(404);
    let got = alice.put(&format!("{all}/blue"), json!(null)).await.expect(201);
    let location = got.headers["location"].to_str().unwrap().to_string();
    assert_eq!(location, format!("http://controller:8774{all}/blue"));
    alice.put(&format!("{all}/blue"), json!(null)).await.expect(204);
    alice.get(&format!("{all}/blue")).await.expect(204);
    alice.get(&format!("{all}/red")).await.expect(404);
    let got = alice.put(&all, json!({"tags": ["red", "green", "red"]})).await.expect(200);
    assert_eq!(got.body, json!({"tags": ["red", "green"]}));
    let found = alice.get("/v2.1/servers?tags=red,green").await.expect(200);
    assert_eq!(found.body["servers"].as_array().unwrap().len(), 1);
    let found = alice.get("/v2.1/servers?tags=red,blue").await.expect(200);
    assert_eq!(found.body["servers"], json!([]));
    let found = alice.get("/v2.1/servers?tags-any=red,blue").await.expect(200);
    assert_eq!(found.body["servers"].as_array().unwrap().len(), 1);
    let found = alice.get("/v2.1/servers?not-tags=red,green").await.expect(200);
    assert_eq!(found.body["servers"], json!([]));
    let found = alice.get("/v2.1/servers?not-tags-any=blue,green").await.expect(200);
    assert_eq!(found.body["servers"], json!([]));
    let found = alice.get("/v2.1/servers?not-tags=red,blue").await.expect(200);
    assert_eq!(found.body["servers"].as_array().unwrap().len(), 1);
    alice.delete(&format!("{all}/red")).await.expect(204);
    alice.delete(&format!("{all}/red")).await.expect(404);
    alice.delete(&all).await.expect(204);
    assert_eq!(alice.get(&all).await.expect(200).body, json!({"tags": []}));
    alice.put(&format!("{all}/{}", "x".repeat(61)), json!(null)).await.expect(400);
    alice.put(&all, json!({"tags": ["a,b"]})).await.expect(400);
}

#[tokio::test]
async fn interfaces_come_and_go() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice").at("2.70");
    let all = format!("/v2.1/servers/{id}/os-interface");

    let mine = cloud.network.free_port();
    let got = alice.post(&all, json!({"interfaceAttachment": {"port_id": mine, "tag": "db"}})).await.expect(200);
    let shown = &got.body["interfaceAttachment"];
    assert_eq!(shown["port_id"], mine.as_str());
    assert_eq!(shown["tag"], "db");
    assert_eq!(cloud.network.row("ports", &mine).unwrap()["device_id"], id.as_str());
    assert_eq!(cloud.network.row("ports", &mine).unwrap()["binding:host_id"], "h1");
    let body = json!({"interfaceAttachment": {"net_id": PRIVATE, "fixed_ips": [{"ip_address": "10.0.0.99"}]}});
    let made = alice.post(&all, body).await.expect(200).body["interfaceAttachment"].clone();
    assert_eq!(made["fixed_ips"][0]["ip_address"], "10.0.0.99");
    assert_eq!(made["tag"], json!(null));
    let addresses = cloud.server(&id).await["addresses"]["private"].clone();
    assert_eq!(addresses.as_array().unwrap().len(), 3);
    let list = alice.get(&all).await.expect(200).body["interfaceAttachments"].clone();
    assert_eq!(list.as_array().unwrap().len(), 3);
    let older = cloud.by("alice").get(&all).await.expect(200).body["interfaceAttachments"][0].clone();
    assert_eq!(older.get("tag"), None);

    let made = made["port_id"].as_str().unwrap().to_string();
    alice.get(&format!("{all}/{made}")).await.expect(200);
    alice.delete(&format!("{all}/{made}")).await.expect(202);
    assert!(cloud.network.row("ports", &made).is_none(), "a port that we made is deleted");
    alice.delete(&format!("{all}/{mine}")).await.expect(202);
    assert_eq!(cloud.network.row("ports", &mine).unwrap()["device_id"], "", "one that the user brought is kept");
    assert_eq!(cloud.server(&id).await["addresses"]["private"].as_array().unwrap().len(), 1);

    alice.delete(&format!("{all}/{mine}")).await.expect(404);
    alice.get(&format!("{all}/{mine}")).await.expect(404);
    let both = json!({"interfaceAttachment": {"net_id": PRIVATE, "port_id": mine}});
    alice.post(&all, both).await.expect(400);
    let lonely = json!({"interfaceAttachment": {"fixed_ips": [{"ip_address": "10.0.0.99"}]}});
    alice.post(&all, lonely).await.expect(400);
    alice.post(&all, json!({"interfaceAttachment": {"port_id": base::id::uuid()}})).await.expect(404);
    let got = alice.post(&all, json!({"interfaceAttachment": {}})).await.expect(200);
    assert_eq!(got.body["interfaceAttachment"]["net_id"], PRIVATE);
}

#[tokio::test]
async fn a_port_that_network_deletes_is_forgotten() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let port = cloud.network.only_port();
    cloud.network.drop_port(&port);
    cloud.network.event(&id, "network-vif-deleted", &port).await;
    assert_eq!(cloud.server(&id).await["addresses"], json!({}));
}

#[tokio::test]
async fn security_groups_of_a_server_are_those_of_its_ports() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    let path = format!("/v2.1/servers/{id}/os-security-groups");

    alice.act(&id, json!({"addSecurityGroup": {"name": "web"}})).await.expect(202);
    assert_eq!(cloud.server(&id).await["security_groups"], json!([{"name": "default"}, {"name": "web"}]));
    let groups = alice.get(&path).await.expect(200).body["security_groups"].clone();
    assert_eq!(groups.as_array().unwrap().len(), 2);
    alice.act(&id, json!({"removeSecurityGroup": {"name": WEB}})).await.expect(202);
    assert_eq!(cloud.server(&id).await["security_groups"], json!([{"name": "default"}]));
    alice.act(&id, json!({"removeSecurityGroup": {"name": "web"}})).await.expect(404);
    alice.act(&id, json!({"addSecurityGroup": {"name": "nosuch"}})).await.expect(404);
}

#[tokio::test]
async fn actions_say_what_was_asked_and_what_came_of_it() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    alice.act(&id, json!({"os-stop": null})).await.expect(202);
    cloud.settled().await;
    let path = format!("/v2.1/servers/{id}/os-instance-actions");

    let list = alice.get(&path).await.expect(200).body["instanceActions"].clone();
    assert_eq!(list[0]["action"], "stop");
    assert_eq!(list[1]["action"], "create");
    assert_eq!(list[0].get("updated_at"), None);
    let one = format!("{path}/{}", list[0]["request_id"].as_str().unwrap());
    assert_eq!(alice.get(&one).await.expect(200).body["instanceAction"].get("events"), None);
    let shown = alice.at("2.62").get(&one).await.expect(200).body["instanceAction"].clone();
    let event = &shown["events"][0];
    assert_eq!(event["event"], "compute_stop_instance");
    assert_eq!(event["result"], "Success");
    assert!(event["hostId"].as_str().is_some_and(|id| id.len() == 56), "{event}");
    assert_eq!(event.get("host"), None);
    assert_eq!(event.get("traceback"), None);
    let event = cloud.by("admin").at("2.84").get(&one).await.expect(200).body["instanceAction"]["events"][0].clone();
    assert_eq!(event["host"], "h1");
    assert_eq!(event["details"], json!(null));

    let first = alice.at("2.58").get(&format!("{path}?limit=1")).await.expect(200).body;
    let next = first["links"][0]["href"].as_str().unwrap().trim_start_matches("http://controller:8774").to_string();
    let second = alice.at("2.58").get(&next).await.expect(200).body;
    assert_eq!(second["instanceActions"][0]["action"], "create");
    assert_eq!(second.get("links"), None);
    alice.at("2.58").get(&format!("{path}?marker=nosuch")).await.expect(400);
    alice.at("2.58").get(&format!("{path}?changes-since=yesterday")).await.expect(400);
    alice.get(&format!("{path}/req-none")).await.expect(404);

    alice.delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    cloud.settled().await;
    alice.get(&path).await.expect(404);
    let gone = alice.at("2.21").get(&path).await.expect(200).body["instanceActions"].clone();
    assert_eq!(gone[0]["action"], "delete");
}

#[tokio::test]
async fn addresses_are_listed_by_network() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let path = format!("/v2.1/servers/{id}/ips");
    let alice = cloud.by("alice");
    let basic = json!([{"version": 4, "addr": "10.0.0.11"}]);
    assert_eq!(alice.get(&path).await.expect(200).body, json!({"addresses": {"private": basic}}));
    assert_eq!(alice.get(&format!("{path}/private")).await.expect(200).body, json!({"private": basic}));
    alice.get(&format!("{path}/public")).await.expect(404);
}

#[tokio::test]
async fn an_administrator_sets_a_state_and_looks_inside() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let (alice, admin) = (cloud.by("alice"), cloud.by("admin"));
    let path = format!("/v2.1/servers/{id}/diagnostics");
    let shown = admin.at("2.48").get(&path).await.expect(200).body;
    assert_eq!(shown["config_drive"], false);
    assert_eq!(shown["num_nics"], 0);
    admin.get(&path).await.expect(200);
    alice.get(&path).await.expect(403);

    alice.at("2.17").act(&id, json!({"trigger_crash_dump": null})).await.expect(202);
    alice.at("2.16").act(&id, json!({"trigger_crash_dump": null})).await.expect(404);
    let topology = alice.at("2.78").get(&format!("/v2.1/servers/{id}/topology")).await.expect(200);
    assert_eq!(topology.body, json!({"nodes": [], "pagesize_kb": null}));

    alice.act(&id, json!({"os-resetState": {"state": "error"}})).await.expect(403);
    admin.act(&id, json!({"os-resetState": {"state": "error"}})).await.expect(202);
    assert_eq!(cloud.server(&id).await["status"], "ERROR");
    admin.get(&path).await.expect(409);
    alice.act(&id, json!({"reboot": {"type": "HARD"}})).await.expect(202);
    cloud.settled().await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");

    let password = format!("/v2.1/servers/{id}/os-server-password");
    assert_eq!(alice.get(&password).await.expect(200).body, json!({"password": ""}));
    alice.delete(&password).await.expect(204);
}

#[tokio::test]
async fn power_verbs_follow_the_table_of_states() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    for (verb, refused, status) in [
        ("pause", "pause", "PAUSED"),
        ("unpause", "resume", "ACTIVE"),
        ("suspend", "os-start", "SUSPENDED"),
        ("resume", "unpause", "ACTIVE"),
        ("os-stop", "pause", "SHUTOFF"),
        ("os-start", "os-start", "ACTIVE"),
    ] {
        alice.act(&id, json!({verb: null})).await.expect(202);
        cloud.settled().await;
        assert_eq!(cloud.server(&id).await["status"], status, "{verb}");
        alice.act(&id, json!({refused: null})).await.expect(409);
    }
    host.stick(true);
    alice.act(&id, json!({"os-stop": null})).await.expect(202);
    let got = alice.act(&id, json!({"reboot": {"type": "SOFT"}})).await.expect(409);
    assert_eq!(got.message(), format!("Cannot 'reboot' instance {id} while it is in task_state powering-off"));
    host.stick(false);
    cloud.settled().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_carried_out_is_refused_at_once() {
    let cloud = Cloud::new().await;
    let ask = async |version: &str, change: Json| {
        let mut body = new_server("web");
        for (key, value) in change.as_object().unwrap() {
            body["server"][key] = value.clone();
        }
        cloud.by("alice").at(version).post("/v2.1/servers", body).await
    };
    for (change, status) in [
        (json!({"name": " web"}), 400),
        (json!({"flavorRef": "nosuch"}), 400),
        (json!({"imageRef": base::id::uuid()}), 400),
        (json!({"imageRef": "nonsense"}), 400),
        (json!({"key_name": "nosuch"}), 400),
        (json!({"user_data": "###"}), 400),
        (json!({"networks": [{"uuid": base::id::uuid()}]}), 400),
        (json!({"networks": [{"port": base::id::uuid()}]}), 400),
        (json!({"availability_zone": "moon"}), 400),
        (json!({"availability_zone": "nova:h1"}), 403),
        (json!({"security_groups": [{"name": "nosuch"}]}), 400),
        (json!({"min_count": 3, "max_count": 2}), 400),
        (json!({"accessIPv4": "1.2.3"}), 400),
        (json!({"metadata": {"ä": "1"}}), 400),
        (json!({"description": "early"}), 400),
    ] {
        let got = ask("2.1", change.clone()).await;
        assert_eq!(got.status, status, "{change}: {}", got.body);
    }
    let got = ask("2.37", json!({"networks": "nonsense"})).await;
    assert_eq!(got.status, 400);
    assert_eq!(cloud.by("admin").get("/v2.1/servers?all_tenants=1").await.expect(200).body["servers"], json!([]));
}

#[tokio::test]
async fn servers_are_found_by_what_the_query_says() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let (one, two) = (cloud.boot("web-one").await, cloud.boot("web-two").await);
    let alice = cloud.by("alice").at("2.75");
    let found = async |query: &str| {
        let got = alice.get(&format!("/v2.1/servers?{query}")).await.expect(200);
        let names = got.body["servers"].as_array().unwrap().iter().map(|server| server["name"].as_str().unwrap());
        names.map(String::from).collect::<Vec<_>>()
    };
    let nothing: [&str; 0] = [];
    assert_eq!(found("").await, ["web-two", "web-one"], "newest first");
    assert_eq!(found("sort_key=display_name&sort_dir=asc").await, ["web-one", "web-two"]);
    assert_eq!(found("name=one").await, ["web-one"]);
    assert_eq!(found("name=%5Eweb-t").await, ["web-two"]);
    assert_eq!(found("name=%5E.*%5C-%5Bt%5D%5Bw%5Do%24").await, ["web-two"]);
    assert_eq!(found("limit=0").await, nothing);
    assert_eq!(found("limit=1&name=o.e").await, ["web-one"], "pages are filled");
    assert_eq!(found("status=ACTIVE").await.len(), 2);
    assert_eq!(found("status=SHUTOFF").await, nothing);
    assert_eq!(found("ip=10.0.0.12").await, ["web-two"]);
    assert_eq!(found("ip=10.0.0").await.len(), 2);
    assert_eq!(found("ip=192.0.2").await, nothing);
    assert_eq!(found("flavor=1").await.len(), 2);
    assert_eq!(found(&format!("limit=1&marker={two}")).await, ["web-one"]);
    let page = alice.get("/v2.1/servers?limit=1").await.expect(200);
    assert_eq!(
        page.body["servers_links"][0]["href"],
        format!("http://controller:8774/v2.1/servers?limit=1&marker={two}")
    );
    alice.get("/v2.1/servers?status=nonsense").await.expect(400);
    alice.get("/v2.1/servers?colour=blue").await.expect(400);
    cloud.by("alice").get("/v2.1/servers?colour=blue").await.expect(200);
    alice.get("/v2.1/servers?changes-since=yesterday").await.expect(400);
    alice.get("/v2.1/servers?status=deleted").await.expect(403);
    alice.get("/v2.1/servers?marker=nosuch").await.expect(400);

    alice.delete(&format!("/v2.1/servers/{one}")).await.expect(204);
    cloud.settled().await;
    assert_eq!(found("changes-since=2020-01-01T00:00:00Z").await, ["web-two", "web-one"], "also what is gone");
    assert_eq!(found("changes-since=2999-01-01T00:00:00Z").await, nothing);
    assert_eq!(found("").await, ["web-two"]);
    let bob = cloud.by("bob").get("/v2.1/servers?changes-since=2020-01-01T00:00:00Z").await.expect(200);
    assert_eq!(bob.body["servers"], json!([]));
    let gone = cloud.by("admin").get("/v2.1/servers?all_tenants=1&status=deleted").await.expect(200);
    assert_eq!(gone.body["servers"][0]["id"], one.as_str());
}
