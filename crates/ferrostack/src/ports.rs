//! The standard ports, and the URLs that the catalog has for them.

/// Every listener of an all-in-one cloud.
#[derive(Debug, Clone)]
pub struct Ports {
    offset: u16,
}

/// A service in the catalog.
pub struct Entry {
    pub name: &'static str,
    pub kind: &'static str,
    pub description: &'static str,
    /// The public noun that the rest of this program knows it by.
    pub service: &'static str,
    path: &'static str,
}

/// Upstream's names and types, as guides show them in `openstack catalog list`.
pub const CATALOG: &[Entry] = &[
    Entry { name: "keystone", kind: "identity", description: "OpenStack Identity", service: "identity", path: "/v3" },
    Entry { name: "glance", kind: "image", description: "OpenStack Image", service: "image", path: "" },
    Entry { name: "placement", kind: "placement", description: "Placement API", service: "placement", path: "" },
    Entry { name: "nova", kind: "compute", description: "OpenStack Compute", service: "compute", path: "/v2.1" },
    Entry { name: "neutron", kind: "network", description: "OpenStack Networking", service: "network", path: "" },
];

impl Ports {
    pub fn new(offset: u16) -> Ports {
        Ports { offset }
    }

    pub fn of(&self, service: &str) -> u16 {
        let standard = match service {
            "identity" => 5000,
            "image" => 9292,
            "placement" => 8778,
            "compute" => 8774,
            "metadata" => 8775,
            "console" => 6080,
            _ => 9696,
        };
        standard + self.offset
    }

    /// `host` is a scheme and a host: `http://127.0.0.1`.
    pub fn url(&self, host: &str, service: &str) -> String {
        format!("{}:{}", host.trim_end_matches('/'), self.of(service))
    }

    /// The URL that the catalog has for an entry.
    pub fn endpoint(&self, host: &str, entry: &Entry) -> String {
        format!("{}{}", self.url(host, entry.service), entry.path)
    }
}
