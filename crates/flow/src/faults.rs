//! Where to crash, fail or be cancelled on purpose. Always compiled in; an engine without a plan pays one comparison.
//!
//! `FERROSTACK_CRASH_AFTER=flow/step` aborts the process when the step is in the journal,
//! `FERROSTACK_CRASH_IN=flow/step` when its effect has happened and the journal does not know it. Undos are steps named
//! `undo <step>`; the last step of a failed flow is `failed`.

use std::sync::{Mutex, OnceLock, PoisonError};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The process ends between the effect and the journal.
    CrashAfterEffect,
    /// The process ends right after the journal was written.
    CrashAfterJournal,
    /// The step refuses before it does anything.
    FailBefore,
    /// The step refuses after it has done its work.
    FailAfter,
    /// Somebody cancels the flow just before the step.
    CancelBefore,
}

/// The troubles of one engine, and the steps that it has passed.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    plan: Vec<(String, Trouble)>,
    passed: Mutex<Vec<String>>,
    recording: bool,
}

impl Faults {
    pub(crate) fn planned(plan: Vec<(String, Trouble)>) -> Faults {
        Faults { plan, recording: true, ..Faults::default() }
    }

    pub(crate) fn at(&self, step: &str, trouble: Trouble) -> bool {
        !self.plan.is_empty() && self.plan.iter().any(|(name, planned)| name == step && *planned == trouble)
    }

    pub(crate) fn pass(&self, step: &str) {
        if self.recording {
            self.passed.lock().unwrap_or_else(PoisonError::into_inner).push(step.to_string());
        }
    }

    pub(crate) fn passed(&self) -> Vec<String> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Ends the process if the environment asks for it here.
pub(crate) fn abort_if_asked(flow: &str, step: &str, trouble: Trouble) {
    static ASKED: OnceLock<Vec<(String, Trouble)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let read = |name, trouble| std::env::var(name).ok().map(|place| (place, trouble));
        let after = read("FERROSTACK_CRASH_AFTER", Trouble::CrashAfterJournal);
        after.into_iter().chain(read("FERROSTACK_CRASH_IN", Trouble::CrashAfterEffect)).collect()
    });
    let here = |(place, planned): &(String, Trouble)| {
        *planned == trouble && place.split_once('/').is_some_and(|(kind, name)| kind == flow && name == step)
    };
    if asked.iter().any(here) {
        eprintln!("crashing at {flow}/{step}, as the environment asks");
        std::process::abort();
    }
}
