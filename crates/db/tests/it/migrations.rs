//! A database reaches the schema of the program, or is left alone.

use db::{Db, Dialect, Error, Migration, Options, Schema, sql};
use engines::TestDb;
use futures_util::future::join_all;

const FIRST: Migration = Migration {
    number: 1,
    name: "flavors",
    sql: "
        -- Comments may hold a ;
        CREATE TABLE flavors (id VARCHAR(36) NOT NULL PRIMARY KEY, extra DOCUMENT);
        INSERT INTO flavors (id, extra) VALUES ('tiny', '{}');
        CREATE INDEX flavors_by_id ON flavors (id);
    ",
};

const SECOND: Migration = Migration {
    number: 2,
    name: "flavor ram",
    sql: "
        ALTER TABLE flavors ADD COLUMN ram_mb BIGINT;
        UPDATE flavors SET ram_mb = 512;
        DROP INDEX flavors_by_id ON flavors;
    ",
};

const OLD: Schema = Schema { service: "compute", migrations: &[FIRST] };
const NEW: Schema = Schema { service: "compute", migrations: &[FIRST, SECOND] };

fn empty() -> (Db, TestDb) {
    let guard = engines::test_db();
    (Db::open(guard.url(), Options::test()).unwrap(), guard)
}

async fn ram(db: &Db) -> i64 {
    db.count(sql("SELECT SUM(ram_mb) FROM flavors")).await.unwrap()
}

#[tokio::test]
async fn an_empty_database_is_filled_and_then_left_as_it_is() {
    let (db, _guard) = empty();
    assert_eq!(db.version(&NEW).await.unwrap(), 0);
    assert!(matches!(db.check(&NEW).await, Err(Error::Older { found: 0, known: 2, .. })));
    assert_eq!(db.migrate(&NEW).await.unwrap(), 2);
    assert_eq!(db.migrate(&NEW).await.unwrap(), 2);
    db.check(&NEW).await.unwrap();
    assert_eq!(ram(&db).await, 512);
    let rows = db.rows(sql("SELECT service, number, name FROM ferrostack_schema ORDER BY number")).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get("name").unwrap()).collect();
    assert_eq!(names, ["flavors", "flavor ram"]);
}

#[tokio::test]
async fn an_old_database_gets_what_is_missing() {
    let (db, guard) = empty();
    assert_eq!(db.migrate(&OLD).await.unwrap(), 1);
    let error = db.check(&NEW).await.unwrap_err().to_string();
    assert!(error.contains("run `db_sync` for compute"), "{error}");
    assert_eq!(db.migrate(&NEW).await.unwrap(), 2);
    assert_eq!(ram(&db).await, 512);

    if db.dialect() == Dialect::Sqlite {
        let copy = Db::open(&format!("{}.before-2", guard.url()), Options::test()).unwrap();
        assert_eq!(copy.version(&NEW).await.unwrap(), 1);
        assert_eq!(copy.count(sql("SELECT COUNT(*) FROM flavors")).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_newer_database_is_refused_with_advice() {
    let (db, _guard) = empty();
    db.migrate(&NEW).await.unwrap();
    let error = db.migrate(&OLD).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the compute database has schema 2 and this program knows 1: run the newer program, or bring back the copy \
         that was made before the upgrade"
    );
    db.check(&OLD).await.expect("one step ahead is still served");
}

#[tokio::test]
async fn a_database_of_others_is_left_alone() {
    let (db, _guard) = empty();
    db.run(sql("CREATE TABLE theirs (id BIGINT)")).await.unwrap();
    assert!(matches!(db.version(&NEW).await, Err(Error::Foreign { service: "compute" })));
    assert!(matches!(db.migrate(&NEW).await, Err(Error::Foreign { .. })));
    assert!(db.rows(sql("SELECT number FROM ferrostack_schema")).await.is_err(), "nothing was made");
}

#[tokio::test]
async fn two_services_may_share_a_database() {
    const OTHER: Schema = Schema {
        service: "image",
        migrations: &[Migration { number: 1, name: "images", sql: "CREATE TABLE images (id BIGINT);" }],
    };
    let (db, _guard) = empty();
    db.migrate(&NEW).await.unwrap();
    assert_eq!(db.migrate(&OTHER).await.unwrap(), 1);
    assert_eq!(db.version(&NEW).await.unwrap(), 2);
}

#[tokio::test]
async fn a_migration_that_failed_half_way_is_finished_later() {
    const BROKEN: Schema = Schema {
        service: "compute",
        migrations: &[
            FIRST,
            Migration {
                number: 2,
                name: "flavor ram",
                sql: "
                    ALTER TABLE flavors ADD COLUMN ram_mb BIGINT;
                    UPDATE flavors SET no_such_column = 512;
                    DROP INDEX flavors_by_id ON flavors;
                ",
            },
        ],
    };
    let (db, _guard) = empty();
    let error = db.migrate(&BROKEN).await.unwrap_err();
    assert_eq!(error.to_string(), "applying migration 2 (flavor ram) of compute");
    assert_eq!(db.version(&NEW).await.unwrap(), 1);
    assert_eq!(db.migrate(&NEW).await.unwrap(), 2);
    assert_eq!(ram(&db).await, 512);
}

/// On MariaDB a definition is committed before anybody can write down that it was.
#[tokio::test]
async fn a_crash_between_a_definition_and_its_note_is_survived() {
    let (db, _guard) = empty();
    db.migrate(&OLD).await.unwrap();
    if db.dialect() != Dialect::MariaDb {
        return;
    }
    let note = "INSERT INTO ferrostack_schema_step (service, number, step) VALUES (?, ?, ?)";
    db.run(sql(note).bind("compute").bind(2).bind(0)).await.unwrap();
    db.run(sql("ALTER TABLE flavors ADD COLUMN ram_mb BIGINT")).await.unwrap();
    assert_eq!(db.migrate(&NEW).await.unwrap(), 2);
    assert_eq!(ram(&db).await, 512);

    let unexplained = db.rows(sql("SELECT * FROM ferrostack_schema_step")).await.unwrap();
    assert!(unexplained.is_empty());
}

#[tokio::test]
async fn of_many_programs_that_migrate_one_does_the_work() {
    let (_, guard) = empty();
    let work = (0..4).map(|_| {
        let db = Db::open(guard.url(), Options::test()).unwrap();
        tokio::spawn(async move { db.migrate(&NEW).await })
    });
    for done in join_all(work).await {
        assert_eq!(done.unwrap().unwrap(), 2);
    }
    let db = Db::open(guard.url(), Options::test()).unwrap();
    assert_eq!(db.count(sql("SELECT COUNT(*) FROM flavors")).await.unwrap(), 1);
}
