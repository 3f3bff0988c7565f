//! Keyset paging, sorting and filtering of lists, the same on all three databases.
//!
//! NULL sorts as the smallest value. A page begins after its marker row, found by comparing the columns it is sorted
//! by, the last of which is unique; so pages neither skip nor repeat rows while others come and go.

use crate::engine::Dialect;
use crate::error::Error;
use crate::queries::Queries;
use crate::query::{Select, Text};
use crate::record::Record;
use crate::value::{Kind, Value};

/// Which page of a list, in which order.
#[derive(Debug, Clone)]
pub struct Page {
    /// How many rows at most; `None` is all, for callers that know why that is few.
    pub limit: Option<u32>,
    /// The `marker_column` of the last row that the client has seen.
    pub marker: Option<String>,
    /// A column whose values are unique among the rows selected; it is also the last column of the order.
    pub marker_column: &'static str,
    /// Columns to sort by, most important first.
    pub sort: Vec<(String, Order)>,
    pub filters: Vec<Filter>,
    /// The page that ends before the marker instead, still in the order of `sort`.
    pub reverse: bool,
}

impl Default for Page {
    fn default() -> Self {
        Page { limit: None, marker: None, marker_column: "id", sort: Vec::new(), filters: Vec::new(), reverse: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Asc,
    Desc,
}

/// A condition on one column. The column comes from code, never from a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    pub column: String,
    pub test: Test,
}

/// Text given for a column of whole numbers is read as one; if it is none, no row matches.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// Any of these; [`Value::Null`] matches NULL.
    Equal(Vec<Value>),
    /// As in SQL, a NULL is not unequal to anything; unequal to [`Value::Null`] is every other value.
    NotEqual(Value),
    Greater(Value),
    GreaterEqual(Value),
    Less(Value),
    LessEqual(Value),
    /// A pattern with `%` and `_`, and `!` before those that stand for themselves.
    Like(String),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
    IsNull,
    NotNull,
}

/// One column of the order.
struct Key<'a> {
    /// As SQL names it.
    name: String,
    column: &'a str,
    order: Order,
    nullable: bool,
}

pub(crate) async fn fetch<Q, T>(db: &mut Q, mut select: Select<T>, page: &Page) -> Result<Vec<T>, Error>
where
    Q: Queries + ?Sized,
    T: Record,
{
    let keys = keys::<T>(page);
    let after = match &page.marker {
        Some(marker) => Some(values_of_marker(db, &select, page, &keys, marker).await?),
        None => None,
    };
    for filter in &page.filters {
        let (condition, values) = condition::<T>(filter);
        select.text.condition(condition, values);
    }
    if let Some(after) = after {
        follow(&mut select.text, &keys, after);
    }
    select.text.end(tail(db.dialect(), &keys, page.limit));

    let ready = select.ready(db.dialect())?;
    let mut rows: Vec<T> = db.fetch(ready).await?.iter().map(T::from_row).collect::<Result<_, _>>()?;
    if page.reverse {
        rows.reverse();
    }
    Ok(rows)
}

fn keys<T: Record>(page: &Page) -> Vec<Key<'_>> {
    let flip = |order| match (order, page.reverse) {
        (Order::Asc, true) => Order::Desc,
        (Order::Desc, true) => Order::Asc,
        (order, false) => order,
    };
    let key = |column, order| Key {
        name: named::<T>(column),
        column,
        order: flip(order),
        nullable: kind::<T>(column).is_none_or(|(_, nullable)| nullable),
    };
    let mut keys: Vec<Key> = Vec::with_capacity(page.sort.len() + 1);
    for (column, order) in &page.sort {
        if keys.iter().all(|earlier| earlier.column != column) {
            keys.push(key(column, *order));
        }
    }
    if keys.iter().all(|earlier| earlier.column != page.marker_column) {
        // Upstream: the tail goes in the direction of the first key.
        let order = page.sort.first().map_or(Order::Asc, |(_, order)| *order);
        keys.push(Key { nullable: false, ..key(page.marker_column, order) });
    }
    keys
}

/// Looks the marker up among the rows selected, whatever the filters say: the client has seen it.
async fn values_of_marker<Q, T>(
    db: &mut Q,
    select: &Select<T>,
    page: &Page,
    keys: &[Key<'_>],
    marker: &str,
) -> Result<Vec<Value>, Error>
where
    Q: Queries + ?Sized,
    T: Record,
{
    let marker = fitted::<T>(page.marker_column, Value::Text(marker.into())).ok_or(Error::MarkerNotFound)?;
    let mut text = select.text.clone();
    text.condition(format!("{} = ?", named::<T>(page.marker_column)), vec![marker]);
    let columns = keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
    let ready = text.ready(db.dialect(), &format!("SELECT {columns} FROM {} ", T::TABLE))?;
    let rows = db.fetch(ready).await?;
    let row = rows.first().ok_or(Error::MarkerNotFound)?;
    let value = |place: usize| row.value(place).map_err(|why| Error::Column { column: keys[place].name.clone(), why });
    (0..keys.len()).map(value).collect()
}

/// Adds `a after x OR (a = x AND (b after y OR (b = y AND …)))`.
fn follow(text: &mut Text, keys: &[Key<'_>], after: Vec<Value>) {
    // The same once more, weaker but plain, lets every database enter its index at the first column.
    if let ([first, _, ..], [value, ..]) = (keys, after.as_slice())
        && !first.nullable
    {
        let compare = if first.order == Order::Asc { ">=" } else { "<=" };
        text.condition(format!("{} {compare} ?", first.name), vec![value.clone()]);
    }
    let mut condition = String::new();
    let mut values: Vec<Value> = Vec::new();
    for (key, value) in keys.iter().zip(after).rev() {
        let name = &key.name;
        let later = match (key.order, &value) {
            (Order::Asc, Value::Null) => format!("{name} IS NOT NULL"),
            (Order::Desc, Value::Null) => NEVER.to_string(),
            (Order::Asc, _) => format!("{name} > ?"),
            (Order::Desc, _) if key.nullable => format!("{name} < ? OR {name} IS NULL"),
            (Order::Desc, _) => format!("{name} < ?"),
        };
        let same = if value == Value::Null { format!("{name} IS NULL") } else { format!("{name} = ?") };
        // The last column is unique: nothing is equal there and comes after.
        let innermost = condition.is_empty();
        condition = if innermost { later } else { format!("{later} OR ({same} AND ({condition}))") };
        if value != Value::Null {
            values.splice(0..0, std::iter::repeat_n(value, if innermost { 1 } else { 2 }));
        }
    }
    text.condition(condition, values);
}

fn tail(dialect: Dialect, keys: &[Key<'_>], limit: Option<u32>) -> String {
    let mut tail = String::new();
    for (place, key) in keys.iter().enumerate() {
        tail.push_str(if place == 0 { " ORDER BY " } else { ", " });
        tail.push_str(&key.name);
        // PostgreSQL takes NULL for the largest value.
        tail.push_str(match (key.order, dialect, key.nullable) {
            (Order::Asc, Dialect::Postgres, true) => " NULLS FIRST",
            (Order::Desc, Dialect::Postgres, true) => " DESC NULLS LAST",
            (Order::Asc, ..) => "",
            (Order::Desc, ..) => " DESC",
        });
    }
    match limit {
        Some(limit) => tail + &format!(" LIMIT {limit}"),
        None => tail,
    }
}

const NEVER: &str = "1 = 0";

fn condition<T: Record>(filter: &Filter) -> (String, Vec<Value>) {
    let name = named::<T>(&filter.column);
    let like = |before: &str, text: &str, after: &str| {
        let pattern = format!("{before}{}{after}", text.replace('!', "!!").replace('%', "!%").replace('_', "!_"));
        (format!("{name} LIKE ? ESCAPE '!'"), vec![Value::Text(pattern)])
    };
    let compare = |operator: &str, value: &Value| match fitted::<T>(&filter.column, value.clone()) {
        Some(Value::Null) | None => (NEVER.to_string(), Vec::new()),
        Some(value) => (format!("{name} {operator} ?"), vec![value]),
    };
    match &filter.test {
        Test::Equal(values) => equal::<T>(&filter.column, &name, values),
        Test::NotEqual(Value::Null) | Test::NotNull => (format!("{name} IS NOT NULL"), Vec::new()),
        Test::NotEqual(value) => match fitted::<T>(&filter.column, value.clone()) {
            Some(value) => (format!("{name} <> ?"), vec![value]),
            None => (format!("{name} IS NOT NULL"), Vec::new()),
        },
        Test::Greater(value) => compare(">", value),
        Test::GreaterEqual(value) => compare(">=", value),
        Test::Less(value) => compare("<", value),
        Test::LessEqual(value) => compare("<=", value),
        Test::Like(pattern) => (format!("{name} LIKE ? ESCAPE '!'"), vec![Value::Text(pattern.clone())]),
        Test::Contains(text) => like("%", text, "%"),
        Test::StartsWith(text) => like("", text, "%"),
        Test::EndsWith(text) => like("%", text, ""),
        Test::IsNull => (format!("{name} IS NULL"), Vec::new()),
    }
}

fn equal<T: Record>(column: &str, name: &str, values: &[Value]) -> (String, Vec<Value>) {
    let null = values.contains(&Value::Null);
    let values = values.iter().filter(|value| **value != Value::Null);
    let mut values: Vec<Value> = values.filter_map(|value| fitted::<T>(column, value.clone())).collect();
    // As for every list: few lengths, so few texts to prepare.
    if let Some(last) = values.last().cloned() {
        values.resize(values.len().next_power_of_two(), last);
    }
    let any = match values.len() {
        0 => NEVER.to_string(),
        1 => format!("{name} = ?"),
        many => format!("{name} IN ({})", vec!["?"; many].join(",")),
    };
    if null { (format!("{any} OR {name} IS NULL"), values) } else { (any, values) }
}

/// The value as the column keeps it, if it can.
fn fitted<T: Record>(column: &str, value: Value) -> Option<Value> {
    match (kind::<T>(column), value) {
        (Some((Kind::Int, _)), Value::Text(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(Value::Int(1)),
            "false" => Some(Value::Int(0)),
            number => number.parse().ok().map(Value::Int),
        },
        (Some((Kind::Real, _)), Value::Text(text)) => text.trim().parse().ok().map(Value::Real),
        (Some((Kind::Real, _)), Value::Int(number)) => Some(Value::Real(number as f64)),
        (Some((Kind::Text, _)), Value::Int(number)) => Some(Value::Text(number.to_string())),
        (_, value) => Some(value),
    }
}

fn kind<T: Record>(column: &str) -> Option<(Kind, bool)> {
    let own = match column.split_once('.') {
        Some((table, column)) => (table == T::TABLE).then_some(column)?,
        None => column,
    };
    let place = T::COLUMNS.iter().position(|name| *name == own)?;
    T::KINDS.get(place).copied()
}

/// The column as SQL names it. Invariant: only identifiers get into the text.
fn named<T: Record>(column: &str) -> String {
    let shaped = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && part.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
    };
    let (table, own) = column.split_once('.').unwrap_or((T::TABLE, column));
    assert!(shaped(table) && shaped(own), "{column:?} is not the name of a column");
    format!("\"{table}\".\"{own}\"")
}
