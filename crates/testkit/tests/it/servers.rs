//! Servers, from a request to a guest on a host and back to nothing.

use testkit::{Cloud, FakeBehaviour, Method, Plan, expect, json};

#[tokio::test]
async fn a_server_boots_and_leaves_nothing_behind() {
    let cloud = Cloud::new().await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;

    let id = alice.boot("web", &world).await;
    let server = alice.server(&id).await;
    assert_eq!(server["name"], "web");
    let address = server["addresses"]["private"][0]["addr"].as_str().unwrap();
    assert!(address.starts_with("10.0.0."), "{address}");
    assert_eq!(cloud.host("host-1").guests().await, std::slice::from_ref(&id));
    let port = &alice.network().get(&format!("/ports?device_id={id}")).await.ok(200)["ports"][0];
    assert_eq!((&port["status"], &port["binding:host_id"]), (&json!("ACTIVE"), &json!(null)));

    alice.delete_server(&id).await;
    cloud.until("the host is empty", async || cloud.host("host-1").guests().await.is_empty()).await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_fits_nowhere_says_why() {
    let cloud = Cloud::with(Plan { hosts: Vec::new(), ..Plan::default() }).await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    let id = alice.ask_for_server("web", &world).await;
    let server = alice.until(&id, "ERROR").await;
    expect!["No valid host was found. There is no host."].assert_eq(server["fault"]["message"].as_str().unwrap());
    alice.delete_server(&id).await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_is_too_large_says_so_and_holds_nothing() {
    let cloud = Cloud::new().await;
    let alice = cloud.member("alice").await;
    let mut world = alice.world().await;
    let flavor = json!({"flavor": {"id": "huge", "name": "huge", "vcpus": 1, "ram": 1 << 30, "disk": 1}});
    cloud.admin().await.compute(2, 1).post("/flavors", &flavor).await.ok(200);
    cloud
        .admin()
        .await
        .compute(2, 1)
        .put(&format!("/os-quota-sets/{}", alice.project_id), &json!({"quota_set": {"ram": -1}}))
        .await
        .ok(200);
    world.flavor = "huge".to_string();
    let id = alice.ask_for_server("web", &world).await;
    let server = alice.until(&id, "ERROR").await;
    // Later: a project should not be told the names and the free memory of hosts; only an administrator should.
    let words = expect!["No valid host was found. host-1: MEMORY_MB: 1073741824 wanted, 261632 of 261632 free"];
    words.assert_eq(server["fault"]["message"].as_str().unwrap());
    cloud.settled().await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_host_that_refuses_leaves_the_server_in_error_and_nothing_behind() {
    let cloud = Cloud::new().await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    let refuse = Some("there is no room".to_string());
    cloud.host("host-1").behave(FakeBehaviour { refuse, ..FakeBehaviour::default() });
    let id = alice.ask_for_server("web", &world).await;
    let server = alice.until(&id, "ERROR").await;
    assert!(server["fault"]["message"].as_str().unwrap().contains("there is no room"), "{}", server["fault"]);
    cloud.settled().await;
    alice.delete_server(&id).await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_host_that_loses_answers_boots_servers_all_the_same() {
    let cloud = Cloud::new().await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    cloud.host("host-1").behave(FakeBehaviour { lose_every: 2, fail: 2, ..FakeBehaviour::default() });
    let id = alice.boot("web", &world).await;
    alice.delete_server(&id).await;
    cloud.until("the host is empty", async || cloud.host("host-1").guests().await.is_empty()).await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_request_keeps_its_id_from_service_to_service() {
    let cloud = Cloud::new().await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    let id = alice.boot("web", &world).await;
    let compute = alice.compute(2, 1);
    let request = compute.request(Method::POST, &format!("/servers/{id}/action")).json(&json!({"os-stop": null}));
    let reply =
        compute.send(request.header("x-openstack-request-id", "req-7b3d1c0e-2f0a-4b55-9d9a-4c1be0f6a001")).await;
    let own = reply.header("x-openstack-request-id").to_string();
    reply.ok(202);
    assert!(own.starts_with("req-") && own != "req-7b3d1c0e-2f0a-4b55-9d9a-4c1be0f6a001");
    alice.until(&id, "SHUTOFF").await;
}

#[tokio::test]
async fn other_projects_do_not_see_a_server() {
    let cloud = Cloud::new().await;
    let (alice, bob) = (cloud.member("alice").await, cloud.member("bob").await);
    let world = alice.world().await;
    let id = alice.boot("web", &world).await;
    let path = format!("/servers/{id}");
    bob.compute(2, 1).get(&path).await.ok(404);
    bob.compute(2, 1).delete(&path).await.ok(404);
    assert_eq!(bob.compute(2, 1).get("/servers").await.ok(200), json!({"servers": []}));
    assert_eq!(bob.network().get("/ports").await.ok(200), json!({"ports": []}));
    bob.image().get(&format!("/images/{}", world.image)).await.ok(404);
}

#[tokio::test]
async fn two_controllers_are_one_cloud() {
    let cloud = Cloud::with(Plan { controllers: 2, ..Plan::default() }).await;
    let alice = cloud.member("alice").await;
    let second = alice.clone().at(1);
    let world = second.world().await;
    let one = alice.boot("one", &world).await;
    let two = second.boot("two", &world).await;
    assert_eq!(alice.server(&two).await["status"], "ACTIVE");
    second.delete_server(&one).await;
    alice.delete_server(&two).await;
    cloud.until("the host is empty", async || cloud.host("host-1").guests().await.is_empty()).await;
    assert_eq!(cloud.leaks().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_controller_finishes_what_another_one_began() {
    let mut cloud = Cloud::with(Plan { controllers: 2, ..Plan::default() }).await;
    cloud.controllers[0].stop_flows();
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    let id = alice.boot("web", &world).await;
    assert_eq!(cloud.host("host-1").guests().await, [id]);
}
