//! Who lives, told by counters: nobody compares wall clocks. A lease has lapsed when its counter stood still for a while
//! on the observer's own clock.

use std::collections::HashMap;
use std::time::Duration;

use db::{Db, record, select, sql};
use tokio::time::Instant;

record! {
    pub(crate) struct Lease in "leases" {
        pub(crate) name: String,
        /// Empty when it was given back.
        pub(crate) owner: String,
        pub(crate) fence: i64,
        pub(crate) counter: i64,
        /// How often somebody who is not the owner asked for attention.
        pub(crate) pokes: i64,
    }
}

/// The name of the lease by which a controller shows that it lives.
fn alive(service: &str, owner: &str) -> String {
    format!("alive/{service}/{owner}")
}

/// Shows that `owner` lives.
pub(crate) async fn beat(db: &Db, service: &str, owner: &str) -> Result<(), db::Error> {
    let name = alive(service, owner);
    let beat = sql("UPDATE leases SET counter = counter + 1 WHERE name = ?").bind(&name);
    if db.run(beat).await? == 0 {
        db.insert_new(&Lease { name, owner: owner.to_string(), fence: 1, counter: 1, pokes: 0 }).await?;
    }
    Ok(())
}

/// Watches the counters of other controllers.
#[derive(Debug, Default)]
pub(crate) struct Observer {
    seen: HashMap<String, (Option<i64>, Instant)>,
}

impl Observer {
    /// Of `owners`, those whose counters stood still for `lapse`.
    pub(crate) async fn lapsed(
        &mut self,
        db: &Db,
        service: &str,
        owners: Vec<String>,
        lapse: Duration,
    ) -> Result<Vec<String>, db::Error> {
        self.seen.retain(|owner, _| owners.contains(owner));
        let mut lapsed = Vec::new();
        for owner in owners {
            let lease = db.maybe(select::<Lease>("WHERE name = ?").bind(alive(service, &owner))).await?;
            let counter = lease.map(|lease| lease.counter);
            let seen = self.seen.entry(owner.clone()).or_insert((counter, Instant::now()));
            match seen.0 == counter {
                true if seen.1.elapsed() >= lapse => lapsed.push(owner),
                true => {}
                false => *seen = (counter, Instant::now()),
            }
        }
        Ok(lapsed)
    }
}

/// One candidate's view of an election: at most one candidate in the cloud holds the office.
#[derive(Debug)]
pub(crate) struct Election {
    name: String,
    owner: String,
    held: Option<i64>,
    seen: Option<(i64, i64, Instant)>,
    pokes: i64,
}

/// What a candidate knows after a look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Office {
    /// Ours; `poked` if somebody elsewhere asked for attention.
    Held {
        poked: bool,
    },
    Not,
}

impl Election {
    pub(crate) fn new(name: String, owner: &str) -> Election {
        Election { name, owner: owner.to_string(), held: None, seen: None, pokes: 0 }
    }

    /// Keeps the office, takes a free or lapsed one, or finds that it is another's.
    pub(crate) async fn stand(&mut self, db: &Db, lapse: Duration) -> Result<Office, db::Error> {
        if let Some(fence) = self.held {
            let keep = "UPDATE leases SET counter = counter + 1 WHERE name = ? AND owner = ? AND fence = ?";
            if db.run(sql(keep).bind(&self.name).bind(&self.owner).bind(fence)).await? == 1 {
                let row = db.maybe(select::<Lease>("WHERE name = ?").bind(&self.name)).await?;
                let pokes = row.map_or(self.pokes, |row| row.pokes);
                let poked = std::mem::replace(&mut self.pokes, pokes) != pokes;
                return Ok(Office::Held { poked });
            }
            self.held = None;
        }
        let Some(row) = db.maybe(select::<Lease>("WHERE name = ?").bind(&self.name)).await? else {
            let (name, owner) = (self.name.clone(), self.owner.clone());
            let first = Lease { name, owner, fence: 1, counter: 1, pokes: 0 };
            return Ok(self.won(db.insert_new(&first).await?, 1, 0));
        };
        if !self.is_free(&row, lapse) {
            return Ok(Office::Not);
        }
        let take = "UPDATE leases SET owner = ?, fence = fence + 1, counter = counter + 1 \
                    WHERE name = ? AND fence = ? AND counter = ?";
        let take = sql(take).bind(&self.owner).bind(&self.name).bind(row.fence).bind(row.counter);
        let won = db.run(take).await? == 1;
        Ok(self.won(won, row.fence + 1, row.pokes))
    }

    /// Gives the office back, so that nobody has to wait.
    pub(crate) async fn resign(&mut self, db: &Db) -> Result<(), db::Error> {
        let Some(fence) = self.held.take() else { return Ok(()) };
        let free = sql("UPDATE leases SET owner = '' WHERE name = ? AND owner = ? AND fence = ?");
        db.run(free.bind(&self.name).bind(&self.owner).bind(fence)).await.map(drop)
    }

    /// Given back, ours from an earlier life, or standing still for too long.
    fn is_free(&mut self, row: &Lease, lapse: Duration) -> bool {
        let now = Instant::now();
        let since = match self.seen {
            Some((fence, counter, since)) if (fence, counter) == (row.fence, row.counter) => since,
            _ => now,
        };
        self.seen = Some((row.fence, row.counter, since));
        row.owner.is_empty() || row.owner == self.owner || now - since >= lapse
    }

    fn won(&mut self, won: bool, fence: i64, pokes: i64) -> Office {
        if !won {
            return Office::Not;
        }
        (self.held, self.seen, self.pokes) = (Some(fence), None, pokes);
        Office::Held { poked: false }
    }
}
