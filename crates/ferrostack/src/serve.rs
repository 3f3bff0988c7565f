//! `ferrostack serve` and `ferrostack agent`: the same code, split over processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base::config::Config;
use bus::Bus;
use clients::identity::RemoteIdentity;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::agents::{Door, ImageSource};
use crate::cloud::{Cloud, Plan};
use crate::command::{Agent, Serve};
use crate::configuration;
use crate::doors::{Doors, service_login};
use crate::hosts;
use crate::layout::Layout;
use crate::ports::Ports;
use crate::sockets;

/// Limit: requests of metadata proxies that are carried out of a namespace at once.
const CARRIED: usize = 256;
const SERVICES: &[&str] = &["identity", "image", "placement", "network", "compute", "metadata"];

/// Runs chosen services until told to stop.
pub fn services(options: Serve) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let layout = Layout::at(options.place.data_dir.clone())?;
        layout.make()?;
        let plan = plan(&options, layout.clone())?;
        let mut cloud = Cloud::build(&plan).await?;
        cloud.start_engines(&hosts::owner(&layout)?);
        cloud.listen(&plan, options.bind, None)?;
        println!("ready");
        the_end().await?;
        cloud.stop().await;
        Ok(())
    })
}

fn plan(options: &Serve, layout: Layout) -> Result<Plan> {
    let mut services = Vec::new();
    for wanted in &options.services {
        match SERVICES.iter().find(|service| *service == wanted) {
            Some(service) => services.push(*service),
            None => bail!("there is no service {wanted}; there are {}", SERVICES.join(", ")),
        }
    }
    let nova = configuration::read(&options.config_dir, "compute")?;
    Ok(Plan {
        layout,
        config_dir: options.config_dir.clone(),
        services,
        ports: Ports::new(options.port_offset),
        host_url: format!("http://{}", options.bind),
        fixed_links: false,
        auth_url: auth_url(&options.config_dir)?,
        service_password: password(&options.config_dir)?,
        metadata_secret: nova.text_or("neutron", "metadata_proxy_shared_secret", "").to_string(),
        migrate: false,
    })
}

/// `[keystone_authtoken]` of the first service that has it.
fn authtoken(directory: &std::path::Path, option: &str) -> Result<Option<String>> {
    for service in ["compute", "network", "image", "placement"] {
        let config = configuration::read(directory, service)?;
        if let Some(text) = config.text("keystone_authtoken", option) {
            return Ok(Some(text.to_string()));
        }
    }
    Ok(None)
}

fn auth_url(directory: &std::path::Path) -> Result<Option<String>> {
    authtoken(directory, "auth_url")
}

fn password(directory: &std::path::Path) -> Result<String> {
    Ok(authtoken(directory, "password")?.unwrap_or_default())
}

/// Runs the agents of this host until told to stop.
pub fn agent(options: Agent) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let layout = Layout::at(options.place.data_dir.clone())?;
        layout.make()?;
        let _lock = layout.lock()?;
        if !options.fake {
            hosts::must_be_possible(options.netns.as_deref())?;
        }
        let nova = configuration::read(&options.config_dir, "compute")?;
        let bus = bus(&nova)?;
        let doors = doors(&options)?;
        let account = doors.account(service_login("nova", &password(&options.config_dir)?));
        let images = Arc::new(ImageSource { image: doors.peer("image", &account) });
        let door = |subject| Door { bus: bus.clone(), subject };
        let settings = hosts::Settings {
            layout,
            config_dir: options.config_dir.clone(),
            netns: options.netns.clone(),
            name: options.host.clone(),
            physical: Vec::new(),
        };
        let _metadata = match &options.netns {
            Some(netns) => Some(forward_metadata(netns, options.port_offset)?),
            None => None,
        };
        let running = match options.fake {
            true => hosts::fake(&settings, 1, &bus, door("compute"), door("network")).await?,
            false => vec![hosts::real(&settings, images, &bus, door("compute"), door("network")).await?],
        };
        println!("ready");
        the_end().await?;
        for host in running {
            host.stop().await;
        }
        Ok(())
    })
}

/// A host in a namespace reaches nothing of this machine, where metadata is served: what its metadata proxies send to
/// the loopback there is carried to the loopback here. Dropping the set ends it.
fn forward_metadata(netns: &str, port_offset: u16) -> Result<JoinSet<()>> {
    let there = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), Ports::new(port_offset).of("metadata"));
    let listener = sockets::listen(there, Some(netns))?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut carried = JoinSet::new();
        while let Ok((mut guest, _)) = listener.accept().await {
            while carried.try_join_next().is_some() {}
            if carried.len() >= CARRIED {
                continue;
            }
            carried.spawn(async move {
                if let Ok(mut service) = TcpStream::connect(there).await {
                    let _ = tokio::io::copy_bidirectional(&mut guest, &mut service).await;
                }
            });
        }
    });
    Ok(tasks)
}

fn bus(nova: &Config) -> Result<Bus> {
    let url = nova.text("DEFAULT", "transport_url").context("nova.conf names no [DEFAULT] transport_url")?;
    Ok(Bus::connect(url)?)
}

fn doors(options: &Agent) -> Result<Doors> {
    let url = auth_url(&options.config_dir)?.context("nova.conf names no [keystone_authtoken] auth_url")?;
    let root = url.trim_end_matches('/').trim_end_matches("/v3").to_string();
    let identity = Arc::new(api::client::Remote::new(&root)?);
    let remote = Arc::new(RemoteIdentity::new(identity, &format!("{root}/v3")));
    let ports = Ports::new(options.port_offset);
    let host = root.rsplit_once(':').map_or(root.clone(), |(host, _)| host.to_string());
    let url_of = |service: &str| if service == "identity" { root.clone() } else { ports.url(&host, service) };
    Doors::new(&[], url_of, remote)
}

async fn the_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
