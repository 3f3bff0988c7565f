//! Kills the controller, at every step of every flow and at random moments, while servers come and go, and looks at
//! what is left of them. [`steps`] knows the steps.

mod steps;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value as Json, json};

use crate::cloud::{self, Cloud};
use crate::floors::Tally;
use crate::http::Session;
use crate::{process, python};
use steps::Step;

/// As many as keep flows of both kinds going at every moment.
const SERVERS: usize = 3;
/// Limit: how long servers may take to come to rest after a restart; leases have to lapse first.
const REST: Duration = Duration::from_secs(90);
/// Limit: how long a flow may take to reach the step where it crashes.
const CRASH: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Choice {
    /// How often the controller is killed
    #[arg(long, default_value_t = 50)]
    times: usize,
    /// The moments are the same for the same seed
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(choice: &Choice) -> Result<bool> {
    let tally = torture(choice)?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}

/// A few kills, for every run of the tests.
pub fn floor() -> Result<Tally> {
    torture(&Choice { times: 10, seed: None })
}

fn torture(choice: &Choice) -> Result<Tally> {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |it| it.as_millis() as u64);
    let seed = choice.seed.unwrap_or_else(now);
    println!("seed {seed}: run again with --seed {seed} for the same moments");
    let mut dice = Dice(seed);
    let cloud = Cloud::fake()?;
    let flavor = prepare(&cloud)?;
    let span = calm_round(&cloud, &flavor)?;
    println!("without kills, {SERVERS} servers come and go in {} ms", span.as_millis());

    let mut tally = Tally::default();
    for step in steps::all() {
        for place in ["FERROSTACK_CRASH_IN", "FERROSTACK_CRASH_AFTER"] {
            count(&mut tally, one_crash(&cloud, &flavor, &step, place), || {
                format!("{place}={}/{}", step.flow, step.name)
            });
        }
    }
    for number in 1..=choice.times {
        let moment = span.mul_f64(dice.share() * 1.2);
        let when = || format!("kill {number}, {} ms after the orders", moment.as_millis());
        count(&mut tally, one_kill(&cloud, &flavor, moment), when);
    }
    count(&mut tally, clean_up(&cloud), || "after the kills".to_owned());
    Ok(tally)
}

fn count(tally: &mut Tally, outcome: Result<()>, what: impl Fn() -> String) {
    match outcome {
        Ok(()) => tally.passed += 1,
        Err(error) => {
            println!("{}: {error:#}", what());
            tally.failed += 1;
        }
    }
}

/// A generator of numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn session(cloud: &Cloud) -> Result<Session> {
    Session::open(&cloud.keystonerc("admin"))
}

/// Makes what servers need; gives the body that asks for one.
fn prepare(cloud: &Cloud) -> Result<Json> {
    let admin = session(cloud)?;
    let quota = json!({"quota_set": {"instances": -1, "cores": -1, "ram": -1}});
    admin.ask("PUT", "compute", &format!("/os-quota-sets/{}", admin.project), &quota)?;
    let flavor = json!({"flavor": {"name": "kill", "ram": 64, "vcpus": 1, "disk": 0}});
    let flavor = admin.ask("POST", "compute", "/flavors", &flavor)?.body["flavor"]["id"].clone();
    let network = admin.ask("POST", "network", "/v2.0/networks", &json!({"network": {"name": "kill"}}))?;
    let network = network.body["network"]["id"].clone();
    let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.77.0.0/16"}});
    admin.ask("POST", "network", "/v2.0/subnets", &subnet)?;
    let image = json!({"name": "kill", "disk_format": "raw", "container_format": "bare"});
    let image = admin.ask("POST", "image", "/v2/images", &image)?.body["id"].clone();
    upload(cloud, &image)?;
    Ok(json!({"server": {"name": "kill", "flavorRef": flavor, "imageRef": image, "networks": [{"uuid": network}]}}))
}

fn upload(cloud: &Cloud, image: &Json) -> Result<()> {
    let id = image.as_str().context("the image service made no image")?;
    // What is in it does not matter to a fake host; `null` is a body like any other.
    let file = cloud.data_dir().join("kill.raw");
    std::fs::write(&file, vec![0; 65_536])?;
    let clients = python::clients()?;
    let mut save = Command::new(clients.join("bin/glance"));
    save.envs(cloud::credentials(&cloud.keystonerc("admin"))?);
    process::must(save.args(["image-upload", "--file"]).arg(&file).arg(id), "glance image-upload").map(|_| ())
}

fn servers(admin: &Session) -> Result<Vec<Json>> {
    let all = admin.get("compute", "/servers/detail?all_tenants=1")?;
    Ok(all["servers"].as_array().cloned().unwrap_or_default())
}

/// Orders new servers and the end of the old ones. What the kill cuts off is part of the game.
fn order(admin: &Session, wanted: &Json, old: &[Json]) -> Vec<anyhow::Error> {
    let mut lost = Vec::new();
    for server in old {
        let path = format!("/servers/{}", server["id"].as_str().unwrap_or_default());
        lost.extend(admin.ask("DELETE", "compute", &path, &Json::Null).err());
    }
    for _ in 0..SERVERS {
        lost.extend(admin.ask("POST", "compute", "/servers", wanted).err());
    }
    lost
}

/// How long it takes when nobody is killed.
fn calm_round(cloud: &Cloud, wanted: &Json) -> Result<Duration> {
    let admin = session(cloud)?;
    let mut longest = Duration::ZERO;
    for _ in 0..2 {
        let old = servers(&admin)?;
        let started = Instant::now();
        if let Some(error) = order(&admin, wanted, &old).pop() {
            return Err(error);
        }
        rest(&admin)?;
        longest = longest.max(started.elapsed());
    }
    Ok(longest)
}

fn one_kill(cloud: &Cloud, wanted: &Json, moment: Duration) -> Result<()> {
    let admin = session(cloud)?;
    let old = servers(&admin)?;
    let victim = cloud.controller()?;
    std::thread::scope(|scope| {
        scope.spawn(|| order(&admin, wanted, &old));
        std::thread::sleep(moment);
        kill(victim)
    })?;
    cloud.up()?;
    rest(&session(cloud)?)
}

/// The controller ends itself in, or right after, one step; the next one takes over.
fn one_crash(cloud: &Cloud, wanted: &Json, step: &Step, place: &str) -> Result<()> {
    let admin = session(cloud)?;
    if servers(&admin)?.iter().all(|server| server["status"] != "ACTIVE") {
        order(&admin, wanted, &[]);
        rest(&admin)?;
    }
    let server = servers(&admin)?.into_iter().find(|it| it["status"] == "ACTIVE").unwrap_or_default();
    kill(cloud.controller()?)?;
    cloud.up_with(&[(place, &format!("{}/{}", step.flow, step.name))])?;
    let doomed = cloud.controller()?;
    steps::order(step, &session(cloud)?, wanted, &server)?;
    wait_for_end(doomed).context("the step was not reached")?;
    cloud.up()?;
    rest(&session(cloud)?)
}

fn kill(victim: u32) -> Result<()> {
    process::must(Command::new("kill").args(["-9", &victim.to_string()]), "kill -9")?;
    wait_for_end(victim)
}

/// Until a process has let go of everything it held.
fn wait_for_end(pid: u32) -> Result<()> {
    let until = Instant::now() + CRASH;
    // One that nobody has buried yet holds nothing any more.
    let lives = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| !it.contains(") Z "));
    while lives() {
        if Instant::now() > until {
            bail!("process {pid} still runs after {} s", CRASH.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Waits until every server is at rest: ACTIVE, or ERROR with a reason, or gone.
fn rest(admin: &Session) -> Result<()> {
    let until = Instant::now() + REST;
    loop {
        let servers = servers(admin)?;
        let restless = servers.iter().filter(|it| !it["OS-EXT-STS:task_state"].is_null() || it["status"] == "BUILD");
        let restless: BTreeSet<String> = restless.map(describe).collect();
        if restless.is_empty() {
            let bad = servers.iter().find(|it| !is_fine(it));
            return bad.map_or(Ok(()), |server| bail!("a server is left {}", describe(server)));
        }
        if Instant::now() > until {
            bail!("not at rest after {} s: {restless:?}", REST.as_secs());
        }
        std::thread::sleep(ASK_EVERY);
    }
}

fn is_fine(server: &Json) -> bool {
    let explained = server["fault"]["message"].as_str().is_some_and(|it| !it.is_empty());
    server["status"] == "ACTIVE" || (server["status"] == "ERROR" && explained)
}

fn describe(server: &Json) -> String {
    format!("{} in {} {}", server["id"], server["status"], server["OS-EXT-STS:task_state"])
}

/// Deletes every server, and then nothing may be without an owner.
fn clean_up(cloud: &Cloud) -> Result<()> {
    let admin = session(cloud)?;
    let until = Instant::now() + REST;
    loop {
        let left = servers(&admin)?;
        if left.is_empty() {
            break;
        }
        if Instant::now() > until {
            bail!("{} servers do not go away", left.len());
        }
        for server in &left {
            let path = format!("/servers/{}", server["id"].as_str().unwrap_or_default());
            admin.ask("DELETE", "compute", &path, &Json::Null)?;
        }
        std::thread::sleep(ASK_EVERY);
    }
    let leaks = process::must(&mut cloud.command("leaks"), "ferrostack leaks")?;
    if !leaks.is_empty() {
        bail!("without an owner:\n{}", leaks.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_moments() {
        let shares = |seed| {
            let mut dice = Dice(seed);
            [dice.share(), dice.share(), dice.share()]
        };
        assert_eq!(shares(7), shares(7));
        assert_ne!(shares(7), shares(8));
        assert!(shares(7).iter().all(|share| (0.0..1.0).contains(share)));
    }

    #[test]
    fn a_server_in_error_must_say_why() {
        assert!(is_fine(&json!({"status": "ACTIVE"})));
        assert!(is_fine(&json!({"status": "ERROR", "fault": {"message": "no valid host"}})));
        assert!(!is_fine(&json!({"status": "ERROR"})));
        assert!(!is_fine(&json!({"status": "SHUTOFF"})));
    }
}
