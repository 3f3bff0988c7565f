//! The database behind its door: which one it is, and the connections to it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rand::Rng;
use sqlx::mysql::MySqlPool;
use sqlx::postgres::PgPool;

use crate::address::{self, Address};
use crate::error::{Error, MayConflict, judged};
use crate::queries::{Queries, verbs};
use crate::query::Ready;
use crate::row::Row;
use crate::sqlite::Pools;
use crate::tx::Tx;
use crate::{mariadb, postgres, sqlite};

/// Limit: prepared statements kept per connection to a SQLite file; a service has a few hundred texts.
pub(crate) const STATEMENTS: usize = 512;

/// Limit: the same per connection to a server, where they take memory that all share: MariaDB keeps 16 382 in all.
pub(crate) const SERVER_STATEMENTS: usize = 128;

/// Limit: a connection idle for longer is tried before it is used, because the server may have closed it.
pub(crate) const FRESH: Duration = Duration::from_secs(5);

/// Limit: how often a transaction that met a conflict is tried in all.
const TRIES: u32 = 8;

/// Limit: the longest pause before another try, in milliseconds.
const PAUSE_MS: u64 = 500;

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Nothing needs to survive a power cut.
    pub test: bool,
    /// Limit: connections to a server; out of the box PostgreSQL takes 100 from all services together.
    pub connections: u32,
    /// Limit: reading connections to a SQLite file, beside the one that writes.
    pub readers: u32,
    /// Limit: how long a query waits for a connection, or for a lock on a SQLite file.
    pub wait_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options { test: false, connections: 10, readers: 4, wait_ms: 30_000 }
    }
}

impl Options {
    /// For tests: fast, and impatient with a transaction that somebody forgot.
    pub fn test() -> Self {
        Options { test: true, connections: 8, readers: 2, wait_ms: 10_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Sqlite,
    MariaDb,
    Postgres,
}

/// A database. Cloning is cheap and shares the connections.
#[derive(Clone)]
pub struct Db(Arc<Engine>);

pub(crate) enum Engine {
    Sqlite { pools: Pools, file: PathBuf },
    MariaDb(MySqlPool),
    Postgres(PgPool),
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Db").field(&self.dialect()).finish()
    }
}

impl Db {
    /// Prepares to talk to the database at `url`, written as upstream's `[database] connection`. Connections are made
    /// when they are needed, so a server that is down shows with the first query. Needs a running tokio.
    pub fn open(url: &str, options: Options) -> Result<Db, Error> {
        let engine = match address::read(url)? {
            Address::Sqlite(file) => Engine::Sqlite { pools: Pools::open(&file, &options), file },
            Address::MariaDb(server) => Engine::MariaDb(mariadb::open(&server, &options)),
            Address::Postgres(server) => Engine::Postgres(postgres::open(&server, &options)),
        };
        Ok(Db(Arc::new(engine)))
    }

    /// Which database this is. Services have no reason to ask.
    pub fn dialect(&self) -> Dialect {
        match &*self.0 {
            Engine::Sqlite { .. } => Dialect::Sqlite,
            Engine::MariaDb(_) => Dialect::MariaDb,
            Engine::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Starts a transaction; it is rolled back when it is dropped without [`Tx::commit`]. On SQLite it holds the only
    /// writing connection from here on: do not write through the `Db` meanwhile.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Tx::begin(&self.0).await
    }

    /// Runs `work`, a whole transaction from `begin` to `commit`, again when it met a conflict.
    pub async fn retry<T, E, F, W>(&self, mut work: W) -> Result<T, E>
    where
        E: MayConflict,
        F: Future<Output = Result<T, E>>,
        W: FnMut() -> F,
    {
        for attempt in 1..TRIES {
            match work().await {
                Err(error) if error.is_conflict() => {
                    let longest = PAUSE_MS.min(2 << attempt);
                    let pause = rand::rng().random_range(0..=longest * 1_000);
                    tokio::time::sleep(Duration::from_micros(pause)).await;
                }
                done => return done,
            }
        }
        work().await
    }

    /// Closes every connection, after the queries under way.
    pub async fn close(&self) {
        match &*self.0 {
            Engine::Sqlite { pools, .. } => {
                pools.readers.close().await;
                // Last, so that it takes the write-ahead log back into the file.
                pools.writer.close().await;
            }
            Engine::MariaDb(pool) => pool.close().await,
            Engine::Postgres(pool) => pool.close().await,
        }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0
    }

    verbs!();
}

impl Queries for &Db {
    fn dialect(&self) -> Dialect {
        Db::dialect(self)
    }

    fn fetch(&mut self, ready: Ready) -> BoxFuture<'_, Result<Vec<Row>, Error>> {
        let engine = &*self.0;
        Box::pin(async move {
            match engine {
                Engine::Sqlite { pools, .. } => {
                    let mut connection = pools.readers.acquire().await.map_err(unavailable)?;
                    sqlite::fetch(&mut connection, ready).await
                }
                Engine::MariaDb(pool) => {
                    let mut connection = pool.acquire().await.map_err(unavailable)?;
                    mariadb::fetch(&mut connection, ready).await
                }
                Engine::Postgres(pool) => {
                    let mut connection = pool.acquire().await.map_err(unavailable)?;
                    postgres::fetch(&mut connection, ready).await
                }
            }
        })
    }

    fn execute(&mut self, ready: Ready) -> BoxFuture<'_, Result<u64, Error>> {
        let engine = &*self.0;
        Box::pin(async move {
            match engine {
                Engine::Sqlite { pools, .. } => {
                    let mut connection = pools.writer.acquire().await.map_err(unavailable)?;
                    sqlite::execute(&mut connection, ready).await
                }
                Engine::MariaDb(pool) => {
                    let mut connection = pool.acquire().await.map_err(unavailable)?;
                    mariadb::execute(&mut connection, ready).await
                }
                Engine::Postgres(pool) => {
                    let mut connection = pool.acquire().await.map_err(unavailable)?;
                    postgres::execute(&mut connection, ready).await
                }
            }
        })
    }
}

/// There is no connection, or none to be had in time.
pub(crate) fn unavailable(error: sqlx::Error) -> Error {
    match error {
        error @ sqlx::Error::Database(_) => Error::Unreachable { source: error.into() },
        other => judged(other, "taking a connection", sqlite::judge),
    }
}
