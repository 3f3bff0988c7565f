//! The image service: keeps the disks that servers boot from, and tells who may see them.
//!
//! ```text
//! POST /v2/images ──► row «queued» ──PUT …/file──► inspect + sum up + write ──► row «active» ──GET …/file──► bytes
//!                                                  <id>.part → <id>
//! ```
//!
//! - [`images`]   create, show, list, change, delete; [`members`] whom an image is shared with; [`tags`]
//! - [`transfers`] upload and download
//! - [`inspect`]  reads the header of an upload before anything else opens it
//! - [`store`]    the files; [`digest`] sums them up while they pass
//! - [`sweep`]    makes files and rows agree again after a crash, and lists what does not
//! - [`metadefs`] what properties mean, for people and dashboards
//! - [`discovery`], [`schemas`], [`tasks`] what clients ask about the service
//! - [`options`]  upstream's option names

use std::sync::Arc;

use api::policy::PolicyError;
use api::{App, Authenticator, Envelope, Operation, Policy, Reply, Request, Service, Shape};
use db::{Db, Migration, Schema};

pub mod digest;
pub mod discovery;
pub mod images;
pub mod inspect;
pub mod members;
pub mod metadefs;
pub mod options;
pub mod schemas;
pub mod store;
pub mod sweep;
pub mod tags;
pub mod tasks;
pub mod transfers;

pub use options::Options;
pub use sweep::start;

/// What every call leans on.
pub struct Images {
    pub db: Db,
    pub store: store::Store,
    pub options: Options,
}

pub const SCHEMA: Schema = Schema {
    service: "image",
    migrations: &[
        Migration { number: 1, name: "images", sql: include_str!("../migrations/0001_images.sql") },
        Migration { number: 2, name: "metadefs", sql: include_str!("../migrations/0002_metadefs.sql") },
    ],
};

impl Service for Images {
    const SHAPE: Shape =
        Shape { name: "image", envelope: Envelope::Image, versions: None, mounts: &["/v2"], project_in_path: false };

    fn document(&self, request: &Request) -> Option<Reply> {
        discovery::versions(request)
    }
}

impl Images {
    /// Opens the store, and makes its directory if there is none.
    pub async fn new(db: Db, options: Options) -> Result<Images, store::Error> {
        let store = store::Store::open(&options.data_dir).await?;
        Ok(Images { db, store, options })
    }
}

pub fn operations() -> Vec<Operation<Images>> {
    let tables = [
        images::operations(),
        transfers::operations(),
        members::operations(),
        tags::operations(),
        schemas::operations(),
        discovery::operations(),
        metadefs::operations(),
        tasks::operations(),
    ];
    tables.into_iter().flatten().collect()
}

/// The service as something that answers requests.
pub fn app(
    service: Arc<Images>,
    policy_overrides: Option<&str>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<App<Images>, PolicyError> {
    let policy = Policy::new(include_str!("../policy.tsv"), policy_overrides)?;
    let missing = include_str!("../../../tests/ratchet/operations/image.txt");
    Ok(App::new(service, operations(), missing, policy, authenticator))
}
