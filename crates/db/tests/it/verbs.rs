//! Every verb, alone and in a transaction.

use db::{Error, Queries, select, sql};

use crate::{Attachment, Volume, attachment, fresh, volume};

#[tokio::test]
async fn one_row_is_there_or_not() {
    let (db, _guard) = fresh().await;
    let find = || select::<Volume>("WHERE id = ?").bind("a");
    assert_eq!(db.maybe(find()).await.unwrap(), None);
    assert!(matches!(db.one(find()).await, Err(Error::Missing)));
    db.insert(&volume("a")).await.unwrap();
    assert_eq!(db.maybe(find()).await.unwrap(), Some(volume("a")));
    assert_eq!(db.one(find()).await.unwrap(), volume("a"));
}

#[tokio::test]
async fn conditions_lists_and_tails_come_together() {
    let (db, _guard) = fresh().await;
    let rows: Vec<Volume> = (0..9).map(|n| Volume { size_gb: n, ..volume(&format!("v{n}")) }).collect();
    db.insert_all(&rows).await.unwrap();

    let text = "WHERE size_gb > ? OR size_gb = ? ORDER BY size_gb DESC LIMIT ?";
    let some = select::<Volume>(text).bind(3_i64).bind(0).bind(3_i64);
    let some = some.and("size_gb <> ?").bind(7_i64).in_list("id", ["v8", "v7", "v6", "v0", "v1"]);
    let found = db.all(some).await.unwrap();
    assert_eq!(found.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["v8", "v6", "v0"]);

    let none: [&str; 0] = [];
    assert_eq!(db.all(select::<Volume>("").in_list("id", none)).await.unwrap(), []);
    let count = sql("SELECT COUNT(*) FROM volumes WHERE id IN (?) AND size_gb < ?").bind_list(["v1", "v2", "v8"]);
    assert_eq!(db.count(count.bind(5_i64)).await.unwrap(), 2);
    let gone = db.run(sql("DELETE FROM volumes").in_list("id", ["v0", "v1", "v2"])).await.unwrap();
    assert_eq!(gone, 3);
    assert_eq!(db.count(sql("SELECT COUNT(*) FROM volumes")).await.unwrap(), 6);
}

#[tokio::test]
async fn a_join_selects_whole_rows() {
    let (db, _guard) = fresh().await;
    db.insert_all(&[volume("a"), volume("b")]).await.unwrap();
    db.insert(&attachment("1", "b", "host")).await.unwrap();
    let text = "JOIN attachments ON attachments.volume_id = volumes.id WHERE attachments.host = ?";
    let found = db.all(select::<Volume>(text).bind("host").and("volumes.size_gb = ?").bind(1_i64)).await.unwrap();
    assert_eq!(found, [volume("b")]);
}

#[tokio::test]
async fn a_change_counts_the_rows_it_matched() {
    let (db, _guard) = fresh().await;
    db.insert_all(&[volume("a"), volume("b")]).await.unwrap();
    let set = || sql("UPDATE volumes SET size_gb = ? WHERE type = ?").bind(1_i64).bind("fast");
    assert_eq!(db.run(set()).await.unwrap(), 2, "although nothing changes");
    assert_eq!(db.run(set().and("id = ?").bind("c")).await.unwrap(), 0);
    assert_eq!(db.run(sql("DELETE FROM volumes")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_null_is_bound_like_any_value() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    let set = sql("UPDATE volumes SET name = ?, \"load\" = ?, type = ?").bind_all([None, None, Some("slow")]);
    assert_eq!(db.run(set).await.unwrap(), 1);
    let found = db.one(select::<Volume>("")).await.unwrap();
    assert_eq!((found.name, found.load, found.r#type.as_str()), (None, None, "slow"));
}

#[tokio::test]
async fn many_rows_are_added_at_once() {
    let (db, _guard) = fresh().await;
    let rows: Vec<Volume> = (0..1_000).map(|n| volume(&format!("v{n:04}"))).collect();
    let mut tx = db.begin().await.unwrap();
    tx.insert_all(&rows).await.unwrap();
    tx.insert_all::<Volume>(&[]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(db.all(select::<Volume>("ORDER BY id")).await.unwrap(), rows);
}

#[tokio::test]
async fn a_second_row_with_the_same_key_is_a_duplicate() {
    let (db, _guard) = fresh().await;
    db.insert(&volume("a")).await.unwrap();
    assert!(db.insert(&volume("a")).await.unwrap_err().is_duplicate());
    db.insert(&attachment("1", "a", "h")).await.unwrap();
    let error = db.insert(&attachment("2", "a", "h")).await.unwrap_err();
    let Error::Duplicate { constraint } = error else { panic!("{error}") };
    assert!(constraint.contains("host"), "{constraint}");
}

#[tokio::test]
async fn rows_that_do_not_fit_together_are_refused() {
    let (db, _guard) = fresh().await;
    assert!(matches!(db.insert(&attachment("1", "a", "h")).await, Err(Error::Constraint { .. })));
    db.insert(&volume("a")).await.unwrap();
    db.insert(&attachment("1", "a", "h")).await.unwrap();
    assert!(matches!(db.run(sql("DELETE FROM volumes")).await, Err(Error::Constraint { .. })));
    let set = sql("UPDATE volumes SET type = ?").bind(None::<String>);
    assert!(matches!(db.run(set).await, Err(Error::Constraint { .. })));
}

#[tokio::test]
async fn a_row_is_added_unless_it_exists() {
    let (db, _guard) = fresh().await;
    assert!(db.insert_new(&volume("a")).await.unwrap());
    let mut tx = db.begin().await.unwrap();
    let other = Volume { size_gb: 5, ..volume("a") };
    assert!(!tx.insert_new(&other).await.unwrap());
    assert!(tx.insert_new(&volume("b")).await.unwrap(), "the transaction goes on");
    tx.commit().await.unwrap();
    assert_eq!(db.all(select::<Volume>("ORDER BY id")).await.unwrap(), [volume("a"), volume("b")]);
}

#[tokio::test]
async fn an_upsert_adds_or_changes() {
    let (db, _guard) = fresh().await;
    db.upsert(&volume("a"), &["id"]).await.unwrap();
    let changed = Volume { size_gb: 7, name: None, load: Some(2.0), ..volume("a") };
    db.upsert(&changed, &["id"]).await.unwrap();
    assert_eq!(db.all(select::<Volume>("")).await.unwrap(), [changed]);

    db.insert(&attachment("1", "a", "h")).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    tx.upsert(&attachment("2", "a", "h"), &["volume_id", "host"]).await.unwrap();
    tx.upsert(&attachment("2", "a", "h"), &["id", "volume_id", "host"]).await.err();
    drop(tx);
    db.upsert(&attachment("2", "a", "h"), &["volume_id", "host"]).await.unwrap();
    assert_eq!(db.all(select::<Attachment>("")).await.unwrap(), [attachment("2", "a", "h")]);
}

#[tokio::test]
async fn a_function_serves_databases_and_transactions() {
    async fn find(mut db: impl Queries, id: &str) -> Option<Volume> {
        once_more(&mut db, id).await;
        db.maybe(select::<Volume>("WHERE id = ?").bind(id)).await.unwrap()
    }
    async fn once_more(mut db: impl Queries, id: &str) {
        db.count(sql("SELECT COUNT(*) FROM volumes WHERE id = ?").bind(id)).await.unwrap();
    }
    let (db, _guard) = fresh().await;
    let mut tx = db.begin().await.unwrap();
    tx.insert(&volume("a")).await.unwrap();
    assert_eq!(find(&mut tx, "a").await, Some(volume("a")));
    assert_eq!(find(&db, "a").await, None, "not committed yet");
    tx.commit().await.unwrap();
    assert_eq!(tokio::spawn(async move { find(&db, "a").await }).await.unwrap(), Some(volume("a")));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let options = db::Options { wait_ms: 300, ..db::Options::test() };
    let nowhere = std::env::temp_dir().join("no-such-directory");
    let urls = [
        format!("sqlite:///{}/x.db", nowhere.display()),
        format!("mysql+pymysql://u@localhost/d?unix_socket={}", nowhere.display()),
        format!("postgresql://u@localhost/d?host={}", nowhere.display()),
    ];
    for url in urls {
        let db = db::Db::open(&url, options.clone()).unwrap();
        let error = db.count(sql("SELECT 1")).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{url}: {error}");
    }
}
