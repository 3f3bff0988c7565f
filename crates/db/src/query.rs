//! What runs: SQL text with `?`, and the values bound to it in the order of the text.

use std::marker::PhantomData;

use crate::engine::Dialect;
use crate::error::Error;
use crate::record::Record;
use crate::value::{Bind, Value};

/// Limit: values in one `IN (…)`. SQLite takes 32 766 per statement and lists are filled up to a power of two;
/// who has more asks in chunks.
pub const MAX_LIST: usize = 16_000;

/// Rows of `T`: `select::<Keypair>("WHERE user_id = ? ORDER BY name").bind(user)`.
///
/// The text is what follows the table: joins, `WHERE`, `ORDER BY`, `LIMIT`, any of them or nothing. With a join,
/// columns are written with their table. Names that are keywords stand in double quotes.
pub fn select<T: Record>(text: impl Into<String>) -> Select<T> {
    Select { text: Text::new(text.into()), rows: PhantomData }
}

/// Any statement: `sql("UPDATE servers SET host = ? WHERE id = ?").bind(host).bind(id)`.
pub fn sql(text: impl Into<String>) -> Statement {
    Statement { text: Text::new(text.into()) }
}

/// A query for rows of a [`Record`]; made by [`select`].
#[derive(Debug)]
#[must_use]
pub struct Select<T> {
    pub(crate) text: Text,
    rows: PhantomData<fn() -> T>,
}

/// Any statement; made by [`sql`].
#[derive(Debug, Clone)]
#[must_use]
pub struct Statement {
    pub(crate) text: Text,
}

impl<T> Clone for Select<T> {
    fn clone(&self) -> Self {
        Select { text: self.text.clone(), rows: PhantomData }
    }
}

macro_rules! binding {
    () => {
        /// Binds the next `?`.
        pub fn bind(mut self, value: impl Bind) -> Self {
            self.text.bound.push(Bound::One(value.into_value()));
            self
        }

        /// Binds as many `?` as there are values.
        pub fn bind_all<B: Bind>(mut self, values: impl IntoIterator<Item = B>) -> Self {
            let values = values.into_iter().map(|value| Bound::One(value.into_value()));
            self.text.bound.extend(values);
            self
        }

        /// Binds a whole list to the next `?`, which stands in `IN (?)`. No value equals an empty list; beware of
        /// `NOT IN`, which then matches nothing either. At most [`MAX_LIST`] values.
        pub fn bind_list<B: Bind>(mut self, values: impl IntoIterator<Item = B>) -> Self {
            let values = values.into_iter().map(Bind::into_value).collect();
            self.text.bound.push(Bound::List(values));
            self
        }

        /// Adds a condition, whether there is a `WHERE` or not; its values are bound after this call.
        pub fn and(mut self, condition: impl Into<String>) -> Self {
            self.text.conditions.push(condition.into());
            self
        }

        /// Adds the condition that `column` is one of `values`; an empty list matches no row. At most [`MAX_LIST`].
        pub fn in_list<B: Bind>(self, column: &str, values: impl IntoIterator<Item = B>) -> Self {
            let values: Vec<Value> = values.into_iter().map(Bind::into_value).collect();
            match values.is_empty() {
                true => self.and("1 = 0"),
                false => self.and(format!("{column} IN (?)")).bind_list(values),
            }
        }
    };
}

impl<T: Record> Select<T> {
    binding!();

    pub(crate) fn ready(self, dialect: Dialect) -> Result<Ready, Error> {
        self.text.ready(dialect, &head::<T>())
    }
}

impl Statement {
    binding!();

    pub(crate) fn ready(self, dialect: Dialect) -> Result<Ready, Error> {
        self.text.ready(dialect, "")
    }
}

/// `SELECT "t"."a", "t"."b" FROM "t" `. Qualified, so that joins are clear and a missing column is an error: SQLite
/// takes a lone `"a"` that is no column for text.
fn head<T: Record>() -> String {
    let mut head = String::with_capacity(32 + T::COLUMNS.len() * (T::TABLE.len() + 20));
    for (place, column) in T::COLUMNS.iter().enumerate() {
        head.push_str(if place == 0 { "SELECT \"" } else { ", \"" });
        head.push_str(T::TABLE);
        head.push_str("\".\"");
        head.push_str(column);
        head.push('"');
    }
    head + " FROM " + T::TABLE + " "
}

/// A statement as one database takes it. `pub` because the trait [`crate::Queries`] names it, and unnameable outside.
#[derive(Debug)]
pub struct Ready {
    pub(crate) text: String,
    pub(crate) values: Vec<Value>,
    /// Not worth a place among the prepared statements.
    pub(crate) once: bool,
    /// A duplicate is an answer here, not a failure of the transaction.
    pub(crate) forgiving: bool,
}

impl Ready {
    pub(crate) fn new(text: String, values: Vec<Value>) -> Ready {
        Ready { text, values, once: false, forgiving: false }
    }

    pub(crate) fn once(text: String) -> Ready {
        Ready { once: true, ..Ready::new(text, Vec::new()) }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Bound {
    One(Value),
    List(Vec<Value>),
}

#[derive(Debug, Clone)]
pub(crate) struct Text {
    start: String,
    conditions: Vec<String>,
    tail: String,
    bound: Vec<Bound>,
}

impl Text {
    fn new(start: String) -> Text {
        Text { start, conditions: Vec::new(), tail: String::new(), bound: Vec::new() }
    }

    pub(crate) fn condition(&mut self, text: String, values: Vec<Value>) {
        self.conditions.push(text);
        self.bound.extend(values.into_iter().map(Bound::One));
    }

    /// Gives the statement its order and its limit, which it must not have yet.
    pub(crate) fn end(&mut self, tail: String) {
        assert!(parts(&self.start).tail.is_empty(), "a page brings its own order and limit: {}", self.start);
        self.tail = tail;
    }

    pub(crate) fn ready(mut self, dialect: Dialect, head: &str) -> Result<Ready, Error> {
        if self.conditions.is_empty() {
            let text = format!("{head}{}{}", self.start, self.tail);
            return render(dialect, text, self.bound);
        }
        let parts = parts(&self.start);
        let mut text = format!("{head}{} WHERE ", parts.before);
        let own = Some(parts.conditions).filter(|own| !own.is_empty());
        for (place, condition) in own.into_iter().chain(self.conditions.iter().map(String::as_str)).enumerate() {
            text.push_str(if place == 0 { "(" } else { " AND (" });
            text.push_str(condition);
            text.push(')');
        }
        text.push(' ');
        text.push_str(parts.tail);
        text.push_str(&self.tail);

        // Values of the tail were bound before those of the added conditions.
        let tail = placeholders(parts.tail);
        let first = placeholders(parts.before) + placeholders(parts.conditions);
        if tail > 0 && self.bound.len() > first + tail {
            self.bound[first..].rotate_left(tail);
        }
        render(dialect, text, self.bound)
    }
}

/// Names that some database takes for a keyword. Limit: those that somebody may want to call a column.
const KEYWORDS: &[&str] = &[
    "accessible",
    "all",
    "analyze",
    "any",
    "array",
    "before",
    "binary",
    "blob",
    "both",
    "call",
    "cascade",
    "change",
    "char",
    "character",
    "check",
    "collation",
    "column",
    "condition",
    "constraint",
    "continue",
    "convert",
    "cross",
    "database",
    "databases",
    "default",
    "delayed",
    "describe",
    "dual",
    "each",
    "end",
    "escaped",
    "exit",
    "explain",
    "fetch",
    "float",
    "for",
    "force",
    "foreign",
    "freeze",
    "full",
    "general",
    "grant",
    "group",
    "having",
    "if",
    "ignore",
    "index",
    "int",
    "interval",
    "iterate",
    "key",
    "keys",
    "kill",
    "lateral",
    "leading",
    "leave",
    "left",
    "limit",
    "linear",
    "lines",
    "load",
    "lock",
    "long",
    "loop",
    "match",
    "mod",
    "natural",
    "numeric",
    "offset",
    "only",
    "optimize",
    "option",
    "order",
    "out",
    "over",
    "overlaps",
    "partition",
    "placing",
    "precision",
    "primary",
    "procedure",
    "purge",
    "range",
    "read",
    "real",
    "recursive",
    "references",
    "release",
    "rename",
    "repeat",
    "replace",
    "require",
    "restrict",
    "return",
    "returning",
    "revoke",
    "right",
    "rows",
    "schema",
    "schemas",
    "sensitive",
    "separator",
    "show",
    "signal",
    "similar",
    "slow",
    "some",
    "spatial",
    "specific",
    "sql",
    "ssl",
    "starting",
    "symmetric",
    "table",
    "terminated",
    "then",
    "to",
    "trailing",
    "trigger",
    "undo",
    "union",
    "unique",
    "unlock",
    "unsigned",
    "usage",
    "use",
    "user",
    "using",
    "varying",
    "verbose",
    "when",
    "while",
    "window",
    "write",
];

/// Stops a test on whichever database it runs when a name would be a keyword on another. Our SQL has its keywords in
/// capitals and its names in small letters.
pub(crate) fn refuse_keywords(text: &str) {
    let mut scan = Scan::new(text);
    while let Some((_, found)) = scan.next() {
        if let Found::Word(word) = found {
            let clear = KEYWORDS.binary_search(&word).is_err();
            assert!(clear, "{word:?} is a keyword of a database; as a name it stands in double quotes: {text}");
        }
    }
}

/// A statement around its conditions.
#[derive(Debug, PartialEq)]
struct Parts<'a> {
    before: &'a str,
    conditions: &'a str,
    tail: &'a str,
}

/// Finds the outermost `WHERE`, and the first clause that may follow it.
fn parts(text: &str) -> Parts<'_> {
    let mut depth = 0;
    let (mut condition, mut tail) = (None, None);
    let mut scan = Scan::new(text);
    while let Some((at, found)) = scan.next() {
        match found {
            Found::Open => depth += 1,
            Found::Close => depth -= 1,
            Found::Word(word) if depth == 0 && tail.is_none() => match word.to_ascii_uppercase().as_str() {
                "WHERE" => condition = Some(at),
                "GROUP" | "HAVING" | "ORDER" | "LIMIT" | "OFFSET" => tail = Some(at),
                _ => {}
            },
            _ => {}
        }
    }
    let tail = tail.unwrap_or(text.len());
    let before = condition.unwrap_or(tail);
    let conditions = condition.map_or("", |at| &text[at + "WHERE".len()..tail]);
    Parts { before: text[..before].trim_end(), conditions: conditions.trim(), tail: &text[tail..] }
}

fn placeholders(text: &str) -> usize {
    let mut scan = Scan::new(text);
    let mut count = 0;
    while let Some((_, found)) = scan.next() {
        count += usize::from(matches!(found, Found::Placeholder));
    }
    count
}

/// Writes lists out, and `?` as the database wants it.
fn render(dialect: Dialect, text: String, bound: Vec<Bound>) -> Result<Ready, Error> {
    if cfg!(debug_assertions) {
        refuse_keywords(&text);
    }
    let expected = placeholders(&text);
    assert_eq!(expected, bound.len(), "as many values as places: {text}");
    let lists = bound.iter().any(|bound| matches!(bound, Bound::List(_)));
    if !lists && dialect != Dialect::Postgres {
        let values = bound.into_iter().filter_map(|bound| match bound {
            Bound::One(value) => Some(value),
            Bound::List(_) => None,
        });
        return Ok(Ready::new(text, values.collect()));
    }

    let mut out = String::with_capacity(text.len() + bound.len() * 3);
    let mut values: Vec<Value> = Vec::with_capacity(bound.len());
    let mut bound = bound.into_iter();
    let (mut scan, mut copied) = (Scan::new(&text), 0);
    while let Some((at, found)) = scan.next() {
        let Found::Placeholder = found else { continue };
        out.push_str(&text[copied..at]);
        copied = at + 1;
        match bound.next() {
            None => break,
            Some(Bound::One(value)) => place(dialect, &mut out, &mut values, value),
            Some(Bound::List(list)) if list.is_empty() => out.push_str("NULL"),
            Some(Bound::List(list)) if list.len() > MAX_LIST => {
                return Err(Error::other("binding a list", format!("{} values are too many at once", list.len())));
            }
            Some(Bound::List(list)) => {
                for (count, value) in filled(list).into_iter().enumerate() {
                    out.push_str(if count == 0 { "" } else { "," });
                    place(dialect, &mut out, &mut values, value);
                }
            }
        }
    }
    out.push_str(&text[copied..]);
    Ok(Ready::new(out, values))
}

/// A fraction is cast on PostgreSQL, so that one prepared text never stands for two types.
fn place(dialect: Dialect, out: &mut String, values: &mut Vec<Value>, value: Value) {
    match (dialect, &value) {
        (Dialect::Postgres, Value::Real(_)) => *out += &format!("${}::float8", values.len() + 1),
        (Dialect::Postgres, _) => *out += &format!("${}", values.len() + 1),
        _ => out.push('?'),
    }
    values.push(value);
}

/// Repeats the last value up to a power of two: fewer lengths, so fewer texts to prepare.
fn filled(mut list: Vec<Value>) -> Vec<Value> {
    if let Some(last) = list.last().cloned() {
        list.resize(list.len().next_power_of_two(), last);
    }
    list
}

enum Found<'a> {
    Word(&'a str),
    Placeholder,
    Open,
    Close,
}

/// Walks over SQL text and skips what is quoted.
struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Scan<'a> {
        Scan { text, at: 0 }
    }

    fn next(&mut self) -> Option<(usize, Found<'a>)> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            let start = self.at;
            self.at += 1;
            match byte {
                b'\'' | b'"' => {
                    let rest = &bytes[self.at..];
                    self.at += rest.iter().position(|&other| other == byte).map_or(rest.len(), |end| end + 1);
                }
                b'?' => return Some((start, Found::Placeholder)),
                b'(' => return Some((start, Found::Open)),
                b')' => return Some((start, Found::Close)),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    let rest = &bytes[self.at..];
                    let ends = |byte: &u8| !byte.is_ascii_alphanumeric() && !matches!(byte, b'_' | b'.');
                    self.at += rest.iter().position(ends).unwrap_or(rest.len());
                    return Some((start, Found::Word(&self.text[start..self.at])));
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(statement: Statement, dialect: Dialect) -> (String, Vec<Value>) {
        let ready = statement.ready(dialect).unwrap();
        (ready.text, ready.values)
    }

    #[test]
    fn a_condition_goes_between_what_is_there_and_the_order() {
        let text = "SELECT a FROM t WHERE a = ? OR b = 'WHERE ?' ORDER BY a LIMIT ?";
        let statement = sql(text).bind("1").bind(2_i64).and("c = ?").bind("3");
        let wanted = "SELECT a FROM t WHERE (a = $1 OR b = 'WHERE ?') AND (c = $2) ORDER BY a LIMIT $3";
        let values = vec![Value::Text("1".into()), Value::Text("3".into()), Value::Int(2)];
        assert_eq!(ready(statement, Dialect::Postgres), (wanted.into(), values));
    }

    #[test]
    fn a_condition_needs_no_other() {
        let statement = sql("DELETE FROM t").and("c = ?").bind("3");
        assert_eq!(ready(statement, Dialect::Sqlite).0, "DELETE FROM t WHERE (c = ?) ");
        let parts = parts("JOIN u ON u.id = t.u AND u.x IN (SELECT x FROM v WHERE y = 1) ORDER BY t.a");
        assert_eq!(parts.conditions, "");
        assert_eq!(parts.tail, "ORDER BY t.a");
    }

    #[test]
    fn a_list_is_filled_up_to_a_power_of_two() {
        let statement = sql("DELETE FROM t").in_list("a", ["x", "y", "z"]);
        let (text, values) = ready(statement, Dialect::MariaDb);
        assert_eq!(text, "DELETE FROM t WHERE (a IN (?,?,?,?)) ");
        assert_eq!(values.last(), Some(&Value::Text("z".into())));

        let nothing = sql("DELETE FROM t").in_list("a", Vec::<String>::new());
        assert_eq!(ready(nothing, Dialect::MariaDb).0, "DELETE FROM t WHERE (1 = 0) ");
    }

    #[test]
    fn the_keywords_are_sorted() {
        assert!(KEYWORDS.is_sorted());
    }

    #[test]
    fn a_list_that_is_too_long_is_refused() {
        let statement = sql("DELETE FROM t").in_list("a", 0..MAX_LIST as i64 + 1);
        assert!(statement.ready(Dialect::Sqlite).is_err());
    }
}
