//! What network devices, addresses and forwarding entries are there, read from `ip` and `bridge`; and batches that
//! change them in one process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use contract::network::Failure;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value as Json;

use super::space::{Error, Space};

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Link {
    pub ifname: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    pub mtu: u32,
    pub master: Option<String>,
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub ifalias: String,
    #[serde(default)]
    linkinfo: Info,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Info {
    #[serde(default)]
    info_kind: String,
    #[serde(default)]
    info_data: Json,
}

impl Link {
    pub(crate) fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }

    pub(crate) fn kind(&self) -> &str {
        &self.linkinfo.info_kind
    }

    /// VNI and own address of a VXLAN device.
    pub(crate) fn vxlan(&self) -> Option<(u64, &str)> {
        let data = &self.linkinfo.info_data;
        let local = data["local"].as_str().or(data["local6"].as_str())?;
        Some((data["id"].as_u64()?, local))
    }
}

/// The devices of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Links(BTreeMap<String, Link>);

impl Links {
    pub(crate) fn read(space: &Space) -> Result<Links, Error> {
        let found: Vec<Link> = parse("ip", &space.run("ip", &["-j", "-d", "link", "show"], "")?)?;
        Ok(Links(found.into_iter().map(|link| (link.ifname.clone(), link)).collect()))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Link> {
        self.0.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }

    pub(crate) fn ports_of<'a>(&'a self, bridge: &'a str) -> impl Iterator<Item = &'a Link> {
        self.all().filter(move |link| link.master.as_deref() == Some(bridge))
    }
}

/// Addresses and routes of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Device and address, without link-local ones.
    pub addresses: Vec<(String, IpNet)>,
    pub routes: Vec<KernelRoute>,
    links: HashMap<String, Link>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KernelRoute {
    pub destination: IpNet,
    pub via: Option<IpAddr>,
    pub device: String,
    /// Who made it; `kernel` for what follows from an address.
    pub protocol: String,
}

impl Addresses {
    /// Reads all of it; IPv6 routes cost another process and are read only where they are wanted.
    pub(crate) fn read(space: &Space, with_ipv6_routes: bool) -> Result<Addresses, Error> {
        let mut found = Addresses::default();
        let wanted = "address show\nroute show table main\n";
        found.take(&space.run("ip", &["-j", "-d", "-batch", "-"], wanted)?)?;
        if with_ipv6_routes {
            found.take(&space.run("ip", &["-j", "-d", "-6", "route", "show", "table", "main"], "")?)?;
        }
        Ok(found)
    }

    pub(crate) fn link(&self, device: &str) -> Option<&Link> {
        self.links.get(device)
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    pub(crate) fn of<'a>(&'a self, device: &'a str) -> impl Iterator<Item = IpNet> + 'a {
        self.addresses.iter().filter(move |(name, _)| name == device).map(|(_, address)| *address)
    }

    fn take(&mut self, answers: &str) -> Result<(), Error> {
        for answer in serde_json::Deserializer::from_str(answers).into_iter::<Vec<Json>>() {
            let rows = answer.map_err(|source| Error::NotJson { program: "ip".into(), source })?;
            for row in rows {
                self.take_row(row);
            }
        }
        Ok(())
    }

    fn take_row(&mut self, row: Json) {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
        if row.get("dst").is_some() {
            self.routes.extend(route(&row));
            return;
        }
        let device = text("ifname");
        for info in row["addr_info"].as_array().into_iter().flatten() {
            self.addresses.extend(address(info).map(|address| (device.clone(), address)));
        }
        if let Ok(link) = serde_json::from_value(row) {
            self.links.insert(device, link);
        }
    }
}

fn address(info: &Json) -> Option<IpNet> {
    if info["scope"] == "link" && info["family"] == "inet6" {
        return None;
    }
    let address: IpAddr = info["local"].as_str()?.parse().ok()?;
    IpNet::new(address, u8::try_from(info["prefixlen"].as_u64()?).ok()?).ok()
}

fn route(row: &Json) -> Option<KernelRoute> {
    let via: Option<IpAddr> = row["gateway"].as_str().and_then(|text| text.parse().ok());
    let destination = match row["dst"].as_str()? {
        "default" if via.is_some_and(|via| via.is_ipv6()) => "::/0".parse().ok()?,
        "default" => "0.0.0.0/0".parse().ok()?,
        text => text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?,
    };
    Some(KernelRoute {
        destination,
        via,
        device: row["dev"].as_str()?.to_string(),
        protocol: row["protocol"].as_str().unwrap_or_default().to_string(),
    })
}

/// A forwarding entry of a VXLAN device: its own (`dst` set) or the bridge's.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub mac: String,
    pub ifname: String,
    pub dst: Option<IpAddr>,
    pub master: Option<String>,
    #[serde(default)]
    pub state: String,
}

/// All forwarding entries of one namespace.
pub(crate) fn forwarding(space: &Space) -> Result<Vec<Entry>, Error> {
    parse("bridge", &space.run("bridge", &["-j", "fdb", "show"], "")?)
}

fn parse<T: for<'a> Deserialize<'a>>(program: &str, answer: &str) -> Result<Vec<T>, Error> {
    if answer.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(answer).map_err(|source| Error::NotJson { program: program.into(), source })
}

/// Lines for `ip -batch` or `bridge -batch`, each for the thing whose id is beside it.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    lines: Vec<(String, String)>,
    /// Lines about devices that may be gone by now.
    fleeting: BTreeSet<usize>,
}

impl Batch {
    pub(crate) fn add(&mut self, id: &str, line: impl Into<String>) {
        self.lines.push((id.to_string(), line.into()));
    }

    /// Adds lines whose devices may go before the batch comes to them.
    pub(crate) fn add_fleeting(&mut self, more: Batch) {
        self.fleeting.extend(self.lines.len()..self.lines.len() + more.lines.len());
        self.lines.extend(more.lines);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Runs all lines in one process, going on after a failure; returns the first failure of each id.
    pub(crate) fn run(&self, space: &Space, program: &str) -> Result<Vec<Failure>, Error> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let input: String = self.lines.iter().map(|(_, line)| format!("{line}\n")).collect();
        let done = space.run_to_end(program, &["-force", "-batch", "-"], &input)?;
        if !done.failed {
            return Ok(Vec::new());
        }
        Ok(self.failures(program, &done.complaint))
    }

    fn failures(&self, program: &str, complaint: &str) -> Vec<Failure> {
        let (mut failures, mut said) = (Vec::<Failure>::new(), Vec::new());
        for line in complaint.lines() {
            let Some(number) = line.strip_prefix("Command failed -:") else {
                said.push(line);
                continue;
            };
            let why = std::mem::take(&mut said).join(" ");
            let at = number.trim().parse::<usize>().unwrap_or_default();
            let Some(at) = at.checked_sub(1) else { continue };
            let Some((id, command)) = self.lines.get(at) else { continue };
            if self.fleeting.contains(&at) && why.contains("Cannot find device") {
                continue;
            }
            if !failures.iter().any(|failure| failure.id == *id) {
                failures.push(Failure { id: id.clone(), what: format!("{program} {command}: {why}") });
            }
        }
        failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_line_of_a_batch_is_the_failure_of_its_owner_only() {
        let mut batch = Batch::default();
        batch.add("a", "link set dev foo up");
        batch.add("b", "link set dev bar up");
        batch.add("a", "link set dev foo mtu 1450");
        let said = "Cannot find device \"foo\"\nCommand failed -:1\nCannot find device \"foo\"\nCommand failed -:3\n";
        let failures = batch.failures("ip", said);
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].id, "a");
        assert_eq!(failures[0].what, "ip link set dev foo up: Cannot find device \"foo\"");
    }

    #[test]
    fn a_guests_device_that_has_gone_is_no_failure() {
        let (mut batch, mut taps) = (Batch::default(), Batch::default());
        batch.add("a", "link set dev foo up");
        taps.add("b", "link set dev tap1 up");
        batch.add_fleeting(taps);
        let gone = "Cannot find device \"tap1\"\nCommand failed -:2\n";
        assert_eq!(batch.failures("ip", gone), []);
        let other = "RTNETLINK answers: Operation not permitted\nCommand failed -:2\n";
        assert_eq!(batch.failures("ip", other)[0].id, "b");
    }

    #[test]
    fn addresses_and_routes_are_read_from_one_stream_of_answers() {
        let said = r#"[{"ifname":"ns-1","flags":["UP"],"mtu":1450,"address":"52:54:00:00:00:01","addr_info":[
            {"family":"inet","local":"10.0.0.2","prefixlen":24,"scope":"global"},
            {"family":"inet6","local":"fe80::1","prefixlen":64,"scope":"link"}]}]
            [{"dst":"default","gateway":"10.0.0.1","dev":"ns-1","protocol":"static","flags":[]},
             {"dst":"10.0.0.0/24","dev":"ns-1","protocol":"kernel","scope":"link"}]"#;
        let mut found = Addresses::default();
        found.take(said).unwrap();
        assert_eq!(found.of("ns-1").collect::<Vec<_>>(), ["10.0.0.2/24".parse::<IpNet>().unwrap()]);
        assert_eq!(found.routes.len(), 2);
        assert_eq!(found.routes[0].via, Some("10.0.0.1".parse().unwrap()));
        assert!(found.link("ns-1").unwrap().is_up());
    }
}
