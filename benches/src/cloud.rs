//! The cloud under measurement: logged in once, asked through its public API.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hyper::Method;
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::load::{Answer, Ask};

/// How many servers are asked for at a time.
const AT_ONCE: usize = 8;
/// Limit: how long fake servers may take altogether.
const PATIENCE: Duration = Duration::from_secs(600);

pub struct Cloud {
    data_dir: PathBuf,
    identity: String,
    catalog: Vec<Json>,
    token: String,
    project: String,
    user: String,
}

impl Cloud {
    /// Logs in with the credentials that lie in the data directory.
    pub async fn of(data_dir: &Path) -> Result<Cloud> {
        let rc = std::fs::read_to_string(data_dir.join("keystonerc_admin"))?;
        let value = |name: &str| {
            let line = rc.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.map(|value| value.trim_matches(['\'', '"']).to_owned()).with_context(|| format!("no {name}"))
        };
        let identity = value("OS_AUTH_URL")?;
        let domain = json!({"name": "Default"});
        let user = json!({"name": value("OS_USERNAME")?, "domain": domain, "password": value("OS_PASSWORD")?});
        let scope = json!({"project": {"name": value("OS_PROJECT_NAME")?, "domain": domain}});
        let login = json!({"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope});
        let answer = ask(Method::POST, &identity, "/auth/tokens", "", &json!({"auth": login}))?.answer().await?;
        let body = good(&answer)?;
        Ok(Cloud {
            data_dir: data_dir.into(),
            identity,
            catalog: body["token"]["catalog"].as_array().cloned().unwrap_or_default(),
            token: answer.headers.get("x-subject-token").context("no token")?.to_str()?.to_owned(),
            project: body["token"]["project"]["id"].as_str().context("no project")?.to_owned(),
            user: body["token"]["user"]["id"].as_str().context("no user")?.to_owned(),
        })
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Who has logged in.
    pub fn user(&self) -> &str {
        &self.user
    }

    fn endpoint(&self, service: &str) -> Result<String> {
        let entry = self.catalog.iter().find(|it| it["type"] == service).with_context(|| format!("no {service}"))?;
        let endpoints = entry["endpoints"].as_array().context("no endpoints")?;
        let public = endpoints.iter().find(|it| it["interface"] == "public").context("no public endpoint")?;
        Ok(public["url"].as_str().context("no URL")?.trim_end_matches('/').to_owned())
    }

    fn ask(&self, method: Method, service: &str, path: &str, body: &Json) -> Result<Ask> {
        ask(method, &self.endpoint(service)?, path, &self.token, body)
    }

    async fn get(&self, service: &str, path: &str) -> Result<Json> {
        good(&self.ask(Method::GET, service, path, &Json::Null)?.answer().await?)
    }

    pub fn ask_about_own_token(&self) -> Ask {
        let mut ask = ask(Method::GET, &self.identity, "/auth/tokens", &self.token, &Json::Null)
            .expect("the identity service has been asked before");
        ask.headers.push(("x-subject-token", self.token.clone()));
        ask
    }

    pub fn ask_for_servers(&self) -> Ask {
        self.ask(Method::GET, "compute", "/servers/detail", &Json::Null).expect("compute is in the catalog")
    }

    /// Upstream's quotas stay the defaults; this project is freed through the API.
    pub async fn lift_quotas(&self) -> Result<()> {
        let compute = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1, "server_groups": -1}});
        let path = format!("/os-quota-sets/{}", self.project);
        good(&self.ask(Method::PUT, "compute", &path, &compute)?.answer().await?)?;
        let network = json!({"quota": {"port": -1, "network": -1, "subnet": -1}});
        let path = format!("/v2.0/quotas/{}", self.project);
        good(&self.ask(Method::PUT, "network", &path, &network)?.answer().await?)?;
        Ok(())
    }

    /// Boots that many servers and waits until all are ACTIVE.
    pub async fn boot(&self, number: usize) -> Result<()> {
        let flavor = self.flavor().await?;
        let wanted = json!({"server": {"name": "bench", "flavorRef": flavor, "imageRef": self.image().await?, "networks": "none"}});
        let mut create = self.ask(Method::POST, "compute", "/servers", &wanted)?;
        create.headers.push(("openstack-api-version", "compute 2.37".into()));
        let mut asked = JoinSet::new();
        for _ in 0..number {
            if asked.len() >= AT_ONCE
                && let Some(done) = asked.join_next().await
            {
                good(&done??)?;
            }
            let create = create.clone();
            asked.spawn(async move { create.answer().await });
        }
        while let Some(done) = asked.join_next().await {
            good(&done??)?;
        }
        self.settle().await
    }

    async fn settle(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let building = self.get("compute", "/servers?status=BUILD&limit=1").await?;
            if building["servers"].as_array().is_none_or(Vec::is_empty) {
                break;
            }
            if Instant::now() > until {
                bail!("some servers are still in BUILD after {} s", PATIENCE.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let broken = self.get("compute", "/servers?status=ERROR&limit=1").await?;
        if broken["servers"].as_array().is_some_and(|it| !it.is_empty()) {
            bail!("a server is in ERROR: {broken}");
        }
        Ok(())
    }

    async fn flavor(&self) -> Result<String> {
        let body = json!({"flavor": {"name": "bench", "ram": 1, "vcpus": 1, "disk": 0}});
        let known = self.get("compute", "/flavors").await?;
        let mut known = known["flavors"].as_array().into_iter().flatten();
        if let Some(found) = known.find(|it| it["name"] == "bench") {
            return Ok(found["id"].as_str().unwrap_or_default().to_owned());
        }
        let made = good(&self.ask(Method::POST, "compute", "/flavors", &body)?.answer().await?)?;
        Ok(made["flavor"]["id"].as_str().context("no flavor")?.to_owned())
    }

    async fn image(&self) -> Result<String> {
        let known = self.get("image", "/v2/images?status=active&limit=1").await?;
        if let Some(id) = known["images"][0]["id"].as_str() {
            return Ok(id.to_owned());
        }
        let body = json!({"name": "bench", "disk_format": "raw", "container_format": "bare"});
        let made = good(&self.ask(Method::POST, "image", "/v2/images", &body)?.answer().await?)?;
        let id = made["id"].as_str().context("no image")?.to_owned();
        let mut upload = self.ask(Method::PUT, "image", &format!("/v2/images/{id}/file"), &Json::Null)?;
        upload.headers.push(("content-type", "application/octet-stream".into()));
        upload.body = "\0".repeat(65_536);
        good(&upload.answer().await?)?;
        Ok(id)
    }
}

fn ask(method: Method, base: &str, path: &str, token: &str, body: &Json) -> Result<Ask> {
    let rest = base.strip_prefix("http://").with_context(|| format!("{base} is not a plain address"))?;
    let (at, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut headers = vec![("accept", "application/json".to_owned())];
    if !token.is_empty() {
        headers.push(("x-auth-token", token.to_owned()));
    }
    let mut text = String::new();
    if !body.is_null() {
        headers.push(("content-type", "application/json".to_owned()));
        text = body.to_string();
    }
    Ok(Ask { method, at: at.to_owned(), path: format!("{prefix}{path}"), headers, body: text })
}

fn good(answer: &Answer) -> Result<Json> {
    if !answer.status.is_success() {
        bail!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    }
    Ok(serde_json::from_slice(&answer.body).unwrap_or(Json::Null))
}
