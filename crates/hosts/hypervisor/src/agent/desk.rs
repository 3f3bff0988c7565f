//! What has been ordered for each guest, and how far it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use contract::guest::Desired;
use tokio::task::AbortHandle;

use crate::limits::TOMBSTONES;

#[derive(Default)]
pub(super) struct Desk {
    orders: BTreeMap<String, Order>,
    /// Guests that are gone, the oldest first. Their orders are kept for a while, so that an order that was on its way
    /// when they went does not bring them back.
    graves: VecDeque<String>,
    /// Guests to report, because something about them changed.
    news: BTreeSet<String>,
    /// Guests that the controllers want removed, with the generation that was reported of them.
    unwanted: BTreeMap<String, u64>,
}

struct Order {
    generation: u64,
    gone: bool,
    progress: Progress,
}

enum Progress {
    Working(AbortHandle),
    Done,
    /// Why the host has given up.
    Failed(String),
}

/// What the desk knows of a guest beside what the driver says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Working,
    Done,
    Gone { generation: u64 },
    Failed { generation: u64, why: String },
}

impl Desk {
    /// Whether an order is newer than the last one. One that is not may still be worth a report: its sender has
    /// probably not heard of the last one's end.
    pub(super) fn accept(&mut self, id: &str, generation: u64, gone: bool) -> bool {
        let Some(order) = self.orders.get(id) else { return true };
        let newer = generation > order.generation || (gone && !order.gone && generation == order.generation);
        if !newer && order.gone && matches!(order.progress, Progress::Done) {
            self.news.insert(id.to_string());
        }
        newer
    }

    /// Notes who works on an order, and abandons what was under way for the one before.
    pub(super) fn working(&mut self, id: &str, generation: u64, gone: bool, work: AbortHandle) {
        let order = Order { generation, gone, progress: Progress::Working(work) };
        if let Some(Order { progress: Progress::Working(old), .. }) = self.orders.insert(id.to_string(), order) {
            old.abort();
        }
        self.news.insert(id.to_string());
    }

    pub(super) fn finished(&mut self, id: &str, generation: u64, failed: Option<String>) {
        let Some(order) = self.orders.get_mut(id).filter(|order| order.generation == generation) else { return };
        order.progress = failed.map_or(Progress::Done, Progress::Failed);
        self.news.insert(id.to_string());
        if order.gone && matches!(order.progress, Progress::Done) {
            self.graves.retain(|grave| grave != id);
            self.graves.push_back(id.to_string());
        }
        while self.graves.len() > TOMBSTONES {
            self.graves.pop_front().and_then(|oldest| self.orders.remove(&oldest));
        }
    }

    /// Forgets failures of guests that are no longer asked for.
    pub(super) fn forget_failed_but(&mut self, desired: &Desired) {
        let asked: BTreeSet<&str> = desired.guests.iter().map(|guest| guest.id.as_str()).collect();
        self.orders.retain(|id, order| asked.contains(id.as_str()) || !matches!(order.progress, Progress::Failed(_)));
    }

    pub(super) fn known(&self, id: &str) -> Option<Known> {
        let order = self.orders.get(id)?;
        let generation = order.generation;
        Some(match &order.progress {
            Progress::Working(_) => Known::Working,
            Progress::Failed(why) => Known::Failed { generation, why: why.clone() },
            Progress::Done if order.gone => Known::Gone { generation },
            Progress::Done => Known::Done,
        })
    }

    /// Guests that the driver may not know, but that are worth a line in a report of everything.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let open = |order: &Order| matches!(order.progress, Progress::Working(_) | Progress::Failed(_));
        self.orders.iter().filter(|(_, order)| open(order)).map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn add_news(&mut self, ids: impl IntoIterator<Item = String>) {
        self.news.extend(ids);
    }

    pub(super) fn take_news(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.news)
    }

    /// The controllers want a guest removed of which we reported `generation`. An order that came later wins.
    pub(super) fn unwant(&mut self, id: String, generation: u64) {
        let reordered = self.orders.get(&id).is_some_and(|order| order.generation > generation);
        if !reordered {
            self.unwanted.insert(id, generation);
        }
    }

    pub(super) fn take_unwanted(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.unwanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handle() -> AbortHandle {
        tokio::spawn(async {}).abort_handle()
    }

    #[tokio::test]
    async fn an_older_order_is_not_worked_on() {
        let mut desk = Desk::default();
        assert!(desk.accept("a", 2, false));
        desk.working("a", 2, false, handle());
        assert!(!desk.accept("a", 2, false) && !desk.accept("a", 1, true));
        assert!(desk.accept("a", 3, false));
        // A removal needs no newer generation.
        assert!(desk.accept("a", 2, true));
    }

    #[tokio::test]
    async fn a_guest_that_is_gone_does_not_come_back_and_is_reported_again_when_asked_for() {
        let mut desk = Desk::default();
        desk.working("a", 5, true, handle());
        desk.finished("a", 5, None);
        desk.take_news();
        assert!(!desk.accept("a", 4, false));
        assert_eq!(desk.take_news().len(), 1);
        assert_eq!(desk.known("a"), Some(Known::Gone { generation: 5 }));
    }

    #[tokio::test]
    async fn graves_are_bounded() {
        let mut desk = Desk::default();
        for number in 0..TOMBSTONES + 10 {
            let id = number.to_string();
            desk.working(&id, 1, true, handle());
            desk.finished(&id, 1, None);
        }
        assert_eq!((desk.orders.len(), desk.graves.len()), (TOMBSTONES, TOMBSTONES));
    }

    #[tokio::test]
    async fn a_removal_that_was_asked_before_a_new_order_is_ignored() {
        let mut desk = Desk::default();
        desk.working("a", 7, false, handle());
        desk.unwant("a".into(), 6);
        assert!(desk.take_unwanted().is_empty());
        desk.unwant("a".into(), 7);
        assert_eq!(desk.take_unwanted().len(), 1);
    }
}
