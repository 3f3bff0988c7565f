//! What holds on every database; `FERROSTACK_TEST_DB` says on which one it is tried.

// Tests may unwrap; clippy does not know that what they share is a test, too.
#![allow(clippy::unwrap_used)]

mod migrations;
mod paging;
mod speed;
mod transactions;
mod values;
mod verbs;

use db::{Db, Migration, Options, Schema, record};
use engines::TestDb;

record! {
    /// A row with one column of each kind.
    pub struct Volume in "volumes" {
        pub id: String,
        pub name: Option<String>,
        pub size_gb: i64,
        pub bootable: bool,
        pub load: Option<f64>,
        pub created_at: base::Time,
        pub metadata: base::Json,
        pub seal: Option<Vec<u8>>,
        pub r#type: String,
    }
}

const SCHEMA: Schema = Schema {
    service: "volume",
    migrations: &[Migration {
        number: 1,
        name: "volumes",
        sql: "
            CREATE TABLE volumes (
                id VARCHAR(36) NOT NULL PRIMARY KEY,
                name VARCHAR(255),
                size_gb BIGINT NOT NULL,
                bootable BIGINT NOT NULL,
                \"load\" REAL,
                created_at BIGINT NOT NULL,
                metadata DOCUMENT NOT NULL,
                seal BLOB,
                type VARCHAR(255) NOT NULL
            );
            CREATE TABLE attachments (
                id VARCHAR(36) NOT NULL PRIMARY KEY,
                volume_id VARCHAR(36) NOT NULL,
                host VARCHAR(255) NOT NULL,
                FOREIGN KEY (volume_id) REFERENCES volumes (id)
            );
            CREATE UNIQUE INDEX attachments_by_host ON attachments (volume_id, host);
        ",
    }],
};

record! {
    pub struct Attachment in "attachments" {
        pub id: String,
        pub volume_id: String,
        pub host: String,
    }
}

/// A database with the tables above, which is gone when the second half is dropped.
async fn fresh() -> (Db, TestDb) {
    let guard = engines::test_db();
    let db = Db::open(guard.url(), Options::test()).unwrap();
    db.migrate(&SCHEMA).await.unwrap();
    (db, guard)
}

fn volume(id: &str) -> Volume {
    Volume {
        id: id.into(),
        name: Some(format!("name of {id}")),
        size_gb: 1,
        bootable: false,
        load: None,
        created_at: base::Time(1),
        metadata: base::json!({}),
        seal: None,
        r#type: "fast".into(),
    }
}

fn attachment(id: &str, volume: &str, host: &str) -> Attachment {
    Attachment { id: id.into(), volume_id: volume.into(), host: host.into() }
}
