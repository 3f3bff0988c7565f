//! An identity service in memory, and clients that talk to it through its front door.

use std::sync::Arc;

use api::{App, Content, Endpoint, Json, Method, Request, json};
use identity::manage::{self, Bootstrap};
use identity::{Identity, Settings};

pub struct Cloud {
    pub app: App<Identity>,
    pub identity: Arc<Identity>,
    _files: tempfile::TempDir,
    _database: engines::TestDb,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Json,
}

impl Reply {
    /// The body, after checking the status.
    pub fn ok(self, status: u16) -> Json {
        assert_eq!(self.status, status, "{:#}", self.body);
        self.body
    }

    /// The message of a refusal, after checking the status.
    pub fn refused(self, status: u16) -> String {
        let body = self.ok(status);
        body["error"]["message"].as_str().unwrap_or_default().to_string()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn token(&self) -> String {
        assert_eq!(self.status, 201, "{:#}", self.body);
        self.header("x-subject-token").to_string()
    }
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::with(|_| ()).await
    }

    /// A cloud after `keystone-manage bootstrap`, whose administrator's password is `secret`.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Cloud {
        let files = tempfile::tempdir().unwrap();
        let database = engines::test_db();
        let mut settings = Settings { rounds: Some(4), ..Settings::default() };
        settings.token_keys = files.path().join("fernet");
        settings.credential_keys = files.path().join("credential");
        change(&mut settings);
        manage::fernet_setup(&settings).unwrap();
        manage::credential_setup(&settings).unwrap();
        let db = db::Db::open(database.url(), db::Options::test()).unwrap();
        manage::db_sync(&db).await.unwrap();
        let identity = Identity::new(db, settings, Some("http://cloud:5000/v3".into())).unwrap();
        let url = Some("http://cloud:5000/v3".to_string());
        let wanted = Bootstrap {
            password: "secret".into(),
            region: Some("RegionOne".into()),
            public_url: url.clone(),
            internal_url: url.clone(),
            admin_url: url,
            ..Bootstrap::default()
        };
        manage::bootstrap(&identity, wanted).await.unwrap();
        let app = identity::app(identity.clone(), None).unwrap().public_url(Some("http://cloud:5000".into()));
        Cloud { app, identity, _files: files, _database: database }
    }

    pub async fn send(
        &self,
        method: Method,
        target: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Json>,
    ) -> Reply {
        let mut request = Request::new(method, target);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = self.app.call(request).await;
        let headers = reply.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_string()));
        let headers = headers.collect();
        let bytes = match reply.content {
            Content::Bytes(bytes) => bytes,
            _ => Default::default(),
        };
        let body = serde_json::from_slice(&bytes).unwrap_or(Json::String(String::from_utf8_lossy(&bytes).into()));
        Reply { status: reply.status.as_u16(), headers, body }
    }

    /// Logs in with a password; `scope` is the body's.
    pub async fn log_in(&self, user: Json, scope: Json) -> Reply {
        let mut auth = json!({"identity": {"methods": ["password"], "password": {"user": user}}});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.send(Method::POST, "/v3/auth/tokens", &[], Some(&json!({"auth": auth}))).await
    }

    pub async fn admin(&self) -> Client<'_> {
        let scope = json!({"project": {"name": "admin", "domain": {"id": "default"}}});
        Client { cloud: self, token: self.log_in(named("admin", "secret"), scope).await.token() }
    }

    /// A new user with a role on a new project, both of this name.
    pub async fn user(&self, name: &str, role: &str) -> User {
        let admin = self.admin().await;
        let project = admin.post("/v3/projects", &json!({"project": {"name": name, "domain_id": "default"}})).await;
        let project = project.ok(201)["project"]["id"].as_str().unwrap().to_string();
        let id = admin.make_user(name).await;
        let role = admin.role(role).await;
        admin.put(&format!("/v3/projects/{project}/users/{id}/roles/{role}")).await.ok(204);
        User { id, name: name.to_string(), project }
    }

    pub async fn as_user(&self, user: &User) -> Client<'_> {
        let scope = json!({"project": {"id": user.project}});
        Client { cloud: self, token: self.log_in(named(&user.name, "secret"), scope).await.token() }
    }
}

pub struct User {
    pub id: String,
    pub name: String,
    pub project: String,
}

/// A user of the default domain, as a log-in names it.
pub fn named(name: &str, password: &str) -> Json {
    json!({"name": name, "domain": {"id": "default"}, "password": password})
}

/// Somebody with a token.
pub struct Client<'a> {
    pub cloud: &'a Cloud,
    pub token: String,
}

impl Client<'_> {
    pub async fn send(&self, method: Method, target: &str, body: Option<&Json>) -> Reply {
        self.cloud.send(method, target, &[("x-auth-token", &self.token)], body).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.send(Method::GET, target, None).await
    }

    pub async fn head(&self, target: &str) -> Reply {
        self.send(Method::HEAD, target, None).await
    }

    pub async fn put(&self, target: &str) -> Reply {
        self.send(Method::PUT, target, None).await
    }

    pub async fn delete(&self, target: &str) -> Reply {
        self.send(Method::DELETE, target, None).await
    }

    pub async fn post(&self, target: &str, body: &Json) -> Reply {
        self.send(Method::POST, target, Some(body)).await
    }

    pub async fn patch(&self, target: &str, body: &Json) -> Reply {
        self.send(Method::PATCH, target, Some(body)).await
    }

    /// Asks about another token.
    pub async fn subject(&self, method: Method, token: &str) -> Reply {
        let headers = [("x-auth-token", self.token.as_str()), ("x-subject-token", token)];
        self.cloud.send(method, "/v3/auth/tokens", &headers, None).await
    }

    pub async fn make_user(&self, name: &str) -> String {
        let body = json!({"user": {"name": name, "password": "secret", "domain_id": "default"}});
        self.post("/v3/users", &body).await.ok(201)["user"]["id"].as_str().unwrap().to_string()
    }

    /// Makes something and returns its id.
    pub async fn make(&self, path: &str, one: &str, body: Json) -> String {
        let made = self.post(path, &json!({one: body})).await.ok(201);
        made[one]["id"].as_str().unwrap().to_string()
    }

    /// The id of a role.
    pub async fn role(&self, name: &str) -> String {
        let found = self.get(&format!("/v3/roles?name={name}")).await.ok(200);
        found["roles"][0]["id"].as_str().unwrap().to_string()
    }
}
