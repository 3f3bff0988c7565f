//! When reconcilers run, and where.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flow::{Engine, Flows, Pace, Reconciler, StepError, Work};
use tokio::sync::Notify;

use crate::cloud::Place;

#[derive(Default)]
struct House {
    runs: AtomicUsize,
    at_once: AtomicUsize,
    ran: Notify,
}

impl House {
    async fn tidy(&self) -> Result<(), StepError> {
        assert_eq!(self.at_once.fetch_add(1, Ordering::SeqCst), 0, "never beside itself");
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.ran.notify_one();
        match self.runs.load(Ordering::SeqCst) {
            1 => Err(StepError::again("the first run fails")),
            _ => Ok(()),
        }
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

fn engine(flows: &Flows, owner: &str, house: &Arc<House>, period: Duration) -> Engine {
    let tidy = Reconciler::new("tidy", period, async |house: Arc<House>| house.tidy().await);
    let work = Work { flows: Vec::new(), reconcilers: vec![tidy] };
    Engine::start_at(flows, owner, house.clone(), work, Pace::test())
}

const NEVER: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_reconciler_runs_at_start_when_poked_and_after_a_failure() {
    let place = Place::new().await;
    let (flows, house) = (Flows::new("compute", &place.db), Arc::new(House::default()));
    let _engine = engine(&flows, "c1", &house, NEVER);
    house.ran.notified().await;
    flows.poke("tidy");
    house.ran.notified().await;
    assert_eq!(house.runs(), 2);
}

#[tokio::test]
async fn a_reconciler_runs_on_its_timer() {
    let place = Place::new().await;
    let (flows, house) = (Flows::new("compute", &place.db), Arc::new(House::default()));
    let _engine = engine(&flows, "c1", &house, Duration::from_millis(1));
    while house.runs() < 5 {
        house.ran.notified().await;
    }
}

#[tokio::test]
async fn one_process_is_elected_and_another_follows_when_it_dies() {
    let place = Place::new().await;
    let houses = [Arc::new(House::default()), Arc::new(House::default())];
    let [one, two] = [Flows::new("compute", &place.db), Flows::new("compute", &place.db)];
    let first = engine(&one, "c1", &houses[0], NEVER);
    houses[0].ran.notified().await;
    let _second = engine(&two, "c2", &houses[1], NEVER);

    // A poke from the process that does not lead arrives where it must.
    two.poke("tidy");
    houses[0].ran.notified().await;
    assert_eq!(houses[1].runs(), 0);

    drop(first);
    houses[1].ran.notified().await;
    assert_eq!(houses[0].runs(), 2);
}

#[tokio::test]
async fn a_process_that_stops_gives_its_office_back() {
    let place = Place::new().await;
    let houses = [Arc::new(House::default()), Arc::new(House::default())];
    let [one, two] = [Flows::new("compute", &place.db), Flows::new("compute", &place.db)];
    let first = engine(&one, "c1", &houses[0], NEVER);
    houses[0].ran.notified().await;
    first.stop(Duration::from_secs(10)).await.unwrap();
    let tidy = Reconciler::new("tidy", NEVER, async |house: Arc<House>| house.tidy().await);
    let patient = Pace { lapse: NEVER, ..Pace::test() };
    let work = Work { flows: Vec::new(), reconcilers: vec![tidy] };
    let _second = Engine::start_at(&two, "c2", houses[1].clone(), work, patient);
    houses[1].ran.notified().await;
}

#[tokio::test]
async fn a_reconciler_for_everywhere_runs_in_each_process() {
    let place = Place::new().await;
    for owner in ["c1", "c2"] {
        let house = Arc::new(House::default());
        let flows = Flows::new("compute", &place.db);
        let tidy = Reconciler::new("tidy", NEVER, async |house: Arc<House>| house.tidy().await).everywhere();
        let work = Work { flows: Vec::new(), reconcilers: vec![tidy] };
        let engine = Engine::start_at(&flows, owner, house.clone(), work, Pace::test());
        house.ran.notified().await;
        std::mem::forget(engine);
    }
}
