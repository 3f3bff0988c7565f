//! Turns the portable text of migrations into what each database takes.

use crate::engine::Dialect;

/// The statements of a migration: each ends with `;` at the end of a line. Lines of comment are dropped.
pub(crate) fn statements(text: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("--")) {
        let line = line.trim_end();
        current.push_str(line.strip_suffix(';').unwrap_or(line));
        current.push('\n');
        if line.ends_with(';') {
            statements.push(std::mem::take(&mut current));
        }
    }
    statements.push(current);
    statements.into_iter().map(|text| text.trim().to_string()).filter(|text| !text.is_empty()).collect()
}

/// Whether the statement changes the schema, which MariaDB commits by itself.
pub(crate) fn is_definition(statement: &str) -> bool {
    let first = statement.split_whitespace().next().unwrap_or_default();
    ["CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"].iter().any(|word| first.eq_ignore_ascii_case(word))
}

/// The statement as `dialect` takes it. Types are words in capitals:
///
/// | portable           | SQLite             | MariaDB          | PostgreSQL               |
/// |--------------------|--------------------|------------------|--------------------------|
/// | `DOCUMENT`         | TEXT               | LONGTEXT         | TEXT COLLATE "C"         |
/// | `TEXT`             | TEXT               | TEXT (64 KB)     | TEXT COLLATE "C"         |
/// | `VARCHAR(n)`       | VARCHAR(n)         | VARCHAR(n)       | VARCHAR(n) COLLATE "C"   |
/// | `BIGINT`,`INTEGER` | BIGINT, INTEGER    | BIGINT           | BIGINT                   |
/// | `REAL`             | REAL               | DOUBLE           | DOUBLE PRECISION         |
/// | `BLOB`             | BLOB               | LONGBLOB         | BYTEA                    |
///
/// Text compares byte by byte on all three. `DROP INDEX i ON t` is the portable spelling of that.
pub(crate) fn translated(dialect: Dialect, statement: &str) -> String {
    let mut words = statement.split_whitespace().map(str::to_ascii_uppercase);
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (first.as_str(), second.as_str()) {
        ("CREATE", "TABLE") if dialect == Dialect::MariaDb => {
            typed(dialect, statement) + " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin"
        }
        ("CREATE" | "ALTER", "TABLE") => typed(dialect, statement),
        ("DROP", "INDEX") if dialect != Dialect::MariaDb => {
            statement.split_once(" ON ").map_or(statement, |(before, _)| before).to_string()
        }
        _ => statement.to_string(),
    }
}

fn typed(dialect: Dialect, statement: &str) -> String {
    let mut out = String::with_capacity(statement.len() * 2);
    let mut rest = statement;
    while let Some(letter) = rest.chars().next() {
        if letter == '\'' || letter == '"' {
            let end = rest[1..].find(letter).map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else if letter.is_ascii_alphabetic() || letter == '_' {
            let end = rest.find(|other: char| !other.is_ascii_alphanumeric() && other != '_').unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after;
            match (dialect, word) {
                (Dialect::Sqlite, "DOCUMENT") => out.push_str("TEXT"),
                (Dialect::MariaDb, "DOCUMENT") => out.push_str("LONGTEXT"),
                (Dialect::MariaDb, "INTEGER") | (Dialect::Postgres, "INTEGER") => out.push_str("BIGINT"),
                (Dialect::MariaDb, "REAL") => out.push_str("DOUBLE"),
                (Dialect::Postgres, "REAL") => out.push_str("DOUBLE PRECISION"),
                (Dialect::MariaDb, "BLOB") => out.push_str("LONGBLOB"),
                (Dialect::Postgres, "BLOB") => out.push_str("BYTEA"),
                (Dialect::Postgres, "TEXT" | "DOCUMENT") => out.push_str("TEXT COLLATE \"C\""),
                (Dialect::Postgres, "VARCHAR") => {
                    let end = rest.find(')').map_or(0, |end| end + 1);
                    out.push_str(word);
                    out.push_str(&rest[..end]);
                    out.push_str(" COLLATE \"C\"");
                    rest = &rest[end..];
                }
                _ => out.push_str(word),
            }
        } else {
            out.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_the_end_of_a_line() {
        let text = "-- first\nCREATE TABLE a (\n  b TEXT\n);\nINSERT INTO a (b) VALUES ('x; y');\n\nDROP TABLE a";
        let wanted = ["CREATE TABLE a (\n  b TEXT\n)", "INSERT INTO a (b) VALUES ('x; y')", "DROP TABLE a"];
        assert_eq!(statements(text), wanted);
    }

    #[test]
    fn each_database_has_its_types() {
        let text = "CREATE TABLE a (b VARCHAR(9) NOT NULL, document DOCUMENT, n INTEGER, \"TEXT\" REAL)";
        assert_eq!(
            translated(Dialect::Sqlite, text),
            "CREATE TABLE a (b VARCHAR(9) NOT NULL, document TEXT, n INTEGER, \"TEXT\" REAL)"
        );
        assert_eq!(
            translated(Dialect::MariaDb, text),
            "CREATE TABLE a (b VARCHAR(9) NOT NULL, document LONGTEXT, n BIGINT, \"TEXT\" DOUBLE) \
             ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_nopad_bin"
        );
        assert_eq!(
            translated(Dialect::Postgres, text),
            "CREATE TABLE a (b VARCHAR(9) COLLATE \"C\" NOT NULL, document TEXT COLLATE \"C\", n BIGINT, \
             \"TEXT\" DOUBLE PRECISION)"
        );
    }

    #[test]
    fn an_index_is_dropped_from_its_table() {
        let text = "DROP INDEX i ON t";
        assert_eq!(translated(Dialect::MariaDb, text), text);
        assert_eq!(translated(Dialect::Postgres, text), "DROP INDEX i");
    }
}
