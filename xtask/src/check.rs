//! Runs floors of tests one after the other and adds up what came out.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::floors::{FLOORS, Floor, Tally};

/// Which of the floors are wanted.
#[derive(Args)]
pub struct Choice {
    /// Only this floor; may be given several times
    #[arg(long = "floor", value_name = "NAME")]
    floors: Vec<String>,
    /// Only the tests on this database
    #[arg(long, value_name = "mariadb|postgres")]
    db: Option<String>,
}

/// The quick round, before every push.
pub fn quick() -> Result<bool> {
    climb(FLOORS.iter().filter(|floor| floor.quick))
}

/// Every floor, or those that were asked for.
pub fn every(choice: &Choice) -> Result<bool> {
    let mut wanted = choice.floors.clone();
    wanted.extend(choice.db.clone());
    for name in &wanted {
        if !FLOORS.iter().any(|floor| floor.name == name) {
            let known: Vec<&str> = FLOORS.iter().map(|floor| floor.name).collect();
            bail!("no floor is called {name}; there are: {}", known.join(" "));
        }
    }
    climb(FLOORS.iter().filter(|floor| wanted.is_empty() || wanted.iter().any(|name| name == floor.name)))
}

/// A floor that breaks does not keep the others from running; true when all of them passed.
fn climb(floors: impl Iterator<Item = &'static Floor>) -> Result<bool> {
    let mut results = Vec::new();
    for floor in floors {
        println!("\n== {}: {}", floor.name, floor.about);
        let started = Instant::now();
        let tally = (floor.run)().unwrap_or_else(|error| {
            println!("{}: {error:#}", floor.name);
            Tally::broken()
        });
        results.push((floor.name, tally, started.elapsed()));
        println!("== {}", line(floor.name, tally, started.elapsed()));
    }

    println!("\nfloors:");
    results.iter().for_each(|(name, tally, time)| println!("  {}", line(name, *tally, *time)));
    let sum = results.iter().fold(Tally::default(), |sum, (_, tally, _)| sum + *tally);
    println!("\n{} passed, {} failed", sum.passed, sum.failed);
    Ok(sum.failed == 0)
}

fn line(name: &str, tally: Tally, time: Duration) -> String {
    format!("{name:<10} {:>5} passed {:>4} failed {:>8.1} s", tally.passed, tally.failed, time.as_secs_f64())
}
