//! The administrator, who speaks HTTP to the services.

use std::time::{Duration, Instant};

use api::client::Remote;
use api::{Content, Endpoint, Json, Method, Request, json};

/// Limit: until something has come to be that takes a guest's time.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

pub struct Admin {
    offset: u16,
    token: String,
}

impl Admin {
    pub async fn log_in(offset: u16, password: &str) -> Admin {
        let domain = json!({"id": "default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": "admin", "domain": domain, "password": password},
            }},
            "scope": {"project": {"name": "admin", "domain": domain}},
        }});
        let identity = Remote::new(&format!("http://127.0.0.1:{}", 5000 + offset)).unwrap();
        let reply = identity.call(Request::new(Method::POST, "/v3/auth/tokens").json(&body)).await;
        assert_eq!(reply.status.as_u16(), 201, "the administrator logs in");
        Admin { offset, token: reply.headers["x-subject-token"].to_str().unwrap().to_string() }
    }

    fn url(&self, service: &str) -> String {
        let port = match service {
            "identity" => 5000,
            "image" => 9292,
            "compute" => 8774,
            _ => 9696,
        };
        format!("http://127.0.0.1:{}", port + self.offset)
    }

    async fn send(&self, service: &str, request: Request) -> (u16, Json) {
        let request = request.header("x-auth-token", &self.token).header("openstack-api-version", "compute 2.93");
        let reply = Remote::new(&self.url(service)).unwrap().call(request).await;
        let status = reply.status.as_u16();
        let body = reply.content.bytes(1 << 24).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    pub async fn ask(&self, service: &str, method: Method, path: &str, body: &Json) -> Json {
        let mut request = Request::new(method.clone(), path);
        if !body.is_null() {
            request = request.json(body);
        }
        let (status, body) = self.send(service, request).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    pub async fn get(&self, service: &str, path: &str) -> Json {
        self.ask(service, Method::GET, path, &Json::Null).await
    }

    pub async fn delete(&self, service: &str, path: &str) {
        self.ask(service, Method::DELETE, path, &Json::Null).await;
    }

    /// Makes one of `path` and returns its id.
    pub async fn make(&self, service: &str, path: &str, kind: &str, new: Json) -> String {
        let made = self.ask(service, Method::POST, path, &json!({kind: new})).await;
        made[kind]["id"].as_str().unwrap().to_string()
    }

    /// The users that services log in as, and the catalog.
    pub async fn make_services(&self, password: &str) {
        let project = json!({"name": "service", "domain_id": "default"});
        let project = self.make("identity", "/v3/projects", "project", project).await;
        for name in ["glance", "placement", "nova", "neutron"] {
            let user = json!({"name": name, "domain_id": "default", "password": password});
            let user = self.make("identity", "/v3/users", "user", user).await;
            for role in ["admin", "service"] {
                let roles = self.get("identity", &format!("/v3/roles?name={role}")).await;
                let role = roles["roles"][0]["id"].as_str().unwrap();
                let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
                self.ask("identity", Method::PUT, &path, &Json::Null).await;
            }
        }
        for (name, kind) in [("glance", "image"), ("nova", "compute"), ("neutron", "network")] {
            let service = json!({"name": name, "type": kind});
            let service = self.make("identity", "/v3/services", "service", service).await;
            let endpoint =
                json!({"service_id": service, "interface": "public", "url": self.url(kind), "region_id": "RegionOne"});
            self.make("identity", "/v3/endpoints", "endpoint", endpoint).await;
        }
    }

    pub async fn upload(&self, file: &str) -> String {
        let new = json!({"name": "guest", "disk_format": "qcow2", "container_format": "bare"});
        let image = self.ask("image", Method::POST, "/v2/images", &new).await["id"].as_str().unwrap().to_string();
        let mut request = Request::new(Method::PUT, &format!("/v2/images/{image}/file"));
        request = request.header("content-type", "application/octet-stream");
        request.content = Content::Bytes(std::fs::read(file).unwrap().into());
        assert_eq!(self.send("image", request).await.0, 204, "the image is taken");
        image
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, service: &str, path: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        let begun = Instant::now();
        loop {
            let (_, body) = self.send(service, Request::new(Method::GET, path)).await;
            if wanted(&body) {
                return body;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} stays {body}");
            tokio::time::sleep(PAUSE).await;
        }
    }
}
