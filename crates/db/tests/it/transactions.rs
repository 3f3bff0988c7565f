//! All of it happens, or nothing; and who meets a conflict tries again.

use std::sync::atomic::{AtomicU32, Ordering};

use db::{Db, Error, MayConflict, select, sql};
use futures_util::future::join_all;

use crate::{Volume, fresh, volume};

const COUNT: &str = "SELECT COUNT(*) FROM volumes";

#[tokio::test]
async fn what_is_not_committed_did_not_happen() {
    let (db, _guard) = fresh().await;
    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    assert_eq!(tx.count(sql(COUNT)).await.unwrap(), 1);
    drop(tx);
    assert_eq!(db.count(sql(COUNT)).await.unwrap(), 0);

    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(db.count(sql(COUNT)).await.unwrap(), 0);

    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.count(sql(COUNT)).await.unwrap(), 1);
}

#[tokio::test]
async fn after_a_failure_a_transaction_can_only_be_undone() {
    let (db, _guard) = fresh().await;
    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    assert!(tx.insert(&volume("a")).await.unwrap_err().is_duplicate());
    assert!(tx.insert(&volume("b")).await.is_err());
    assert!(tx.commit().await.is_err());
    assert_eq!(db.count(sql(COUNT)).await.unwrap(), 0);
}

#[tokio::test]
async fn of_many_that_compare_and_swap_one_wins() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    let wins = (0..8).map(|n| {
        let db = db.clone();
        tokio::spawn(async move {
            let mut tx = db.begin().await?;
            let take = sql("UPDATE volumes SET type = ? WHERE id = ? AND type = ?");
            let won = tx.run(take.bind(format!("taken by {n}")).bind("a").bind("fast")).await?;
            tx.commit().await?;
            Ok::<u64, Error>(won)
        })
    });
    let won: u64 = join_all(wins).await.into_iter().map(|won| won.unwrap().unwrap()).sum();
    assert_eq!(won, 1);
}

/// Adds one to two rows, in the order given; two at once in opposite orders get in each other's way.
async fn add_to_both(db: &Db, first: &str, second: &str) -> Result<(), Error> {
    let add = |id: &str| sql("UPDATE volumes SET size_gb = size_gb + 1 WHERE id = ?").bind(id);
    let mut tx = db.begin().await?;
    tx.run(add(first)).await?;
    tokio::task::yield_now().await;
    tx.run(add(second)).await?;
    tx.commit().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deadlock_is_tried_again() {
    let (db, _guard) = fresh().await;
    db.insert_all(&[volume("a"), volume("b")]).await.unwrap();
    let tries = std::sync::Arc::new(AtomicU32::new(0));
    let work = (0..4).map(|n| {
        let (db, tries) = (db.clone(), tries.clone());
        tokio::spawn(async move {
            let (first, second) = if n % 2 == 0 { ("a", "b") } else { ("b", "a") };
            for _ in 0..5 {
                db.retry(|| async {
                    tries.fetch_add(1, Ordering::Relaxed);
                    add_to_both(&db, first, second).await
                })
                .await?;
            }
            Ok::<(), Error>(())
        })
    });
    for done in join_all(work).await {
        done.unwrap().unwrap();
    }
    let rows = db.all(select::<Volume>("ORDER BY id")).await.unwrap();
    assert_eq!((rows[0].size_gb, rows[1].size_gb), (21, 21));
    assert!(tries.load(Ordering::Relaxed) > 19);
}

#[derive(Debug, PartialEq)]
enum Refusal {
    Again,
    Never,
}

impl MayConflict for Refusal {
    fn is_conflict(&self) -> bool {
        *self == Refusal::Again
    }
}

#[tokio::test]
async fn only_conflicts_are_tried_again_and_not_for_ever() {
    let (db, _guard) = fresh().await;
    let tries = AtomicU32::new(0);
    let done = db.retry(|| async {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(Refusal::Again),
            _ => Err::<(), _>(Refusal::Never),
        }
    });
    assert_eq!(done.await, Err(Refusal::Never));
    assert_eq!(tries.load(Ordering::Relaxed), 2);

    let tries = AtomicU32::new(0);
    let done = db.retry(|| async {
        tries.fetch_add(1, Ordering::Relaxed);
        Err::<(), _>(Refusal::Again)
    });
    assert_eq!(done.await, Err(Refusal::Again));
    assert_eq!(tries.load(Ordering::Relaxed), 8);
}

#[tokio::test]
async fn a_reader_does_not_wait_for_a_writer() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.run(sql("UPDATE volumes SET size_gb = 2")).await.unwrap();
    assert_eq!(db.one(select::<Volume>("")).await.unwrap().size_gb, 1);
    tx.commit().await.unwrap();
    assert_eq!(db.one(select::<Volume>("")).await.unwrap().size_gb, 2);
}

#[tokio::test]
async fn a_caller_who_gives_up_leaves_no_lock_behind() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    let (written, writing) = tokio::sync::oneshot::channel();
    let abandoned = {
        let db = db.clone();
        tokio::spawn(async move {
            let mut tx = db.begin().await.unwrap();
            tx.run(sql("UPDATE volumes SET size_gb = 2")).await.unwrap();
            written.send(()).unwrap();
            std::future::pending::<()>().await;
        })
    };
    writing.await.unwrap();
    abandoned.abort();
    abandoned.await.unwrap_err();
    db.retry(|| async {
        let mut tx = db.begin().await?;
        tx.run(sql("UPDATE volumes SET size_gb = size_gb + 5")).await?;
        tx.commit().await
    })
    .await
    .unwrap();
    assert_eq!(db.one(select::<Volume>("")).await.unwrap().size_gb, 6);
}
