//! `ferrostack up`: the all-in-one cloud with no configuration.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::agents::{Door, Host, ImageSource};
use crate::bootstrap::{self, REGION};
use crate::cloud::{Cloud, Plan};
use crate::command::Up;
use crate::control::Control;
use crate::credentials;
use crate::doors::service_login;
use crate::hosts;
use crate::layout::{Layout, write_private};
use crate::leaks::{Inspected, Inspector};
use crate::ports::Ports;
use crate::secrets::Secrets;

/// What a detached cloud says on its standard output once every API answers.
const READY: &str = "ready";
const SERVICES: &[&str] = &["identity", "image", "placement", "network", "compute", "metadata"];

/// Starts the cloud and stays until it is told to stop; or, detached, until every API answers.
pub fn run(options: Up) -> Result<()> {
    let layout = Layout::at(options.place.data_dir.clone())?;
    layout.make()?;
    if options.detach {
        return detach(&layout);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(foreground(options, layout))
}

async fn foreground(options: Up, layout: Layout) -> Result<()> {
    let begun = Instant::now();
    let _lock = layout.lock()?;
    let secrets = Secrets::load(&layout)?;
    let plan = plan(&options, &layout, &secrets);
    if !options.fake {
        hosts::must_be_possible(options.netns.as_deref())?;
    }
    let mut cloud = Cloud::build(&plan).await?;
    let auth_url = format!("{}/v3", plan.ports.url(&plan.host_url, "identity"));
    first_start(&layout, &plan, &secrets, &cloud, &auth_url).await?;
    credentials::write(&layout, &secrets, &auth_url, REGION)?;
    cloud.start_engines(&hosts::owner(&layout)?);
    cloud.listen(&plan, options.bind, options.netns.as_deref())?;
    let agents = start_agents(&options, &layout, &plan, &cloud).await?;
    let _control = Control::open(&layout, Arc::new(inspector(&cloud, &plan, &agents)?))?;
    let running = json!({
        "pid": std::process::id(), "fake": options.fake, "netns": options.netns, "auth_url": auth_url,
        "bind": options.bind.to_string(), "port_offset": options.port_offset, "hosts": names(&agents),
    });
    write_private(&layout.running(), &format!("{running:#}\n"))?;
    greet(&options, &layout, &plan, begun.elapsed());

    wait_for_the_end().await?;
    tracing::info!("stopping: requests in progress are finished, guests go on");
    for host in agents {
        host.stop().await;
    }
    cloud.stop().await;
    Ok(())
}

fn plan(options: &Up, layout: &Layout, secrets: &Secrets) -> Plan {
    Plan {
        layout: layout.clone(),
        config_dir: layout.etc(),
        services: SERVICES.to_vec(),
        ports: Ports::new(options.port_offset),
        host_url: options.public_url.clone().unwrap_or_else(|| format!("http://{}", host(options.bind))),
        fixed_links: options.public_url.is_some(),
        auth_url: None,
        service_password: secrets.service_password.clone(),
        metadata_secret: secrets.metadata_secret.clone(),
        migrate: true,
    }
}

fn host(bind: std::net::IpAddr) -> String {
    match bind {
        bind if bind.is_unspecified() => "127.0.0.1".to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
        address => address.to_string(),
    }
}

/// Makes the administrator, the catalog and the demo project, unless this has been done for the same URLs before.
async fn first_start(layout: &Layout, plan: &Plan, secrets: &Secrets, cloud: &Cloud, auth_url: &str) -> Result<()> {
    let mark = layout.root.join("bootstrapped");
    let done = format!("{auth_url} {REGION} 1\n");
    if std::fs::read_to_string(&mark).is_ok_and(|text| text == done) {
        return Ok(());
    }
    let identity = cloud.identity.as_ref().context("an all-in-one cloud has an identity service")?;
    let wanted = identity::manage::Bootstrap {
        password: secrets.admin_password.clone(),
        public_url: Some(auth_url.to_string()),
        internal_url: Some(auth_url.to_string()),
        admin_url: Some(auth_url.to_string()),
        region: Some(REGION.to_string()),
        ..identity::manage::Bootstrap::default()
    };
    identity::manage::bootstrap(identity, wanted).await.context("making the administrator")?;
    bootstrap::ensure(&cloud.doors, secrets, &plan.ports, &plan.host_url).await.context("filling the catalog")?;
    write_private(&mark, &done)
}

async fn start_agents(options: &Up, layout: &Layout, plan: &Plan, cloud: &Cloud) -> Result<Vec<Host>> {
    let account = cloud.doors.account(service_login("nova", &plan.service_password));
    let images = Arc::new(ImageSource { image: cloud.doors.peer("image", &account) });
    let doors = |subject| Door { bus: cloud.bus.clone(), subject };
    let settings = hosts::Settings {
        layout: layout.clone(),
        config_dir: plan.config_dir.clone(),
        netns: options.netns.clone(),
        name: options.host.clone(),
        physical: options.physical_interface.clone(),
    };
    match options.fake {
        true => hosts::fake(&settings, options.fake_hosts, &cloud.bus, doors("compute"), doors("network")).await,
        false => Ok(vec![hosts::real(&settings, images, &cloud.bus, doors("compute"), doors("network")).await?]),
    }
}

/// What answers `leaks`, `explain` and `doctor`.
fn inspector(cloud: &Cloud, plan: &Plan, agents: &[Host]) -> Result<Inspector> {
    let account = cloud.doors.account(service_login("nova", &plan.service_password));
    let inspected = |host: &Host| Inspected {
        name: host.name.clone(),
        guests: host.guests.clone(),
        wires: host.wires.clone(),
        orders: Door { bus: cloud.bus.clone(), subject: "network" },
    };
    Ok(Inspector {
        compute: cloud.compute.clone().context("an all-in-one cloud has a compute service")?,
        images: cloud.images.clone().context("an all-in-one cloud has an image service")?,
        network: cloud.doors.peer("network", &account),
        placement: cloud.doors.peer("placement", &account).at_version("placement 1.39"),
        hosts: agents.iter().map(inspected).collect(),
    })
}

fn names(agents: &[Host]) -> Vec<&str> {
    agents.iter().map(|host| host.name.as_str()).collect()
}

fn greet(options: &Up, layout: &Layout, plan: &Plan, took: Duration) {
    let kind = if options.fake { "simulated hosts" } else { "this host" };
    let root = layout.root.display();
    println!("The cloud runs ({kind}), {} ms after its start.", took.as_millis());
    println!("  identity   {}/v3", plan.ports.url(&plan.host_url, "identity"));
    println!("  data       {root}");
    println!("  password   in {root}/keystonerc_admin, which only you can read");
    println!("Next:  source {root}/keystonerc_admin  &&  openstack catalog list");
    if !options.bind.is_loopback() {
        println!("Beware: {} is not loopback, and nothing here is encrypted. Put TLS in front of it.", options.bind);
    }
    println!("{READY}");
    let _ = std::io::stdout().flush();
}

async fn wait_for_the_end() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts this program again in the background and waits until it says that every API answers.
fn detach(layout: &Layout) -> Result<()> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(layout.log());
    let mut log = log.with_context(|| format!("opening {}", layout.log().display()))?;
    let before = log.seek(SeekFrom::End(0))?;
    let arguments = std::env::args_os().skip(1).filter(|argument| argument != "--detach");
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context("starting the cloud in the background")?;
    let output = child.stdout.take().context("the cloud has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line == READY {
            return Ok(());
        }
        println!("{line}");
    }
    let status = child.wait()?;
    let mut told = String::new();
    let mut log = std::fs::File::open(layout.log())?;
    log.seek(SeekFrom::Start(before))?;
    log.read_to_string(&mut told)?;
    bail!("the cloud did not start ({status}):\n{}", told.trim_end())
}
