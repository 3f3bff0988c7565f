//! Quotas of projects and classes, and the limits that a project reads about itself.

use api::{Json, json};

use crate::cloud::Cloud;
use crate::fakes::identity::NOWHERE;

fn keys(value: &Json) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const BASE: &[&str] =
    &["cores", "instances", "key_pairs", "metadata_items", "ram", "server_group_members", "server_groups"];
const INJECTED: &[&str] = &["injected_file_content_bytes", "injected_file_path_bytes", "injected_files"];
const NETWORK: &[&str] = &["fixed_ips", "floating_ips", "security_group_rules", "security_groups"];

fn union(parts: &[&[&'static str]]) -> Vec<&'static str> {
    let mut keys = parts.concat();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_quota_set_has_the_keys_of_its_version() {
    let cloud = Cloud::idle().await;
    let show = async |version: &str, path: &str| {
        cloud.by("alice").at(version).get(&format!("/v2.1/os-quota-sets/blue{path}")).await.expect(200).body["quota_set"].clone()
    };
    let id: &[&str] = &["id"];
    assert_eq!(keys(&show("2.35", "").await), union(&[BASE, INJECTED, NETWORK, id]));
    assert_eq!(keys(&show("2.36", "").await), union(&[BASE, INJECTED, id]));
    let newest = show("2.57", "").await;
    assert_eq!(keys(&newest), union(&[BASE, id]));
    assert_eq!((&newest["cores"], &newest["instances"], &newest["ram"]), (&json!(20), &json!(10), &json!(51200)));
    let detail = show("2.57", "/detail").await;
    assert_eq!(detail["cores"], json!({"limit": 20, "in_use": 0, "reserved": 0}));
    assert_eq!(show("2.57", "/defaults").await, newest);
}

#[tokio::test]
async fn quotas_are_set_and_go_back_to_the_defaults() {
    let cloud = Cloud::idle().await;
    let admin = cloud.by("admin");
    let put = async |version: &str, body: Json| {
        admin.at(version).put("/v2.1/os-quota-sets/blue", json!({"quota_set": body})).await
    };
    let got = put("2.56", json!({"cores": 60, "instances": "50", "ram": 100000})).await.expect(200);
    assert_eq!(keys(&got.body["quota_set"]), union(&[BASE, INJECTED]));
    assert_eq!(got.body["quota_set"]["instances"], 50);
    put("2.56", json!({"cores": -2})).await.expect(400);
    put("2.56", json!({"cores": 3_000_000_000_i64})).await.expect(400);
    put("2.56", json!({"tenant_id": "blue"})).await.expect(400);
    put("2.36", json!({"floating_ips": 1})).await.expect(400);
    put("2.57", json!({"injected_files": 1})).await.expect(400);
    admin.delete("/v2.1/os-quota-sets/blue").await.expect(202);
    let got = admin.get("/v2.1/os-quota-sets/blue").await.expect(200);
    assert_eq!(got.body["quota_set"]["cores"], 20);
}

#[tokio::test]
async fn who_may_see_and_set_quotas() {
    let cloud = Cloud::idle().await;
    let body = json!({"quota_set": {"cores": 1}});
    cloud.by("alice").put("/v2.1/os-quota-sets/blue", body.clone()).await.expect(403);
    cloud.by("alice").delete("/v2.1/os-quota-sets/blue").await.expect(403);
    cloud.by("alice").get("/v2.1/os-quota-sets/red").await.expect(403);
    cloud.by("alice").get("/v2.1/os-quota-sets/red/defaults").await.expect(200);
    cloud.by("admin").get("/v2.1/os-quota-sets/red").await.expect(200);
    let path = format!("/v2.1/os-quota-sets/{NOWHERE}");
    let got = cloud.by("admin").put(&path, body).await.expect(400);
    assert_eq!(got.message(), format!("Project ID {NOWHERE} is not a valid project."));
    cloud.by("alice").at("2.75").get("/v2.1/os-quota-sets/blue?colour=red").await.expect(400);
    cloud.by("alice").get("/v2.1/os-quota-class-sets/default").await.expect(403);
}

#[tokio::test]
async fn a_quota_below_what_is_used_needs_force() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    cloud.boot("web").await;
    let put = async |body: Json| cloud.by("admin").put("/v2.1/os-quota-sets/blue", json!({"quota_set": body})).await;
    let got = put(json!({"instances": 0})).await.expect(400);
    let words = "Quota limit 0 for instances must be greater than or equal to already used and reserved 1.";
    assert_eq!(got.message(), words);
    put(json!({"instances": 0, "force": true})).await.expect(200);
    let detail = cloud.by("alice").get("/v2.1/os-quota-sets/blue/detail").await.expect(200);
    assert_eq!(detail.body["quota_set"]["instances"], json!({"limit": 0, "in_use": 1, "reserved": 0}));
}

#[tokio::test]
async fn a_class_sets_the_defaults_of_all_projects() {
    let cloud = Cloud::idle().await;
    let admin = cloud.by("admin");
    const CLASS: &str = "/v2.1/os-quota-class-sets/default";
    let show = async |version: &str| admin.at(version).get(CLASS).await.expect(200).body["quota_class_set"].clone();
    let id: &[&str] = &["id"];
    let early = union(&[BASE, INJECTED, NETWORK, id]);
    let early: Vec<&str> = early.into_iter().filter(|key| !key.starts_with("server_group")).collect();
    assert_eq!(keys(&show("2.49").await), early);
    assert_eq!(keys(&show("2.50").await), union(&[BASE, INJECTED, id]));
    assert_eq!(keys(&show("2.57").await), union(&[BASE, id]));
    let got = admin.put(CLASS, json!({"quota_class_set": {"cores": 7}})).await.expect(200);
    assert!(got.body["quota_class_set"].get("id").is_none());
    let got = cloud.by("alice").get("/v2.1/os-quota-sets/blue").await.expect(200);
    assert_eq!(got.body["quota_set"]["cores"], 7);
    let other = json!({"quota_class_set": {"cores": 8}});
    admin.put("/v2.1/os-quota-class-sets/gold", other).await.expect(200);
    assert_eq!(show("2.57").await["cores"], 7);
}

#[tokio::test]
async fn limits_have_the_keys_of_their_version() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    cloud.boot("web").await;
    let show = async |version: &str| {
        cloud.by("alice").at(version).get("/v2.1/limits").await.expect(200).body["limits"]["absolute"].clone()
    };
    let now = show("2.57").await;
    assert_eq!(
        (&now["totalInstancesUsed"], &now["totalCoresUsed"], &now["totalRAMUsed"]),
        (&json!(1), &json!(1), &json!(512))
    );
    assert_eq!(keys(&now).len(), 11);
    for (version, added) in [("2.56", 13), ("2.38", 14), ("2.35", 19)] {
        assert_eq!(keys(&show(version).await).len(), added, "{version}");
    }
    cloud.by("alice").get("/v2.1/limits?tenant_id=red").await.expect(403);
    let other = cloud.by("admin").get("/v2.1/limits?tenant_id=blue&reserved=False").await.expect(200);
    assert_eq!(other.body["limits"]["absolute"]["totalInstancesUsed"], 1);
    cloud.by("alice").at("2.75").get("/v2.1/limits?reserved=False").await.expect(400);
}
