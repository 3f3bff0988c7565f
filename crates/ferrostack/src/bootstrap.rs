//! What an all-in-one cloud has from its first start: service users, the catalog, a demo project.
//!
//! Everything goes through identity's public API as the administrator, and everything is an «ensure».

use anyhow::{Context, Result, bail};
use api::{Json, Secret, json};
use clients::account::Login;
use clients::{Peer, Rights};

use crate::doors::Doors;
use crate::ports::{CATALOG, Ports};
use crate::secrets::Secrets;

pub const REGION: &str = "RegionOne";
/// Users of the project `service`, by the names that guides give them.
pub const SERVICE_USERS: &[&str] = &["glance", "placement", "nova", "neutron"];

/// Makes what is missing.
pub async fn ensure(doors: &Doors, secrets: &Secrets, ports: &Ports, host_url: &str) -> Result<()> {
    let login = Login {
        username: "admin".into(),
        password: Secret(secrets.admin_password.clone()),
        user_domain: "Default".into(),
        project: "admin".into(),
        project_domain: "Default".into(),
    };
    let identity = doors.peer("identity", &doors.account(login));
    let admin = Admin { identity };
    let service = admin.project("service", "Service users of this cloud").await?;
    for user in SERVICE_USERS {
        let id = admin.user(user, &secrets.service_password).await?;
        admin.grant(&service, &id, "admin").await?;
        admin.grant(&service, &id, "service").await?;
    }
    let demo = admin.project("demo", "Demo project").await?;
    let id = admin.user("demo", &secrets.demo_password).await?;
    admin.grant(&demo, &id, "member").await?;
    for entry in CATALOG.iter().filter(|entry| entry.service != "identity") {
        let service = admin.service(entry.name, entry.kind, entry.description).await?;
        admin.endpoints(&service, &ports.endpoint(host_url, entry)).await?;
    }
    Ok(())
}

struct Admin {
    identity: Peer,
}

impl Admin {
    async fn project(&self, name: &str, description: &str) -> Result<String> {
        let new = json!({"project": {"name": name, "domain_id": "default", "description": description}});
        self.named("project", "projects", &format!("name={name}&domain_id=default"), &new).await
    }

    async fn user(&self, name: &str, password: &str) -> Result<String> {
        let new = json!({"user": {"name": name, "domain_id": "default", "password": password}});
        self.named("user", "users", &format!("name={name}&domain_id=default"), &new).await
    }

    async fn service(&self, name: &str, kind: &str, description: &str) -> Result<String> {
        let new = json!({"service": {"name": name, "type": kind, "description": description}});
        self.named("service", "services", &format!("type={kind}"), &new).await
    }

    async fn grant(&self, project: &str, user: &str, role: &str) -> Result<()> {
        let role = self.find("roles", &format!("name={role}")).await?.with_context(|| format!("no role {role}"))?;
        let id = role["id"].as_str().unwrap_or_default();
        let path = format!("/v3/projects/{project}/users/{user}/roles/{id}");
        self.identity.put(Rights::Service, &path, &json!({})).await.with_context(|| "granting a role")?;
        Ok(())
    }

    /// One endpoint for each interface, with this URL.
    async fn endpoints(&self, service: &str, url: &str) -> Result<()> {
        for interface in ["public", "internal", "admin"] {
            let query = format!("service_id={service}&interface={interface}&region_id={REGION}");
            let new = json!({"endpoint": {
                "service_id": service, "interface": interface, "region_id": REGION, "url": url,
            }});
            match self.find("endpoints", &query).await? {
                None => {
                    self.identity.post(Rights::Service, "/v3/endpoints", &new).await?;
                }
                Some(held) if held["url"] != url => {
                    let path = format!("/v3/endpoints/{}", held["id"].as_str().unwrap_or_default());
                    self.identity.patch(Rights::Service, &path, &json!({"endpoint": {"url": url}})).await?;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    async fn named(&self, one: &str, many: &str, query: &str, new: &Json) -> Result<String> {
        if let Some(found) = self.find(many, query).await? {
            return Ok(found["id"].as_str().unwrap_or_default().to_string());
        }
        let made = self.identity.post(Rights::Service, &format!("/v3/{many}"), new).await;
        let made = made.with_context(|| format!("making the {one} {query}"))?;
        match made[one]["id"].as_str() {
            Some(id) => Ok(id.to_string()),
            None => bail!("identity made the {one} {query} without an id"),
        }
    }

    async fn find(&self, many: &str, query: &str) -> Result<Option<Json>> {
        let found = self.identity.get(Rights::Service, &format!("/v3/{many}?{query}")).await;
        let found = found.with_context(|| format!("looking for {many} with {query}"))?;
        Ok(found[many].as_array().and_then(|list| list.first()).cloned())
    }
}
