//! An image service of its own for one test, and people who use it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use api::message::{BoxFuture, HeaderMap};
use api::{App, AuthError, Authenticator, Caller, Content, Endpoint, Json, Method, Request, json};
use base::config::Config;
use bytes::Bytes;
use image::{Images, Options};

/// One empty service. What it keeps goes away with it.
pub struct Cloud {
    pub app: Arc<App<Images>>,
    pub images: Arc<Images>,
    pub dir: PathBuf,
    url: String,
    _db: Arc<engines::TestDb>,
}

/// Tokens are names of people: `admin`; `alice` and `reader` of project `blue`; `bob` of `red`; `carol` of `green`.
struct People(HashMap<&'static str, Arc<Caller>>);

impl People {
    fn new() -> People {
        let person = |name: &str, project: &str, roles: &[&str]| Caller {
            user_id: name.to_string(),
            project_id: Some(project.to_string()),
            roles: roles.iter().map(|role| role.to_string()).collect(),
            ..Caller::default()
        };
        let admin = person("admin", "admins", &["admin", "manager", "member", "reader"]);
        let mut people = HashMap::from([("admin", Arc::new(admin))]);
        people.insert("alice", Arc::new(person("alice", "blue", &["member", "reader"])));
        people.insert("reader", Arc::new(person("reader", "blue", &["reader"])));
        people.insert("bob", Arc::new(person("bob", "red", &["member", "reader"])));
        people.insert("carol", Arc::new(person("carol", "green", &["member", "reader"])));
        people.insert("nobody", Arc::new(person("nobody", "blue", &[])));
        People(people)
    }
}

impl Authenticator for People {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move { self.0.get(token).cloned().ok_or(AuthError::Invalid) })
    }

    fn public_url(&self) -> Option<String> {
        Some("http://controller:5000/v3".to_string())
    }
}

impl Cloud {
    pub async fn new() -> Cloud {
        Cloud::configured("").await
    }

    pub async fn configured(text: &str) -> Cloud {
        let db = Arc::new(engines::test_db());
        let dir = std::env::temp_dir().join(format!("images-{}", base::id::uuid()));
        Cloud::start(text, db, dir).await
    }

    async fn start(text: &str, db: Arc<engines::TestDb>, dir: PathBuf) -> Cloud {
        let url = db.url().to_string();
        let open = db::Db::open(&url, db::Options::test()).unwrap();
        open.migrate(&image::SCHEMA).await.unwrap();
        let mut config = Config::parse(text).unwrap();
        config.set("glance_store", "filesystem_store_datadir", dir.display().to_string());
        let images = Arc::new(Images::new(open, Options::read(&config).unwrap()).await.unwrap());
        let app = Arc::new(image::app(images.clone(), None, Arc::new(People::new())).unwrap());
        Cloud { app, images, dir, url, _db: db }
    }

    /// Another process on the same database and directory.
    pub async fn second(&self) -> Arc<Images> {
        let open = db::Db::open(&self.url, db::Options::test()).unwrap();
        Arc::new(Images::new(open, self.images.options.clone()).await.unwrap())
    }

    pub fn by<'a>(&'a self, token: &'a str) -> Person<'a> {
        Person { cloud: self, token }
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.dir).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[derive(Clone, Copy)]
pub struct Person<'a> {
    cloud: &'a Cloud,
    token: &'a str,
}

/// What came back, whole.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Bytes,
}

pub const PATCH: &str = "application/openstack-images-v2.1-json-patch";

impl Person<'_> {
    fn request(&self, method: Method, target: &str) -> Request {
        Request::new(method, target).header("x-auth-token", self.token).header("accept", "application/json")
    }

    pub async fn send(&self, request: Request) -> Got {
        let reply = self.cloud.app.call(request).await;
        let (status, headers) = (reply.status.as_u16(), reply.headers);
        Got { status, headers, bytes: reply.content.bytes(1 << 30).await.expect("the reply is whole") }
    }

    pub async fn get(&self, target: &str) -> Got {
        self.send(self.request(Method::GET, target)).await
    }

    pub async fn get_with(&self, target: &str, header: &'static str, value: &str) -> Got {
        self.send(self.request(Method::GET, target).header(header, value)).await
    }

    pub async fn delete(&self, target: &str) -> Got {
        self.send(self.request(Method::DELETE, target)).await
    }

    pub async fn post(&self, target: &str, body: Json) -> Got {
        self.send(self.request(Method::POST, target).json(&body)).await
    }

    pub async fn put(&self, target: &str, body: Json) -> Got {
        self.send(self.request(Method::PUT, target).json(&body)).await
    }

    pub async fn patch(&self, id: &str, changes: Json) -> Got {
        self.patch_as(PATCH, id, changes).await
    }

    pub async fn patch_as(&self, media: &str, id: &str, changes: Json) -> Got {
        let request = self.request(Method::PATCH, &format!("/v2/images/{id}")).json(&changes);
        self.send(request.header("content-type", media)).await
    }

    /// Sends `body` as the data of an image.
    pub async fn upload(&self, id: &str, body: Content) -> Got {
        self.upload_as("application/octet-stream", id, body).await
    }

    pub async fn upload_as(&self, media: &str, id: &str, body: Content) -> Got {
        let mut request = self.request(Method::PUT, &format!("/v2/images/{id}/file")).header("content-type", media);
        request.content = body;
        self.send(request).await
    }

    pub async fn create(&self, body: Json) -> Json {
        self.post("/v2/images", body).await.ok(201)
    }

    /// A bare raw image without data; its id.
    pub async fn queued(&self, name: &str) -> String {
        let body = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
        text(&self.create(body).await["id"])
    }

    /// A bare raw image with this data; its id.
    pub async fn active(&self, name: &str, data: &str) -> String {
        let id = self.queued(name).await;
        self.upload(&id, bytes(data)).await.ok(204);
        id
    }

    pub async fn show(&self, id: &str) -> Json {
        self.get(&format!("/v2/images/{id}")).await.ok(200)
    }

    /// The names of the images that a list finds, in its order.
    pub async fn names(&self, query: &str) -> Vec<String> {
        let list = self.get(&format!("/v2/images?{query}")).await.ok(200);
        list["images"].as_array().unwrap().iter().map(|image| text(&image["name"])).collect()
    }
}

impl Got {
    pub fn ok(&self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The words of a refusal, without the frame around them.
    pub fn refused(&self, status: u16) -> String {
        let body = self.ok(status);
        text(&body["message"]).replace("<br /><br />\n\n\n", "")
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub fn text(value: &Json) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_string()
}

pub fn bytes(data: &str) -> Content {
    Content::Bytes(Bytes::copy_from_slice(data.as_bytes()))
}
