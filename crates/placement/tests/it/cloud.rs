//! A placement service of its own for one test, and people who use it.

use std::sync::Arc;

use api::message::{BoxFuture, HeaderMap};
use api::{App, AuthError, Authenticator, Caller, Content, Endpoint, Json, Method, Request, json};
use db::{Db, Options};
use placement::{Placement, SCHEMA, Settings};

pub struct Cloud {
    pub app: Arc<App<Placement>>,
    pub db: Db,
    _files: Arc<engines::TestDb>,
}

/// Tokens are names: `admin`, `service`, `reader` of project `blue`, `nobody`.
struct People;

impl Authenticator for People {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        let roles: &[&str] = match token {
            "admin" => &["admin", "manager", "member", "reader"],
            "service" => &["service"],
            "reader" => &["reader"],
            "nobody" => &[],
            _ => return Box::pin(async { Err(AuthError::Invalid) }),
        };
        let caller = Caller {
            user_id: token.to_string(),
            project_id: Some("blue".to_string()),
            roles: roles.iter().map(|role| role.to_string()).collect(),
            ..Caller::default()
        };
        Box::pin(async move { Ok(Arc::new(caller)) })
    }

    fn public_url(&self) -> Option<String> {
        Some("http://controller:5000/v3".to_string())
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Json,
}

impl Reply {
    /// The body, if the status is as expected.
    #[track_caller]
    pub fn is(self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The reason of a refusal with this status.
    #[track_caller]
    pub fn why(self, status: u16) -> String {
        let body = self.is(status);
        let detail = body["errors"][0]["detail"].as_str().unwrap_or_default();
        detail.split_once("\n\n ").map_or(detail, |(_, why)| why).trim_end().to_string()
    }

    /// The code of a refusal with this status.
    #[track_caller]
    pub fn code(self, status: u16) -> String {
        self.is(status)["errors"][0]["code"].as_str().unwrap_or_default().to_string()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Somebody who asks at one microversion.
#[derive(Clone)]
pub struct Client {
    app: Arc<App<Placement>>,
    token: &'static str,
    version: String,
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::with(Settings::default()).await
    }

    pub async fn with(settings: Settings) -> Cloud {
        let files = Arc::new(engines::test_db());
        let db = Db::open(files.url(), Options::test()).unwrap();
        db.migrate(&SCHEMA).await.unwrap();
        Cloud::over(files, db, settings).await
    }

    /// Another process on the same database.
    pub async fn twin(&self) -> Cloud {
        Cloud::over(self._files.clone(), self.db.clone(), Settings::default()).await
    }

    async fn over(files: Arc<engines::TestDb>, db: Db, settings: Settings) -> Cloud {
        let service = Arc::new(Placement::new(db.clone(), settings).await.unwrap());
        let app = placement::app(service, None, Arc::new(People)).unwrap();
        Cloud { app: Arc::new(app), db, _files: files }
    }

    /// The service user at `1.minor`.
    pub fn at(&self, minor: u16) -> Client {
        self.client("service", &format!("1.{minor}"))
    }

    /// The service user at the newest version.
    pub fn latest(&self) -> Client {
        self.client("service", "latest")
    }

    pub fn client(&self, token: &'static str, version: &str) -> Client {
        Client { app: self.app.clone(), token, version: version.to_string() }
    }
}

/// A UUID that ends in `number`.
pub fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

impl Client {
    pub async fn send(&self, method: Method, target: &str, body: Option<&Json>) -> Reply {
        let mut request = Request::new(method, target).header("x-auth-token", self.token);
        if self.version != "-" {
            request = request.header("openstack-api-version", &format!("placement {}", self.version));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = self.app.call(request).await;
        let bytes = match reply.content {
            Content::Bytes(bytes) => bytes,
            _ => Default::default(),
        };
        let body = if bytes.is_empty() { Json::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Reply { status: reply.status.as_u16(), headers: reply.headers, body }
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send(Method::GET, target, None).await
    }

    pub async fn put(&self, target: &str, body: &Json) -> Reply {
        self.send(Method::PUT, target, Some(body)).await
    }

    pub async fn post(&self, target: &str, body: &Json) -> Reply {
        self.send(Method::POST, target, Some(body)).await
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.send(Method::DELETE, target, None).await
    }

    /// A provider with this number; `parent` is another one's.
    pub async fn provider(&self, number: u32, parent: Option<u32>) -> String {
        let body = json!({"uuid": id(number), "name": format!("p{number}"), "parent_provider_uuid": parent.map(id)});
        self.post("/resource_providers", &body).await.is(200);
        id(number)
    }

    pub async fn generation(&self, provider: &str) -> i64 {
        self.get(&format!("/resource_providers/{provider}")).await.is(200)["generation"].as_i64().unwrap()
    }

    /// Gives the provider inventories: `{"VCPU": {"total": 4}}`.
    pub async fn has(&self, provider: &str, inventories: Json) {
        let body = json!({"resource_provider_generation": self.generation(provider).await, "inventories": inventories});
        self.put(&format!("/resource_providers/{provider}/inventories"), &body).await.is(200);
    }

    pub async fn can(&self, provider: &str, traits: &[&str]) {
        for name in traits.iter().filter(|name| name.starts_with("CUSTOM_")) {
            self.send(Method::PUT, &format!("/traits/{name}"), None).await;
        }
        let body = json!({"resource_provider_generation": self.generation(provider).await, "traits": traits});
        self.put(&format!("/resource_providers/{provider}/traits"), &body).await.is(200);
    }

    pub async fn joins(&self, provider: &str, aggregates: &[&str]) {
        let body = json!({"resource_provider_generation": self.generation(provider).await, "aggregates": aggregates});
        self.put(&format!("/resource_providers/{provider}/aggregates"), &body).await.is(200);
    }

    /// A new consumer takes `resources` of one provider.
    pub async fn claim(&self, consumer: u32, provider: &str, resources: Json) -> Reply {
        let body = claim(provider, resources, Json::Null);
        self.put(&format!("/allocations/{}", id(consumer)), &body).await
    }
}

/// The body of a claim at the newest version.
pub fn claim(provider: &str, resources: Json, generation: Json) -> Json {
    json!({
        "allocations": {provider: {"resources": resources}},
        "project_id": "blue",
        "user_id": "alice",
        "consumer_generation": generation,
        "consumer_type": "INSTANCE",
    })
}
