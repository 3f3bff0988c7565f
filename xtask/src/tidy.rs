//! The house style, as far as a program can see it: reads the tree and names every breach.
//!
//! - [`crates`]  who may depend on whom, and which crate owns which library
//! - [`rust`]    what a source file may look like
//! - [`texts`]   what no file of any kind may hold
//! - [`lexer`]   tells code from comments and strings

mod crates;
mod lexer;
mod rust;
mod texts;

use std::fmt;

use anyhow::Result;

use crate::tree;

/// One breach of the house style, and how to mend it.
#[derive(Debug, PartialEq)]
pub struct Breach {
    pub path: String,
    /// Counted from 1; 0 when the whole file is meant.
    pub line: usize,
    pub what: String,
    pub mend: &'static str,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Breach { path, line, what, mend } = self;
        write!(f, "{path}:{line}: {what}\n    {mend}", line = (*line).max(1))
    }
}

/// Prints every breach, and how many libraries we lean on. True when there is none.
pub fn run() -> Result<bool> {
    let sources = tree::sources();
    let tests = rust::test_files(&sources);
    let mut breaches = crates::check(&sources);
    for source in &sources {
        breaches.extend(texts::check(source));
        if source.path.ends_with(".rs") {
            breaches.extend(rust::check(source, tests.contains(&source.path)));
        }
    }
    breaches.extend(rust::check_sizes(&sources));
    breaches.iter().for_each(|breach| println!("{breach}"));

    let (direct, all) = crates::count_dependencies(&sources);
    println!("tidy: {direct} libraries named, {all} in all; {} files read, {} breaches", sources.len(), breaches.len());
    Ok(breaches.is_empty())
}
