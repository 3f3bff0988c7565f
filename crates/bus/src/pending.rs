//! Requests that wait for their answers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

#[derive(Default)]
pub(crate) struct Pending {
    next: AtomicU64,
    waiting: Mutex<HashMap<String, oneshot::Sender<Vec<u8>>>>,
}

/// A place in the waiting room; dropping it gives the place up.
pub(crate) struct Ticket {
    id: String,
    pending: Arc<Pending>,
}

impl Pending {
    pub(crate) fn open(self: &Arc<Pending>) -> (Ticket, oneshot::Receiver<Vec<u8>>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (sender, receiver) = oneshot::channel();
        self.room().insert(id.clone(), sender);
        (Ticket { id, pending: self.clone() }, receiver)
    }

    /// Delivers an answer; a late one is nobody's.
    pub(crate) fn answer(&self, id: &str, payload: Vec<u8>) {
        if let Some(sender) = self.room().remove(id) {
            // The asker may have given up in this very moment.
            let _ = sender.send(payload);
        }
    }

    fn room(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Vec<u8>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.room().remove(&self.id);
    }
}
