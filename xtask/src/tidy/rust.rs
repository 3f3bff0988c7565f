//! What a Rust source file may look like: its first line, its name, its length, and words that stand for unfinished work.

use std::collections::{BTreeMap, BTreeSet};

use super::{Breach, lexer};
use crate::tree::Source;

/// Limit: a longer file tells more than one story.
const FILE_LINES: usize = 800;
/// Limit: tests are lists, and lists may be longer.
const TEST_FILE_LINES: usize = 1_000;
/// Limit: a longer function does more than one thing. Tables do not count.
const FUNCTION_LINES: usize = 70;
/// Limit: a larger crate is split along a contract.
const CRATE_LINES: usize = 20_000;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &[
    "utils", "util", "helpers", "helper", "common", "manager", "managers", "handler", "handlers", "impl", "data",
    "info", "misc",
];

/// Words in code that stand for unfinished work or for giving up; written in parts, so that this file may name them.
const CALLS: &[(&str, &str)] = &[
    (concat!(".unw", "rap()"), "return the error, or expect(\"why it cannot happen\")"),
    (concat!("to", "do!("), "finish it, or answer 501 and record it in tests/ratchet"),
    (concat!("unimpl", "emented!("), "finish it, or answer 501 and record it in tests/ratchet"),
    (concat!("db", "g!("), "use tracing, or take it out"),
    (concat!("#[ign", "ore"), "assert today's wrong answer and say that it is wrong"),
];

/// The same in comments.
const WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];

/// Looks at one source file; `for_tests` when nothing but tests is compiled from it.
pub fn check(source: &Source, for_tests: bool) -> Vec<Breach> {
    let code = lexer::code_only(&source.text);
    let tests = test_lines(for_tests, &code);
    let mut found = Finder { source, for_tests, breaches: Vec::new() };
    found.name();
    found.first_line();
    found.length();
    found.words(&code, &tests);
    found.functions(&code, &tests);
    found.breaches
}

/// Crates that have grown too large.
pub fn check_sizes(sources: &[Source]) -> Vec<Breach> {
    let mut lines: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        if let Some((folder, _)) = source.path.split_once("/src/") {
            *lines.entry(folder).or_default() += source.text.lines().count();
        }
    }
    let large = lines.into_iter().filter(|(_, lines)| *lines > CRATE_LINES);
    let breach = |(folder, lines)| Breach {
        path: format!("{folder}/src"),
        line: 0,
        what: format!("a crate of {lines} lines; the limit is {CRATE_LINES}"),
        mend: "split it along a contract, not in the middle",
    };
    large.map(breach).collect()
}

struct Finder<'a> {
    source: &'a Source,
    for_tests: bool,
    breaches: Vec<Breach>,
}

impl Finder<'_> {
    fn add(&mut self, line: usize, what: String, mend: &'static str) {
        self.breaches.push(Breach { path: self.source.path.clone(), line, what, mend });
    }

    fn name(&mut self) {
        let path = self.source.path.clone();
        for part in path.trim_end_matches(".rs").split('/') {
            if EMPTY_NAMES.contains(&part) {
                self.add(0, format!("a module called {part}"), "name it after what it holds");
            }
        }
        if path.ends_with("/mod.rs") {
            self.add(0, "a file called mod.rs".into(), "call it after its folder, and put it beside it");
        }
    }

    fn first_line(&mut self) {
        let path = &self.source.path;
        let first = self.source.text.lines().next().unwrap_or_default();
        let list = path.ends_with("main.rs") || self.for_tests;
        let says = first.starts_with("//! ") || (list && first.starts_with("// "));
        if !says {
            self.add(1, "the first line does not say what the file is about".into(), "begin with //! and one sentence");
        }
    }

    fn length(&mut self) {
        let limit = if self.for_tests { TEST_FILE_LINES } else { FILE_LINES };
        let lines = self.source.text.lines().count();
        if lines > limit {
            self.add(0, format!("{lines} lines; the limit is {limit}"), "split it by verb or noun, never by layer");
        }
    }

    fn words(&mut self, code: &str, tests: &[bool]) {
        for (index, line) in code.lines().enumerate() {
            for (call, mend) in CALLS {
                let allowed = tests[index] && call.starts_with('.');
                if line.contains(call) && !allowed {
                    self.add(index + 1, format!("{call} in the code"), mend);
                }
            }
        }
        for (index, line) in self.source.text.lines().enumerate() {
            if let Some(word) = WORDS.iter().find(|word| has_word(line, word)) {
                let mend = "finish it, or say Later: and list it in tests/ratchet";
                self.add(index + 1, format!("{word} in the text"), mend);
            }
        }
    }

    fn functions(&mut self, code: &str, tests: &[bool]) {
        for function in functions(code) {
            let long = function.lines > FUNCTION_LINES && !function.is_table && !tests[function.line - 1];
            if long {
                let what = format!("fn {} has {} lines; the limit is {FUNCTION_LINES}", function.name, function.lines);
                self.add(function.line, what, "push ifs up and fors down: the parent decides, the leaves compute");
            }
        }
    }
}

/// The files that only tests are compiled from: by their folder, or because they are a module under `#[cfg(test)]`.
pub fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for Source { path, text } in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        if path.contains("/tests/") || path.starts_with("tests/") || path.starts_with("crates/testkit/") {
            found.insert(path.clone());
        }
        let folder = path.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let module = pair[1].trim_start_matches("pub(crate) ").strip_prefix("mod ");
            if let Some(name) = module.and_then(|rest| rest.strip_suffix(';')) {
                found.insert(format!("{folder}/{name}.rs"));
            }
        }
    }
    found
}

fn has_word(line: &str, word: &str) -> bool {
    let inside = |it: Option<char>| it.is_some_and(|it| it.is_alphanumeric() || it == '_');
    line.match_indices(word)
        .any(|(at, _)| !inside(line[..at].chars().next_back()) && !inside(line[at + word.len()..].chars().next()))
}

/// Which lines belong to tests: all of a test file, else the modules under `#[cfg(test)]`.
fn test_lines(for_tests: bool, code: &str) -> Vec<bool> {
    let lines: Vec<&str> = code.lines().collect();
    let mut tests = vec![for_tests; lines.len()];
    let mut index = 0;
    while index < lines.len() {
        if lines[index].contains("#[cfg(test)]") {
            let end = end_of_item(&lines, index);
            tests[index..=end].fill(true);
            index = end;
        }
        index += 1;
    }
    tests
}

/// The last line of the item that begins here: where its braces close, or its semicolon stands.
fn end_of_item(lines: &[&str], start: usize) -> usize {
    let mut depth = 0;
    for (index, line) in lines.iter().enumerate().skip(start) {
        for byte in line.bytes() {
            match byte {
                b'{' => depth += 1,
                b'}' if depth == 1 => return index,
                b'}' => depth -= 1,
                b';' if depth == 0 => return index,
                _ => (),
            }
        }
    }
    lines.len() - 1
}

struct Function<'a> {
    name: &'a str,
    /// Counted from 1.
    line: usize,
    lines: usize,
    /// Its body is one list.
    is_table: bool,
}

fn functions(code: &str) -> Vec<Function<'_>> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(at) = line.find("fn ") else { continue };
        let starts = at == 0 || line[..at].ends_with([' ', '(']);
        let name = line[at + 3..].split(|it: char| !it.is_alphanumeric() && it != '_').next().unwrap_or_default();
        if !starts || name.is_empty() {
            continue;
        }
        let end = end_of_item(&lines, index);
        let body = lines[index..=end].iter().skip_while(|line| !line.trim_end().ends_with('{')).nth(1);
        let is_table = body.is_some_and(|line| ["vec![", "&[", "["].contains(&line.trim()));
        found.push(Function { name, line: index + 1, lines: end - index + 1, is_table });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(path: &str, text: &str) -> Vec<String> {
        let source = Source { path: path.into(), text: text.into() };
        let for_tests = path.contains("/tests/");
        check(&source, for_tests).into_iter().map(|it| it.what).collect()
    }

    #[test]
    fn giving_up_is_for_tests_only() {
        let call = CALLS[0].0;
        let text =
            format!("//! About.\nfn a() {{ b(){call} }}\n#[cfg(test)]\nmod tests {{\n    fn c() {{ b(){call} }}\n}}\n");
        assert_eq!(breaches("crates/a/src/a.rs", &text), [format!("{call} in the code")]);
        assert_eq!(breaches("crates/a/tests/it/a.rs", &text), [""; 0]);
    }

    #[test]
    fn a_module_under_cfg_test_is_a_test_file() {
        let text = "//! A.\n#[cfg(test)]\nmod personas;\n".to_owned();
        let lib = Source { path: "crates/a/src/lib.rs".into(), text: text.clone() };
        let policy = Source { path: "crates/a/src/policy.rs".into(), text };
        let files = test_files(&[lib, policy]);
        assert!(files.contains("crates/a/src/personas.rs") && files.contains("crates/a/src/policy/personas.rs"));
    }

    #[test]
    fn unfinished_work_is_seen_in_comments_and_not_inside_words() {
        let word = WORDS[0];
        let text = format!("//! About.\n// {word}: later\nconst {word}S: u8 = 1;\n");
        assert_eq!(breaches("crates/a/src/a.rs", &text), [format!("{word} in the text")]);
    }

    #[test]
    fn a_file_says_what_it_is_about_and_has_a_telling_name() {
        assert_eq!(breaches("crates/a/src/utils.rs", "use b;\n").len(), 2);
        assert_eq!(breaches("crates/a/tests/it/main.rs", "// API tests of a.\nmod a;\n"), [""; 0]);
    }

    #[test]
    fn a_long_function_is_seen_and_a_long_table_is_not() {
        let body = "    b,\n".repeat(FUNCTION_LINES);
        let function = format!("//! About.\nfn a() {{\n    c(\n{body}    )\n}}\n");
        let table = format!("//! About.\nfn a() -> Vec<u8> {{\n    vec![\n{body}    ]\n}}\n");
        assert_eq!(breaches("crates/a/src/a.rs", &function).len(), 1);
        assert_eq!(breaches("crates/a/src/a.rs", &table), [""; 0]);
    }
}
