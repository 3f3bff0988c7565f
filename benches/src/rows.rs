//! The floor of SQL: the rows that an answer needs, read from the cloud's own file and thrown away.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use db::{Db, Options, sql};

/// As many readers as there are processors on the smallest machine that we care for.
const READERS: usize = 2;

/// How often per second a query can be answered.
pub async fn rate(data_dir: &Path, service: &str, query: &str, time: Duration) -> Result<f64> {
    let file = data_dir.join("databases").join(format!("{service}.sqlite"));
    let db = Db::open(&format!("sqlite:///{}", file.display()), Options::default())?;
    let started = Instant::now();
    let until = started + time;
    let readers: Vec<_> = (0..READERS).map(|_| tokio::spawn(read(db.clone(), query.to_owned(), until))).collect();
    let mut count = 0;
    for reader in readers {
        count += reader.await??;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

async fn read(db: Db, query: String, until: Instant) -> Result<u32> {
    let mut count = 0;
    while Instant::now() < until {
        let rows = db.rows(sql(&query)).await?;
        std::hint::black_box(rows.len());
        count += 1;
    }
    Ok(count)
}
