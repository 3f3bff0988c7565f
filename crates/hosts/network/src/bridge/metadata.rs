//! The metadata proxy: answers at 169.254.169.254 inside the namespaces of networks and routers.
//!
//! A guest's request says nothing about who it is; its source address in its network does. The proxy forwards it to the
//! metadata service from the host's own namespace, with the server, the project and a signature beside it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use contract::network::{Failure, Lease, Metadata};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::http::{self, Introduction};
use super::room::{Room, Service};
use super::space::{Error, Space};
use super::{dhcp, router};

/// Limit: guests ask once at boot and now and then later; a flood of one host's guests must not starve the service.
const AT_ONCE: usize = 256;
/// Limit: for one request, from its first byte to the answer's last.
const REQUEST_TIME: Duration = Duration::from_secs(60);
const METADATA_PORT: u16 = 80;

/// The proxies of a host, one for each namespace.
pub(crate) struct Proxies {
    runtime: Handle,
    common: Arc<Common>,
    open: BTreeMap<String, Proxy>,
}

/// What all proxies of a host share.
struct Common {
    host: Space,
    service: RwLock<Option<Upstream>>,
    room: Semaphore,
}

#[derive(Debug, Clone, PartialEq)]
struct Upstream {
    address: SocketAddr,
    /// What the service is called in `Host`, and a path before each request's.
    authority: String,
    prefix: String,
    secret: String,
}

struct Proxy {
    identity: Option<(u64, u64)>,
    owners: Arc<RwLock<Owners>>,
    task: AbortHandle,
}

type Owners = HashMap<IpAddr, Owner>;

#[derive(Debug, Clone, PartialEq)]
struct Owner {
    server: String,
    project: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxies {
    /// Must be called inside a tokio runtime.
    pub(crate) fn new(host: Space) -> Proxies {
        let common = Common { host, service: RwLock::default(), room: Semaphore::new(AT_ONCE) };
        Proxies { runtime: Handle::current(), common: Arc::new(common), open: BTreeMap::new() }
    }

    /// Opens, closes and informs proxies so that each room has one that knows its guests.
    pub(crate) fn ensure(&mut self, service: Option<&Metadata>, rooms: &[(&Room, &[Lease])]) -> Vec<Failure> {
        let mut failures = Vec::new();
        self.open.retain(|space, _| service.is_some() && rooms.iter().any(|(room, _)| room.space == *space));
        let Some(service) = service else { return failures };
        match Upstream::of(service) {
            Ok(upstream) => *self.common.service.write().unwrap_or_else(PoisonError::into_inner) = Some(upstream),
            Err(error) => tracing::warn!(%error, url = service.url, "the metadata service's address is of no use"),
        }
        for (room, leases) in rooms {
            if let Err(error) = self.open(room, leases) {
                failures.push(Failure { id: room.id.clone(), what: format!("metadata: {error}") });
            }
        }
        failures
    }

    pub(crate) fn close(&mut self, space: &str) {
        self.open.remove(space);
    }

    fn open(&mut self, room: &Room, leases: &[Lease]) -> Result<(), Error> {
        let owners = owners(leases);
        let identity = room.space().identity();
        if let Some(proxy) = self.open.get(&room.space).filter(|proxy| proxy.identity == identity && proxy.is_alive()) {
            let known = proxy.owners.read().unwrap_or_else(PoisonError::into_inner).clone();
            if known != owners {
                *proxy.owners.write().unwrap_or_else(PoisonError::into_inner) = owners;
            }
            return Ok(());
        }
        // The old listener may still hold the address.
        self.open.remove(&room.space);
        let at: SocketAddr = match room.service {
            Service::Dhcp(_) => (dhcp::METADATA, METADATA_PORT).into(),
            Service::Router(_) => (Ipv4Addr::UNSPECIFIED, router::PROXY_PORT).into(),
        };
        let listener = room.space().listen(at)?;
        let _runtime = self.runtime.enter();
        let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        let listener = listener.map_err(|error| Error::io("listen for metadata requests", error))?;
        let owners = Arc::new(RwLock::new(owners));
        let task = self.runtime.spawn(accept(listener, owners.clone(), self.common.clone())).abort_handle();
        self.open.insert(room.space.clone(), Proxy { identity, owners, task });
        Ok(())
    }
}

impl Proxy {
    fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }
}

fn owners(leases: &[Lease]) -> Owners {
    let servers = leases.iter().filter(|lease| !lease.device_id.is_empty());
    let owner = |lease: &Lease| Owner { server: lease.device_id.clone(), project: lease.project_id.clone() };
    servers.flat_map(|lease| lease.addresses.iter().map(move |address| (*address, owner(lease)))).collect()
}

impl Upstream {
    fn of(service: &Metadata) -> Result<Upstream, Error> {
        let wrong = |what: &str| Error::io(what, std::io::Error::from(std::io::ErrorKind::InvalidInput));
        let rest = service.url.strip_prefix("http://").ok_or_else(|| wrong("it does not begin with http://"))?;
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_string(),
            _ => format!("{authority}:{METADATA_PORT}"),
        };
        let mut found = with_port.to_socket_addrs().map_err(|error| Error::io("find its address", error))?;
        let prefix = prefix.trim_end_matches('/');
        Ok(Upstream {
            address: found.next().ok_or_else(|| wrong("it has no address"))?,
            authority: authority.to_string(),
            prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            secret: service.shared_secret.clone(),
        })
    }

    /// What the metadata service needs to know, and to believe.
    fn introduce(&self, owner: &Owner, from: IpAddr) -> Introduction {
        let headers = vec![
            ("X-Forwarded-For".into(), from.to_string()),
            ("X-Instance-ID".into(), owner.server.clone()),
            ("X-Tenant-ID".into(), owner.project.clone()),
            ("X-Instance-ID-Signature".into(), signature(&self.secret, &owner.server)),
        ];
        Introduction { authority: self.authority.clone(), prefix: self.prefix.clone(), headers }
    }
}

/// Upstream: HMAC-SHA256 of the server's id under the shared secret, in hexadecimal digits.
fn signature(secret: &str, server: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(server.as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn accept(listener: TcpListener, owners: Arc<RwLock<Owners>>, common: Arc<Common>) {
    loop {
        let (guest, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a metadata request");
                // Limit: out of file descriptors is the usual cause, and goes away.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (owners, common) = (owners.clone(), common.clone());
        tokio::spawn(async move {
            let Ok(_place) = common.room.try_acquire() else { return };
            let done = tokio::time::timeout(REQUEST_TIME, serve(guest, from.ip(), &owners, &common)).await;
            if let Ok(Err(error)) = done {
                tracing::debug!(%error, guest = %from.ip(), "a metadata request broke off");
            }
        });
    }
}

async fn serve(
    mut guest: TcpStream,
    from: IpAddr,
    owners: &RwLock<Owners>,
    common: &Common,
) -> Result<(), std::io::Error> {
    let request = match http::read_request(&mut guest).await? {
        Ok(request) => request,
        Err(refusal) => return http::refuse(&mut guest, refusal).await,
    };
    let owner = owners.read().unwrap_or_else(PoisonError::into_inner).get(&from).cloned();
    let service = common.service.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (Some(owner), Some(service)) = (owner, service) else {
        return http::refuse(&mut guest, http::NOT_FOUND).await;
    };
    match connect(&common.host, service.address).await {
        Ok(mut upstream) => http::forward(&mut guest, &mut upstream, &request, &service.introduce(&owner, from)).await,
        Err(error) => {
            tracing::warn!(%error, address = %service.address, "the metadata service cannot be reached");
            http::refuse(&mut guest, http::UNAVAILABLE).await
        }
    }
}

/// Connects from the host's namespace, where the service listens.
async fn connect(host: &Space, to: SocketAddr) -> Result<TcpStream, std::io::Error> {
    let socket = host.stream(to).map_err(std::io::Error::other)?;
    TcpSocket::from_std_stream(socket).connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_what_upstream_computes() {
        let known = "04515f9d0a0eaf25113f1fad09fb1c86dd81c070af7942182af94dec02a8eb4e";
        assert_eq!(signature("secret", "server"), known);
    }

    #[test]
    fn a_path_in_the_service_address_comes_before_the_request() {
        let service = Metadata { url: "http://127.0.0.1:8775/meta/".into(), shared_secret: String::new() };
        let upstream = Upstream::of(&service).unwrap();
        assert_eq!((upstream.prefix.as_str(), upstream.authority.as_str()), ("/meta", "127.0.0.1:8775"));
        assert_eq!(upstream.address, "127.0.0.1:8775".parse().unwrap());
    }
}
