//! The rows of servers, live and archived.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::{Answer, Call, Json, Target, json, v};
use base::Time;
use contract::guest::Power;
use db::{Db, Queries, Tx, record, select, sql};

use super::state::{PowerState, Task, VmState, power_name};
use super::{ServerFault, state};
use crate::{Compute, query};

record! {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub struct Server in "servers" {
        pub id: String,
        /// Counts servers of this cloud, for `instance-00000001` and `i-00000001`.
        pub number: i64,
        pub project_id: String,
        pub user_id: String,
        pub name: String,
        pub description: Option<String>,
        pub hostname: String,
        pub vm_state: String,
        pub task_state: Option<String>,
        pub power_state: i64,
        pub progress: i64,
        pub flavor_id: String,
        /// The flavor as it was when the server was made.
        pub flavor: Json,
        pub vcpus: i64,
        pub memory_mb: i64,
        pub image_id: Option<String>,
        /// The image's properties and sizes as they were.
        pub image: Json,
        pub key_name: Option<String>,
        pub key_data: Option<String>,
        pub key_kind: Option<String>,
        pub availability_zone: Option<String>,
        pub pinned_zone: Option<String>,
        pub host: Option<String>,
        pub config_drive: bool,
        /// Base64, as the client sent it.
        pub user_data: Option<String>,
        pub admin_password: Option<String>,
        /// What the guest posted to the metadata service, encrypted with the user's key.
        pub guest_password: Option<String>,
        /// Secret digits from which the random seed of the config drive is made.
        pub seed: String,
        /// Files to put into the guest: `[{path, contents}]`, base64.
        pub files: Json,
        pub metadata: BTreeMap<String, String>,
        pub tags: Vec<String>,
        pub scheduler_hints: Json,
        pub trusted_certificates: Option<Json>,
        /// What the client asked for: `[{network, port, fixed_ip, tag}]`.
        pub network_requests: Json,
        /// What it has: see `interfaces.rs`.
        pub network_info: Json,
        pub security_groups: Vec<String>,
        pub group_id: Option<String>,
        pub locked: bool,
        pub locked_by: Option<String>,
        pub locked_reason: Option<String>,
        pub access_ip_v4: Option<String>,
        pub access_ip_v6: Option<String>,
        pub disk_config: String,
        pub reservation_id: String,
        pub launch_index: i64,
        pub root_device_name: Option<String>,
        pub fault: Option<Json>,
        /// What the host is told, see `contract::guest`.
        pub desired: String,
        pub generation: i64,
        pub restarts: i64,
        pub restart_kind: String,
        pub disk_generation: i64,
        /// What the host last said.
        pub report: Option<Json>,
        pub deleting: bool,
        pub created_at: Time,
        pub updated_at: Time,
        pub launched_at: Option<Time>,
        pub terminated_at: Option<Time>,
    }
}

record! {
    /// A server that is gone, for `deleted` and `changes-since` and for agents that ask what to remove.
    pub struct Archived in "servers_deleted" {
        pub id: String,
        pub number: i64,
        pub project_id: String,
        pub host: Option<String>,
        pub deleted_at: Time,
        pub row_document: Json,
    }
}

impl Target for Server {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match name {
            "project_id" | "tenant_id" => Some(Cow::Borrowed(&self.project_id)),
            "user_id" => Some(Cow::Borrowed(&self.user_id)),
            _ => None,
        }
    }
}

impl Server {
    pub fn vm(&self) -> VmState {
        VmState::parse(&self.vm_state).unwrap_or(VmState::Error)
    }

    pub fn task(&self) -> Option<Task> {
        self.task_state.as_deref().and_then(Task::parse)
    }

    pub fn status(&self) -> &'static str {
        state::status(self.vm(), self.task())
    }

    /// `instance-00000001`.
    pub fn instance_name(&self) -> String {
        format!("instance-{:08x}", self.number)
    }

    pub fn flavor_number(&self, key: &str) -> i64 {
        self.flavor[key].as_i64().unwrap_or(0)
    }
}

pub async fn find(mut db: impl Queries, id: &str) -> Result<Option<Server>, db::Error> {
    db.maybe(select::<Server>("WHERE id = ?").bind(id)).await
}

/// The server that a call names, if it exists for the caller: an administrator sees those of every project.
pub async fn known(call: &Call<Compute>, id: &str) -> Answer<Server> {
    // What is asked of one server takes no query but that of its lists.
    query::strict(call, v(2, 102), &["limit", "marker", "changes-since", "changes-before"])?;
    let missing = || ServerFault::NotFound { id: id.to_string() };
    let server = find(&call.db, id).await?.ok_or_else(missing)?;
    let own = call.caller.project_id.as_deref() == Some(server.project_id.as_str());
    if own || call.may_own("context_is_admin") { Ok(server) } else { Err(missing().into()) }
}

/// Takes the server for one verb: its task is set only if it has none, it is in one of `from`, and nobody deletes it.
/// Whoever comes second is told to wait.
pub async fn take(tx: &mut Tx, server: &Server, verb: &str, from: &[VmState], task: Task) -> Answer<()> {
    if !from.contains(&server.vm()) {
        return Err(ServerFault::WrongState {
            id: server.id.clone(),
            verb: verb.into(),
            state: server.vm_state.clone(),
        }
        .into());
    }
    let take = sql(
        "UPDATE servers SET task_state = ?, updated_at = ? WHERE id = ? AND task_state IS NULL AND vm_state = ? AND deleting = 0",
    );
    let take = take.bind(task.name()).bind(base::clock::now()).bind(&server.id).bind(&server.vm_state);
    match tx.run(take).await? {
        0 => {
            let task = server.task_state.clone().unwrap_or_else(|| "changing".into());
            Err(ServerFault::Busy { id: server.id.clone(), verb: verb.into(), task }.into())
        }
        _ => Ok(()),
    }
}

/// Moves the server to its next task. Does nothing when it is gone.
pub async fn set_task(db: &Db, id: &str, task: Option<Task>) -> Result<(), db::Error> {
    let change = sql("UPDATE servers SET task_state = ?, updated_at = ? WHERE id = ? AND deleting = 0");
    db.run(change.bind(task.map(Task::name)).bind(base::clock::now()).bind(id)).await?;
    Ok(())
}

/// Says that a verb is done: the state that follows, and no task.
pub async fn settle(db: &Db, id: &str, vm: VmState, power: PowerState) -> Result<(), db::Error> {
    let change = sql(
        "UPDATE servers SET vm_state = ?, task_state = NULL, power_state = ?, fault = NULL, updated_at = ? WHERE id = ? AND deleting = 0",
    );
    db.run(change.bind(vm.name()).bind(power as i64).bind(base::clock::now()).bind(id)).await?;
    Ok(())
}

/// Puts the server into ERROR with the reason that the user will read.
pub async fn fail(db: &Db, id: &str, code: u16, message: &str) -> Result<(), db::Error> {
    let now = base::clock::now();
    let fault = json!({"code": code, "created": now.iso_z(), "message": message, "details": message});
    let change = sql(
        "UPDATE servers SET vm_state = ?, task_state = NULL, fault = ?, updated_at = ? WHERE id = ? AND deleting = 0",
    );
    db.run(change.bind(VmState::Error.name()).bind(&fault).bind(now).bind(id)).await?;
    Ok(())
}

/// Tells the host what should be, under a new generation.
pub async fn desire(tx: &mut Tx, id: &str, power: Power) -> Result<(), db::Error> {
    let change = sql("UPDATE servers SET desired = ?, generation = generation + 1 WHERE id = ? AND desired <> ?");
    tx.run(change.bind(power_name(power)).bind(id).bind(power_name(power))).await?;
    Ok(())
}

/// The same outside a transaction, for flows.
pub async fn desire_now(db: &Db, id: &str, power: Power) -> Result<(), db::Error> {
    let mut tx = db.begin().await?;
    desire(&mut tx, id, power).await?;
    tx.commit().await
}

/// Moves the row to the archive.
pub async fn archive(db: &Db, id: &str) -> Result<(), db::Error> {
    let mut tx = db.begin().await?;
    let Some(mut server) = find(&mut tx, id).await? else { return Ok(()) };
    let now = base::clock::now();
    server.vm_state = VmState::Deleted.name().into();
    server.task_state = None;
    server.terminated_at = Some(now);
    server.updated_at = now;
    // Secrets do not outlive the server.
    server.user_data = None;
    server.admin_password = None;
    server.guest_password = None;
    server.seed = String::new();
    server.files = json!([]);
    let row = Archived {
        id: server.id.clone(),
        number: server.number,
        project_id: server.project_id.clone(),
        host: server.host.clone(),
        deleted_at: now,
        row_document: serde_json::to_value(&server).unwrap_or_default(),
    };
    tx.upsert(&row, &["id"]).await?;
    tx.run(sql("DELETE FROM console_tokens WHERE server_id = ?").bind(id)).await?;
    tx.run(sql("DELETE FROM servers WHERE id = ?").bind(id)).await?;
    tx.commit().await
}

/// A server that is gone, as it was.
pub async fn archived(db: &Db, id: &str) -> Result<Option<Server>, db::Error> {
    let row = db.maybe(select::<Archived>("WHERE id = ?").bind(id)).await?;
    Ok(row.and_then(|row| serde_json::from_value(row.row_document).ok()))
}
