//! What a query costs, in the open: run with `--nocapture` to see. The bounds are wide, because debug builds share
//! their machine; they catch a missing statement cache or a connection per query.

use std::time::{Duration, Instant};

use db::{Page, select, sql};

use crate::{Volume, fresh, volume};

const ROUNDS: u32 = 2_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_point_read_is_cheap() {
    let (db, _guard) = fresh().await;
    let rows: Vec<Volume> = (0..1_000).map(|n| volume(&format!("v{n:04}"))).collect();
    db.insert_all(&rows).await.unwrap();
    let dialect = db.dialect();
    // As a request is served: on a worker of the runtime.
    let (read, write, page) = tokio::spawn(async move {
        db.maybe(select::<Volume>("WHERE id = ?").bind("v0001")).await.unwrap();
        let start = Instant::now();
        for n in 0..ROUNDS {
            let id = format!("v{:04}", n % 1_000);
            assert!(db.maybe(select::<Volume>("WHERE id = ?").bind(id)).await.unwrap().is_some());
        }
        let read = start.elapsed() / ROUNDS;

        let start = Instant::now();
        for n in 0..ROUNDS {
            let set = sql("UPDATE volumes SET size_gb = ? WHERE id = ?").bind(i64::from(n)).bind("v0500");
            assert_eq!(db.run(set).await.unwrap(), 1);
        }
        let write = start.elapsed() / ROUNDS;

        let start = Instant::now();
        let page = Page { limit: Some(1_000), ..Page::default() };
        for _ in 0..20 {
            assert_eq!(db.page(select::<Volume>(""), &page).await.unwrap().len(), 1_000);
        }
        (read, write, start.elapsed() / 20)
    })
    .await
    .unwrap();
    println!("{dialect:?}: point read {read:?}, write {write:?}, page of 1000 rows {page:?}");
    assert!(read < Duration::from_millis(2), "{read:?}");
    assert!(page < Duration::from_millis(200), "{page:?}");
}
