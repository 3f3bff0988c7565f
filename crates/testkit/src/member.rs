//! Somebody with a token.

use api::{Json, Method, Request, json};

use crate::client::{Client, Reply, Service};
use crate::cloud::{Cloud, PASSWORD, id_of};

/// A user, logged in to a project.
#[derive(Clone)]
pub struct Member<'a> {
    pub cloud: &'a Cloud,
    pub name: String,
    pub user_id: String,
    pub project_id: String,
    pub token: String,
    /// Which controller answers.
    controller: usize,
}

impl<'a> Member<'a> {
    pub async fn log_in(cloud: &'a Cloud, name: &str, project: &str) -> Member<'a> {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": name, "domain": domain, "password": PASSWORD},
            }},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let request = Request::new(Method::POST, "/v3/auth/tokens").json(&body);
        let reply = Reply::read(cloud.controllers[0].endpoint("identity").call(request).await).await;
        let token = reply.header("x-subject-token").to_string();
        let body = reply.ok(201);
        let text = |value: &Json| value.as_str().unwrap_or_default().to_string();
        Member {
            cloud,
            name: name.to_string(),
            user_id: text(&body["token"]["user"]["id"]),
            project_id: text(&body["token"]["project"]["id"]),
            token,
            controller: 0,
        }
    }

    /// The same person, asking another controller.
    pub fn at(mut self, controller: usize) -> Member<'a> {
        self.controller = controller;
        self
    }

    /// Compute at a microversion.
    pub fn compute(&self, major: u16, minor: u16) -> Client<'_> {
        self.client(Service { name: "compute", mount: "/v2.1", version: Some(format!("compute {major}.{minor}")) })
    }

    pub fn placement(&self, major: u16, minor: u16) -> Client<'_> {
        self.client(Service { name: "placement", mount: "", version: Some(format!("placement {major}.{minor}")) })
    }

    pub fn identity(&self) -> Client<'_> {
        self.client(Service { name: "identity", mount: "/v3", version: None })
    }

    pub fn image(&self) -> Client<'_> {
        self.client(Service { name: "image", mount: "/v2", version: None })
    }

    pub fn network(&self) -> Client<'_> {
        self.client(Service { name: "network", mount: "/v2.0", version: None })
    }

    fn client(&self, service: Service) -> Client<'_> {
        let endpoint = self.cloud.controllers[self.controller].endpoint(service.name);
        Client { endpoint: &**endpoint, service, token: &self.token }
    }

    /// The project with this name, made when it is not there; for administrators.
    pub async fn make_project(&self, name: &str) -> String {
        self.ensure("projects", name, &json!({"project": {"name": name, "domain_id": "default"}})).await
    }

    /// The user with this name and the password of everybody; for administrators.
    pub async fn make_user(&self, name: &str) -> String {
        let user = json!({"user": {"name": name, "domain_id": "default", "password": PASSWORD}});
        self.ensure("users", name, &user).await
    }

    pub async fn grant(&self, role: &str, project: &str, user: &str) {
        let role = self.ensure("roles", role, &json!({"role": {"name": role}})).await;
        let path = format!("/projects/{project}/users/{user}/roles/{role}");
        self.identity().put(&path, &json!({})).await.ok(204);
    }

    async fn ensure(&self, many: &str, name: &str, new: &Json) -> String {
        let found = self.identity().get(&format!("/{many}?name={name}")).await.ok(200);
        match found[many][0]["id"].as_str() {
            Some(id) => id.to_string(),
            None => id_of(self.identity().post(&format!("/{many}"), new).await, 201),
        }
    }
}
