//! Server groups.

use api::{Json, json};

use crate::cloud::{Cloud, new_server};

const GROUPS: &str = "/v2.1/os-server-groups";

fn group(name: &str, policy: &str) -> Json {
    json!({"server_group": {"name": name, "policy": policy}})
}

#[tokio::test]
async fn a_group_looks_as_upstream_shows_it_at_each_version() {
    let cloud = Cloud::idle().await;
    let alice = cloud.by("alice");
    let made = alice.at("2.64").post(GROUPS, group("apart", "anti-affinity")).await.expect(200).body;
    let id = made["server_group"]["id"].as_str().unwrap().to_string();
    let wanted = json!({
        "id": id, "name": "apart", "policy": "anti-affinity", "rules": {}, "members": [], "project_id": "blue",
        "user_id": "alice",
    });
    assert_eq!(made["server_group"], wanted);
    let shown = alice.at("2.63").get(&format!("{GROUPS}/{id}")).await.expect(200);
    let wanted = json!({
        "id": id, "name": "apart", "policies": ["anti-affinity"], "metadata": {}, "members": [], "project_id": "blue",
        "user_id": "alice",
    });
    assert_eq!(shown.body["server_group"], wanted);
    let first = alice.get(GROUPS).await.expect(200);
    let wanted = json!({"id": id, "name": "apart", "policies": ["anti-affinity"], "metadata": {}, "members": []});
    assert_eq!(first.body, json!({"server_groups": [wanted]}));
}

#[tokio::test]
async fn bodies_change_with_2_15_and_2_64() {
    let cloud = Cloud::idle().await;
    let make = async |version: &str, body: Json| cloud.by("alice").at(version).post(GROUPS, body).await;
    let older = |policy: &str| json!({"server_group": {"name": "g", "policies": [policy]}});
    make("2.1", older("affinity")).await.expect(200);
    make("2.14", older("soft-affinity")).await.expect(400);
    make("2.15", older("soft-affinity")).await.expect(200);
    make("2.63", json!({"server_group": {"name": "g"}})).await.expect(400);
    make("2.63", json!({"server_group": {"name": "g", "policies": []}})).await.expect(400);
    make("2.64", older("affinity")).await.expect(400);
    make("2.64", json!({"server_group": {"name": "g"}})).await.expect(400);
    let ruled =
        |policy: &str| json!({"server_group": {"name": "g", "policy": policy, "rules": {"max_server_per_host": "2"}}});
    let made = make("2.64", ruled("anti-affinity")).await.expect(200);
    assert_eq!(made.body["server_group"]["rules"], json!({"max_server_per_host": 2}));
    let got = make("2.64", ruled("affinity")).await.expect(400);
    assert_eq!(got.message(), "Only anti-affinity policy supports rules.");
    make("2.64", json!({"server_group": {"name": " g", "policy": "affinity"}})).await.expect(400);
}

#[tokio::test]
async fn a_group_belongs_to_its_project() {
    let cloud = Cloud::idle().await;
    let made = cloud.by("alice").at("2.64").post(GROUPS, group("g", "affinity")).await.expect(200);
    let path = format!("{GROUPS}/{}", made.body["server_group"]["id"].as_str().unwrap());
    cloud.by("reader").at("2.64").post(GROUPS, group("h", "affinity")).await.expect(403);
    cloud.by("reader").get(&path).await.expect(200);
    cloud.by("reader").delete(&path).await.expect(403);
    cloud.by("bob").get(&path).await.expect(403);
    cloud.by("bob").delete(&path).await.expect(403);
    let listed = async |who: &str, query: &str| {
        let got = cloud.by(who).at("2.75").get(&format!("{GROUPS}{query}")).await.expect(200);
        got.body["server_groups"].as_array().unwrap().len()
    };
    assert_eq!(listed("bob", "?all_projects=true").await, 0);
    assert_eq!(listed("admin", "").await, 0);
    assert_eq!(listed("admin", "?all_projects").await, 1);
    cloud.by("alice").delete(&path).await.expect(204);
    let id = path.rsplit('/').next().unwrap();
    let got = cloud.by("alice").delete(&path).await.expect(404);
    assert_eq!(got.message(), format!("Instance group {id} could not be found."));
}

#[tokio::test]
async fn lists_have_a_limit_and_an_offset() {
    let cloud = Cloud::idle().await;
    for name in ["a", "b", "c"] {
        cloud.by("alice").at("2.64").post(GROUPS, group(name, "affinity")).await.expect(200);
    }
    let names = async |query: &str| {
        let got = cloud.by("alice").at("2.75").get(&format!("{GROUPS}?{query}")).await.expect(200);
        let rows = got.body["server_groups"].as_array().unwrap().clone();
        rows.iter().map(|row| row["name"].as_str().unwrap().to_string()).collect::<String>()
    };
    assert_eq!(names("").await, "abc");
    assert_eq!(names("limit=2").await, "ab");
    assert_eq!(names("limit=2&offset=2").await, "c");
    cloud.by("alice").get(&format!("{GROUPS}?limit=-1")).await.expect(400);
    cloud.by("alice").at("2.75").get(&format!("{GROUPS}?colour=red")).await.expect(400);
}

#[tokio::test]
async fn the_quota_of_groups_is_kept() {
    let cloud = Cloud::idle().await;
    let body = json!({"quota_set": {"server_groups": 1}});
    cloud.by("admin").put("/v2.1/os-quota-sets/blue", body).await.expect(200);
    cloud.by("alice").at("2.64").post(GROUPS, group("a", "affinity")).await.expect(200);
    let got = cloud.by("alice").at("2.64").post(GROUPS, group("b", "affinity")).await.expect(403);
    assert_eq!(got.message(), "Quota exceeded, too many server groups.");
}

#[tokio::test]
async fn the_quota_of_servers_in_a_group_is_kept() {
    let cloud = Cloud::idle().await;
    let made = cloud.by("alice").at("2.64").post(GROUPS, group("a", "affinity")).await.expect(200);
    let body = json!({"quota_set": {"server_group_members": 1}});
    cloud.by("admin").put("/v2.1/os-quota-sets/blue", body).await.expect(200);
    let ask = async || {
        let mut body = new_server("web");
        body["os:scheduler_hints"] = json!({"group": made.body["server_group"]["id"]});
        cloud.by("alice").post("/v2.1/servers", body).await
    };
    ask().await.expect(202);
    assert_eq!(ask().await.expect(403).message(), "Quota exceeded, too many servers in group");
}
