//! The sweep: makes files and rows agree again after somebody died between the two.
//!
//! ```text
//! row queued, saving   file without a writer   the upload died: the row is queued, the file goes
//! row saving           no file                 the same, without a file
//! row archived         any file                the deletion died: the file goes
//! no row at all        any file                not ours to remove: a leak, and a person looks at it
//! row active           no whole file           a leak, and a person looks at it
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::{Answer, failed};
use db::{select, sql};

use crate::Images;
use crate::images::store::{change_status, file_is_gone};
use crate::images::{Image, Status};
use crate::store::Kept;

/// Limit: how long a file may outlive the death of whoever wrote it.
const INTERVAL: Duration = Duration::from_secs(60);
/// Limit: archived images whose files are removed in one round.
const BATCH: usize = 1000;

impl Images {
    /// Removes the file of a deleted image; what fails is left to the sweep.
    pub(crate) async fn remove_file(&self, id: &str) {
        match self.store.remove(id).await {
            Ok(true) => {
                if let Err(error) = file_is_gone(&self.db, id).await {
                    tracing::warn!(image = id, %error, "cannot note that a file is gone; the sweep will");
                }
            }
            Ok(false) => tracing::debug!(image = id, "the file of a deleted image is still being written"),
            Err(error) => {
                tracing::warn!(image = id, %error, "cannot remove the file of a deleted image; the sweep will")
            }
        }
    }

    /// One round. Any number of processes may do it at once, while uploads go on.
    pub async fn sweep(&self) -> Answer<()> {
        let pending = sql(format!("SELECT id FROM deleted_images WHERE has_file = ? ORDER BY id LIMIT {BATCH}"));
        for row in self.db.rows(pending.bind(true)).await? {
            self.remove_file(&row.get::<String>(0)?).await;
        }
        let kept: HashSet<String> = self.leftovers().await?.into_iter().map(|kept| kept.image).collect();
        let unfinished = select::<Image>("WHERE status = ? OR status = ?").bind(Status::Saving).bind(Status::Queued);
        for Image { id, status, .. } in self.db.all(unfinished).await? {
            if status == Status::Saving || kept.contains(&id) {
                self.revive(&id).await?;
            }
        }
        Ok(())
    }

    /// Lets an image be uploaded again whose writer is dead.
    async fn revive(&self, id: &str) -> Answer<()> {
        // While we hold the lease nobody else uploads, so the status stays what we make it or find it to be.
        let Ok(lease) = self.store.begin(id).await else { return Ok(()) };
        if change_status(&self.db, id, Status::Saving, Status::Queued).await? {
            tracing::warn!(image = id, "an upload died; its image is queued again");
        }
        let cleared = match self.status(id).await? {
            Some(Status::Queued) => lease.clear().await,
            _ => lease.discard().await,
        };
        cleared.map_err(|error| failed("the image store", &error))
    }

    async fn status(&self, id: &str) -> Answer<Option<Status>> {
        let image = self.db.maybe(select::<Image>("WHERE id = ?").bind(id)).await?;
        Ok(image.map(|image| image.status))
    }

    async fn leftovers(&self) -> Answer<Vec<Kept>> {
        self.store.abandoned().await.map_err(|error| failed("the image store", &error))
    }

    /// Files without an owner and images without a file, a line each. Empty, once a sweep went over a quiet store.
    pub async fn leaks(&self) -> Answer<Vec<String>> {
        let kept = self.leftovers().await?;
        let images = self.db.all(select::<Image>("")).await?;
        let statuses: HashMap<&str, Status> = images.iter().map(|image| (image.id.as_str(), image.status)).collect();
        let whole: HashSet<&str> = kept.iter().filter(|kept| kept.whole).map(|kept| kept.image.as_str()).collect();

        let mut leaks = Vec::new();
        for Kept { image, whole } in &kept {
            let owner = statuses.get(image.as_str());
            match (owner, whole) {
                (Some(Status::Active | Status::Deactivated), true) => {}
                (Some(status), _) => leaks.push(format!("image {image}: a file, but the image is {}", status.word())),
                (None, _) => leaks.push(format!("image {image}: a file, but no image")),
            }
        }
        for Image { id, status, .. } in &images {
            match status {
                Status::Active | Status::Deactivated if !whole.contains(id.as_str()) => {
                    leaks.push(format!("image {id}: {}, but no file", status.word()));
                }
                Status::Saving if !self.is_arriving(id).await? => {
                    leaks.push(format!("image {id}: saving, but nobody uploads it"));
                }
                _ => {}
            }
        }
        leaks.sort();
        Ok(leaks)
    }

    async fn is_arriving(&self, id: &str) -> Answer<bool> {
        self.store.is_arriving(id).await.map_err(|error| failed("the image store", &error))
    }
}

/// Sweeps now and then, for as long as the service is there.
pub fn start(service: &Arc<Images>) -> tokio::task::JoinHandle<()> {
    let service = Arc::downgrade(service);
    tokio::spawn(async move {
        while let Some(images) = service.upgrade() {
            // What failed has been logged; the next round tries again.
            let _ = images.sweep().await;
            drop(images);
            tokio::time::sleep(INTERVAL).await;
        }
    })
}
