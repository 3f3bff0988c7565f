//! Servers: what can be asked of them.

mod addresses;
mod boot;
mod create;
mod delete;
pub mod diagnostics;
mod find;
mod interfaces;
mod locks;
mod metadata;
mod power;
mod reset;
mod security_groups;
pub mod state;
pub mod store;
mod tags;
mod update;
pub mod view;

use api::wire::{integer, one_of, text};
use api::{Operation, action, delete as delete_, get, post, v};

use crate::Compute;

pub use boot::{CREATE_SERVER, ServerOrder, create_server, creation_failed, state_of_report};
pub use create::{CORES, INSTANCES, RAM};
pub use delete::{DELETE_SERVER, delete_server, deletion_failed};
pub use interfaces::{network_changed, port_deleted};
pub use power::{POWER_SERVER, PowerOrder, Verb, power_failed, power_server};
pub use view::groups as group_names;

pub fn operations() -> Vec<Operation<Compute>> {
    let mut operations = vec![
        get("/servers", find::list).rule("os_compute_api:servers:index").paged(&find::SERVERS),
        get("/servers/detail", find::detail).rule("os_compute_api:servers:detail").paged(&find::SERVERS),
        post("/servers", create::create).rule("os_compute_api:servers:create"),
        get("/servers/{id}", find::show).rule("os_compute_api:servers:show"),
        delete_("/servers/{id}", delete::remove).rule("os_compute_api:servers:delete"),
        action("/servers/{id}/action", "forceDelete", delete::force)
            .rule("os_compute_api:os-deferred-delete:force")
            .status(202),
    ];
    let others = [
        power::operations(),
        update::operations(),
        locks::operations(),
        metadata::operations(),
        tags::operations(),
        addresses::operations(),
        interfaces::operations(),
        security_groups::operations(),
        diagnostics::operations(),
        reset::operations(),
    ];
    operations.extend(others.into_iter().flatten());
    operations
}

api::faults! {
    /// Why a call about servers may be refused.
    pub enum ServerFault {
        NotFound(id: String) = 404 "itemNotFound" "Instance {id} could not be found.",
        Busy(id: String, verb: String, task: String) = 409 "conflictingRequest"
            "Cannot '{verb}' instance {id} while it is in task_state {task}",
        WrongState(id: String, verb: String, state: String) = 409 "conflictingRequest"
            "Cannot '{verb}' instance {id} while it is in vm_state {state}",
        NotReady(id: String) = 409 "conflictingRequest" "Instance {id} is not ready",
        Locked(id: String) = 409 "conflictingRequest" "Instance {id} is locked",
        NoHost(id: String) = 409 "conflictingRequest" "Instance {id} is not on a host yet",
        Silent(host: String) = 503 "serviceUnavailable" "The host {host} does not answer at the moment.",
    }
}

api::wire! {
    /// An action without arguments.
    pub struct Nothing open {}
}

api::wire! {
    /// How to restart.
    pub struct Reboot {
        kind as "type": String = one_of(&["hard", "Hard", "HARD", "soft", "Soft", "SOFT"]).required(),
    }
}

api::wire! {
    /// Why a server is locked.
    pub struct Lock {
        locked_reason: Option<String> = text(1, 255).since(v(2, 73)),
    }
}

api::wire! {
    /// How many lines of the console to show.
    pub struct ConsoleOutput {
        length: Option<i64> = integer(-1, i64::MAX).loose().nullable(),
    }
}
