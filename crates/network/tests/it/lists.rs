//! Lists: filters, fields, order, pages.

use api::{Json, json};

use crate::cloud::{Cloud, Person, text};

async fn three(person: Person<'_>) -> String {
    let (network, _) = person.joined("10.0.0.0/24").await;
    for (name, address) in [("a", "10.0.0.11"), ("b", "10.0.0.12"), ("c", "10.0.0.23")] {
        person.port(json!({"network_id": network, "name": name, "fixed_ips": [{"ip_address": address}]})).await;
    }
    network
}

#[tokio::test]
async fn any_attribute_filters() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    let network = three(alice).await;
    let names =
        |query: String| async move { alice.list(&format!("/ports?sort_key=name&sort_dir=asc&{query}"), "name").await };
    assert_eq!(names("name=a&name=c".into()).await, ["a", "c"]);
    assert_eq!(names("fixed_ips=ip_address%3D10.0.0.12".into()).await, ["b"]);
    assert_eq!(names("fixed_ips=ip_address_substr%3D10.0.0.1".into()).await, ["a", "b"]);
    assert_eq!(names(format!("network_id={network}&status=DOWN&admin_state_up=True")).await, ["a", "b", "c"]);
    assert_eq!(names("admin_state_up=False".into()).await, [""; 0]);
    assert_eq!(names("device_id=".into()).await, ["a", "b", "c"]);
    let subnet = text(&alice.get("/subnets").await.ok(200)["subnets"][0]["id"]);
    assert_eq!(names(format!("fixed_ips=subnet_id%3D{subnet}&fixed_ips=ip_address%3D10.0.0.23")).await, ["c"]);
    let group = text(&alice.get("/security-groups").await.ok(200)["security_groups"][0]["id"]);
    assert_eq!(names(format!("security_groups={group}")).await.len(), 3);
    assert_eq!(names("project_id=red".into()).await, [""; 0]);
    let words = alice.get("/ports?colour=red").await.words(400);
    assert_eq!(words, "['colour'] is invalid attribute for filtering");
    assert_eq!(alice.get("/ports?name=%00").await.status, 400);
    assert_eq!(alice.get("/ports/%00").await.status, 404);
    let words = alice.get("/ports?admin_state_up=maybe").await.words(400);
    assert_eq!(words, "Invalid input for admin_state_up. Reason: 'maybe' cannot be converted to boolean.");
}

#[tokio::test]
async fn fields_are_chosen() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    three(alice).await;
    let port = alice.get("/ports?fields=id&fields=name&fields=trunk_details&limit=1").await.ok(200);
    let keys: Vec<&String> = port["ports"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "name"]);
    let id = text(&port["ports"][0]["id"]);
    let one = alice.get(&format!("/ports/{id}?fields=name")).await.ok(200);
    assert_eq!(one["port"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn pages_follow_each_other_both_ways() {
    let cloud = Cloud::new().await;
    let alice = cloud.by("alice");
    three(alice).await;
    let follow = |body: &Json, rel: &str| {
        let links = body["ports_links"].as_array().cloned().unwrap_or_default();
        links
            .iter()
            .find(|link| link["rel"] == rel)
            .map(|link| text(&link["href"]).replace("http://localhost/v2.0", ""))
    };
    let names =
        |body: &Json| body["ports"].as_array().unwrap().iter().map(|port| text(&port["name"])).collect::<Vec<_>>();
    let first = alice.get("/ports?limit=2&sort_key=name&sort_dir=asc").await.ok(200);
    assert_eq!(names(&first), ["a", "b"]);
    let second = alice.get(&follow(&first, "next").unwrap()).await.ok(200);
    assert_eq!(names(&second), ["c"]);
    assert!(follow(&second, "next").is_none());
    let back = alice.get(&follow(&second, "previous").unwrap()).await.ok(200);
    assert_eq!(names(&back), ["a", "b"]);
    assert!(alice.get("/ports").await.ok(200).get("ports_links").is_none());
    assert_eq!(alice.get("/ports?limit=x").await.refused(400), "BadRequest");
    let words = alice.get("/ports?sort_key=secret&sort_dir=asc").await.words(400);
    assert_eq!(words, "['secret'] is invalid attribute for sort_keys");
    assert_eq!(alice.get("/ports?limit=1&marker=nosuch").await.refused(404), "PortNotFound");
}
