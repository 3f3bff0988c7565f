//! A whole process that dies where the environment asks.

use std::process::Command;
use std::sync::Arc;

use db::{Db, Options};
use flow::Flows;

use crate::cloud::{BOOT, Place};

const DATABASE: &str = "FERROSTACK_FLOW_TEST_DB";

#[tokio::test]
async fn a_process_that_died_in_a_flow_is_followed_by_one_that_goes_on() {
    for (variable, left) in [("FERROSTACK_CRASH_AFTER", 1), ("FERROSTACK_CRASH_IN", 2)] {
        let place = Place::new().await;
        let cloud = Arc::new(place.cloud());
        cloud.start(&place.db, BOOT, "s1").await;

        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "crashing::the_process_that_dies"]).env(DATABASE, place.url());
        let died = child.env(variable, "create_server/bind ports").output().unwrap();
        assert!(!died.status.success(), "{}", String::from_utf8_lossy(&died.stderr));

        let _engine = cloud.engine("c1");
        cloud.flows.settled().await.unwrap();
        assert_eq!(cloud.log().len(), left, "{variable}: {:?}", cloud.log());
        assert_eq!(cloud.state("s1").as_deref(), Some("ACTIVE"));
    }
}

/// Runs only as the child of the test above.
#[tokio::test]
async fn the_process_that_dies() {
    let Ok(url) = std::env::var(DATABASE) else { return };
    let db = Db::open(&url, Options::test()).unwrap();
    let cloud = Arc::new(crate::cloud::empty(Flows::new("compute", &db)));
    let _engine = cloud.engine("c1");
    cloud.flows.settled().await.unwrap();
}
