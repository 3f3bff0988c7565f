//! Flavors, who may use them, and their extra specs.

use api::{Json, json};

use crate::cloud::Cloud;
use crate::fakes::identity::NOWHERE;

fn flavor(name: &str, id: &str) -> Json {
    json!({"flavor": {"name": name, "id": id, "ram": 1024, "vcpus": 2, "disk": 2}})
}

fn names(list: &Json) -> Vec<&str> {
    list["flavors"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_flavor_looks_as_upstream_shows_it_at_each_version() {
    let cloud = Cloud::idle().await;
    let body = json!({"flavor": {
        "name": "m1.mid", "id": "850a0e8a", "ram": 1024, "vcpus": 2, "disk": 2, "swap": 128,
        "OS-FLV-EXT-DATA:ephemeral": 1, "os-flavor-access:is_public": true,
    }});
    let made = cloud.by("admin").at("2.61").post("/v2.1/flavors", body).await.expect(200);
    let links = json!([
        {"rel": "self", "href": "http://controller:8774/v2.1/flavors/850a0e8a"},
        {"rel": "bookmark", "href": "http://controller:8774/flavors/850a0e8a"},
    ]);
    let mut shown = json!({
        "id": "850a0e8a", "name": "m1.mid", "ram": 1024, "disk": 2, "swap": 128, "OS-FLV-EXT-DATA:ephemeral": 1,
        "OS-FLV-DISABLED:disabled": false, "vcpus": 2, "os-flavor-access:is_public": true, "rxtx_factor": 1.0,
        "links": links, "description": null, "extra_specs": {},
    });
    assert_eq!(made.body["flavor"], shown);

    let show = async |version: &str| {
        cloud.by("alice").at(version).get("/v2.1/flavors/850a0e8a").await.expect(200).body["flavor"].clone()
    };
    for key in ["extra_specs", "description"] {
        shown.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(show("2.1").await, shown);
    let newest = show("2.102").await;
    assert!(newest.get("rxtx_factor").is_none() && newest.get("OS-FLV-DISABLED:disabled").is_none(), "{newest}");
    let brief = cloud.by("alice").at("2.55").get("/v2.1/flavors").await.expect(200);
    assert_eq!(
        brief.body["flavors"][1],
        json!({"id": "850a0e8a", "name": "m1.mid", "links": links, "description": null})
    );
}

#[tokio::test]
async fn no_swap_is_empty_text_before_2_75() {
    let cloud = Cloud::idle().await;
    let swap = async |version: &str| {
        cloud.by("alice").at(version).get("/v2.1/flavors/1").await.expect(200).body["flavor"]["swap"].clone()
    };
    assert_eq!(swap("2.74").await, json!(""));
    assert_eq!(swap("2.75").await, json!(0));
}

#[tokio::test]
async fn names_and_ids_are_taken_once() {
    let cloud = Cloud::idle().await;
    let admin = cloud.by("admin");
    let got = admin.post("/v2.1/flavors", flavor("SMALL", "2")).await.expect(409);
    assert_eq!(got.message(), "Flavor with name SMALL already exists.");
    let got = admin.post("/v2.1/flavors", flavor("other", "1")).await.expect(409);
    assert_eq!(got.message(), "Flavor with ID 1 already exists.");
    let body = json!({"flavor": {"name": "q", "ram": "x", "vcpus": 1, "disk": 1}});
    admin.post("/v2.1/flavors", body).await.expect(400);
    admin.post("/v2.1/flavors", flavor(" blank", "3")).await.expect(400);
    admin.post("/v2.1/flavors", flavor("blank", " 3")).await.expect(400);
    let made = admin.post("/v2.1/flavors", flavor("three", "a b.c_d-e")).await.expect(200);
    assert_eq!(made.body["flavor"]["id"], "a b.c_d-e");
    admin.get("/v2.1/flavors/a%20b.c_d-e").await.expect(200);
}

#[tokio::test]
async fn only_an_administrator_makes_and_removes_flavors() {
    let cloud = Cloud::idle().await;
    let got = cloud.by("alice").post("/v2.1/flavors", flavor("mine", "2")).await.expect(403);
    assert_eq!(got.message(), "Policy doesn't allow os_compute_api:os-flavor-manage:create to be performed.");
    cloud.by("alice").delete("/v2.1/flavors/1").await.expect(403);
    cloud.by("alice").at("2.55").put("/v2.1/flavors/1", json!({"flavor": {"description": "x"}})).await.expect(403);
    cloud.by("admin").delete("/v2.1/flavors/1").await.expect(202);
    let got = cloud.by("alice").get("/v2.1/flavors/1").await.expect(404);
    assert_eq!(got.message(), "Flavor 1 could not be found.");
    cloud.by("admin").delete("/v2.1/flavors/1").await.expect(404);
}

#[tokio::test]
async fn a_description_comes_with_2_55() {
    let cloud = Cloud::idle().await;
    let body = json!({"flavor": {"description": "for tests"}});
    cloud.by("admin").at("2.54").put("/v2.1/flavors/1", body.clone()).await.expect(404);
    let got = cloud.by("admin").at("2.55").put("/v2.1/flavors/1", body).await.expect(200);
    assert_eq!(got.body["flavor"]["description"], "for tests");
}

#[tokio::test]
async fn lists_are_sorted_filtered_and_paged() {
    let cloud = Cloud::idle().await;
    for (name, id, ram) in [("big", "9", 4096), ("middle", "5", 2048)] {
        let body = json!({"flavor": {"name": name, "id": id, "ram": ram, "vcpus": 1, "disk": 1}});
        cloud.by("admin").post("/v2.1/flavors", body).await.expect(200);
    }
    let alice = cloud.by("alice");
    let list = async |query: &str| alice.at("2.102").get(&format!("/v2.1/flavors?{query}")).await;
    let found = async |query: &str| {
        names(&list(query).await.expect(200).body).iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found("").await, ["small", "middle", "big"]);
    assert_eq!(found("sort_key=memory_mb&sort_dir=desc").await, ["big", "middle", "small"]);
    assert_eq!(found("sort_key=name").await, ["big", "middle", "small"]);
    assert_eq!(found("minRam=1000").await, ["middle", "big"]);
    assert_eq!(found("name=middle").await, ["middle"]);
    let page = list("limit=1&marker=1").await.expect(200);
    assert_eq!(names(&page.body), ["middle"]);
    let next = page.body["flavors_links"][0]["href"].as_str().unwrap();
    assert_eq!(next, "http://controller:8774/v2.1/flavors?limit=1&marker=5");
    assert_eq!(list("marker=zz").await.expect(400).message(), "marker [zz] not found");
    assert_eq!(list("minRam=x").await.expect(400).message(), "Invalid minRam filter [x]");
    list("sort_key=rxtx_factor").await.expect(400);
    let words = "Additional properties are not allowed ('colour' was unexpected)";
    assert_eq!(list("colour=red").await.expect(400).message(), words);
    alice.at("2.75").get("/v2.1/flavors?name=big").await.expect(400);
    alice.at("2.74").get("/v2.1/flavors?colour=red").await.expect(200);
    alice.at("2.101").get("/v2.1/flavors/1?colour=red").await.expect(200);
    alice.at("2.102").get("/v2.1/flavors/1?colour=red").await.expect(400);
}

#[tokio::test]
async fn a_private_flavor_is_for_those_who_have_access() {
    let cloud = Cloud::idle().await;
    let (admin, alice) = (cloud.by("admin"), cloud.by("alice"));
    let mut body = flavor("private", "p");
    body["flavor"]["os-flavor-access:is_public"] = json!(false);
    admin.post("/v2.1/flavors", body).await.expect(200);
    alice.get("/v2.1/flavors/p").await.expect(404);
    let listed =
        async |query: &str| names(&admin.get(&format!("/v2.1/flavors?is_public={query}")).await.expect(200).body).len();
    assert_eq!((listed("True").await, listed("False").await, listed("None").await), (1, 1, 2));
    admin.get("/v2.1/flavors?is_public=perhaps").await.expect(400);

    let act = async |key: &str, project: &str, flavor: &str| {
        let mut body = json!({});
        body[key] = json!({"tenant": project});
        admin.at("2.7").post(&format!("/v2.1/flavors/{flavor}/action"), body).await
    };
    let got = act("addTenantAccess", "blue", "p").await.expect(200);
    assert_eq!(got.body, json!({"flavor_access": [{"flavor_id": "p", "tenant_id": "blue"}]}));
    alice.get("/v2.1/flavors/p").await.expect(200);
    assert_eq!(names(&alice.get("/v2.1/flavors").await.expect(200).body), ["small", "private"]);
    cloud.by("bob").get("/v2.1/flavors/p").await.expect(404);
    act("addTenantAccess", "blue", "p").await.expect(409);
    act("addTenantAccess", NOWHERE, "p").await.expect(400);
    assert_eq!(
        act("addTenantAccess", "blue", "1").await.expect(409).message(),
        "Can not add access to a public flavor."
    );
    let older = json!({"addTenantAccess": {"tenant": "blue"}});
    admin.at("2.6").post("/v2.1/flavors/1/action", older).await.expect(200);
    assert_eq!(act("removeTenantAccess", "blue", "p").await.expect(200).body, json!({"flavor_access": []}));
    act("removeTenantAccess", NOWHERE, "p").await.expect(404);
    alice.get("/v2.1/flavors/p/os-flavor-access").await.expect(403);
    admin.get("/v2.1/flavors/1/os-flavor-access").await.expect(404);
}

#[tokio::test]
async fn extra_specs_are_set_shown_and_removed() {
    let cloud = Cloud::idle().await;
    let admin = cloud.by("admin").at("2.61");
    const SPECS: &str = "/v2.1/flavors/1/os-extra_specs";
    let body = json!({"extra_specs": {"hw:cpu_policy": "shared", "a": "b"}});
    assert_eq!(admin.post(SPECS, body.clone()).await.expect(200).body, body);
    let one = admin.put(&format!("{SPECS}/a"), json!({"a": "c"})).await.expect(200);
    assert_eq!(one.body, json!({"a": "c"}));
    let got = admin.put(&format!("{SPECS}/a"), json!({"b": "c"})).await.expect(400);
    assert_eq!(got.message(), "Request body and URI mismatch");
    let reader = cloud.by("reader");
    assert_eq!(
        reader.get(&format!("{SPECS}/hw:cpu_policy")).await.expect(200).body,
        json!({"hw:cpu_policy": "shared"})
    );
    assert_eq!(
        reader.get(&format!("{SPECS}/z")).await.expect(404).message(),
        "Flavor 1 has no extra specs with key z."
    );
    cloud.by("alice").delete(&format!("{SPECS}/a")).await.expect(403);
    admin.delete(&format!("{SPECS}/a")).await.expect(200);
    admin.delete(&format!("{SPECS}/a")).await.expect(404);
    assert_eq!(reader.get(SPECS).await.expect(200).body, json!({"extra_specs": {"hw:cpu_policy": "shared"}}));
    admin.post(SPECS, json!({"extra_specs": {"b@d": "x"}})).await.expect(400);
    admin.post("/v2.1/flavors/none/os-extra_specs", json!({"extra_specs": {"a": "x"}})).await.expect(404);
}

#[tokio::test]
async fn known_extra_specs_are_checked_from_2_86() {
    let cloud = Cloud::idle().await;
    let set = async |version: &str, key: &str, value: &str| {
        let mut body = json!({"extra_specs": {}});
        body["extra_specs"][key] = json!(value);
        cloud.by("admin").at(version).post("/v2.1/flavors/1/os-extra_specs", body).await
    };
    set("2.85", "hw:cpu_policy", "sometimes").await.expect(200);
    let got = set("2.86", "hw:cpu_policy", "sometimes").await.expect(400);
    assert_eq!(got.message(), "Validation failed; 'sometimes' is not one of: dedicated, shared, mixed.");
    let got = set("2.86", "hw:colour", "red").await.expect(400);
    assert_eq!(got.message(), "Validation failed; extra spec 'hw:colour' does not appear to be a valid extra spec.");
    for (key, value) in [("colour", "red"), ("mine:colour", "red"), ("trait:HW_CPU_X86_AVX2", "required")] {
        set("2.86", key, value).await.expect(200);
    }
    for (key, value) in [("resources:VGPU", "1"), ("resources2:CUSTOM_GOLD", "1"), ("trait:CUSTOM_X", "forbidden")] {
        set("2.86", key, value).await.expect(200);
    }
    for (key, value) in [("resources:VGPU", "one"), ("resources:GPU", "1"), ("trait:NONE", "required")] {
        set("2.86", key, value).await.expect(400);
    }
}

#[tokio::test]
async fn specs_set_at_the_same_time_are_all_kept() {
    let cloud = Cloud::idle().await;
    let set = async |key: &str| {
        let mut body = json!({"extra_specs": {}});
        body["extra_specs"][key] = json!("1");
        cloud.by("admin").post("/v2.1/flavors/1/os-extra_specs", body).await.expect(200)
    };
    tokio::join!(set("a"), set("b"), set("c"), set("d"));
    let got = cloud.by("admin").get("/v2.1/flavors/1/os-extra_specs").await.expect(200);
    assert_eq!(got.body["extra_specs"].as_object().unwrap().len(), 4);
}
