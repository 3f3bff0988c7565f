//! The doors between the services of this process and those elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use api::client::Remote;
use api::{Authenticator, Endpoint, Secret};
use clients::account::Login;
use clients::{Account, Late, Peer};

/// Services that another one may ask.
const ASKED: &[&str] = &["identity", "image", "placement", "compute", "network"];

/// Where each service is, and who speaks for us.
pub struct Doors {
    late: BTreeMap<&'static str, Arc<Late>>,
    remote: BTreeMap<&'static str, Arc<dyn Endpoint>>,
    pub authenticator: Arc<dyn Authenticator>,
}

impl Doors {
    /// `url_of` says where a service is that does not run here; `local` names those that do.
    pub fn new(
        local: &[&'static str],
        url_of: impl Fn(&str) -> String,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<Doors> {
        let mut doors = Doors { late: BTreeMap::new(), remote: BTreeMap::new(), authenticator };
        for service in ASKED {
            if local.contains(service) {
                doors.late.insert(service, Late::new());
            } else {
                let url = url_of(service);
                let remote = Remote::new(&url).with_context(|| format!("the URL of {service}"))?;
                doors.remote.insert(service, Arc::new(remote));
            }
        }
        Ok(doors)
    }

    /// A service of this process is there.
    pub fn open(&self, service: &str, endpoint: Arc<dyn Endpoint>) {
        if let Some(late) = self.late.get(service) {
            late.set(endpoint);
        }
    }

    /// The endpoint of a service, wherever it is.
    pub fn endpoint(&self, service: &str) -> Arc<dyn Endpoint> {
        match (self.late.get(service), self.remote.get(service)) {
            (Some(late), _) => late.clone(),
            (None, Some(remote)) => remote.clone(),
            (None, None) => unreachable!("every service that is asked for stands in the list above"),
        }
    }

    /// The account of a user in the project `service`.
    pub fn account(&self, login: Login) -> Arc<Account> {
        Arc::new(Account::new(self.endpoint("identity"), self.authenticator.clone(), login))
    }

    /// A door to `service` for whoever logs in with `account`.
    pub fn peer(&self, service: &'static str, account: &Arc<Account>) -> Peer {
        let endpoint = self.endpoint(service);
        match self.late.contains_key(service) {
            true => Peer::local(service, endpoint, account.clone()),
            false => Peer::remote(service, endpoint, account.clone()),
        }
    }
}

/// How the user of a service logs in.
pub fn service_login(user: &str, password: &str) -> Login {
    Login {
        username: user.to_string(),
        password: Secret(password.to_string()),
        user_domain: "Default".to_string(),
        project: "service".to_string(),
        project_domain: "Default".to_string(),
    }
}
