//! `ferrostack init-runonce`: what kolla's script of that name leaves behind, through the public APIs.
//!
//! Everything is an «ensure»: a second run changes nothing.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use api::client::Remote;
use api::message::Content;
use api::{Endpoint, Json, Method, Request, Secret, json};
use clients::account::Login;
use clients::identity::RemoteIdentity;
use clients::{Account, Peer, PeerError, Rights};

use crate::command::InitRunonce;
use crate::layout::Layout;
use crate::secrets::Secrets;

/// Upstream's sizes: name, processors, MB, GB.
const FLAVORS: &[(&str, i64, i64, i64)] = &[
    ("m1.tiny", 1, 512, 1),
    ("m1.small", 1, 2048, 20),
    ("m1.medium", 2, 4096, 40),
    ("m1.large", 4, 8192, 80),
    ("m1.xlarge", 8, 16384, 160),
];

/// Bytes of the image read at once.
const CHUNK: usize = 1 << 20;

pub fn run(options: InitRunonce) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(everything(options))
}

async fn everything(options: InitRunonce) -> Result<()> {
    let layout = Layout::at(options.place.data_dir.clone())?;
    let cloud = Cloud::open(&layout).await?;
    cloud.image(&options).await?;
    cloud.flavors().await?;
    let external = cloud.external(&options).await?;
    cloud.demo(&options, &external).await?;
    cloud.rules().await?;
    cloud.keypair(&layout, options.public_key.as_deref()).await?;
    cloud.quotas().await?;
    println!("Done. Boot a server:");
    println!("  source {}/keystonerc_admin", layout.root.display());
    let image = &options.image_name;
    println!("  openstack server create --image {image} --flavor m1.tiny --key-name mykey --network demo-net demo1");
    Ok(())
}

struct Cloud {
    project: String,
    image: Peer,
    compute: Peer,
    network: Peer,
}

impl Cloud {
    async fn open(layout: &Layout) -> Result<Cloud> {
        let text = std::fs::read_to_string(layout.running());
        let text = text.with_context(|| format!("no cloud has been started in {}", layout.root.display()))?;
        let running: Json = serde_json::from_str(&text)?;
        let auth_url = running["auth_url"].as_str().context("the cloud is still starting")?.to_string();
        let identity: Arc<dyn Endpoint> = Arc::new(Remote::new(auth_url.trim_end_matches("/v3"))?);
        let login = Login {
            username: "admin".into(),
            password: Secret(Secrets::load(layout)?.admin_password),
            user_domain: "Default".into(),
            project: "admin".into(),
            project_domain: "Default".into(),
        };
        let authenticator = Arc::new(RemoteIdentity::new(identity.clone(), &auth_url));
        let account = Arc::new(Account::new(identity.clone(), authenticator, login));
        let identity = Peer::remote("identity", identity, account.clone());
        let catalog = identity.get(Rights::Service, "/v3/auth/catalog").await.context("logging in as admin")?;
        let peer = |service: &'static str, kind: &str| -> Result<Peer> {
            let url = endpoint(&catalog, kind).with_context(|| format!("the catalog has no {kind}"))?;
            let root = url.trim_end_matches("/v2.1").to_string();
            Ok(Peer::remote(service, Arc::new(Remote::new(&root)?), account.clone()))
        };
        let projects = identity.get(Rights::Service, "/v3/projects?name=admin").await?;
        Ok(Cloud {
            project: projects["projects"][0]["id"].as_str().unwrap_or_default().to_string(),
            image: peer("image", "image")?,
            compute: peer("compute", "compute")?.at_version("compute 2.93"),
            network: peer("network", "network")?,
        })
    }

    async fn image(&self, options: &InitRunonce) -> Result<()> {
        let name = &options.image_name;
        let found = self.image.get(Rights::Service, &format!("/v2/images?name={name}&status=active")).await?;
        if first(&found, "images").is_some() {
            return said(&format!("image {name}"), false);
        }
        let file = &options.image;
        let format = if starts_with(file, b"QFI\xfb")? { "qcow2" } else { "raw" };
        let new = json!({
            "name": name, "disk_format": format, "container_format": "bare", "visibility": "public", "os_type": "linux",
        });
        let made = self.image.post(Rights::Service, "/v2/images", &new).await.context("making the image")?;
        let id = made["id"].as_str().unwrap_or_default();
        let mut upload = Request::new(Method::PUT, &format!("/v2/images/{id}/file"));
        upload = upload.header("content-type", "application/octet-stream");
        upload.content = contents(file)?;
        self.image.ask(Rights::Service, upload).await.with_context(|| format!("uploading {}", file.display()))?;
        said(&format!("image {name}"), true)
    }

    async fn flavors(&self) -> Result<()> {
        let held = self.compute.get(Rights::Service, "/v2.1/flavors").await?;
        for (index, (name, vcpus, ram, disk)) in FLAVORS.iter().enumerate() {
            if held["flavors"].as_array().into_iter().flatten().any(|flavor| flavor["name"] == *name) {
                said(&format!("flavor {name}"), false)?;
                continue;
            }
            let id = (index + 1).to_string();
            let new = json!({"flavor": {"id": id, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk}});
            self.compute
                .post(Rights::Service, "/v2.1/flavors", &new)
                .await
                .with_context(|| format!("flavor {name}"))?;
            said(&format!("flavor {name}"), true)?;
        }
        Ok(())
    }

    /// The provider network that floating addresses come from.
    async fn external(&self, options: &InitRunonce) -> Result<String> {
        let new = json!({
            "name": "public1", "router:external": true, "provider:network_type": "flat",
            "provider:physical_network": options.physical_network,
        });
        let network = self.ensure("network", "networks", "name=public1", new).await?;
        let (start, end) = options.external_range.split_once(',').context("--external-range is FIRST,LAST")?;
        let new = json!({
            "name": "public1-subnet", "network_id": network, "ip_version": 4, "cidr": options.external_cidr,
            "gateway_ip": options.external_gateway, "enable_dhcp": false,
            "allocation_pools": [{"start": start.trim(), "end": end.trim()}],
        });
        self.ensure("subnet", "subnets", "name=public1-subnet", new).await?;
        Ok(network)
    }

    async fn demo(&self, options: &InitRunonce, external: &str) -> Result<()> {
        let network = self.ensure("network", "networks", "name=demo-net", json!({"name": "demo-net"})).await?;
        let new = json!({
            "name": "demo-subnet", "network_id": network, "ip_version": 4, "cidr": options.demo_cidr,
            "dns_nameservers": ["8.8.8.8"],
        });
        let subnet = self.ensure("subnet", "subnets", "name=demo-subnet", new).await?;
        let new = json!({"name": "demo-router", "external_gateway_info": {"network_id": external}});
        let router = self.ensure("router", "routers", "name=demo-router", new).await?;
        let ports = format!("/v2.0/ports?device_id={router}&network_id={network}");
        if first(&self.network.get(Rights::Service, &ports).await?, "ports").is_none() {
            let path = format!("/v2.0/routers/{router}/add_router_interface");
            let body = json!({"subnet_id": subnet});
            self.network.put(Rights::Service, &path, &body).await.context("joining the demo subnet to its router")?;
        }
        Ok(())
    }

    /// ICMP and SSH into the default group of the admin project.
    async fn rules(&self) -> Result<()> {
        let target = format!("/v2.0/security-groups?name=default&project_id={}", self.project);
        let groups = self.network.get(Rights::Service, &target).await?;
        let group = first(&groups, "security_groups").context("the admin project has no default security group")?;
        let ports = [("icmp", None), ("tcp", Some(22)), ("tcp", Some(8000)), ("tcp", Some(8080))];
        for (protocol, port) in ports {
            let new = json!({"security_group_rule": {
                "security_group_id": group["id"], "direction": "ingress", "protocol": protocol,
                "port_range_min": port, "port_range_max": port,
            }});
            match self.network.post(Rights::Service, "/v2.0/security-group-rules", &new).await {
                Err(error) if error.status() == 409 => {}
                other => drop(other.with_context(|| format!("a security group rule for {protocol}"))?),
            }
        }
        said("security group rules for ICMP and SSH", true)
    }

    async fn keypair(&self, layout: &Layout, public_key: Option<&Path>) -> Result<()> {
        match self.compute.get(Rights::Service, "/v2.1/os-keypairs/mykey").await {
            Ok(_) => return said("keypair mykey", false),
            Err(error) if !error.is_missing() => return Err(error.into()),
            Err(_) => {}
        }
        let file = match public_key {
            Some(path) => path.to_path_buf(),
            None => fresh_pair(layout)?,
        };
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let new = json!({"keypair": {"name": "mykey", "type": "ssh", "public_key": text.trim()}});
        self.compute.post(Rights::Service, "/v2.1/os-keypairs", &new).await.context("importing the keypair")?;
        said("keypair mykey", true)
    }

    async fn quotas(&self) -> Result<()> {
        let path = format!("/v2.1/os-quota-sets/{}", self.project);
        let body = json!({"quota_set": {"instances": 40, "cores": 40, "ram": 96000}});
        self.compute.put(Rights::Service, &path, &body).await.context("setting the admin project's quotas")?;
        said("quotas", true)
    }

    /// The id of what `query` finds, or of what is made from `new`.
    async fn ensure(&self, one: &str, many: &str, query: &str, new: Json) -> Result<String> {
        let found = self.network.get(Rights::Service, &format!("/v2.0/{many}?{query}")).await?;
        if let Some(held) = first(&found, many) {
            said(&format!("{one} {}", held["name"].as_str().unwrap_or_default()), false)?;
            return Ok(held["id"].as_str().unwrap_or_default().to_string());
        }
        let made = self.network.post(Rights::Service, &format!("/v2.0/{many}"), &json!({one: new})).await;
        let made = made.map_err(|error: PeerError| anyhow::anyhow!("making the {one}: {}", error.message()))?;
        said(&format!("{one} {}", made[one]["name"].as_str().unwrap_or_default()), true)?;
        Ok(made[one]["id"].as_str().unwrap_or_default().to_string())
    }
}

fn endpoint(catalog: &Json, kind: &str) -> Option<String> {
    let service = catalog["catalog"].as_array()?.iter().find(|service| service["type"] == kind)?;
    let public = service["endpoints"].as_array()?.iter().find(|endpoint| endpoint["interface"] == "public")?;
    Some(public["url"].as_str()?.trim_end_matches('/').to_string())
}

fn first<'a>(body: &'a Json, key: &str) -> Option<&'a Json> {
    body[key].as_array().and_then(|list| list.first())
}

fn said(what: &str, made: bool) -> Result<()> {
    println!("  {} {what}", if made { "made " } else { "there" });
    Ok(())
}

fn starts_with(file: &Path, magic: &[u8]) -> Result<bool> {
    use std::io::Read;
    let mut head = vec![0; magic.len()];
    let mut file = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    Ok(file.read_exact(&mut head).is_ok() && head == magic)
}

/// A file as a body that is read while it is sent.
fn contents(path: &Path) -> Result<Content> {
    use std::io::Read;
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let chunks = std::iter::from_fn(move || {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(read) => {
                chunk.truncate(read);
                Some(Ok(chunk.into()))
            }
            Err(error) => Some(Err(error)),
        }
    });
    Ok(Content::Chunks { length: Some(length), chunks: Box::pin(futures_util::stream::iter(chunks)) })
}

/// A new pair in the data directory, made by ssh-keygen.
fn fresh_pair(layout: &Layout) -> Result<std::path::PathBuf> {
    let key = layout.root.join("id_mykey");
    if !key.exists() {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "mykey", "-f"]).arg(&key).status();
        match made {
            Ok(status) if status.success() => {}
            _ => bail!("ssh-keygen could not make a key; install openssh-client, or name one with --public-key"),
        }
    }
    Ok(key.with_extension("pub"))
}
