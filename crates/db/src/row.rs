//! One row of an answer, read by column.

use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::error::Error;
use crate::value::{Column, Value};
use crate::{mariadb, postgres, sqlite};

/// A row; its values are read when they are asked for.
pub struct Row(pub(crate) Kept);

pub(crate) enum Kept {
    Sqlite(SqliteRow),
    MariaDb(MySqlRow),
    Postgres(PgRow),
}

/// A column of a row: its position or its name.
pub trait Place: Copy {
    fn position(self, row: &Row) -> Option<usize>;
    fn named(self) -> String;
}

impl Place for usize {
    fn position(self, row: &Row) -> Option<usize> {
        (self < row.width()).then_some(self)
    }

    fn named(self) -> String {
        format!("number {self}")
    }
}

impl Place for &str {
    fn position(self, row: &Row) -> Option<usize> {
        row.names().position(|name| name == self)
    }

    fn named(self) -> String {
        self.to_string()
    }
}

impl Row {
    /// Reads one column: `row.get::<String>("name")` or `row.get::<i64>(0)`.
    pub fn get<T: Column>(&self, place: impl Place) -> Result<T, Error> {
        let wrong = |why: String| Error::Column { column: place.named(), why };
        let position = place.position(self).ok_or_else(|| wrong("nothing: the answer has no such column".into()))?;
        T::from_value(self.value(position).map_err(wrong)?).map_err(|why| match self.names().nth(position) {
            Some(column) => Error::Column { column: column.to_string(), why },
            None => wrong(why),
        })
    }

    pub(crate) fn value(&self, position: usize) -> Result<Value, String> {
        match &self.0 {
            Kept::Sqlite(row) => sqlite::value(row, position),
            Kept::MariaDb(row) => mariadb::value(row, position),
            Kept::Postgres(row) => postgres::value(row, position),
        }
    }

    fn width(&self) -> usize {
        match &self.0 {
            Kept::Sqlite(row) => sqlx::Row::len(row),
            Kept::MariaDb(row) => sqlx::Row::len(row),
            Kept::Postgres(row) => sqlx::Row::len(row),
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        use sqlx::{Column as _, Row as _};
        match &self.0 {
            Kept::Sqlite(row) => Box::new(row.columns().iter().map(|column| column.name())),
            Kept::MariaDb(row) => Box::new(row.columns().iter().map(|column| column.name())),
            Kept::Postgres(row) => Box::new(row.columns().iter().map(|column| column.name())),
        }
    }
}
