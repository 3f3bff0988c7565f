//! Everything is sent what makes no sense, by somebody who may do anything. Nothing of it is our failure.

use api::{Content, JsonMap, Method, Request};
use testkit::tables::{self, Row};
use testkit::{Cloud, Json, Member, Plan, Reply, World, json};

/// A cloud with one of everything that nonsense could be sent about.
struct Stage<'a> {
    admin: Member<'a>,
    world: World,
    server: String,
    port: String,
}

impl<'a> Stage<'a> {
    async fn new(cloud: &'a Cloud) -> Stage<'a> {
        let admin = cloud.admin().await;
        let world = admin.world().await;
        let server = admin.boot("web", &world).await;
        let ports = admin.network().get(&format!("/ports?device_id={server}")).await.ok(200);
        let port = ports["ports"][0]["id"].as_str().unwrap().to_string();
        Stage { admin, world, server, port }
    }

    /// Something real where there is something.
    fn real(&self, before: &str) -> String {
        match before {
            "servers" => self.server.clone(),
            "images" => self.world.image.clone(),
            "networks" | "os-networks" => self.world.network.clone(),
            "subnets" => self.world.subnet.clone(),
            "ports" => self.port.clone(),
            "flavors" => self.world.flavor.clone(),
            "projects" | "os-quota-sets" | "quotas" => self.admin.project_id.clone(),
            "users" => self.admin.user_id.clone(),
            "domains" => "default".to_string(),
            _ => "6d1c1d3c-9a3e-4a3a-8f0c-0a4cf7d9a001".to_string(),
        }
    }

    fn request(&self, row: &Row, target: &str) -> Request {
        let request = Request::new(row.method.parse::<Method>().unwrap(), target);
        let request = request.header("x-auth-token", &self.admin.token).header("accept", "application/json");
        match &row.version {
            Some(version) => request.header("openstack-api-version", version),
            None => request,
        }
    }

    async fn send(&self, row: &Row, request: Request) -> Reply {
        let endpoint = self.admin.cloud.controllers[0].endpoint(row.service);
        Reply::read(endpoint.call(request).await).await
    }

    /// The target, about real things unless they would be gone afterwards.
    fn target(&self, row: &Row) -> String {
        let harmful = row.method == "DELETE" || row.action.is_some_and(|action| action.contains("elete"));
        row.target(|before| if harmful { self.real("") } else { self.real(before) })
    }
}

/// Rows whose bodies are read as JSON.
fn with_bodies() -> Vec<Row> {
    let all = tables::all();
    let harmless = |row: &Row| !row.path.contains("/password");
    all.into_iter().filter(|row| matches!(row.method.as_str(), "POST" | "PUT" | "PATCH") && harmless(row)).collect()
}

/// What came back, when it is our failure.
fn failure(row: &Row, what: &str, reply: &Reply) -> Option<String> {
    let text = String::from_utf8_lossy(&reply.body);
    let text: String = text.chars().take(200).collect();
    (reply.status >= 500).then(|| format!("{} {}, {what}: {text}", reply.status, row.name()))
}

fn assert_none(failures: &[String]) {
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let mut failures = Vec::new();
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for row in with_bodies() {
        for (what, text) in [
            ("half", "{\"x\": "),
            ("text", "nonsense"),
            ("bytes", "\u{0}\u{1}\u{fffd}"),
            ("deep", &deep),
            ("two", "{}{}"),
        ] {
            let content = Content::Bytes(text.to_string().into());
            let request = Request { content, ..stage.request(&row, &stage.target(&row)) };
            let reply = stage.send(&row, request.header("content-type", "application/json")).await;
            failures.extend(failure(&row, what, &reply));
            if row.schema.is_some() && !(400..500).contains(&reply.status) {
                failures.push(format!("{} {}, {what}", reply.status, row.name()));
            }
        }
    }
    assert_none(&failures);
}

#[tokio::test]
async fn values_of_the_wrong_type_are_refused() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let mut failures = Vec::new();
    for row in with_bodies() {
        for body in [json!(null), json!([]), json!("x"), json!(7), json!({}), json!({"x": null}), json!([{}, []])] {
            let reply = stage.send(&row, stage.request(&row, &stage.target(&row)).json(&body)).await;
            failures.extend(failure(&row, &body.to_string(), &reply));
        }
        for (what, body) in wrong_types(&row) {
            let reply = stage.send(&row, stage.request(&row, &stage.target(&row)).json(&body)).await;
            failures.extend(failure(&row, &what, &reply));
        }
    }
    assert_none(&failures);
}

#[tokio::test]
async fn text_that_is_too_long_or_not_to_be_kept_is_refused() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let mut failures = Vec::new();
    let long = "x".repeat(100_000);
    for row in with_bodies() {
        for (what, text) in
            [("long", long.as_str()), ("NUL", "a\u{0}b"), ("odd", "\u{1f4a9}\u{202e}'\"\\%_;--"), ("empty", "")]
        {
            for (key, body) in with_text(&row, text) {
                let reply = stage.send(&row, stage.request(&row, &stage.target(&row)).json(&body)).await;
                failures.extend(failure(&row, &format!("{what} in {key}"), &reply));
            }
        }
    }
    assert_none(&failures);
}

#[tokio::test]
async fn names_in_paths_may_be_anything() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let mut failures = Vec::new();
    let long = "x".repeat(10_000);
    for row in tables::all().iter().filter(|row| row.path.contains('{')) {
        for (what, name) in [
            ("long", long.as_str()),
            ("NUL", "a%00b"),
            ("no text", "%ff%fe"),
            ("odd", "%27%22;--%25"),
            ("number", "99999999999999999999"),
        ] {
            let body = row.body();
            let request = stage.request(row, &row.target(|_| name.to_string()));
            let request = if row.method == "GET" || row.method == "HEAD" { request } else { request.json(&body) };
            let reply = stage.send(row, request).await;
            failures.extend(failure(row, what, &reply));
        }
    }
    assert_none(&failures);
}

#[tokio::test]
async fn queries_may_be_anything() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let mut failures = Vec::new();
    let long = format!("name={}", "x".repeat(20_000));
    let queries = [
        "limit=-1",
        "limit=x",
        "limit=99999999999999999999",
        "limit=0",
        "limit=1&limit=2",
        "marker=%00",
        "marker=nosuch",
        "marker=%27&limit=1",
        "sort_key=%22;--&sort_dir=asc",
        "sort_key=id",
        "sort_dir=desc",
        "sort=x:y:z",
        "sort=%00",
        "page_reverse=maybe",
        "fields=%ff",
        "name=%00",
        "name=%27%20OR%201=1--",
        "name=%f0%9f%92%a9",
        "=",
        "&&&",
        "%",
        "name",
        "changes-since=yesterday",
        "changes-before=1",
        "created_at=gt:x",
        "updated_at=in:,",
        "id=99999999999999999999",
        "enabled=2",
        "all_tenants=x",
        "ip=%5b",
        "ip6=(",
        "status=99",
        "deleted=x",
        "tags=%00",
        "tags=a,b",
        "name__contains=%25",
        "member_of=x",
        "in_tree=x",
        "resources=x",
        "resources=VCPU:99999999999999999999",
        "required=%00",
        "size_min=x",
        "tag=",
        "start=x&end=y",
        "detailed=9",
        "binary=x",
        "reserved=x",
        "user_id=%ff",
        "host=%27",
        "fixed_ips=x",
        "changed_since=x",
        &long,
    ];
    for row in tables::all().iter().filter(|row| row.method == "GET") {
        for query in queries {
            let target = format!("{}?{query}", stage.target(row));
            let reply = stage.send(row, stage.request(row, &target)).await;
            let shown: String = query.chars().take(60).collect();
            failures.extend(failure(row, &shown, &reply));
        }
    }
    assert_none(&failures);
}

/// The body that fits, with one value after the other replaced by some of another type or size.
fn wrong_types(row: &Row) -> Vec<(String, Json)> {
    let Some(schema) = &row.schema else { return Vec::new() };
    let odd = [
        json!(null),
        json!(true),
        json!(-1),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1e300),
        json!(1.5),
        json!([]),
        json!({}),
        json!([[]]),
        json!([{}]),
        json!([null]),
        json!({"a": {"b": []}}),
        json!(""),
        json!([1, "x"]),
        json!({"": ""}),
    ];
    let mut bodies = Vec::new();
    for key in properties(schema) {
        for value in &odd {
            bodies.push((format!("{key} = {value}"), replaced(row, schema, &key, value.clone())));
        }
    }
    bodies
}

fn with_text(row: &Row, text: &str) -> Vec<(String, Json)> {
    match &row.schema {
        Some(schema) => {
            let keys = properties(schema).into_iter();
            let one = |key: String| {
                [json!(text), json!([text]), json!({text: text})]
                    .map(|value| (key.clone(), replaced(row, schema, &key, value)))
            };
            keys.flat_map(one).collect()
        }
        None => vec![("everything".to_string(), json!({text: text})), ("text".to_string(), json!(text))],
    }
}

/// The keys of the inner object.
fn properties(schema: &Json) -> Vec<String> {
    let inner = inner(schema);
    inner["properties"].as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
}

/// Below the one key of the envelope, where there is one.
fn inner(schema: &Json) -> &Json {
    let one = schema["properties"].as_object().filter(|map| map.len() == 1).and_then(|map| map.values().next());
    one.filter(|only| only["properties"].is_object()).unwrap_or(schema)
}

fn replaced(row: &Row, schema: &Json, key: &str, value: Json) -> Json {
    let mut body: JsonMap = tables::sample(inner(schema)).as_object().cloned().unwrap_or_default();
    body.insert(key.to_string(), value);
    let envelope = schema["properties"].as_object().filter(|map| map.len() == 1).and_then(|map| map.keys().next());
    let body = match envelope {
        Some(envelope) if schema["properties"][envelope]["properties"].is_object() => json!({envelope: body}),
        _ => Json::Object(body),
    };
    match row.action {
        Some(action) => json!({action: body}),
        None => body,
    }
}

/// Collections of network whose rows have attributes of any kind, and how to make one.
const OF_NETWORK: &[(&str, &str)] = &[
    ("networks", ""),
    ("subnets", ""),
    ("ports", ""),
    ("security-groups", ""),
    ("security-group-rules", ""),
    ("routers", r#"{"router": {"name": "r"}}"#),
    ("address-scopes", r#"{"address_scope": {"name": "s", "ip_version": 4}}"#),
    ("subnetpools", r#"{"subnetpool": {"name": "p", "prefixes": ["10.7.0.0/16"], "default_prefixlen": 24}}"#),
    ("agents", ""),
    ("rbac-policies", ""),
    ("quotas", ""),
];

fn odd_values() -> Vec<Json> {
    let mut odd: Vec<Json> = serde_json::from_str(
        r#"[null, true, -1, 0, 1, 4, 9223372036854775807, 18446744073709551615, 1e300, 1.5, "", "x", [], {}, [[]], [{}], [null],
            {"a": {"b": []}}, [1, "x"], {"": ""}, "10.0.0.0/99", "300.0.0.1", "::/0", "fe80::1%eth0", "10.0.0.1/0",
            [{"ip_address": 1}], [{"subnet_id": null}], [{"start": "10.0.0.9", "end": "x"}], {"network_id": {}},
            {"network_id": "x", "external_fixed_ips": [{}]}, [{"destination": 1, "nexthop": []}], "a\u0000b",
            [{"opt_name": 5, "opt_value": {}}], [{"ip_address": "10.0.0.0/8", "mac_address": 1}], "ff:ff:ff:ff:ff:ff", "65536:1"]"#,
    )
    .unwrap();
    odd.push(json!("x".repeat(5_000)));
    odd.push(json!(["x".repeat(5_000)]));
    odd
}

#[tokio::test]
async fn attributes_of_networks_may_be_anything() {
    let cloud = Cloud::with(Plan::default()).await;
    let stage = Stage::new(&cloud).await;
    let network = stage.admin.network();
    let mut failures = Vec::new();
    let mut tried = 0;
    for (collection, make) in OF_NETWORK {
        if !make.is_empty() {
            network.post(&format!("/{collection}"), &serde_json::from_str(make).unwrap()).await.ok(201);
        }
        let list = network.get(&format!("/{collection}")).await.ok(200);
        let Some(row) = list.as_object().unwrap().values().next().and_then(|rows| rows.get(0)).cloned() else {
            continue;
        };
        let path = format!("/{collection}/{}", row["id"].as_str().unwrap_or("x"));
        let shown = network.get(&path).await.json();
        let one = shown.as_object().and_then(|shown| shown.keys().next()).cloned().unwrap_or_default();
        for key in row.as_object().unwrap().keys() {
            for value in odd_values() {
                let mut new = json!({one.clone(): {key.clone(): value}});
                let put = network.put(&path, &new).await;
                // What a new one of this kind needs, so that the odd value is looked at.
                for needed in ["network_id", "cidr", "ip_version", "name", "prefixes", "security_group_id", "direction"]
                {
                    if needed != key && row.get(needed).is_some() {
                        new[one.as_str()][needed] = row[needed].clone();
                    }
                }
                let posted = network.post(&format!("/{collection}"), &new).await;
                tried += 2;
                for (verb, reply) in [("PUT", put), ("POST", posted)] {
                    if reply.status >= 500 {
                        let text: String = new.to_string().chars().take(200).collect();
                        failures.push(format!("{} {verb} {path}: {text}", reply.status));
                    }
                }
            }
        }
    }
    assert!(tried > 5_000, "only {tried} tried");
    assert_none(&failures);
}

#[tokio::test]
async fn patches_of_images_may_be_anything() {
    let cloud = Cloud::with(Plan { hosts: Vec::new(), ..Plan::default() }).await;
    let admin = cloud.admin().await;
    let image = admin.image();
    let id = admin.make_image().await;
    let shown = image.get(&format!("/images/{id}")).await.ok(200);
    let mut failures = Vec::new();
    for key in shown.as_object().unwrap().keys().map(String::as_str).chain(["new", "", "a/b", "~1", "locations/0/url"])
    {
        for op in ["add", "replace", "remove", "test", "move", "x"] {
            for value in odd_values() {
                let patch = json!([{"op": op, "path": format!("/{key}"), "value": value}]);
                let request = image.request(Method::PATCH, &format!("/images/{id}")).json(&patch);
                let reply =
                    image.send(request.header("content-type", "application/openstack-images-v2.1-json-patch")).await;
                if reply.status >= 500 {
                    failures.push(format!("{} {patch}", reply.status));
                }
                let made = image.post("/images", &json!({key: value})).await;
                if made.status >= 500 {
                    failures.push(format!("{} POST {key} = {value}", made.status));
                }
            }
        }
    }
    assert_none(&failures);
}
