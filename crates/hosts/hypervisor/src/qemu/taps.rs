//! The taps of guests: made before QEMU starts, in the host's network namespace, and marked by a second name. The alias
//! is the network agent's mark.
//!
//! We leave a tap down: the network agent puts it up when it is wired, so that a guest never talks to the host itself.

use base::Json;
use contract::HostError;
use contract::guest::Nic;

use super::{Owner, process};

/// The second name goes on with the guest's id and the first name, because it must be unique.
const MARK: &str = "ferrostack-guest-";
const ID_LENGTH: usize = 36;

/// Makes the taps that a guest without a process lacks, and removes those that it no longer has.
pub(crate) async fn ensure(
    netns: Option<&str>,
    guest: &str,
    nics: &[Nic],
    owner: Option<Owner>,
) -> Result<(), HostError> {
    let here = list(netns).await?;
    let user = owner.map(|owner| format!(" user {}", owner.uid)).unwrap_or_default();
    let mut batch = String::new();
    for tap in here.iter().filter(|tap| tap.guest.as_deref() == Some(guest)) {
        if !nics.iter().any(|nic| nic.tap == tap.name) {
            batch += &format!("link del dev {}\n", tap.name);
        }
    }
    for Nic { tap, mtu, .. } in nics {
        let found = here.iter().find(|found| found.name == *tap);
        if found.is_none() {
            batch += &format!("tuntap add dev {tap} mode tap{user}\nlink set dev {tap} mtu {mtu}\n");
        }
        if found.is_none_or(|found| found.guest.is_none()) {
            batch += &format!("link property add dev {tap} altname {MARK}{guest}-{tap}\n");
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => ip(netns, &["-batch", "-"], Some(&batch)).await.map(|_| ()),
    }
}

/// Removes every tap that bears this guest's mark, also those that its order no longer names.
pub(crate) async fn remove(netns: Option<&str>, guest: &str) -> Result<(), HostError> {
    let ours = list(netns).await?.into_iter().filter(|tap| tap.guest.as_deref() == Some(guest));
    let batch: String = ours.map(|tap| format!("link del dev {}\n", tap.name)).collect();
    match batch.is_empty() {
        true => Ok(()),
        // Another remover may have been faster with some of them.
        false => ip(netns, &["-force", "-batch", "-"], Some(&batch)).await.map(|_| ()),
    }
}

pub(crate) struct Tap {
    pub(crate) name: String,
    /// Whose mark it bears.
    pub(crate) guest: Option<String>,
}

/// Every interface of the host; those that bear our mark are taps of guests.
pub(crate) async fn list(netns: Option<&str>) -> Result<Vec<Tap>, HostError> {
    let text = ip(netns, &["-j", "link", "show"], None).await?;
    let links: Vec<Json> =
        serde_json::from_str(&text).map_err(|error| HostError::again("listing interfaces").because(error))?;
    let taps = links.iter().filter_map(|link| {
        let names = link["altnames"].as_array().map(Vec::as_slice).unwrap_or_default();
        let guest = names.iter().find_map(|name| name.as_str()?.strip_prefix(MARK)?.get(..ID_LENGTH));
        Some(Tap { name: link["ifname"].as_str()?.to_string(), guest: guest.map(String::from) })
    });
    Ok(taps.collect())
}

async fn ip(netns: Option<&str>, words: &[&str], input: Option<&str>) -> Result<String, HostError> {
    let mut argv = vec!["ip"];
    if let Some(name) = netns {
        argv.extend(["-n", name]);
    }
    argv.extend(words);
    process::tool(&argv, input).await
}
