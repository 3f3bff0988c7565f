//! Logs go to stderr, one line per event, as text or as JSON.

use tracing_subscriber::EnvFilter;

/// Starts logging for this process. `FERROSTACK_LOG` overrides the level per module.
pub fn start(debug: bool, json: bool) {
    let level = if debug { "debug" } else { "info" };
    let filter = EnvFilter::try_from_env("FERROSTACK_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},sqlx=warn,lapin=warn,hyper=warn")));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second start (tests share a process) keeps the first subscriber.
    let _ = if json { lines.json().try_init() } else { lines.with_target(false).try_init() };
}
