//! Queues in this process, for a cloud that is one process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::limits::{HANDLERS, QUEUED};
use crate::pending::Pending;
use crate::{Full, Parcel, Take, Transport};

pub(crate) struct Local {
    pending: Arc<Pending>,
    queues: Mutex<HashMap<String, Arc<Queue>>>,
}

#[derive(Default)]
struct Queue {
    parcels: Mutex<VecDeque<Parcel>>,
    filled: Notify,
}

impl Local {
    pub(crate) fn new(pending: Arc<Pending>) -> Local {
        Local { pending, queues: Mutex::default() }
    }

    fn queue(&self, subject: &str) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.entry(subject.to_string()).or_default().clone()
    }
}

impl Transport for Local {
    fn send(&self, parcel: Parcel) -> Result<(), Full> {
        let queue = self.queue(&parcel.subject);
        let mut parcels = queue.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        if parcels.len() >= QUEUED {
            let now = Instant::now();
            parcels.retain(|parcel| parcel.deadline > now);
        }
        if parcels.len() >= QUEUED {
            return Err(Full);
        }
        parcels.push_back(parcel);
        drop(parcels);
        queue.filled.notify_one();
        Ok(())
    }

    fn consume(&self, subject: String, take: Take, mut stopped: oneshot::Receiver<()>) {
        let (queue, pending) = (self.queue(&subject), self.pending.clone());
        let slots = Arc::new(Semaphore::new(HANDLERS));
        tokio::spawn(async move {
            // Runs until the subscription is dropped.
            loop {
                let next = async {
                    let slot = slots.clone().acquire_owned().await;
                    (slot, queue.next().await)
                };
                let (slot, parcel) = tokio::select! {
                    biased;
                    _ = &mut stopped => break,
                    next = next => next,
                };
                let (take, pending) = (take.clone(), pending.clone());
                tokio::spawn(async move {
                    let answer = take(parcel.payload).await;
                    if let Some(id) = parcel.correlation {
                        pending.answer(&id, answer);
                    }
                    drop(slot);
                });
            }
            // What was announced to this consumer may now be another's.
            queue.filled.notify_one();
        });
    }
}

impl Queue {
    /// The oldest message that somebody still cares for.
    async fn next(&self) -> Parcel {
        loop {
            let filled = self.filled.notified();
            if let Some((parcel, more)) = self.pop() {
                if more {
                    // One notification may stand for several messages: pass it on.
                    self.filled.notify_one();
                }
                return parcel;
            }
            filled.await;
        }
    }

    fn pop(&self) -> Option<(Parcel, bool)> {
        let mut parcels = self.parcels.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while let Some(parcel) = parcels.pop_front() {
            if parcel.deadline > now {
                return Some((parcel, !parcels.is_empty()));
            }
        }
        None
    }
}
