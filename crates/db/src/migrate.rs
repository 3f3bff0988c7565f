//! Brings a database to the schema of the program: numbered, forward only, and safe to run again after a crash.
//!
//! On SQLite and PostgreSQL a migration is one transaction. MariaDB commits every definition by itself, so there a
//! row in `ferrostack_schema_step` says which statement of which migration is under way; whoever comes after a crash
//! goes on with that statement, and takes "exists already" and "is gone already" for "done".

use std::path::Path;

use base::clock;

use crate::ddl::{is_definition, statements, translated};
use crate::engine::{Db, Dialect, Engine};
use crate::error::Error;
use crate::queries::Queries;
use crate::query::{Ready, refuse_keywords, sql};
use crate::record::Record;
use crate::tx::Tx;
use crate::{mariadb, record, select};

/// One step of a schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counts from 1 without gaps.
    pub number: u32,
    pub name: &'static str,
    /// Portable SQL; see `ddl.rs` for the types. Each statement ends with `;` at the end of a line.
    pub sql: &'static str,
}

/// All the migrations of a service, in order.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    pub service: &'static str,
    pub migrations: &'static [Migration],
}

impl Schema {
    /// The number of the last migration.
    pub fn version(&self) -> u32 {
        self.migrations.last().map_or(0, |last| last.number)
    }
}

record! {
    struct Applied in "ferrostack_schema" {
        service: String,
        number: u32,
        name: String,
        applied_at: base::Time,
    }
}

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS ferrostack_schema (service VARCHAR(64) NOT NULL, \
    number BIGINT NOT NULL, name VARCHAR(255) NOT NULL, applied_at BIGINT NOT NULL, PRIMARY KEY (service, number))";

const STEPS: &str = "CREATE TABLE IF NOT EXISTS ferrostack_schema_step (service VARCHAR(64) NOT NULL, \
    number BIGINT NOT NULL, step BIGINT NOT NULL, PRIMARY KEY (service))";

/// Limit: how long one migrating program waits for another, in seconds.
const WAIT_SECONDS: i64 = 600;

/// The name of the lock that migrating programs take, as a number for PostgreSQL.
const LOCK: i64 = 0x6665_7272_6f73_7461;

impl Db {
    /// Applies the migrations that are missing, and returns the version reached. Running it again changes nothing;
    /// of several programs running it at once, one works and the others wait.
    pub async fn migrate(&self, schema: &Schema) -> Result<u32, Error> {
        let numbered = schema.migrations.iter().zip(1..).all(|(migration, number)| migration.number == number);
        assert!(numbered, "the migrations of {} count from 1 without gaps", schema.service);

        let found = self.version(schema).await?;
        if found > schema.version() {
            return Err(Error::Newer { service: schema.service, found, known: schema.version() });
        }
        if found == schema.version() && found > 0 {
            return Ok(found);
        }
        if let Engine::Sqlite { file, .. } = self.engine()
            && found > 0
        {
            self.set_aside(file, found + 1).await?;
        }
        match self.engine() {
            Engine::MariaDb(pool) => {
                // Not part of the pool any more: whatever happens, the lock ends with the connection.
                let mut lock = pool.acquire().await.map_err(crate::engine::unavailable)?.detach();
                self.locked(&mut lock).await?;
                self.migrate_in_steps(schema).await?;
            }
            _ => self.migrate_in_transactions(schema).await?,
        }
        self.version(schema).await
    }

    /// The number of the last migration applied; 0 for an empty database.
    pub async fn version(&self, schema: &Schema) -> Result<u32, Error> {
        let tables = tables(&mut &*self).await?;
        if !tables.iter().any(|table| table == Applied::TABLE) {
            return if tables.is_empty() { Ok(0) } else { Err(Error::Foreign { service: schema.service }) };
        }
        applied(&mut &*self, schema.service).await
    }

    /// Whether this program may serve from the database: it knows its schema, or the one before (migrations expand
    /// first and contract a release later). Else the error says what to run.
    pub async fn check(&self, schema: &Schema) -> Result<(), Error> {
        let (found, known, service) = (self.version(schema).await?, schema.version(), schema.service);
        match found {
            found if found < known => Err(Error::Older { service, found, known }),
            found if found > known + 1 => Err(Error::Newer { service, found, known }),
            _ => Ok(()),
        }
    }

    async fn migrate_in_transactions(&self, schema: &Schema) -> Result<(), Error> {
        let mut tx = self.alone().await?;
        // Somebody else may have been here between the first look and the lock.
        let tables = tables(&mut tx).await?;
        if !tables.is_empty() && !tables.iter().any(|table| table == Applied::TABLE) {
            return Err(Error::Foreign { service: schema.service });
        }
        tx.execute(Ready::once(translated(tx.dialect(), LEDGER))).await?;
        tx.commit().await?;

        for migration in schema.migrations {
            let mut tx = self.alone().await?;
            if applied(&mut tx, schema.service).await? >= migration.number {
                continue;
            }
            for statement in statements(migration.sql) {
                refuse_keywords(&statement);
                let ready = Ready::once(translated(tx.dialect(), &statement));
                tx.execute(ready).await.map_err(|error| broken(schema, migration, error))?;
            }
            tx.insert(&entry(schema, migration)).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// A transaction that no other migrating program has at the same time.
    async fn alone(&self) -> Result<Tx, Error> {
        let mut tx = self.begin().await?;
        if tx.dialect() == Dialect::Postgres {
            tx.rows(sql("SELECT pg_advisory_xact_lock(?)").bind(LOCK)).await?;
        }
        Ok(tx)
    }

    async fn locked(&self, lock: &mut sqlx::MySqlConnection) -> Result<(), Error> {
        let text = "SELECT COALESCE(GET_LOCK(CONCAT('ferrostack_schema.', DATABASE()), ?), 0)";
        let ready = sql(text).bind(WAIT_SECONDS).ready(Dialect::MariaDb)?;
        let rows = mariadb::fetch(lock, ready).await?;
        match rows.first().map(|row| row.get::<bool>(0)).transpose()? {
            Some(true) => Ok(()),
            _ => Err(Error::other("migrating", "another program has been migrating this database for too long")),
        }
    }

    async fn migrate_in_steps(&self, schema: &Schema) -> Result<(), Error> {
        for table in [LEDGER, STEPS] {
            (&mut &*self).execute(Ready::once(translated(Dialect::MariaDb, table))).await?;
        }
        for migration in schema.migrations {
            if applied(&mut &*self, schema.service).await? >= migration.number {
                continue;
            }
            let begun = self.step_under_way(schema, migration).await?;
            for (place, statement) in (0_i64..).zip(statements(migration.sql)).skip(begun.unwrap_or(0) as usize) {
                let again = begun == Some(place);
                self.step(schema, migration, place, &statement, again).await?;
            }
            let mut tx = self.begin().await?;
            tx.insert(&entry(schema, migration)).await?;
            tx.run(sql("DELETE FROM ferrostack_schema_step WHERE service = ?").bind(schema.service)).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// The statement that was under way when a program stopped in the middle of this migration.
    async fn step_under_way(&self, schema: &Schema, migration: &Migration) -> Result<Option<i64>, Error> {
        let find = sql("SELECT step FROM ferrostack_schema_step WHERE service = ? AND number = ?");
        let rows = self.rows(find.bind(schema.service).bind(migration.number)).await?;
        rows.first().map(|row| row.get(0)).transpose()
    }

    /// Runs one statement on MariaDB: says so, does it, says that the next one is due.
    async fn step(
        &self,
        schema: &Schema,
        migration: &Migration,
        place: i64,
        statement: &str,
        again: bool,
    ) -> Result<(), Error> {
        let at = |place: i64| {
            let text = "INSERT INTO ferrostack_schema_step (service, number, step) VALUES (?, ?, ?) \
                        ON DUPLICATE KEY UPDATE number = VALUES(number), step = VALUES(step)";
            sql(text).bind(schema.service).bind(migration.number).bind(place)
        };
        refuse_keywords(statement);
        let ready = Ready::once(translated(Dialect::MariaDb, statement));
        if !is_definition(statement) {
            let mut tx = self.begin().await?;
            tx.execute(ready).await.map_err(|error| broken(schema, migration, error))?;
            tx.run(at(place + 1)).await?;
            return tx.commit().await;
        }
        self.run(at(place)).await?;
        match (&mut &*self).execute(ready).await {
            Err(error) if again && mariadb::is_done_already(&error) => {}
            Err(error) => return Err(broken(schema, migration, error)),
            Ok(_) => {}
        }
        self.run(at(place + 1)).await.map(drop)
    }

    /// Copies a SQLite database to `<file>.before-<number>`.
    async fn set_aside(&self, file: &Path, number: u32) -> Result<(), Error> {
        let wanted = format!("{}.before-{number}", file.display());
        let growing = format!("{wanted}.part");
        let failed = |error| Error::other(format!("setting {wanted} aside"), error);
        match std::fs::remove_file(&growing) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        self.run(sql("VACUUM INTO ?").bind(&growing)).await?;
        std::fs::rename(&growing, &wanted).map_err(failed)?;
        tracing::info!(copy = wanted, "set the database aside before its upgrade");
        Ok(())
    }
}

fn entry(schema: &Schema, migration: &Migration) -> Applied {
    tracing::info!(service = schema.service, number = migration.number, name = migration.name, "migrated");
    Applied {
        service: schema.service.to_string(),
        number: migration.number,
        name: migration.name.to_string(),
        applied_at: clock::now(),
    }
}

fn broken(schema: &Schema, migration: &Migration, error: Error) -> Error {
    Error::other(format!("applying migration {} ({}) of {}", migration.number, migration.name, schema.service), error)
}

async fn applied(db: &mut impl Queries, service: &str) -> Result<u32, Error> {
    let last = select::<Applied>("WHERE service = ? ORDER BY number DESC LIMIT 1").bind(service);
    Ok(db.maybe(last).await?.map_or(0, |last| last.number))
}

async fn tables(db: &mut impl Queries) -> Result<Vec<String>, Error> {
    let list = match db.dialect() {
        Dialect::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
        }
        Dialect::MariaDb => "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
        Dialect::Postgres => {
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA()"
        }
    };
    db.rows(sql(list)).await?.iter().map(|row| row.get(0)).collect()
}
