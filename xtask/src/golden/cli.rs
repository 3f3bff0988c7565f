//! The recorded commands of the stock clients: replayed in order, and compared by exit code and columns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use crate::cloud::Cloud;
use crate::floors::Tally;
use crate::{process, python, tree};

const ROWS: &str = "tests/upstream/cli.jsonl";
const ACCEPTED: &str = "tests/upstream/cli-differences.txt";

/// The names that a command's output has: headings of a list, or fields of one thing.
#[derive(Debug, Default, PartialEq)]
enum Shape {
    /// Nothing was shown, or plain text.
    #[default]
    None,
    Columns(Vec<String>),
    Fields(Vec<String>),
    /// The keys of JSON, where the order means nothing.
    Keys(BTreeSet<String>),
}

/// A row of the frozen list.
struct Expected {
    row: u64,
    command: String,
    rc: i64,
    shape: Shape,
    /// Part of what must work by now; else a later piece of work brings it.
    now: bool,
}

struct Outcome {
    rc: i64,
    shape: Shape,
    last_words: String,
}

/// Replays everything against a cloud (a fresh fake one, unless credentials of admin and demo are given).
pub fn replay(given: Option<(PathBuf, PathBuf)>) -> Result<Tally> {
    let expected = expected_rows()?;
    let accepted = accepted_differences()?;
    let clients = python::clients()?;
    let out = tree::target().join("cli-results.jsonl");
    let cloud = if given.is_some() { None } else { Some(Cloud::fake()?) };
    let (admin, demo) = match (given, &cloud) {
        (Some(given), _) => given,
        (None, Some(cloud)) => (cloud.keystonerc("admin"), cloud.keystonerc("demo")),
        (None, None) => unreachable!("a cloud is started when none is given"),
    };

    let mut command = Command::new(clients.join("bin/python"));
    command.arg(tree::root().join("tests/upstream/replay.py")).arg("--rows").arg(tree::root().join(ROWS));
    command.arg("--admin").arg(admin).arg("--demo").arg(demo).arg("--out").arg(&out);
    process::must(&mut command, "the replay")?;
    let outcomes = outcomes(&out)?;
    println!("what each command printed: {}", out.display());
    Ok(compare(&expected, &outcomes, &accepted))
}

fn compare(expected: &[Expected], outcomes: &BTreeMap<u64, Outcome>, accepted: &BTreeMap<u64, String>) -> Tally {
    let mut tally = Tally::default();
    let mut early = 0;
    for row in expected {
        let outcome = outcomes.get(&row.row);
        let difference = outcome.map_or(Some("was not run".to_owned()), |outcome| difference(row, outcome));
        let known = accepted.get(&row.row);
        let passed = difference.as_ref() == known;
        match row.now {
            true if passed => tally.passed += 1,
            true => {
                tally.failed += 1;
                explain(row, difference.as_deref(), known, outcome);
            }
            false => early += usize::from(difference.is_none()),
        }
    }
    let later = expected.iter().filter(|row| !row.now).count();
    println!(
        "commands: {} as recorded or accepted, {} not; of {later} that come later {early} answer already",
        tally.passed, tally.failed
    );
    tally
}

fn explain(row: &Expected, difference: Option<&str>, known: Option<&String>, outcome: Option<&Outcome>) {
    println!("row {}: {}", row.row, row.command);
    match (difference, known) {
        (None, Some(known)) => println!("    no longer differs ({known}): take it out of {ACCEPTED}"),
        (Some(difference), Some(known)) => println!("    differs otherwise than accepted: {difference}, not {known}"),
        (difference, _) => println!("    {}", difference.unwrap_or_default()),
    }
    if let Some(outcome) = outcome
        && outcome.rc != row.rc
    {
        println!("    {}", outcome.last_words);
    }
}

/// How the outcome differs from what was recorded, in a form that can stand in the list of accepted differences.
fn difference(expected: &Expected, outcome: &Outcome) -> Option<String> {
    if outcome.rc != expected.rc {
        return Some(format!("rc {} instead of {}", outcome.rc, expected.rc));
    }
    let (kind, recorded, ours) = match (&expected.shape, &outcome.shape) {
        // A recorded list without rows has no headings: nothing to compare with.
        (Shape::None, _) => return None,
        (_, Shape::None) => return Some("shows nothing".to_owned()),
        (Shape::Columns(recorded), Shape::Keys(ours))
            if recorded.iter().collect::<BTreeSet<_>>() == ours.iter().collect() =>
        {
            return None;
        }
        (Shape::Columns(recorded), Shape::Columns(ours)) => ("columns", recorded, ours),
        (Shape::Fields(recorded), Shape::Fields(ours)) => ("fields", recorded, ours),
        _ => return Some("shows a list instead of one thing, or the other way round".to_owned()),
    };
    if recorded == ours {
        return None;
    }
    let missing = recorded.iter().filter(|name| !ours.contains(name)).map(|name| format!(" -{name}"));
    let beyond = ours.iter().filter(|name| !recorded.contains(name)).map(|name| format!(" +{name}"));
    let changes: String = missing.chain(beyond).collect();
    let changes = if changes.is_empty() { " in another order".to_owned() } else { changes };
    Some(format!("{kind}{changes}"))
}

/// Reads the names off a table as the clients draw it, or off their JSON.
fn shape(stdout: &str) -> Shape {
    if let Ok(json) = serde_json::from_str::<Json>(stdout) {
        let first = json.as_array().map_or(Some(&json), |list| list.first());
        let keys = first.and_then(Json::as_object).map(|it| it.keys().cloned().collect());
        return keys.map_or(Shape::None, Shape::Keys);
    }
    let mut lines = stdout.lines().skip_while(|line| !line.starts_with("+--")).skip(1);
    let Some(headings) = lines.next().filter(|line| line.starts_with('|')) else { return Shape::None };
    let headings: Vec<String> = headings.trim().trim_matches('|').split('|').map(|it| it.trim().to_owned()).collect();
    if headings != ["Field", "Value"] {
        return Shape::Columns(headings);
    }
    let rows = lines.skip(1).take_while(|line| !line.starts_with('+'));
    let fields = rows.filter_map(|line| line.split('|').nth(1)).map(|it| it.trim().to_owned());
    Shape::Fields(fields.filter(|it| !it.is_empty()).collect())
}

fn expected_rows() -> Result<Vec<Expected>> {
    let text = fs::read_to_string(tree::root().join(ROWS)).with_context(|| format!("cannot read {ROWS}"))?;
    text.lines().map(|line| read_expected(line).with_context(|| format!("{ROWS}: {line}"))).collect()
}

fn read_expected(line: &str) -> Result<Expected> {
    let json: Json = serde_json::from_str(line)?;
    let names = |key: &str| {
        let list = json[key].as_array()?;
        Some(list.iter().filter_map(Json::as_str).map(str::to_owned).collect())
    };
    let shape = names("columns").map(Shape::Columns).or_else(|| names("fields").map(Shape::Fields));
    Ok(Expected {
        row: json["row"].as_u64().context("a row has a number")?,
        command: json["cmd"].as_str().context("a row has a command")?.to_owned(),
        rc: json["rc"].as_i64().context("a row has an exit code")?,
        shape: shape.unwrap_or_default(),
        now: json["expect"] == "now",
    })
}

fn outcomes(file: &PathBuf) -> Result<BTreeMap<u64, Outcome>> {
    let mut outcomes = BTreeMap::new();
    for line in fs::read_to_string(file)?.lines() {
        let json: Json = serde_json::from_str(line)?;
        let text = |key: &str| json[key].as_str().unwrap_or_default();
        let last_words = text("stderr").lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
        let outcome = Outcome { rc: json["rc"].as_i64().unwrap_or(-1), shape: shape(text("stdout")), last_words };
        outcomes.insert(json["row"].as_u64().context("a result has a row")?, outcome);
    }
    Ok(outcomes)
}

/// `ROW: DIFFERENCE | reason`, one line each.
fn accepted_differences() -> Result<BTreeMap<u64, String>> {
    let text = fs::read_to_string(tree::root().join(ACCEPTED)).with_context(|| format!("cannot read {ACCEPTED}"))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| read_accepted(line).with_context(|| format!("{ACCEPTED}: {line}"))).collect()
}

fn read_accepted(line: &str) -> Result<(u64, String)> {
    let (row, rest) = line.split_once(": ").context("no row number")?;
    let (difference, reason) = rest.split_once(" | ").context("no reason")?;
    anyhow::ensure!(!reason.trim().is_empty(), "the reason is empty");
    Ok((row.parse()?, difference.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn tables_and_json_are_read() {
        let list = "+----+------+\n| ID | Name |\n+----+------+\n| 1  | a    |\n+----+------+\n";
        assert_eq!(shape(list), Shape::Columns(names(&["ID", "Name"])));
        let show = "+-------+-------+\n| Field | Value |\n+-------+-------+\n| id    | 1 | 2 |\n|       | more  |\n| name  |       |\n+-------+-------+\n";
        assert_eq!(shape(show), Shape::Fields(names(&["id", "name"])));
        assert_eq!(shape("[{\"Name\": 1, \"ID\": 2}]"), Shape::Keys(names(&["Name", "ID"]).into_iter().collect()));
        assert_eq!(shape("\n"), Shape::None);
    }

    #[test]
    fn a_difference_names_what_is_missing_and_what_is_new() {
        let shape = Shape::Columns(names(&["ID", "Name"]));
        let expected = Expected { row: 1, command: String::new(), rc: 0, shape, now: true };
        let outcome = |rc, list: &[&str]| Outcome { rc, shape: Shape::Columns(names(list)), last_words: String::new() };
        assert_eq!(difference(&expected, &outcome(0, &["ID", "Name"])), None);
        assert_eq!(difference(&expected, &outcome(0, &["ID", "State"])), Some("columns -Name +State".into()));
        assert_eq!(difference(&expected, &outcome(0, &["Name", "ID"])), Some("columns in another order".into()));
        assert_eq!(difference(&expected, &outcome(1, &[])), Some("rc 1 instead of 0".into()));
    }

    #[test]
    fn an_accepted_difference_has_a_reason() {
        assert_eq!(read_accepted("7: rc 1 instead of 0 | a member gets 403").expect("complete").0, 7);
        assert!(read_accepted("7: rc 1 instead of 0 | ").is_err());
    }
}
