//! The verbs, on a database and in a transaction alike.

use futures_util::future::BoxFuture;

use crate::engine::Dialect;
use crate::error::Error;
use crate::page::{self, Page};
use crate::query::{Ready, Select, Statement};
use crate::record::Record;
use crate::row::Row;
use crate::value::Value;

/// Where queries run. Code that serves both takes `mut db: impl Queries` and is given `&db` or `&mut tx`:
///
/// ```ignore
/// async fn find(mut db: impl Queries, id: &str) -> Result<Option<Server>, Error> {
///     db.maybe(select::<Server>("WHERE id = ?").bind(id)).await
/// }
/// find(&call.db, id).await?;
/// find(&mut tx, id).await?;
/// ```
///
/// Inside such code, `&mut db` hands it on. `Db` and `Tx` have the same verbs as methods of their own.
pub trait Queries: Send {
    #[doc(hidden)]
    fn dialect(&self) -> Dialect;

    #[doc(hidden)]
    fn fetch(&mut self, ready: Ready) -> BoxFuture<'_, Result<Vec<Row>, Error>>;

    #[doc(hidden)]
    fn execute(&mut self, ready: Ready) -> BoxFuture<'_, Result<u64, Error>>;

    /// The first row, if there is one.
    fn maybe<T: Record>(&mut self, select: Select<T>) -> impl Future<Output = Result<Option<T>, Error>> + Send {
        async move {
            let ready = select.ready(self.dialect())?;
            self.fetch(ready).await?.first().map(T::from_row).transpose()
        }
    }

    /// The first row; [`Error::Missing`] if there is none.
    fn one<T: Record>(&mut self, select: Select<T>) -> impl Future<Output = Result<T, Error>> + Send {
        async move { self.maybe(select).await?.ok_or(Error::Missing) }
    }

    /// Every row. The caller knows why they are few; lists of clients go through [`Queries::page`].
    fn all<T: Record>(&mut self, select: Select<T>) -> impl Future<Output = Result<Vec<T>, Error>> + Send {
        async move {
            let ready = select.ready(self.dialect())?;
            self.fetch(ready).await?.iter().map(T::from_row).collect()
        }
    }

    /// One page of the rows, in the order and after the marker that `page` asks for. The select has conditions and
    /// joins only.
    fn page<T: Record>(
        &mut self,
        select: Select<T>,
        page: &Page,
    ) -> impl Future<Output = Result<Vec<T>, Error>> + Send {
        async move { page::fetch(self, select, page).await }
    }

    /// The whole number that a `SELECT COUNT(*)` or `SELECT SUM(…)` gives; 0 for NULL and for no row.
    fn count(&mut self, statement: Statement) -> impl Future<Output = Result<i64, Error>> + Send {
        async move {
            let rows = self.rows(statement).await?;
            let found: Option<i64> = rows.first().map(|row| row.get(0)).transpose()?.flatten();
            Ok(found.unwrap_or(0))
        }
    }

    /// The rows of any `SELECT`.
    fn rows(&mut self, statement: Statement) -> impl Future<Output = Result<Vec<Row>, Error>> + Send {
        async move {
            let ready = statement.ready(self.dialect())?;
            self.fetch(ready).await
        }
    }

    /// Runs a statement; returns how many rows it matched, changed or not.
    fn run(&mut self, statement: Statement) -> impl Future<Output = Result<u64, Error>> + Send {
        async move {
            let ready = statement.ready(self.dialect())?;
            self.execute(ready).await
        }
    }

    /// Adds a row; [`Error::Duplicate`] if its key exists.
    fn insert<T: Record>(&mut self, record: &T) -> impl Future<Output = Result<(), Error>> + Send {
        let ready = insertion::<T>(self.dialect(), 1, record.values(), "");
        async move { self.execute(ready).await.map(drop) }
    }

    /// Adds many rows, in a few statements: all or none only inside a transaction.
    fn insert_all<T: Record>(&mut self, records: &[T]) -> impl Future<Output = Result<(), Error>> + Send {
        let dialect = self.dialect();
        let chunks: Vec<Ready> = chunks(records)
            .map(|chunk| {
                let values = chunk.iter().flat_map(T::values).collect();
                insertion::<T>(dialect, chunk.len(), values, "")
            })
            .collect();
        async move {
            for ready in chunks {
                self.execute(ready).await?;
            }
            Ok(())
        }
    }

    /// Adds a row unless its key exists; returns whether it was added. Nothing else fails quietly.
    fn insert_new<T: Record>(&mut self, record: &T) -> impl Future<Output = Result<bool, Error>> + Send {
        let unless = match self.dialect() {
            Dialect::Sqlite | Dialect::Postgres => " ON CONFLICT DO NOTHING",
            // INSERT IGNORE would also swallow what does not fit; the duplicate is an answer instead.
            Dialect::MariaDb => "",
        };
        let mut ready = insertion::<T>(self.dialect(), 1, record.values(), unless);
        ready.forgiving = true;
        async move {
            match self.execute(ready).await {
                Ok(added) => Ok(added > 0),
                Err(Error::Duplicate { .. }) => Ok(false),
                Err(other) => Err(other),
            }
        }
    }

    /// Adds a row, or changes the one that has the same `key` columns, which are those of a unique index. The table
    /// has no other unique index that could be hit: MariaDB would change the row found there.
    fn upsert<T: Record>(&mut self, record: &T, key: &[&str]) -> impl Future<Output = Result<(), Error>> + Send {
        let otherwise = changes::<T>(self.dialect(), key);
        let ready = insertion::<T>(self.dialect(), 1, record.values(), &otherwise);
        async move { self.execute(ready).await.map(drop) }
    }
}

impl<Q: Queries + ?Sized> Queries for &mut Q {
    fn dialect(&self) -> Dialect {
        (**self).dialect()
    }

    fn fetch(&mut self, ready: Ready) -> BoxFuture<'_, Result<Vec<Row>, Error>> {
        (**self).fetch(ready)
    }

    fn execute(&mut self, ready: Ready) -> BoxFuture<'_, Result<u64, Error>> {
        (**self).execute(ready)
    }
}

/// Limit: rows of one INSERT; always a power of two, so that few texts are prepared.
const CHUNK_ROWS: usize = 128;

/// Limit: values of one INSERT; SQLite takes 32 766.
const CHUNK_VALUES: usize = 16_384;

/// Cuts records into runs whose lengths are powers of two.
fn chunks<T: Record>(records: &[T]) -> impl Iterator<Item = &[T]> {
    let most = (CHUNK_VALUES / T::COLUMNS.len().max(1)).clamp(1, CHUNK_ROWS);
    let mut rest = records;
    std::iter::from_fn(move || {
        let fitting = rest.len().min(most).checked_ilog2()?;
        let (chunk, later) = rest.split_at(1 << fitting);
        rest = later;
        Some(chunk)
    })
}

/// `INSERT INTO t ("a", "b") VALUES (?, ?), (?, ?)` and what else to do.
fn insertion<T: Record>(dialect: Dialect, rows: usize, values: Vec<Value>, otherwise: &str) -> Ready {
    let columns = T::COLUMNS.iter().map(|column| format!("\"{column}\"")).collect::<Vec<_>>().join(", ");
    let mut text = format!("INSERT INTO {} ({columns}) VALUES ", T::TABLE);
    for (place, value) in values.iter().enumerate() {
        text.push_str(match (place % T::COLUMNS.len(), place) {
            (0, 0) => "(",
            (0, _) => "), (",
            _ => ", ",
        });
        match (dialect, value) {
            (Dialect::Postgres, Value::Real(_)) => text += &format!("${}::float8", place + 1),
            (Dialect::Postgres, _) => text += &format!("${}", place + 1),
            _ => text.push('?'),
        }
    }
    debug_assert_eq!(values.len(), rows * T::COLUMNS.len());
    text.push(')');
    text.push_str(otherwise);
    Ready::new(text, values)
}

/// What an upsert does when the key exists.
fn changes<T: Record>(dialect: Dialect, key: &[&str]) -> String {
    let unknown = key.iter().find(|column| !T::COLUMNS.contains(column));
    assert!(unknown.is_none() && !key.is_empty(), "{} has no key column {unknown:?}", T::TABLE);
    let rest: Vec<&str> = T::COLUMNS.iter().copied().filter(|column| !key.contains(column)).collect();
    let list = |columns: &[&str], each: fn(&str) -> String| {
        columns.iter().map(|column| each(column)).collect::<Vec<_>>().join(", ")
    };
    match dialect {
        Dialect::MariaDb => {
            // Setting a key column to itself changes nothing.
            let changed = if rest.is_empty() { key } else { &rest };
            format!(
                " ON DUPLICATE KEY UPDATE {}",
                list(changed, |column| format!("\"{column}\" = VALUES(\"{column}\")"))
            )
        }
        Dialect::Sqlite | Dialect::Postgres => {
            let key = list(key, |column| format!("\"{column}\""));
            match rest.is_empty() {
                true => format!(" ON CONFLICT ({key}) DO NOTHING"),
                false => format!(
                    " ON CONFLICT ({key}) DO UPDATE SET {}",
                    list(&rest, |column| format!("\"{column}\" = excluded.\"{column}\""))
                ),
            }
        }
    }
}

/// The verbs of [`Queries`] as methods, so that callers need not import the trait: `verbs!()` for `&self` and
/// `verbs!(mut)` for `&mut self`.
macro_rules! verbs {
    ($($mut:tt)?) => {
        /// See [`Queries::maybe`].
        pub async fn maybe<T: $crate::Record>(&$($mut)? self, select: $crate::Select<T>) -> Result<Option<T>, Error> {
            let mut here = self;
            Queries::maybe(&mut here, select).await
        }

        /// See [`Queries::one`].
        pub async fn one<T: $crate::Record>(&$($mut)? self, select: $crate::Select<T>) -> Result<T, Error> {
            let mut here = self;
            Queries::one(&mut here, select).await
        }

        /// See [`Queries::all`].
        pub async fn all<T: $crate::Record>(&$($mut)? self, select: $crate::Select<T>) -> Result<Vec<T>, Error> {
            let mut here = self;
            Queries::all(&mut here, select).await
        }

        /// See [`Queries::page`].
        pub async fn page<T: $crate::Record>(
            &$($mut)? self,
            select: $crate::Select<T>,
            page: &$crate::Page,
        ) -> Result<Vec<T>, Error> {
            let mut here = self;
            Queries::page(&mut here, select, page).await
        }

        /// See [`Queries::count`].
        pub async fn count(&$($mut)? self, statement: $crate::Statement) -> Result<i64, Error> {
            let mut here = self;
            Queries::count(&mut here, statement).await
        }

        /// See [`Queries::rows`].
        pub async fn rows(&$($mut)? self, statement: $crate::Statement) -> Result<Vec<Row>, Error> {
            let mut here = self;
            Queries::rows(&mut here, statement).await
        }

        /// See [`Queries::run`].
        pub async fn run(&$($mut)? self, statement: $crate::Statement) -> Result<u64, Error> {
            let mut here = self;
            Queries::run(&mut here, statement).await
        }

        /// See [`Queries::insert`].
        pub async fn insert<T: $crate::Record + Sync>(&$($mut)? self, record: &T) -> Result<(), Error> {
            let mut here = self;
            Queries::insert(&mut here, record).await
        }

        /// See [`Queries::insert_all`].
        pub async fn insert_all<T: $crate::Record + Sync>(&$($mut)? self, records: &[T]) -> Result<(), Error> {
            let mut here = self;
            Queries::insert_all(&mut here, records).await
        }

        /// See [`Queries::insert_new`].
        pub async fn insert_new<T: $crate::Record + Sync>(&$($mut)? self, record: &T) -> Result<bool, Error> {
            let mut here = self;
            Queries::insert_new(&mut here, record).await
        }

        /// See [`Queries::upsert`].
        pub async fn upsert<T: $crate::Record + Sync>(&$($mut)? self, record: &T, key: &[&str]) -> Result<(), Error> {
            let mut here = self;
            Queries::upsert(&mut here, record, key).await
        }
    };
}

pub(crate) use verbs;
