//! The states of a server.
//!
//! ```text
//!            create                 os-stop
//! BUILDING ─────────► ACTIVE ◄──────────────► STOPPED        any ──delete──► (archived)
//!     │                │  ▲ ▲                                any ──failure─► ERROR
//!     ▼          pause ▼  │ │ resume
//!   ERROR           PAUSED  SUSPENDED
//! ```
//!
//! A verb takes the server by setting its task state; whoever comes second gets 409.

use std::fmt;

use contract::guest::Power;

macro_rules! states {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            pub fn parse(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|state| state.name() == text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

states! {
    /// What a server is: `OS-EXT-STS:vm_state`.
    VmState {
        Building = "building",
        Active = "active",
        Stopped = "stopped",
        Paused = "paused",
        Suspended = "suspended",
        Rescued = "rescued",
        Resized = "resized",
        Shelved = "shelved",
        ShelvedOffloaded = "shelved_offloaded",
        SoftDeleted = "soft-delete",
        Deleted = "deleted",
        Error = "error",
    }
}

states! {
    /// What is being done to a server: `OS-EXT-STS:task_state`.
    Task {
        Scheduling = "scheduling",
        BlockDeviceMapping = "block_device_mapping",
        Networking = "networking",
        Spawning = "spawning",
        Deleting = "deleting",
        PoweringOn = "powering-on",
        PoweringOff = "powering-off",
        Rebooting = "rebooting",
        RebootingHard = "rebooting_hard",
        Pausing = "pausing",
        Unpausing = "unpausing",
        Suspending = "suspending",
        Resuming = "resuming",
        Rebuilding = "rebuilding",
    }
}

/// What the API calls the state of a server.
pub fn status(vm_state: VmState, task: Option<Task>) -> &'static str {
    match (vm_state, task) {
        (VmState::Active, Some(Task::Rebooting)) => "REBOOT",
        (VmState::Active, Some(Task::RebootingHard)) => "HARD_REBOOT",
        (VmState::Active | VmState::Stopped | VmState::Error, Some(Task::Rebuilding)) => "REBUILD",
        (VmState::Active, _) => "ACTIVE",
        (VmState::Building, _) => "BUILD",
        (VmState::Stopped, _) => "SHUTOFF",
        (VmState::Paused, _) => "PAUSED",
        (VmState::Suspended, _) => "SUSPENDED",
        (VmState::Rescued, _) => "RESCUE",
        (VmState::Resized, _) => "VERIFY_RESIZE",
        (VmState::Shelved, _) => "SHELVED",
        (VmState::ShelvedOffloaded, _) => "SHELVED_OFFLOADED",
        (VmState::SoftDeleted, _) => "SOFT_DELETED",
        (VmState::Deleted, _) => "DELETED",
        (VmState::Error, _) => "ERROR",
    }
}

/// The vm states (and, where it matters, the tasks) that a status stands for, for `?status=` filters.
pub fn states_of(status_text: &str) -> Vec<(VmState, Option<Task>)> {
    let mut found = Vec::new();
    for vm_state in VmState::ALL.iter().copied() {
        if status(vm_state, None) == status_text {
            found.push((vm_state, None));
        }
        for task in Task::ALL.iter().copied() {
            let shown = status(vm_state, Some(task));
            if shown == status_text && shown != status(vm_state, None) {
                found.push((vm_state, Some(task)));
            }
        }
    }
    found
}

/// Upstream's numbers for `OS-EXT-STS:power_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerState {
    NoState = 0,
    Running = 1,
    Paused = 3,
    Shutdown = 4,
    Crashed = 6,
    Suspended = 7,
}

/// The name under which an order's power is kept.
pub const fn power_name(power: Power) -> &'static str {
    match power {
        Power::Held => "held",
        Power::Running => "running",
        Power::Paused => "paused",
        Power::Suspended => "suspended",
        Power::Stopped => "stopped",
        Power::Gone => "gone",
    }
}

pub fn power_of(name: &str) -> Option<Power> {
    [Power::Held, Power::Running, Power::Paused, Power::Suspended, Power::Stopped, Power::Gone]
        .into_iter()
        .find(|power| power_name(*power) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_names_the_states_it_stands_for() {
        assert_eq!(status(VmState::Active, Some(Task::Rebooting)), "REBOOT");
        assert_eq!(states_of("SHUTOFF"), [(VmState::Stopped, None)]);
        assert_eq!(states_of("HARD_REBOOT"), [(VmState::Active, Some(Task::RebootingHard))]);
        assert!(states_of("NONSENSE").is_empty());
        assert_eq!(VmState::parse("soft-delete"), Some(VmState::SoftDeleted));
    }
}
