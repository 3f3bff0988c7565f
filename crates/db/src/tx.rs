//! A transaction: all of it happens, or nothing.

use futures_util::future::BoxFuture;
use sqlx::{MySql, Postgres, Sqlite, Transaction};

use crate::engine::{Dialect, Engine, unavailable};
use crate::error::{Error, judged};
use crate::queries::{Queries, verbs};
use crate::query::Ready;
use crate::row::Row;
use crate::{mariadb, postgres, sqlite};

/// A transaction; dropped without [`Tx::commit`] it is rolled back.
///
/// After a statement failed, nothing more can be done with it: PostgreSQL is like that, and so are all three here.
pub struct Tx {
    open: Open,
    failed: bool,
    after: Vec<Box<dyn FnOnce() + Send + Sync>>,
}

enum Open {
    Sqlite(Transaction<'static, Sqlite>),
    MariaDb(Transaction<'static, MySql>),
    Postgres(Transaction<'static, Postgres>),
}

impl Tx {
    pub(crate) async fn begin(engine: &Engine) -> Result<Tx, Error> {
        let open = match engine {
            Engine::Sqlite { pools, .. } => {
                // Taking the lock at once is what keeps a later write from failing half way.
                let begun = pools.writer.begin_with("BEGIN IMMEDIATE").await;
                Open::Sqlite(begun.map_err(|error| judged(error, "BEGIN IMMEDIATE", sqlite::judge))?)
            }
            Engine::MariaDb(pool) => Open::MariaDb(pool.begin().await.map_err(unavailable)?),
            Engine::Postgres(pool) => Open::Postgres(pool.begin().await.map_err(unavailable)?),
        };
        Ok(Tx { open, failed: false, after: Vec::new() })
    }

    /// Makes it happen.
    pub async fn commit(self) -> Result<(), Error> {
        if self.failed {
            return Err(failed());
        }
        match self.open {
            Open::Sqlite(open) => open.commit().await.map_err(|error| judged(error, "COMMIT", sqlite::judge)),
            Open::MariaDb(open) => open.commit().await.map_err(|error| judged(error, "COMMIT", mariadb::judge)),
            Open::Postgres(open) => open.commit().await.map_err(|error| judged(error, "COMMIT", postgres::judge)),
        }?;
        self.after.into_iter().for_each(|tell| tell());
        Ok(())
    }

    /// Calls `tell` right after the commit, to wake somebody. A crash in between, or a commit whose answer is lost,
    /// loses the call: nothing may depend on it.
    pub fn after_commit(&mut self, tell: impl FnOnce() + Send + Sync + 'static) {
        self.after.push(Box::new(tell));
    }

    /// Makes it not have happened, and waits until that is so.
    pub async fn rollback(self) -> Result<(), Error> {
        match self.open {
            Open::Sqlite(open) => open.rollback().await.map_err(|error| judged(error, "ROLLBACK", sqlite::judge)),
            Open::MariaDb(open) => open.rollback().await.map_err(|error| judged(error, "ROLLBACK", mariadb::judge)),
            Open::Postgres(open) => open.rollback().await.map_err(|error| judged(error, "ROLLBACK", postgres::judge)),
        }
    }

    verbs!(mut);
}

impl Queries for Tx {
    fn dialect(&self) -> Dialect {
        match self.open {
            Open::Sqlite(_) => Dialect::Sqlite,
            Open::MariaDb(_) => Dialect::MariaDb,
            Open::Postgres(_) => Dialect::Postgres,
        }
    }

    fn fetch(&mut self, ready: Ready) -> BoxFuture<'_, Result<Vec<Row>, Error>> {
        Box::pin(async move {
            if self.failed {
                return Err(failed());
            }
            // Also when the caller stops waiting half way.
            self.failed = true;
            let rows = match &mut self.open {
                Open::Sqlite(open) => sqlite::fetch(open, ready).await,
                Open::MariaDb(open) => mariadb::fetch(open, ready).await,
                Open::Postgres(open) => postgres::fetch(open, ready).await,
            };
            self.failed = rows.is_err();
            rows
        })
    }

    fn execute(&mut self, ready: Ready) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            if self.failed {
                return Err(failed());
            }
            self.failed = true;
            let forgiving = ready.forgiving;
            let done = match &mut self.open {
                Open::Sqlite(open) => sqlite::execute(open, ready).await,
                Open::MariaDb(open) => mariadb::execute(open, ready).await,
                Open::Postgres(open) => postgres::execute(open, ready).await,
            };
            self.failed = match &done {
                Ok(_) => false,
                Err(error) => !(forgiving && error.is_duplicate()),
            };
            done
        })
    }
}

fn failed() -> Error {
    Error::other("using a transaction", "a statement before this one failed, so all of it is undone")
}
