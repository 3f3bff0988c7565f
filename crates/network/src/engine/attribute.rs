//! Attributes as data: what a client may send, what it gets back, by what it may filter and sort.
//!
//! ```text
//! attr("name", Rule::Text(255)).default(Given::Empty).put().text()
//!       wire name   validation   may be created    changed  filtered and sorted by the column of that name
//! ```

use api::{Caller, JsonMap};
use base::{Json, json};
use db::Value;

use super::rule::Rule;

/// A kind of resource: its words and its attributes.
#[derive(Debug)]
pub struct Kind {
    /// The key around one, and the noun in policy rules: `security_group`.
    pub one: &'static str,
    pub many: &'static str,
    pub attributes: &'static [Attribute],
}

impl Kind {
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    pub name: &'static str,
    pub post: Post,
    pub put: bool,
    pub rule: Rule,
    pub filter: Filter,
    /// The column to sort by.
    pub sort: Option<&'static str>,
    pub visible: bool,
    /// Only there when this extension is configured.
    pub extension: Option<&'static str>,
}

/// Whether an attribute may be given when something is created, and what it is otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Post {
    Never,
    Required,
    /// Absent stays absent: the resource decides.
    Optional,
    Default(Given),
}

/// Defaults, which must be constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given {
    Null,
    Empty,
    Text(&'static str),
    True,
    False,
    List,
    Object,
}

impl Given {
    pub fn json(self) -> Json {
        match self {
            Given::Null => Json::Null,
            Given::Empty => json!(""),
            Given::Text(text) => json!(text),
            Given::True => json!(true),
            Given::False => json!(false),
            Given::List => json!([]),
            Given::Object => json!({}),
        }
    }
}

/// How a filter on an attribute becomes a condition on rows.
#[derive(Debug, Clone, Copy)]
pub enum Filter {
    None,
    Text(&'static str),
    Flag(&'static str),
    Number(&'static str),
    /// Whatever is not in a column of the row.
    By(fn(&[&str], &Caller) -> Condition),
}

/// A condition with its values, in the order of its `?`.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub text: String,
    pub values: Vec<Value>,
}

impl Condition {
    /// `text` has one `?` in an `IN (?)` for all the values.
    pub fn any_of(text: &str, values: &[&str]) -> Condition {
        let values: Vec<Value> = values.iter().map(|value| Value::Text(value.to_string())).collect();
        let places = vec!["?"; values.len().max(1)].join(",");
        match values.is_empty() {
            true => Condition { text: "1 = 0".into(), values },
            false => Condition { text: text.replacen('?', &places, 1), values },
        }
    }

    pub fn plain(text: impl Into<String>) -> Condition {
        Condition { text: text.into(), values: Vec::new() }
    }

    pub fn negated(self) -> Condition {
        Condition { text: format!("NOT ({})", self.text), ..self }
    }
}

pub const fn attr(name: &'static str, rule: Rule) -> Attribute {
    Attribute {
        name,
        post: Post::Never,
        put: false,
        rule,
        filter: Filter::None,
        sort: None,
        visible: true,
        extension: None,
    }
}

impl Attribute {
    pub const fn required(mut self) -> Attribute {
        self.post = Post::Required;
        self
    }

    pub const fn optional(mut self) -> Attribute {
        self.post = Post::Optional;
        self
    }

    pub const fn default(mut self, given: Given) -> Attribute {
        self.post = Post::Default(given);
        self
    }

    pub const fn put(mut self) -> Attribute {
        self.put = true;
        self
    }

    /// Filtered and sorted by the text column of the same name.
    pub const fn text(mut self) -> Attribute {
        self.filter = Filter::Text(self.name);
        self.sort = Some(self.name);
        self
    }

    pub const fn flag(mut self) -> Attribute {
        self.filter = Filter::Flag(self.name);
        self.sort = Some(self.name);
        self
    }

    pub const fn number(mut self) -> Attribute {
        self.filter = Filter::Number(self.name);
        self.sort = Some(self.name);
        self
    }

    /// Filtered by the text column `column`.
    pub const fn column(mut self, column: &'static str) -> Attribute {
        self.filter = Filter::Text(column);
        self.sort = Some(column);
        self
    }

    pub const fn by(mut self, condition: fn(&[&str], &Caller) -> Condition) -> Attribute {
        self.filter = Filter::By(condition);
        self
    }

    /// Accepted, but never shown.
    pub const fn hidden(mut self) -> Attribute {
        self.visible = false;
        self
    }

    pub const fn of(mut self, extension: &'static str) -> Attribute {
        self.extension = Some(extension);
        self
    }
}

pub const ID: Attribute = attr("id", Rule::Any).text();
pub const NAME: Attribute = attr("name", Rule::Text(255)).default(Given::Empty).put().text();
pub const DESCRIPTION: Attribute = attr("description", Rule::Text(255)).default(Given::Empty).put().text();
pub const PROJECT: Attribute = attr("project_id", Rule::Text(255)).optional().text();
pub const TENANT: Attribute = attr("tenant_id", Rule::Text(255)).optional().column("project_id");
pub const CREATED: Attribute = attr("created_at", Rule::Any);
pub const UPDATED: Attribute = attr("updated_at", Rule::Any);
pub const REVISION: Attribute = attr("revision_number", Rule::Any).number();
pub const TAGS: Attribute = attr("tags", Rule::Any);
/// Tags that may be given at creation.
pub const NEW_TAGS: Attribute = attr("tags", Rule::Tags).default(Given::List);

/// The attributes of one resource, read and checked.
#[derive(Debug, Clone, Default)]
pub struct Attributes(pub JsonMap);

impl Attributes {
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    /// Given, null or not.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The text; absent and null are empty.
    pub fn text(&self, name: &str) -> String {
        self.maybe(name).unwrap_or_default()
    }

    /// The text, unless absent or null.
    pub fn maybe(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Json::as_str).map(String::from)
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).and_then(Json::as_bool)
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Json::as_i64)
    }

    /// The list; absent and null are empty.
    pub fn list(&self, name: &str) -> &[Json] {
        self.get(name).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(Json::as_str).map(String::from).collect()
    }
}
