//! Somebody without any role, from another project, asks for everything.

use std::sync::Arc;

use api::{Caller, Endpoint, Method, Request};
use testkit::tables::{self, Row};
use testkit::{Cloud, Json, Plan, Reply};

/// Asks as `caller`, with a body that fits as far as the table knows.
async fn ask(cloud: &Cloud, row: &Row, caller: &Arc<Caller>, target: &str, body: Option<&Json>) -> Reply {
    let endpoint: &Arc<dyn Endpoint> = cloud.controllers[0].endpoint(row.service);
    let mut request = Request::new(row.method.parse::<Method>().unwrap(), target).header("accept", "application/json");
    if let Some(version) = &row.version {
        request = request.header("openstack-api-version", version);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    Reply::read(endpoint.call(Request { caller: Some(caller.clone()), ..request }).await).await
}

#[tokio::test]
async fn a_stranger_gets_nothing() {
    let cloud = Cloud::with(Plan::default()).await;
    let alice = cloud.member("alice").await;
    let world = alice.world().await;
    let server = alice.boot("web", &world).await;
    let stranger = Arc::new(Caller {
        user_id: "5712a4c2e3f54a7e9c8d7b6a5f4e3d2c".into(),
        user_domain_id: "0a4e7c9b8d6f4c3e2b1a0f9e8d7c6b5a".into(),
        project_id: Some("bfa3c1d2e4f54b6c8d7e9f0a1b2c3d4e".into()),
        ..Caller::default()
    });
    let real = |before: &str| match before {
        "servers" => server.clone(),
        "images" => world.image.clone(),
        "networks" | "os-networks" => world.network.clone(),
        "subnets" => world.subnet.clone(),
        "flavors" => world.flavor.clone(),
        "projects" | "os-quota-sets" | "quotas" => alice.project_id.clone(),
        "users" => alice.user_id.clone(),
        "domains" => "default".to_string(),
        _ => "6d1c1d3c-9a3e-4a3a-8f0c-0a4cf7d9a001".to_string(),
    };
    let (mut served, mut failed) = (Vec::new(), Vec::new());
    for row in tables::all().iter().filter(|row| row.rule.is_some()) {
        let body = matches!(row.method.as_str(), "POST" | "PUT" | "PATCH").then(|| row.body());
        let reply = ask(&cloud, row, &stranger, &row.target(real), body.as_ref()).await;
        match reply.status {
            200..300 => {
                let text = String::from_utf8_lossy(&reply.body);
                for secret in
                    [&server, &world.image, &world.network, &world.subnet, &alice.user_id, &"host-1".to_string()]
                {
                    assert!(!text.contains(secret), "{} tells a stranger {secret}: {text}", row.name());
                }
                served.push(format!("{} {}", reply.status, row.name()));
            }
            400..500 => {}
            status => failed.push(format!("{status} {}", row.name())),
        }
    }
    assert_eq!(failed, Vec::<String>::new());
    let served = served.join("\n") + "\n";
    expect_test::expect_file!["open_to_strangers.txt"].assert_eq(&served);
    // Nothing has happened to what is Alice's.
    assert_eq!(alice.server(&server).await["status"], "ACTIVE");
}

#[tokio::test]
async fn without_a_token_only_public_operations_answer() {
    let cloud = Cloud::with(Plan { hosts: Vec::new(), ..Plan::default() }).await;
    let mut wrong = Vec::new();
    for row in tables::all().iter().filter(|row| !row.public) {
        let mut request = Request::new(row.method.parse::<Method>().unwrap(), &row.target(|_| "x".into()));
        if let Some(version) = &row.version {
            request = request.header("openstack-api-version", version);
        }
        let request = request.json(&row.body());
        let status = cloud.controllers[0].endpoint(row.service).call(request).await.status.as_u16();
        if status != 401 {
            wrong.push(format!("{status} {}", row.name()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_there_yet_says_so() {
    let cloud = Cloud::with(Plan { hosts: Vec::new(), ..Plan::default() }).await;
    let admin = cloud.admin().await;
    let mut wrong = Vec::new();
    for (service, method, path, action) in tables::missing() {
        let path: Vec<&str> = path
            .split('?')
            .next()
            .unwrap()
            .split('/')
            .map(|segment| if segment.starts_with('{') { "1" } else { segment })
            .collect();
        let mut request = Request::new(method.parse::<Method>().unwrap(), &path.join("/"));
        request = request.header("x-auth-token", &admin.token).header("accept", "application/json");
        request = match service {
            "compute" => request.header("openstack-api-version", "compute 2.1"),
            _ => request,
        };
        if let Some(action) = &action {
            request = request.json(&testkit::json!({action: {}}));
        }
        let reply = Reply::read(cloud.controllers[0].endpoint(service).call(request).await).await;
        let body = reply.json();
        let shaped = match service {
            "compute" => body["notImplemented"]["code"] == 501,
            "identity" => body["error"]["code"] == 501,
            "image" => body["code"] == "501 Not Implemented",
            "network" => body["NeutronError"]["type"] == "HTTPNotImplemented",
            _ => body["errors"][0]["status"] == 501,
        };
        if reply.status != 501 || !(shaped || method == "HEAD") {
            wrong.push(format!("{} {service} {method} {} {action:?}: {body}", reply.status, path.join("/")));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
