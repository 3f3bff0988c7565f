//! oslo.policy's language: text or lists of lists become a tree of checks.

use std::iter::repeat_n;

use base::Json;
use regex_lite::Regex;

use super::check::{Check, Credential, Match, Piece, Wanted};
use super::{NESTING, RULE_BYTES};

/// Why a rule could not be read. Such a rule is false, and the operator is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is longer than {RULE_BYTES} bytes")]
    TooLong,
    #[error("its parentheses are nested more than {NESTING} deep")]
    TooDeep,
    #[error("'{0}' is not a check; one looks like role:admin or project_id:%(project_id)s")]
    NoCheck(String),
    #[error("'{0}' is not a format that can be filled in")]
    Format(String),
    #[error("'{0}' is not a pattern")]
    Pattern(String),
    #[error("something is missing after '{0}'")]
    Ends(String),
    #[error("'{0}' is not expected here")]
    Unexpected(String),
    #[error("it is neither text nor a list of lists")]
    Shape,
    #[error("'{0}:' asks another server, which is not supported; write the condition out, or refuse with '!'")]
    Remote(String),
}

/// Reads a rule as it stands in a policy file.
pub(super) fn rule(value: &Json) -> Result<Check, Unreadable> {
    match value {
        Json::Null => Ok(Check::True),
        Json::String(text) => self::text(text),
        Json::Array(lists) => legacy(lists),
        _ => Err(Unreadable::Shape),
    }
}

/// Reads `a and (b or not c)`.
pub(super) fn text(text: &str) -> Result<Check, Unreadable> {
    if text.len() > RULE_BYTES {
        return Err(Unreadable::TooLong);
    }
    let tokens = tokens(text);
    if tokens.is_empty() {
        return Ok(Check::True);
    }
    let mut reader = Reader { tokens: &tokens, at: 0, depth: 0 };
    let check = reader.any()?;
    match reader.peek() {
        None => Ok(check),
        Some(token) => Err(Unreadable::Unexpected(token.to_string())),
    }
}

/// Reads the older form: any of these lists, all of each one's checks.
fn legacy(lists: &[Json]) -> Result<Check, Unreadable> {
    if lists.is_empty() {
        return Ok(Check::True);
    }
    let mut any = Vec::new();
    for list in lists {
        let all: Vec<&Json> = match list {
            Json::Array(checks) if checks.is_empty() => continue,
            Json::Array(checks) => checks.iter().collect(),
            single => vec![single],
        };
        let all = all.into_iter().map(|check| check.as_str().ok_or(Unreadable::Shape).and_then(single));
        any.push(Check::And(all.collect::<Result<_, _>>()?));
    }
    Ok(if any.is_empty() { Check::False } else { Check::Or(any) })
}

/// Splits at white space; parentheses stand alone at a word's ends only, since `%(x)s` has its own.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches('(');
        tokens.extend(repeat_n("(", word.len() - inner.len()));
        let core = inner.trim_end_matches(')');
        if !core.is_empty() {
            tokens.push(core);
        }
        tokens.extend(repeat_n(")", inner.len() - core.len()));
    }
    tokens
}

struct Reader<'a> {
    tokens: &'a [&'a str],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.tokens.get(self.at).copied()
    }

    /// Takes the next token if it is the word `word`.
    fn take(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn any(&mut self) -> Result<Check, Unreadable> {
        let mut checks = vec![self.all()?];
        while self.take("or") {
            checks.push(self.all()?);
        }
        Ok(one_or(checks, Check::Or))
    }

    fn all(&mut self) -> Result<Check, Unreadable> {
        let mut checks = vec![self.one()?];
        while self.take("and") {
            checks.push(self.one()?);
        }
        Ok(one_or(checks, Check::And))
    }

    fn one(&mut self) -> Result<Check, Unreadable> {
        self.depth += 1;
        if self.depth > NESTING {
            return Err(Unreadable::TooDeep);
        }
        let check = self.operand();
        self.depth -= 1;
        check
    }

    fn operand(&mut self) -> Result<Check, Unreadable> {
        if self.take("not") {
            return Ok(Check::Not(Box::new(self.one()?)));
        }
        if self.take("(") {
            let check = self.any()?;
            return if self.take(")") { Ok(check) } else { Err(self.surprise()) };
        }
        match self.peek() {
            Some(token) if ![")", "and", "or"].iter().any(|word| token.eq_ignore_ascii_case(word)) => {
                self.at += 1;
                single(token)
            }
            _ => Err(self.surprise()),
        }
    }

    fn surprise(&self) -> Unreadable {
        match self.peek() {
            Some(token) => Unreadable::Unexpected(token.to_string()),
            None => Unreadable::Ends(self.tokens.last().copied().unwrap_or_default().to_string()),
        }
    }
}

fn one_or(mut checks: Vec<Check>, many: fn(Vec<Check>) -> Check) -> Check {
    match checks.pop() {
        Some(only) if checks.is_empty() => only,
        Some(last) => {
            checks.push(last);
            many(checks)
        }
        None => Check::False,
    }
}

/// Reads one check, `kind:match`.
fn single(text: &str) -> Result<Check, Unreadable> {
    let (kind, wanted) = match text {
        "@" => return Ok(Check::True),
        "!" => return Ok(Check::False),
        _ => text.split_once(':').ok_or_else(|| Unreadable::NoCheck(text.to_string()))?,
    };
    match kind {
        "rule" => Ok(Check::Named(wanted.to_string())),
        "role" => Ok(Check::Role(format(wanted)?)),
        "field" => field(wanted),
        "http" | "https" => Err(Unreadable::Remote(kind.to_string())),
        _ => match literal(kind) {
            Some(literal) => Ok(Check::Literal(literal, format(wanted)?)),
            None => Ok(Check::Credential(Credential::named(kind), format(wanted)?)),
        },
    }
}

/// The left-hand sides that Python reads as constants.
fn literal(kind: &str) -> Option<String> {
    if matches!(kind, "None" | "True" | "False") || kind.parse::<i64>().is_ok() {
        return Some(kind.to_string());
    }
    let quoted = |quote| kind.strip_prefix(quote)?.strip_suffix(quote);
    quoted('\'').or_else(|| quoted('"')).map(str::to_string)
}

/// Reads `networks:shared=True` or `port:device_owner=~^network:`.
fn field(text: &str) -> Result<Check, Unreadable> {
    let parts = text.split_once(':').and_then(|(_, rest)| rest.split_once('='));
    let (name, value) = parts.ok_or_else(|| Unreadable::NoCheck(format!("field:{text}")))?;
    let wanted = match value.strip_prefix('~') {
        None => Wanted::Text(value.to_string()),
        Some(pattern) => {
            // A pattern is tried at the start only.
            let regex = Regex::new(&format!("^(?:{pattern})"));
            Wanted::Pattern(regex.map_err(|_| Unreadable::Pattern(pattern.to_string()))?)
        }
    };
    Ok(Check::Field(name.to_string(), wanted))
}

/// Reads Python's `%(name)s` format.
fn format(text: &str) -> Result<Match, Unreadable> {
    let broken = || Unreadable::Format(text.to_string());
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_string()));
        }
        if let Some(after) = after.strip_prefix('%') {
            pieces.push(Piece::Text("%".to_string()));
            rest = after;
            continue;
        }
        let (name, after) = after.strip_prefix('(').and_then(|name| name.split_once(')')).ok_or_else(broken)?;
        pieces.push(Piece::Attribute(name.to_string()));
        rest = after.strip_prefix('s').ok_or_else(broken)?;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_string()));
    }
    Ok(match pieces.as_slice() {
        [] => Match::Text(String::new()),
        [Piece::Text(text)] => Match::Text(text.clone()),
        [Piece::Attribute(name)] => Match::Attribute(name.clone()),
        _ => Match::Pieces(pieces),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_parentheses_are_told_apart() {
        assert_eq!(tokens("((a:b) and not(c:%(d)s))"), ["(", "(", "a:b", ")", "and", "not(c:%(d)s", ")", ")"]);
        assert_eq!(tokens(" ( @ ) "), ["(", "@", ")"]);
        assert_eq!(tokens("ü:(ü)"), ["ü:(ü", ")"]);
    }

    #[test]
    fn broken_rules_say_what_is_wrong() {
        let why = |rule: &str| text(rule).unwrap_err().to_string();
        assert_eq!(why("role:admin or"), "something is missing after 'or'");
        assert_eq!(why("(role:admin"), "something is missing after 'role:admin'");
        assert_eq!(why("role:admin)"), "')' is not expected here");
        assert_eq!(why("role:a role:b"), "'role:b' is not expected here");
        assert_eq!(why("admin"), "'admin' is not a check; one looks like role:admin or project_id:%(project_id)s");
        assert_eq!(why("a:%(b"), "'%(b' is not a format that can be filled in");
        assert!(why("http://x/%(y)s").starts_with("'http:' asks another server"));
        assert!(why(&"(".repeat(1000)).starts_with("its parentheses"));
        assert!(why(&"not ".repeat(1000)).starts_with("its parentheses"));
        assert!(why(&"a".repeat(RULE_BYTES + 1)).starts_with("it is longer"));
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let alphabet = [
            "(", ")", " ", "not", "and", "or", "a:b", "%", "%(", ")s", "'", "\"", ":", "~", "=", "field:", "ü", "@",
            "!",
        ];
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            let mut rule = String::new();
            for _ in 0..12 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                rule.push_str(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            let _ = text(&rule);
        }
    }
}
