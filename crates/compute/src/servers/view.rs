//! How servers look, at every microversion.

use api::{Json, Reader, View, json, v};
use sha2::{Digest, Sha224};

use super::state::VmState;
use super::store::Server;

/// A server with what only other rows know.
pub struct Detailed {
    pub server: Server,
    /// `UP`, `DOWN`, `MAINTENANCE`, `UNKNOWN`; empty without a host.
    pub host_status: String,
    pub group: Option<String>,
}

/// A server in the short list.
pub struct Brief(pub Server);

impl View for Brief {
    const ONE: &'static str = "server";
    const MANY: &'static str = "servers";

    fn view(&self, to: &Reader) -> Json {
        json!({"id": self.0.id, "name": self.0.name, "links": links("servers", &self.0.id, to)})
    }
}

impl View for Detailed {
    const ONE: &'static str = "server";
    const MANY: &'static str = "servers";

    fn view(&self, to: &Reader) -> Json {
        let mut view = self.item(to);
        if to.since(v(2, 71)) {
            view["server_groups"] = json!(self.group.iter().collect::<Vec<_>>());
        }
        view
    }

    /// Upstream: lists leave the groups out, because finding them costs it a query each.
    fn item(&self, to: &Reader) -> Json {
        let mut view = self.core(to);
        self.extended(to, &mut view);
        self.since_2_3(to, &mut view);
        self.later(to, &mut view);
        if to.since(v(2, 16)) && to.may("os_compute_api:servers:show:host_status", &self.server) {
            view["host_status"] = json!(self.host_status);
        }
        view
    }
}

/// A server as `PUT` answers it: before 2.75 with less.
pub struct Updated(pub Detailed);

impl View for Updated {
    const ONE: &'static str = "server";
    const MANY: &'static str = "servers";

    fn view(&self, to: &Reader) -> Json {
        if to.since(v(2, 75)) {
            return self.0.view(to);
        }
        let mut view = self.0.core(to);
        view["addresses"] = plain_addresses(&self.0.server);
        self.0.later(to, &mut view);
        if to.since(v(2, 71)) {
            view["server_groups"] = json!(self.0.group.iter().collect::<Vec<_>>());
        }
        view
    }
}

impl Detailed {
    /// What every answer with a whole server has.
    fn core(&self, to: &Reader) -> Json {
        let server = &self.server;
        let mut view = json!({
            "id": server.id,
            "name": server.name,
            "status": server.status(),
            "tenant_id": server.project_id,
            "user_id": server.user_id,
            "metadata": server.metadata,
            "hostId": host_id(server),
            "image": image(server, to),
            "flavor": flavor(server, to),
            "created": server.created_at.iso_z(),
            "updated": server.updated_at.iso_z(),
            "addresses": addresses(server),
            "accessIPv4": server.access_ip_v4.clone().unwrap_or_default(),
            "accessIPv6": server.access_ip_v6.clone().unwrap_or_default(),
            "links": links("servers", &server.id, to),
            "OS-DCF:diskConfig": server.disk_config,
        });
        // Upstream: progress and fault are there only while they mean something.
        if matches!(server.status(), "ACTIVE" | "BUILD" | "REBUILD" | "RESIZE" | "VERIFY_RESIZE" | "MIGRATING") {
            view["progress"] = json!(server.progress);
        }
        if let (Some(fault), VmState::Error | VmState::Deleted) = (&server.fault, server.vm()) {
            view["fault"] = fault_view(fault, to);
        }
        view
    }

    fn extended(&self, to: &Reader, view: &mut Json) {
        let server = &self.server;
        view["key_name"] = json!(server.key_name);
        view["config_drive"] = json!(if server.config_drive { "True" } else { "" });
        view["os-extended-volumes:volumes_attached"] = json!([]);
        if to.since(v(2, 96)) {
            view["pinned_availability_zone"] = json!(server.pinned_zone);
        }
        if to.since(v(2, 100)) {
            view["scheduler_hints"] = hints(server);
        }
        view["OS-EXT-AZ:availability_zone"] = json!(server.availability_zone.clone().unwrap_or_default());
        view["OS-SRV-USG:launched_at"] = json!(server.launched_at.map(|time| time.iso_micros()));
        view["OS-SRV-USG:terminated_at"] = json!(server.terminated_at.map(|time| time.iso_micros()));
        view["OS-EXT-STS:task_state"] = json!(server.task_state);
        view["OS-EXT-STS:vm_state"] = json!(server.vm_state);
        view["OS-EXT-STS:power_state"] = json!(server.power_state);
        // Upstream: a server that has no interfaces shows no groups.
        let groups: Vec<Json> = groups(server).into_iter().map(|name| json!({"name": name})).collect();
        if !groups.is_empty() {
            view["security_groups"] = json!(groups);
        }
        if to.may("os_compute_api:os-extended-server-attributes", server) {
            view["OS-EXT-SRV-ATTR:host"] = json!(server.host);
            view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = json!(server.host);
            let name = if server.host.is_some() { server.instance_name() } else { String::new() };
            view["OS-EXT-SRV-ATTR:instance_name"] = json!(name);
        }
    }

    fn since_2_3(&self, to: &Reader, view: &mut Json) {
        let server = &self.server;
        let attributes = to.may("os_compute_api:os-extended-server-attributes", server);
        if to.since(v(2, 3)) && attributes {
            view["OS-EXT-SRV-ATTR:reservation_id"] = json!(server.reservation_id);
            view["OS-EXT-SRV-ATTR:launch_index"] = json!(server.launch_index);
            view["OS-EXT-SRV-ATTR:kernel_id"] = json!("");
            view["OS-EXT-SRV-ATTR:ramdisk_id"] = json!("");
            view["OS-EXT-SRV-ATTR:root_device_name"] = json!(server.root_device_name);
            view["OS-EXT-SRV-ATTR:user_data"] = json!(server.user_data);
        }
        if (to.since(v(2, 3)) && attributes) || to.since(v(2, 90)) {
            view["OS-EXT-SRV-ATTR:hostname"] = json!(server.hostname);
        }
    }

    fn later(&self, to: &Reader, view: &mut Json) {
        let server = &self.server;
        if to.since(v(2, 9)) {
            view["locked"] = json!(server.locked);
        }
        if to.since(v(2, 19)) {
            view["description"] = json!(server.description);
        }
        if to.since(v(2, 26)) {
            view["tags"] = json!(server.tags);
        }
        if to.since(v(2, 63)) {
            view["trusted_image_certificates"] = json!(server.trusted_certificates);
        }
        if to.since(v(2, 73)) {
            view["locked_reason"] = json!(server.locked_reason);
        }
    }
}

pub fn links(kind: &str, id: &str, to: &Reader) -> Json {
    let path = format!("/{kind}/{}", api::message::encode(id));
    json!([{"rel": "self", "href": to.link(&path)}, {"rel": "bookmark", "href": to.bookmark(&path)}])
}

/// Upstream: a host's name is shown to users as a digest that differs by project.
pub fn host_id(server: &Server) -> String {
    server.host.as_deref().map(|host| host_digest(&server.project_id, host)).unwrap_or_default()
}

pub fn host_digest(project: &str, host: &str) -> String {
    let digest = Sha224::digest(format!("{project}{host}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn image(server: &Server, to: &Reader) -> Json {
    let Some(id) = &server.image_id else { return json!("") };
    let bookmark = json!([{"rel": "bookmark", "href": to.bookmark(&format!("/images/{id}"))}]);
    let mut image = json!({"id": id, "links": bookmark});
    if to.since(v(2, 98)) {
        let properties = server.image["properties"].as_object().cloned().unwrap_or_default();
        image["properties"] = Json::Object(properties);
    }
    image
}

fn flavor(server: &Server, to: &Reader) -> Json {
    if !to.since(v(2, 47)) {
        let bookmark = to.bookmark(&format!("/flavors/{}", api::message::encode(&server.flavor_id)));
        return json!({"id": server.flavor_id, "links": [{"rel": "bookmark", "href": bookmark}]});
    }
    let mut flavor = json!({
        "vcpus": server.flavor["vcpus"],
        "ram": server.flavor["memory_mb"],
        "disk": server.flavor["root_gb"],
        "ephemeral": server.flavor["ephemeral_gb"],
        "swap": server.flavor["swap_mb"],
        "original_name": server.flavor["name"],
    });
    if to.may("os_compute_api:servers:show:flavor-extra-specs", server) {
        flavor["extra_specs"] = server.flavor["extra_specs"].clone();
    }
    flavor
}

/// Addresses by network name, as `network_info` has them.
pub fn addresses(server: &Server) -> Json {
    let mut by_network = serde_json::Map::new();
    for port in server.network_info.as_array().into_iter().flatten() {
        let name = port["network_name"].as_str().unwrap_or_default().to_string();
        let list = by_network.entry(name).or_insert_with(|| json!([]));
        let entries = port["addresses"].as_array().into_iter().flatten().map(|address| {
            json!({
                "version": address["version"],
                "addr": address["addr"],
                "OS-EXT-IPS:type": address["type"],
                "OS-EXT-IPS-MAC:mac_addr": port["mac"],
            })
        });
        if let Some(list) = list.as_array_mut() {
            list.extend(entries);
        }
    }
    Json::Object(by_network)
}

/// The same without what the extensions brought: types and MAC addresses.
pub fn plain_addresses(server: &Server) -> Json {
    let mut addresses = addresses(server);
    let networks = addresses.as_object_mut().into_iter().flat_map(|map| map.values_mut());
    for address in networks.filter_map(Json::as_array_mut).flatten().filter_map(Json::as_object_mut) {
        address.retain(|key, _| matches!(key.as_str(), "version" | "addr"));
    }
    addresses
}

/// What the client sent as hints; the host of an administrator's request is kept among them, but is none.
fn hints(server: &Server) -> Json {
    let mut hints = server.scheduler_hints.clone();
    for own in [crate::scheduler::hints::FORCED_HOST, crate::scheduler::hints::REQUESTED_HOST] {
        hints.as_object_mut().map(|map| map.remove(own));
    }
    hints
}

/// The names of the security groups of a server's ports.
pub fn groups(server: &Server) -> Vec<String> {
    let mut names = Vec::new();
    for port in server.network_info.as_array().into_iter().flatten() {
        for name in port["security_groups"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_string());
            }
        }
    }
    names
}

/// Upstream: details are for administrators, except for faults that are no failures of ours.
fn fault_view(fault: &Json, to: &Reader) -> Json {
    let mut view = json!({"code": fault["code"], "created": fault["created"], "message": fault["message"]});
    if fault["code"] != json!(500) || to.may_own("context_is_admin") {
        view["details"] = fault["details"].clone();
    }
    view
}
