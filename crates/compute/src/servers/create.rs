//! Asking for servers: everything that can be refused is refused here, before anything is made.

pub mod networks;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use api::wire::{Maybe, any, flag, integer, ip, list, map, nested, object, one_of, text};
use api::{Answer, Body, Call, Json, Limit, Output, Permitted, Reader, Refusal, Reply, json, v};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clients::Rights;
use db::{Tx, sql};
use rand::distr::{Alphanumeric, SampleString};

use super::state::{Task, VmState};
use super::store::Server;
use super::view;
use crate::flavors::{self, Flavor};
use crate::scheduler::hints;
use crate::servers::boot::{CREATE_SERVER, ServerOrder};
use crate::{Compute, keypairs, names, query};

/// What a host name may be; from 2.94 with a domain.
pub const LABEL: &str = "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$";
pub const FULL_NAME: &str = "^[a-zA-Z0-9]+[a-zA-Z0-9-.]*[a-zA-Z0-9]+$";

/// Limit: servers made by one call.
const MOST: i64 = 1000;
/// Limit: upstream's quotas of injected files.
const FILES: usize = 5;
const FILE_BYTES: usize = 10240;
/// Limit: user data in base64, as upstream's.
const USER_DATA: usize = 65535;

pub const INSTANCES: Limit =
    Limit { name: "instances", default: 10, count: "SELECT COUNT(*) FROM servers WHERE project_id = ?" };
pub const CORES: Limit =
    Limit { name: "cores", default: 20, count: "SELECT COALESCE(SUM(vcpus), 0) FROM servers WHERE project_id = ?" };
pub const RAM: Limit = Limit {
    name: "ram",
    default: 51200,
    count: "SELECT COALESCE(SUM(memory_mb), 0) FROM servers WHERE project_id = ?",
};

api::wire! {
    /// A body that asks for servers.
    pub struct NewServers {
        server: NewServer = nested::<NewServer>().required(),
        hints as "os:scheduler_hints": Option<Json> = object(),
        older_hints as "OS-SCH-HNT:scheduler_hints": Option<Json> = object(),
    }
}

api::wire! {
    /// What a client says about a server that it wants.
    pub struct NewServer {
        name: String = text(1, 255).required(),
        image as "imageRef": Maybe<String> = text(0, 255).nullable(),
        flavor as "flavorRef": String = text(1, 255).loose().required(),
        networks: Option<Json> = any().required_since(v(2, 37)),
        key_name: Option<String> = text(1, 255),
        user_data: Maybe<String> = text(0, USER_DATA).nullable(),
        metadata: Option<BTreeMap<String, String>> = map(text(0, 255)),
        availability_zone: Maybe<String> = text(1, 255).nullable(),
        config_drive: Option<bool> = flag().loose().nullable(),
        security_groups: Option<Vec<GroupName>> = list(nested::<GroupName>()),
        min_count: Option<i64> = integer(1, MOST).loose(),
        max_count: Option<i64> = integer(1, MOST).loose(),
        return_reservation_id: Option<bool> = flag().loose(),
        admin_password as "adminPass": Option<String> = text(1, 255),
        access_ip_v4 as "accessIPv4": Option<String> = ip(),
        access_ip_v6 as "accessIPv6": Option<String> = ip(),
        disk_config as "OS-DCF:diskConfig": Option<String> = one_of(&["AUTO", "MANUAL"]),
        block_devices as "block_device_mapping_v2": Option<Vec<Json>> = list(object()),
        older_block_devices as "block_device_mapping": Option<Vec<Json>> = list(object()),
        personality: Option<Vec<InjectedFile>> = list(nested::<InjectedFile>()).until(v(2, 56)),
        description: Maybe<String> = text(0, 255).nullable().since(v(2, 19)),
        tags: Option<Vec<String>> = list(text(1, 60).matching("^[^,/]*$")).items(0, 50).since(v(2, 52)),
        trusted_image_certificates: Maybe<Vec<String>> = list(text(1, 255)).items(1, 50).unique().nullable().since(v(2, 63)),
        host: Option<String> = text(1, 255).since(v(2, 74)),
        hypervisor_hostname: Option<String> = text(1, 255).since(v(2, 74)),
        hostname: Option<String> = text(2, 63).matching(LABEL).since(v(2, 90)).until(v(2, 93)),
        full_hostname as "hostname": Option<String> = text(2, 255).matching(FULL_NAME).since(v(2, 94)),
    }
}

api::wire! {
    /// A file to put into the guest; base64.
    pub struct InjectedFile {
        path: String = text(1, 255).required(),
        contents: String = text(0, FILE_BYTES * 2).required(),
    }
}

api::wire! {
    /// A security group by name or UUID.
    pub struct GroupName open {
        name: Option<String> = text(1, 255),
    }
}

/// What `POST /servers` answers.
pub struct Asked {
    server: Server,
    password: String,
    groups: Vec<String>,
    only_reservation: bool,
}

impl Output for AskedFor {
    fn reply(self, _: Option<u16>, to: &Reader) -> Reply {
        let Asked { server, password, groups, only_reservation } = self.0.into_inner();
        if only_reservation {
            return Reply::json(202, &json!({"reservation_id": server.reservation_id}));
        }
        let mut body = json!({
            "id": server.id,
            "links": view::links("servers", &server.id, to),
            "OS-DCF:diskConfig": server.disk_config,
            "security_groups": groups.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "adminPass": password,
        });
        if password.is_empty() {
            body.as_object_mut().map(|map| map.remove("adminPass"));
        }
        let location = to.link(&format!("/servers/{}", server.id));
        Reply::json(202, &json!({"server": body})).header("location", &location)
    }
}

pub struct AskedFor(Permitted<Asked>);

pub async fn create(call: Call<Compute>, Body(body): Body<NewServers>) -> Answer<AskedFor> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let NewServers { server: new, hints, older_hints } = body;
    names::check("name", &new.name)?;
    let mut hints = hints.or(older_hints).unwrap_or_else(|| json!({}));
    hints::check(&mut hints)?;
    let count = count(&new)?;
    let zone = zone(&call, &new, &mut hints).await?;
    let flavor = flavors::find_visible(&call, &new.flavor).await.map_err(|refusal| match refusal.status {
        404 => Refusal::bad_request(refusal.message),
        _ => refusal,
    })?;
    let image = image(&call, &new, &flavor).await?;
    let key = key(&call, new.key_name.as_deref()).await?;
    check_user_data(&new)?;
    super::metadata::check(new.metadata.as_ref().unwrap_or(&BTreeMap::new()))?;
    super::metadata::check_count(new.metadata.as_ref().map_or(0, BTreeMap::len))?;
    let access = [
        address::<Ipv4Addr>("accessIPv4", new.access_ip_v4.as_deref())?,
        address::<Ipv6Addr>("accessIPv6", new.access_ip_v6.as_deref())?,
    ];
    let requests = networks::requests(&call, new.networks.as_ref()).await?;
    networks::fit(&requests, count)?;
    let group = group(&call, &hints).await?;

    let groups: Vec<String> = new.security_groups.iter().flatten().filter_map(|group| group.name.clone()).collect();
    networks::check_groups(&call, &groups).await?;
    let groups = if groups.is_empty() { vec!["default".to_string()] } else { groups };
    let files = files(&new)?;
    let shown = groups.clone();
    let draft =
        Draft { call: &call, new: &new, flavor, image, key, requests, zone, hints, group, groups, files, access };

    let mut tx = call.db.begin().await?;
    call.within(&mut tx, &INSTANCES, count).await?;
    call.within(&mut tx, &CORES, count * draft.flavor.vcpus).await?;
    call.within(&mut tx, &RAM, count * draft.flavor.memory_mb).await?;
    if let Some(group) = &draft.group {
        crate::server_groups::room(&call, &mut tx, group, count).await?;
    }
    let servers = draft.insert(&mut tx, count).await?;
    tx.commit().await?;

    let first = servers.into_iter().next().expect("at least one server is asked for");
    let password = first.admin_password.clone().unwrap_or_default();
    let only_reservation = new.return_reservation_id.unwrap_or(false);
    Ok(AskedFor(permitted.map(|()| Asked { server: first, password, groups: shown, only_reservation })))
}

/// Everything that is known before the rows are written.
struct Draft<'a> {
    call: &'a Call<Compute>,
    new: &'a NewServer,
    flavor: Flavor,
    image: Image,
    key: Option<keypairs::Keypair>,
    requests: Vec<Json>,
    zone: Option<String>,
    hints: Json,
    group: Option<String>,
    groups: Vec<String>,
    files: Json,
    /// The IPv4 and the IPv6 address at which the server is said to be reached.
    access: [Option<String>; 2],
}

/// The image of a server as it is when the server is made.
#[derive(Default)]
struct Image {
    id: Option<String>,
    facts: Json,
}

impl Draft<'_> {
    async fn insert(&self, tx: &mut Tx, count: i64) -> Answer<Vec<Server>> {
        let reservation = format!("r-{}", Alphanumeric.sample_string(&mut rand::rng(), 8).to_lowercase());
        let live = tx.count(sql("SELECT MAX(number) FROM servers")).await?;
        let number = 1 + live.max(tx.count(sql("SELECT MAX(number) FROM servers_deleted")).await?);
        let mut servers = Vec::new();
        for index in 0..count {
            let server = self.server(index, count, number + index, &reservation);
            tx.insert(&server).await?;
            crate::actions::record(tx, self.call, &server.id, "create").await?;
            let flows = self.call.flows.on_behalf_of(&self.call.request_id);
            let order = ServerOrder { server: server.id.clone(), request_id: self.call.request_id.clone() };
            flows.start(tx, CREATE_SERVER, &order).await?;
            servers.push(server);
        }
        Ok(servers)
    }

    /// Upstream: a host name that was asked for is kept as it is; several servers get numbers.
    fn hostname(&self, index: i64, count: i64, name: &str, id: &str) -> String {
        match self.new.hostname.as_ref().or(self.new.full_hostname.as_ref()) {
            Some(asked) if count > 1 => format!("{asked}-{}", index + 1),
            Some(asked) => asked.clone(),
            None => hostname(name, id),
        }
    }

    /// Upstream: before 2.19 the description is the name.
    fn description(&self, name: &str) -> Option<String> {
        match &self.new.description {
            Maybe::Value(text) => Some(text.clone()),
            Maybe::Absent if self.call.version < v(2, 19) => Some(name.to_string()),
            Maybe::Null | Maybe::Absent => None,
        }
    }

    fn server(&self, index: i64, count: i64, number: i64, reservation: &str) -> Server {
        let (new, call) = (self.new, self.call);
        let now = base::clock::now();
        let id = base::id::uuid();
        let name = if count > 1 { format!("{}-{}", new.name, index + 1) } else { new.name.clone() };
        let hostname = self.hostname(index, count, &name, &id);
        let password = new.admin_password.clone().unwrap_or_else(|| Alphanumeric.sample_string(&mut rand::rng(), 12));
        Server {
            number,
            project_id: call.caller.project().to_string(),
            user_id: call.caller.user_id.clone(),
            description: self.description(&name),
            name,
            hostname,
            vm_state: VmState::Building.name().into(),
            task_state: Some(Task::Scheduling.name().into()),
            power_state: 0,
            progress: 0,
            flavor_id: self.flavor.id.clone(),
            flavor: serde_json::to_value(&self.flavor).unwrap_or_default(),
            vcpus: self.flavor.vcpus,
            memory_mb: self.flavor.memory_mb,
            image_id: self.image.id.clone(),
            image: self.image.facts.clone(),
            key_name: self.key.as_ref().map(|key| key.name.clone()),
            key_data: self.key.as_ref().map(|key| key.public_key.clone()),
            key_kind: self.key.as_ref().map(|key| key.kind.clone()),
            availability_zone: None,
            pinned_zone: self.zone.clone(),
            host: None,
            config_drive: new.config_drive.unwrap_or(false),
            user_data: new.user_data.clone().value().filter(|text| !text.is_empty()),
            admin_password: Some(password),
            guest_password: None,
            seed: format!("{}{}", base::id::hex(), base::id::hex()),
            files: self.files.clone(),
            metadata: new.metadata.clone().unwrap_or_default(),
            tags: new.tags.clone().unwrap_or_default(),
            scheduler_hints: self.hints.clone(),
            trusted_certificates: new.trusted_image_certificates.clone().value().map(|list| json!(list)),
            network_requests: json!(self.requests),
            network_info: json!([]),
            security_groups: self.groups.clone(),
            group_id: self.group.clone(),
            locked: false,
            locked_by: None,
            locked_reason: None,
            access_ip_v4: self.access[0].clone(),
            access_ip_v6: self.access[1].clone(),
            disk_config: new.disk_config.clone().unwrap_or_else(|| "MANUAL".into()),
            reservation_id: reservation.to_string(),
            launch_index: index,
            root_device_name: None,
            fault: None,
            desired: "held".into(),
            generation: 1,
            restarts: 0,
            restart_kind: "hard".into(),
            disk_generation: 0,
            report: None,
            deleting: false,
            created_at: now,
            updated_at: now,
            launched_at: None,
            terminated_at: None,
            id,
        }
    }
}

fn count(new: &NewServer) -> Answer<i64> {
    let least = new.min_count.unwrap_or(1);
    let most = new.max_count.unwrap_or(least);
    if least > most {
        return Err(Refusal::bad_request("min_count must be <= max_count"));
    }
    Ok(most)
}

/// The zone asked for. `zone:host` forces a host, which only an administrator may.
async fn zone(call: &Call<Compute>, new: &NewServer, given: &mut Json) -> Answer<Option<String>> {
    let asked = new.availability_zone.clone().value().unwrap_or_default();
    let mut parts = asked.splitn(3, ':');
    let (zone, host) = (parts.next().unwrap_or_default().to_string(), parts.next().unwrap_or_default());
    let forced = [host, parts.next().unwrap_or_default()].into_iter().find(|name| !name.is_empty());
    if forced.is_some() {
        call.must("os_compute_api:servers:create:forced_host", &api::Own(&call.caller))?;
    }
    let named = new.host.as_deref().or(new.hypervisor_hostname.as_deref());
    if named.is_some() {
        call.must("compute:servers:create:requested_destination", &api::Own(&call.caller))?;
    }
    for (key, host) in [(hints::FORCED_HOST, forced), (hints::REQUESTED_HOST, named)] {
        let Some(host) = host else { continue };
        if crate::hosts::find(&call.db, host).await?.is_none() {
            return Err(Refusal::bad_request(format!("Compute host {host} could not be found.")));
        }
        given[key] = json!(host);
    }
    if zone.is_empty() {
        return Ok(None);
    }
    match crate::zones::exists(call, &zone).await? {
        true => Ok(Some(zone)),
        false => Err(Refusal::bad_request("The requested availability zone is not available")),
    }
}

async fn image(call: &Call<Compute>, new: &NewServer, flavor: &Flavor) -> Answer<Image> {
    let from_devices = new.block_devices.iter().flatten().find_map(image_device);
    if new.block_devices.iter().flatten().any(|device| image_device(device).is_none())
        || new.older_block_devices.as_ref().is_some_and(|devices| !devices.is_empty())
    {
        return Err(Refusal::new(501, "", "Booting from volumes and further block devices is not implemented yet."));
    }
    let named = new.image.clone().value().filter(|id| !id.is_empty()).or(from_devices);
    let Some(named) = named else {
        return Err(Refusal::bad_request(
            "Block Device Mapping is Invalid: You specified more local devices than the limit allows, or no image.",
        ));
    };
    // Upstream: older clients send a URL that ends in the id.
    let id = named.rsplit('/').next().unwrap_or(&named).to_string();
    if !base::id::is_uuid(&id) {
        return Err(Refusal::bad_request("Invalid imageRef provided."));
    }
    let found = call.peers.image.get(Rights::User(&call.caller), &format!("/v2/images/{id}")).await;
    let found = found.map_err(|error| match error.status() {
        404 | 403 => Refusal::bad_request(format!("Image {id} could not be found.")),
        _ => api::failed("asking image", &error),
    })?;
    fits(&found, flavor, &id)?;
    Ok(Image { id: Some(id), facts: facts(&found) })
}

/// The image of a device that only says again what `imageRef` says.
fn image_device(device: &Json) -> Option<String> {
    let text = |key: &str| device[key].as_str().unwrap_or_default();
    let root = device["boot_index"].as_i64() == Some(0) || device["boot_index"].as_str() == Some("0");
    (text("source_type") == "image" && text("destination_type") == "local" && root).then(|| text("uuid").to_string())
}

fn fits(image: &Json, flavor: &Flavor, id: &str) -> Answer<()> {
    let number = |key: &str| image[key].as_i64().unwrap_or(0);
    if image["status"] != "active" {
        return Err(Refusal::bad_request(format!("Image {id} is unacceptable: Image is not active.")));
    }
    if flavor.memory_mb < number("min_ram") {
        return Err(Refusal::bad_request("Flavor's memory is too small for requested image."));
    }
    let largest = number("size").max(number("virtual_size"));
    if flavor.root_gb > 0 && (flavor.root_gb << 30) < largest {
        let (have, need) = (flavor.root_gb << 30, largest);
        let text = format!(
            "Flavor's disk is too small for requested image. Flavor disk is {have} bytes, image is {need} bytes."
        );
        return Err(Refusal::bad_request(text));
    }
    if flavor.root_gb > 0 && flavor.root_gb < number("min_disk") {
        return Err(Refusal::bad_request(
            "Flavor's disk is smaller than the minimum size specified in image metadata.",
        ));
    }
    Ok(())
}

/// What a server keeps of its image. Keys beside image's own are properties.
fn facts(image: &Json) -> Json {
    const OWN: &[&str] = &[
        "id",
        "name",
        "status",
        "visibility",
        "protected",
        "owner",
        "checksum",
        "file",
        "self",
        "schema",
        "locations",
        "created_at",
        "updated_at",
        "tags",
        "os_hidden",
        "direct_url",
        "stores",
        "size",
        "virtual_size",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "os_hash_algo",
        "os_hash_value",
    ];
    let all = image.as_object().cloned().unwrap_or_default();
    let mut facts = json!({});
    for key in [
        "size",
        "virtual_size",
        "disk_format",
        "container_format",
        "min_disk",
        "min_ram",
        "os_hash_algo",
        "os_hash_value",
        "name",
    ] {
        facts[key] = image[key].clone();
    }
    facts["properties"] = Json::Object(all.into_iter().filter(|(key, _)| !OWN.contains(&key.as_str())).collect());
    facts
}

async fn key(call: &Call<Compute>, name: Option<&str>) -> Answer<Option<keypairs::Keypair>> {
    let Some(name) = name else { return Ok(None) };
    let found = keypairs::find(&call.db, &call.caller.user_id, name).await?;
    found.map(Some).ok_or_else(|| Refusal::bad_request("Invalid key_name provided."))
}

fn check_user_data(new: &NewServer) -> Answer<()> {
    let Some(text) = new.user_data.clone().value() else { return Ok(()) };
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(plain).map_err(|_| Refusal::bad_request("Userdata content cannot be decoded"))?;
    Ok(())
}

/// An address of the family that its key says, in its usual spelling.
pub fn address<T: FromStr + ToString>(key: &str, address: Option<&str>) -> Answer<Option<String>> {
    let Some(text) = address else { return Ok(None) };
    let family = if key.ends_with('4') { "ipv4" } else { "ipv6" };
    match text.parse::<T>() {
        Ok(address) => Ok(Some(address.to_string())),
        Err(_) => Err(Refusal::bad_request(format!(
            "Invalid input for field/attribute {key}. Value: {text}. '{text}' is not a '{family}'"
        ))),
    }
}

/// The files to put into the guest, as the row keeps them.
fn files(new: &NewServer) -> Answer<Json> {
    let files = new.personality.as_deref().unwrap_or_default();
    if files.len() > FILES {
        return Err(Refusal::forbidden("Personality file limit exceeded"));
    }
    let mut kept = Vec::new();
    for file in files {
        let plain: String = file.contents.chars().filter(|c| !c.is_whitespace()).collect();
        let unreadable = |_| Refusal::bad_request(format!("Personality content for {} cannot be decoded", file.path));
        if STANDARD.decode(plain).map_err(unreadable)?.len() > FILE_BYTES {
            return Err(Refusal::forbidden("Personality file content too long"));
        }
        kept.push(json!({"path": file.path, "contents": file.contents}));
    }
    Ok(json!(kept))
}

async fn group(call: &Call<Compute>, hints: &Json) -> Answer<Option<String>> {
    let Some(id) = hints["group"].as_str() else { return Ok(None) };
    match crate::server_groups::exists(call, id).await? {
        true => Ok(Some(id.to_string())),
        false => Err(Refusal::bad_request(format!("Instance group {id} could not be found."))),
    }
}

/// Upstream: a host name is the name with what DNS cannot carry taken out.
fn hostname(name: &str, id: &str) -> String {
    let kept = |c: char| match c {
        'A'..='Z' => Some(c.to_ascii_lowercase()),
        'a'..='z' | '0'..='9' | '-' | '.' => Some(c),
        ' ' | '_' => Some('-'),
        _ => None,
    };
    let text: String = name.chars().filter_map(kept).take(63).collect();
    let text = text.trim_matches(|c| c == '.' || c == '-').to_string();
    if text.is_empty() { format!("Server-{id}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_what_dns_can_carry() {
        assert_eq!(hostname("My Server_1", "x"), "my-server-1");
        assert_eq!(hostname("测试", "x"), "Server-x");
        assert_eq!(hostname("-web.", "x"), "web");
    }
}
