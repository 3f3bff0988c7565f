//! Addresses of ports: which are free, which are taken, and taking one so that nobody else gets it.
//!
//! The primary key (network, address) decides between two requests, on every database alike: a taken address is not an
//! error but the reason to try another one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use db::{Queries, record, select, sql};
use ipnet::IpNet;
use rand::Rng;

use crate::engine::gather;
use crate::fault::{Fault, invalid};
use crate::ip;
use crate::stop::Stop;
use crate::subnets::Subnet;
use crate::work::Work;

record! {
    pub struct Address in "addresses" {
        pub network_id: String,
        pub ip_address: String,
        pub subnet_id: String,
        pub port_id: String,
        /// Its place among the port's.
        pub place: i64,
    }
}

impl Address {
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip_address.parse().ok()
    }
}

/// The addresses of each of these ports, in their order.
pub async fn of(db: impl Queries, ports: &[String]) -> Result<HashMap<String, Vec<Address>>, db::Error> {
    let mut by_port: HashMap<String, Vec<Address>> = HashMap::new();
    for address in gather::<Address>(db, "port_id", ports).await? {
        by_port.entry(address.port_id.clone()).or_default().push(address);
    }
    by_port.values_mut().for_each(|addresses| addresses.sort_by_key(|address| address.place));
    Ok(by_port)
}

/// Which addresses a port wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Wanted {
    /// One of each family that the network has.
    Any,
    /// One IPv4 address.
    AnyV4,
    These(Vec<One>),
}

/// One address: a certain one, any of a subnet, or both together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct One {
    pub subnet: Option<String>,
    pub address: Option<IpAddr>,
}

/// The port that addresses are taken for.
pub struct Taker<'a> {
    pub port: &'a str,
    pub network: &'a str,
    pub mac: &'a str,
    pub device_owner: &'a str,
}

impl Taker<'_> {
    fn is_router_interface(&self) -> bool {
        self.device_owner.starts_with("network:router_interface")
            || self.device_owner == "network:router_centralized_snat"
    }

    /// Subnets may be for certain owners only.
    fn fits(&self, subnet: &Subnet) -> bool {
        subnet.service_types.is_empty() || subnet.service_types.iter().any(|kind| kind == self.device_owner)
    }
}

/// Takes addresses for a port. `subnets` are all those of the network; `place` is the place of the first.
pub async fn take(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnets: &[Subnet],
    wanted: &Wanted,
    mut place: i64,
) -> Result<Vec<Address>, Stop> {
    let mut taken = Vec::new();
    match wanted {
        Wanted::Any => {
            for version in [4, 6] {
                taken.extend(any(work, taker, subnets, version, place + taken.len() as i64).await?);
            }
        }
        Wanted::AnyV4 => {
            let address = any(work, taker, subnets, 4, place).await?;
            taken.push(address.ok_or_else(|| Fault::IpAddressGenerationFailure { net_id: taker.network.into() })?);
        }
        Wanted::These(list) => {
            for one in list {
                taken.push(this(work, taker, subnets, one, place).await?);
                place += 1;
            }
            if list.is_empty() {
                return Ok(taken);
            }
        }
    }
    if *wanted != Wanted::AnyV4 && !taker.is_router_interface() {
        let given: HashSet<String> = taken.iter().map(|address| address.subnet_id.clone()).collect();
        for subnet in subnets.iter().filter(|subnet| subnet.is_automatic() && !given.contains(&subnet.id)) {
            taken.extend(automatic(work, taker, subnet, 100 + taken.len() as i64).await?);
        }
    }
    Ok(taken)
}

/// One address of any subnet of a family; none when the network has no such subnet.
async fn any(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnets: &[Subnet],
    version: i64,
    place: i64,
) -> Result<Option<Address>, Stop> {
    let fit = |subnet: &&Subnet| subnet.ip_version == version && !subnet.is_automatic() && taker.fits(subnet);
    let candidates: Vec<&Subnet> = subnets.iter().filter(fit).collect();
    for subnet in &candidates {
        if let Some(address) = from_pools(work, taker, subnet, place).await? {
            return Ok(Some(address));
        }
    }
    match candidates.is_empty() {
        true => Ok(None),
        false => Err(Fault::IpAddressGenerationFailure { net_id: taker.network.into() }.into()),
    }
}

async fn this(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnets: &[Subnet],
    one: &One,
    place: i64,
) -> Result<Address, Stop> {
    let subnet = chosen(taker, subnets, one)?;
    let Some(address) = one.address else {
        let found = match subnet.is_automatic() && !taker.is_router_interface() {
            true => automatic(work, taker, subnet, place).await?,
            false => from_pools(work, taker, subnet, place).await?,
        };
        return found.ok_or_else(|| Fault::IpAddressGenerationFailure { net_id: taker.network.into() }.into());
    };
    if subnet.is_automatic() && !taker.is_router_interface() {
        let own = subnet.automatic_address(taker.mac);
        if own != Some(address) {
            return Err(invalid(format!(
                "IPv6 address {address} can not be directly assigned to a port on subnet {} since the subnet is \
                 configured for automatic addresses",
                subnet.id
            ))
            .into());
        }
    }
    let claimed = claim(work, taker, subnet, address, place).await?;
    claimed.ok_or_else(|| {
        Fault::IpAddressAlreadyAllocated { ip: address.to_string(), subnet_id: subnet.id.clone() }.into()
    })
}

/// The subnet that an entry of `fixed_ips` means.
fn chosen<'a>(taker: &Taker<'_>, subnets: &'a [Subnet], one: &One) -> Result<&'a Subnet, Fault> {
    match (&one.subnet, one.address) {
        (None, None) => Err(invalid("IP allocation requires subnet_id or ip_address")),
        (None, Some(address)) => {
            let holds = |subnet: &&Subnet| {
                ip::usable(&subnet.net(), address)
                    || taker.device_owner.starts_with("network:") && subnet.net().contains(&address)
            };
            subnets.iter().find(holds).ok_or_else(|| Fault::InvalidIpForNetwork { ip_address: address.to_string() })
        }
        (Some(id), address) => {
            let subnet = subnets.iter().find(|subnet| subnet.id == *id).ok_or_else(|| {
                invalid(format!(
                    "Failed to create port on network {}, because fixed_ips included invalid subnet {id}",
                    taker.network
                ))
            })?;
            let inside = |address: IpAddr| {
                let net = subnet.net();
                ip::usable(&net, address) || subnet.ip_version == 6 && net.contains(&address)
            };
            match address {
                Some(address) if !inside(address) => Err(Fault::InvalidIpForSubnet { ip_address: address.to_string() }),
                _ => Ok(subnet),
            }
        }
    }
}

async fn automatic(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnet: &Subnet,
    place: i64,
) -> Result<Option<Address>, Stop> {
    match subnet.automatic_address(taker.mac) {
        Some(address) => claim(work, taker, subnet, address, place).await,
        None => Ok(None),
    }
}

/// Limit: random tries before the free addresses are counted out.
const TRIES: usize = 8;
/// Limit: free addresses to try one after the other when a pool is nearly full.
const LAST_FREE: usize = 256;

/// A free address of a subnet's pools, by chance.
async fn from_pools(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnet: &Subnet,
    place: i64,
) -> Result<Option<Address>, Stop> {
    let net = subnet.net();
    let pools = subnet.pools();
    let size: u128 = pools.iter().map(|(first, last)| last - first + 1).sum();
    if size == 0 {
        return Ok(None);
    }
    for _ in 0..TRIES {
        let number = nth(&pools, rand::rng().random_range(0..size));
        if let Some(address) = claim(work, taker, subnet, ip::address(number, &net), place).await? {
            return Ok(Some(address));
        }
    }
    let used = used(work, subnet).await?;
    let start = rand::rng().random_range(0..size);
    // Both loops end: a pool with more addresses than are used has a free one among the first used + 1.
    let most = size.min(used.len() as u128 + LAST_FREE as u128);
    let free = (0..most).map(|step| nth(&pools, (start + step) % size)).filter(|number| !used.contains(number));
    let free: Vec<u128> = free.take(LAST_FREE).collect();
    for number in free {
        if let Some(address) = claim(work, taker, subnet, ip::address(number, &net), place).await? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// The address at `place` of all pools in a row.
fn nth(pools: &[(u128, u128)], mut place: u128) -> u128 {
    for (first, last) in pools {
        let length = last - first + 1;
        if place < length {
            return first + place;
        }
        place -= length;
    }
    pools.first().map_or(0, |(first, _)| *first)
}

async fn used(work: &mut Work<'_>, subnet: &Subnet) -> Result<HashSet<u128>, Stop> {
    let rows = work.tx.rows(sql("SELECT ip_address FROM addresses WHERE subnet_id = ?").bind(&subnet.id)).await?;
    let mut used = HashSet::new();
    for row in rows {
        let text: String = row.get(0)?;
        used.extend(text.parse().ok().map(ip::number));
    }
    Ok(used)
}

/// Takes one address; `None` when somebody has it.
async fn claim(
    work: &mut Work<'_>,
    taker: &Taker<'_>,
    subnet: &Subnet,
    address: IpAddr,
    place: i64,
) -> Result<Option<Address>, Stop> {
    let row = Address {
        network_id: taker.network.to_string(),
        ip_address: address.to_string(),
        subnet_id: subnet.id.clone(),
        port_id: taker.port.to_string(),
        place,
    };
    Ok(work.tx.insert_new(&row).await?.then_some(row))
}

/// Gives addresses back.
pub async fn release(work: &mut Work<'_>, addresses: &[Address]) -> Result<(), Stop> {
    for address in addresses {
        let gone = sql("DELETE FROM addresses WHERE network_id = ? AND ip_address = ? AND port_id = ?");
        work.tx.run(gone.bind(&address.network_id).bind(&address.ip_address).bind(&address.port_id)).await?;
    }
    Ok(())
}

/// The port's addresses, inside a transaction.
pub async fn own(work: &mut Work<'_>, port: &str) -> Result<Vec<Address>, Stop> {
    Ok(work.tx.all(select::<Address>("WHERE port_id = ? ORDER BY place").bind(port)).await?)
}

/// The port's addresses with the lengths of their subnets.
pub fn with_lengths(addresses: &[Address], subnets: &HashMap<String, Subnet>) -> Vec<IpNet> {
    let net = |address: &Address| IpNet::new(address.ip()?, subnets.get(&address.subnet_id)?.net().prefix_len()).ok();
    addresses.iter().filter_map(net).collect()
}
