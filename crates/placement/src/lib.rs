//! The placement service: who has which resources, who uses them, and where a request would fit.
//!
//! ```text
//! provider ──┬─ inventories   how much of each resource class it has
//!  (tree)    ├─ traits        what it can do
//!            └─ aggregates    whom it belongs with
//! consumer ──── allocations   what it uses of whose inventory
//! ```
//! Whoever writes raises the generation of the providers that it changes, and the [`epoch`] last of all. Candidates
//! come from an [`index`] in memory that follows the epoch; the claim itself is checked again on the rows.
//!
//! - [`providers`], [`inventories`], [`classes`], [`traits`], [`aggregates`], [`usages`]  one resource each
//! - [`allocations`], [`reshaper`]   what is used, changed as a whole
//! - [`candidates`]                  where a request would fit
//! - [`standard`]                    the classes and traits that every cloud knows
//! - [`exchange`]                    requests and replies in this service's manners
//! - [`filters`]                     the little languages of queries
//! - [`stop`]                        why a transaction ends early

use std::sync::Arc;

use api::policy::PolicyError;
use api::{App, Authenticator, Envelope, Operation, Policy, Service, Shape, Versions, v};
use base::config::{Config, ConfigError};
use db::{Db, Migration, Schema};

pub mod aggregates;
pub mod allocations;
pub mod candidates;
pub mod classes;
pub mod epoch;
pub mod exchange;
pub mod filters;
pub mod index;
pub mod inventories;
pub mod providers;
pub mod reshaper;
pub mod root;
pub mod standard;
pub mod stop;
pub mod traits;
pub mod usages;

/// What every call leans on.
pub struct Placement {
    pub db: Db,
    pub settings: Settings,
    index: index::Keeper,
}

/// Upstream's `[placement]` options.
#[derive(Debug, Clone)]
pub struct Settings {
    pub randomize_allocation_candidates: bool,
    /// How many candidates are made at most; none means no limit but the client's.
    pub max_allocation_candidates: Option<usize>,
    /// Whether all candidates of one tree come before those of the next.
    pub depth_first: bool,
    pub incomplete_consumer_project_id: String,
    pub incomplete_consumer_user_id: String,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            randomize_allocation_candidates: false,
            max_allocation_candidates: None,
            depth_first: true,
            incomplete_consumer_project_id: "00000000-0000-0000-0000-000000000000".to_string(),
            incomplete_consumer_user_id: "00000000-0000-0000-0000-000000000000".to_string(),
        }
    }
}

impl Settings {
    pub fn read(config: &Config) -> Result<Settings, ConfigError> {
        let default = Settings::default();
        let text = |name: &str, default: &str| config.text_or("placement", name, default).to_string();
        let most = config.integer("placement", "max_allocation_candidates", -1)?;
        Ok(Settings {
            randomize_allocation_candidates: config.flag("placement", "randomize_allocation_candidates", false)?,
            max_allocation_candidates: usize::try_from(most).ok(),
            depth_first: text("allocation_candidates_generation_strategy", "depth-first") != "breadth-first",
            incomplete_consumer_project_id: text(
                "incomplete_consumer_project_id",
                &default.incomplete_consumer_project_id,
            ),
            incomplete_consumer_user_id: text("incomplete_consumer_user_id", &default.incomplete_consumer_user_id),
        })
    }
}

pub const SCHEMA: Schema = Schema {
    service: "placement",
    migrations: &[Migration { number: 1, name: "placement", sql: include_str!("../migrations/0001_placement.sql") }],
};

impl Service for Placement {
    const SHAPE: Shape = Shape {
        name: "placement",
        envelope: Envelope::Placement,
        versions: Some(Versions { word: "placement", older_header: None, min: v(1, 0), max: v(1, 39) }),
        mounts: &[""],
        project_in_path: false,
    };
}

impl Placement {
    /// The service on a database that has [`SCHEMA`]. Adds the standard classes and traits that are not there yet.
    pub async fn new(db: Db, settings: Settings) -> Result<Placement, db::Error> {
        standard::ensure(&db).await?;
        epoch::forget_old(&db).await?;
        Ok(Placement { db, settings, index: index::Keeper::default() })
    }
}

pub fn operations() -> Vec<Operation<Placement>> {
    let tables = [
        root::operations(),
        providers::operations(),
        inventories::operations(),
        classes::operations(),
        traits::operations(),
        aggregates::operations(),
        usages::operations(),
        allocations::operations(),
        reshaper::operations(),
        candidates::operations(),
    ];
    tables.into_iter().flatten().collect()
}

/// The service as something that answers requests.
pub fn app(
    service: Arc<Placement>,
    policy_overrides: Option<&str>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<App<Placement>, PolicyError> {
    let policy = Policy::new(include_str!("../policy.tsv"), policy_overrides)?;
    let missing = include_str!("../../../tests/ratchet/operations/placement.txt");
    Ok(App::new(service, operations(), missing, policy, authenticator))
}
