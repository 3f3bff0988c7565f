//! Booting and deleting servers.

use api::json;
use contract::guest::State;

use crate::cloud::{Cloud, new_server};

#[tokio::test]
async fn a_server_boots_with_a_port_and_a_claim() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = cloud.boot("web").await;

    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ACTIVE", "{server}");
    assert_eq!(server["OS-EXT-SRV-ATTR:host"], "h1");
    assert_eq!(server["OS-EXT-STS:task_state"], json!(null));
    assert_eq!(server["addresses"]["private"][0]["addr"], "10.0.0.11");
    assert_eq!(server["security_groups"], json!([{"name": "default"}]));
    assert_eq!(host.guest(&id).unwrap().1, State::Running);
    assert_eq!(cloud.leaks().len(), 2, "one claim and one port");
}

#[tokio::test]
async fn a_deleted_server_leaves_nothing() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    cloud.settled().await;

    cloud.by("alice").get(&format!("/v2.1/servers/{id}")).await.expect(404);
    assert_eq!(cloud.leaks(), [""; 0]);
    assert_eq!(host.guests(), [""; 0]);
    let gone = cloud.by("admin").get("/v2.1/servers/detail?deleted=1&all_tenants=1").await.expect(200);
    assert_eq!(gone.body["servers"][0]["status"], "DELETED");
}

#[tokio::test]
async fn when_no_host_fits_the_fault_names_each_and_what_it_lacked() {
    let cloud = Cloud::new().await;
    let (_one, _two) = (cloud.host("h1").await, cloud.host("h2").await);
    let flavor = json!({"flavor": {"name": "huge", "id": "9", "ram": 16384, "vcpus": 1, "disk": 1}});
    cloud.by("admin").post("/v2.1/flavors", flavor).await.expect(200);
    let service = cloud.by("admin").at("2.53").get("/v2.1/os-services").await.expect(200);
    let second = service.body["services"].as_array().unwrap().iter().find(|row| row["host"] == "h2").unwrap().clone();
    let path = format!("/v2.1/os-services/{}", second["id"].as_str().unwrap());
    let body = json!({"status": "disabled", "disabled_reason": "broken fan"});
    cloud.by("admin").at("2.53").put(&path, body).await.expect(200);

    let mut body = new_server("web");
    body["server"]["flavorRef"] = json!("9");
    let got = cloud.by("alice").post("/v2.1/servers", body).await.expect(202);
    cloud.settled().await;

    let server = cloud.server(got.body["server"]["id"].as_str().unwrap()).await;
    assert_eq!(server["status"], "ERROR");
    let message = server["fault"]["message"].as_str().unwrap();
    assert!(message.starts_with("No valid host was found."), "{message}");
    assert!(message.contains("h1") && message.contains("MEMORY_MB: 16384 wanted"), "{message}");
    assert!(message.contains("h2") && message.contains("broken fan"), "{message}");
    assert_eq!(cloud.leaks(), [""; 0]);
}

#[tokio::test]
async fn a_lost_claim_is_made_on_another_host() {
    let cloud = Cloud::new().await;
    let (_one, _two) = (cloud.host("h1").await, cloud.host("h2").await);
    cloud.placement.refuse_claims(3);
    let id = cloud.boot("web").await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
}

#[tokio::test]
async fn what_a_host_or_network_refuses_is_the_servers_fault_and_leaves_nothing() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    cloud.network.refuse_ports(Some("No more IP addresses available on network x."));
    let id = cloud.boot("web").await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ERROR");
    assert_eq!(server["fault"]["message"], "No more IP addresses available on network x.");
    assert_eq!(cloud.leaks(), [""; 0]);

    cloud.network.refuse_ports(None);
    host.refuse("the image cannot be read");
    let id = cloud.boot("web").await;
    let server = cloud.server(&id).await;
    assert_eq!(server["status"], "ERROR");
    assert_eq!(server["fault"]["message"], "the image cannot be read");
    assert_eq!(server["OS-EXT-SRV-ATTR:host"], json!(null));
    assert_eq!(cloud.leaks(), [""; 0]);
    assert_eq!(host.guests(), [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_being_made_can_be_deleted() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    host.stick(true);
    let id = cloud.ask_for_server("web").await;
    cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    host.stick(false);
    cloud.settled().await;
    cloud.by("alice").get(&format!("/v2.1/servers/{id}")).await.expect(404);
    assert_eq!(cloud.leaks(), [""; 0]);
    assert_eq!(host.guests(), [""; 0]);
}

#[tokio::test]
async fn a_server_of_a_lost_host_can_be_deleted_and_the_host_is_told_when_it_returns() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    host.stick(true);
    let services = cloud.by("admin").at("2.53").get("/v2.1/os-services?host=h1").await.expect(200);
    let path = format!("/v2.1/os-services/{}", services.body["services"][0]["id"].as_str().unwrap());
    cloud.by("admin").at("2.53").put(&path, json!({"forced_down": true})).await.expect(200);

    cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    cloud.settled().await;
    assert_eq!(cloud.leaks(), [""; 0]);
    assert_eq!(host.guests(), std::slice::from_ref(&id));
    host.stick(false);
    crate::cloud::soon(|| host.guests().is_empty()).await;
}

#[tokio::test]
async fn ports_that_a_user_brought_survive_the_server() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let port = cloud.network.free_port();
    let mut body = new_server("web");
    body["server"]["networks"] = json!([{"uuid": crate::fakes::network::PRIVATE}, {"port": port}]);
    let got = cloud.by("alice").post("/v2.1/servers", body).await.expect(202);
    cloud.settled().await;
    let id = got.body["server"]["id"].as_str().unwrap();
    let server = cloud.server(id).await;
    assert_eq!(server["addresses"]["private"].as_array().unwrap().len(), 2, "{server}");
    assert_eq!(cloud.network.ports_of_servers().len(), 2);

    cloud.by("alice").delete(&format!("/v2.1/servers/{id}")).await.expect(204);
    cloud.settled().await;
    assert_eq!(cloud.leaks(), [""; 0]);
    let kept = cloud.network.row("ports", &port).unwrap();
    assert_eq!(kept["device_id"], "");
    assert_eq!(kept["binding:host_id"], "");
}

#[tokio::test]
async fn more_servers_than_the_quota_are_refused() {
    let cloud = Cloud::new().await;
    let mut body = new_server("web");
    body["server"]["min_count"] = json!(11);
    let got = cloud.by("alice").post("/v2.1/servers", body).await.expect(403);
    assert!(got.message().contains("Quota exceeded for instances: Requested 11"), "{}", got.message());
}

#[tokio::test]
async fn a_guest_that_stops_or_dies_by_itself_is_seen() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    host.becomes(&id, State::Crashed);
    cloud.until(&id, "SHUTOFF").await;
    assert_eq!(cloud.server(&id).await["OS-EXT-STS:power_state"], 6);
    cloud.by("alice").act(&id, json!({"os-start": null})).await.expect(202);
    cloud.settled().await;
    assert_eq!(cloud.server(&id).await["status"], "ACTIVE");
    host.becomes(&id, State::Stopped);
    cloud.until(&id, "SHUTOFF").await;
}

#[tokio::test]
async fn a_guest_waits_until_network_has_wired_it() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    cloud.network.stop_wiring();
    let id = cloud.ask_for_server("web").await;
    crate::cloud::soon(|| host.guest(&id).is_some_and(|(_, state)| state == State::Held)).await;
    assert_eq!(cloud.server(&id).await["status"], "BUILD");
    assert_eq!(cloud.server(&id).await["OS-EXT-STS:task_state"], "spawning");

    cloud.network.start_wiring();
    cloud.until(&id, "ACTIVE").await;
    assert_eq!(host.guest(&id).unwrap().1, State::Running);
}

#[tokio::test]
async fn an_image_that_does_not_fit_its_flavor_is_refused() {
    let cloud = Cloud::new().await;
    let large = base::id::uuid();
    cloud.images.add(&large, json!({"min_ram": 1024}));
    let mut body = new_server("web");
    body["server"]["imageRef"] = json!(large);
    let got = cloud.by("alice").post("/v2.1/servers", body.clone()).await.expect(400);
    assert_eq!(got.message(), "Flavor's memory is too small for requested image.");
    cloud.images.add(&large, json!({"virtual_size": 2_i64 << 30}));
    let got = cloud.by("alice").post("/v2.1/servers", body.clone()).await.expect(400);
    assert!(got.message().starts_with("Flavor's disk is too small for requested image."), "{}", got.message());
    cloud.images.add(&large, json!({"status": "queued"}));
    cloud.by("alice").post("/v2.1/servers", body).await.expect(400);
}
