//! The rows of a flow, written only by whoever holds its fence.
//!
//! ```text
//!            claim              last step
//!  queued ─────────► running ─────────────► done
//!                       │ a step fails, or cancelled
//!                       ▼
//!                    undoing ─────────────► failed
//! ```

use std::time::Duration;

use base::{Time, clock};
use db::{Bind, Column, Db, Queries, Statement, Value, record, select, sql};
use tokio::time::Instant;

use crate::limits::{ERROR_CHARS, JOURNAL_PATIENCE, KEPT_SECONDS};
use crate::step::Failure;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Queued,
    Running,
    Undoing,
    Done,
    Failed,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Undoing => "undoing",
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    pub fn is_over(self) -> bool {
        matches!(self, State::Done | State::Failed)
    }
}

impl Bind for State {
    fn to_value(&self) -> Value {
        self.name().to_value()
    }
}

impl Column for State {
    fn from_value(value: Value) -> Result<State, String> {
        let name = String::from_value(value)?;
        let all = [State::Queued, State::Running, State::Undoing, State::Done, State::Failed];
        all.into_iter().find(|state| state.name() == name).ok_or_else(|| format!("the unknown state '{name}'"))
    }
}

record! {
    /// A flow as the database knows it. Finished ones stay for a week.
    pub struct FlowRow in "flows" {
        pub id: String,
        pub service: String,
        pub kind: String,
        pub version: u32,
        pub resource: String,
        pub request_id: String,
        pub order_json: String,
        pub state: State,
        pub cancelled: bool,
        pub woken: i64,
        pub failed_step: Option<String>,
        pub error_code: Option<String>,
        pub error: Option<String>,
        pub owner: Option<String>,
        pub fence: i64,
        pub holding: Option<String>,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

record! {
    pub(crate) struct StepRow in "flow_steps" {
        pub(crate) flow_id: String,
        pub(crate) name: String,
        pub(crate) position: i64,
        /// JSON; none when the step was undone without having been finished.
        pub(crate) result: Option<String>,
        pub(crate) undone: bool,
    }
}

impl FlowRow {
    /// Why the flow failed, or is about to.
    pub fn failure(&self) -> Option<Failure> {
        let (step, code, message) = (&self.failed_step, &self.error_code, &self.error);
        let (step, code, message) = (step.clone()?, code.clone()?, message.clone()?);
        Some(Failure { step, code, message })
    }
}

/// Another controller has the flow now, or the database is away for too long. Nothing more may be written.
#[derive(Debug)]
pub(crate) struct Lost;

/// The journal of one flow, for as long as we hold it.
#[derive(Clone)]
pub(crate) struct Journal {
    pub(crate) db: Db,
    pub(crate) id: String,
    pub(crate) owner: String,
    pub(crate) fence: i64,
}

impl Journal {
    pub(crate) async fn steps(&self) -> Result<Vec<StepRow>, db::Error> {
        self.db.all(select("WHERE flow_id = ? ORDER BY position").bind(&self.id)).await
    }

    /// A step is finished.
    pub(crate) async fn save(&self, name: &str, position: i64, result: String) -> Result<(), Lost> {
        let step = self.step(name, position, Some(result), false);
        self.insist(|| {
            let step = step.clone();
            async move {
                let mut tx = self.db.begin().await?;
                if !self.holds(&mut tx).await? {
                    return Ok(false);
                }
                // The same row may be there: a commit whose answer was lost.
                tx.insert_new(&step).await?;
                tx.commit().await?;
                Ok(true)
            }
        })
        .await
    }

    /// From here on the flow goes backwards.
    pub(crate) async fn turn(&self, failure: &Failure) -> Result<(), Lost> {
        let message: String = failure.message.chars().take(ERROR_CHARS).collect();
        let turn = "UPDATE flows SET state = ?, failed_step = ?, error_code = ?, error = ?, updated_at = ?";
        let turn = sql(format!("{turn} {HELD}")).bind(State::Undoing).bind(&failure.step).bind(&failure.code);
        let turn = self.held(turn.bind(message).bind(clock::now()));
        self.insist(|| async { Ok(self.db.run(turn.clone()).await? == 1) }).await
    }

    /// A step is undone, whether it was finished, half done or never begun.
    pub(crate) async fn undone(&self, name: &str, position: i64) -> Result<(), Lost> {
        let step = self.step(name, position, None, true);
        self.insist(|| {
            let step = step.clone();
            async move {
                let mut tx = self.db.begin().await?;
                if !self.holds(&mut tx).await? {
                    return Ok(false);
                }
                let mark = sql("UPDATE flow_steps SET undone = 1 WHERE flow_id = ? AND name = ?");
                if tx.run(mark.bind(&step.flow_id).bind(&step.name)).await? == 0 {
                    tx.insert(&step).await?;
                }
                tx.commit().await?;
                Ok(true)
            }
        })
        .await
    }

    /// The flow is over; its resource is free for the next one.
    pub(crate) async fn finish(&self, state: State) -> Result<(), Lost> {
        let over = "UPDATE flows SET state = ?, owner = NULL, holding = NULL, updated_at = ?";
        let over = self.held(sql(format!("{over} {HELD}")).bind(state).bind(clock::now()));
        self.insist(|| {
            let over = over.clone();
            async move {
                let mut tx = self.db.begin().await?;
                if tx.run(over).await? == 0 {
                    return Ok(false);
                }
                tx.run(sql("DELETE FROM flow_steps WHERE flow_id = ?").bind(&self.id)).await?;
                tx.commit().await?;
                Ok(true)
            }
        })
        .await
    }

    async fn holds(&self, mut tx: impl Queries) -> Result<bool, db::Error> {
        let touch = self.held(sql(format!("UPDATE flows SET updated_at = ? {HELD}")).bind(clock::now()));
        Ok(tx.run(touch).await? == 1)
    }

    fn held(&self, statement: Statement) -> Statement {
        statement.bind(&self.id).bind(&self.owner).bind(self.fence)
    }

    fn step(&self, name: &str, position: i64, result: Option<String>, undone: bool) -> StepRow {
        StepRow { flow_id: self.id.clone(), name: name.to_string(), position, result, undone }
    }

    /// Writes through short outages. `write` says whether the fence still held.
    async fn insist<F, W>(&self, mut write: W) -> Result<(), Lost>
    where
        F: Future<Output = Result<bool, db::Error>>,
        W: FnMut() -> F,
    {
        let deadline = Instant::now() + JOURNAL_PATIENCE;
        let mut pause = Duration::from_millis(2);
        loop {
            match write().await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    tracing::warn!(flow = self.id, "another controller has taken this flow");
                    return Err(Lost);
                }
                Err(error) if Instant::now() < deadline => {
                    tracing::debug!(flow = self.id, %error, "the journal is written again");
                }
                Err(error) => {
                    tracing::error!(flow = self.id, %error, "the journal cannot be written; the flow is let go");
                    return Err(Lost);
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// Invariant: a controller writes to a flow only while the row names it with the fence it claimed.
const HELD: &str = "WHERE id = ? AND owner = ? AND fence = ?";

/// What claiming came to.
pub(crate) enum Claim {
    Ours(Box<FlowRow>),
    /// Somebody else was faster, or another flow holds the resource.
    Not,
}

/// Takes the flow `row` as it was seen.
pub(crate) async fn claim(db: &Db, row: &FlowRow, owner: &str) -> Result<Claim, db::Error> {
    let take = "UPDATE flows SET owner = ?, fence = fence + 1, holding = ?, state = ?, updated_at = ? \
                WHERE id = ? AND fence = ? AND state = ?";
    let state = if row.state == State::Queued { State::Running } else { row.state };
    let holding = format!("{}/{}", row.service, row.resource);
    let take = sql(take).bind(owner).bind(holding).bind(state).bind(clock::now());
    match db.run(take.bind(&row.id).bind(row.fence).bind(row.state)).await {
        Ok(0) => return Ok(Claim::Not),
        Err(error) if error.is_duplicate() || error.is_conflict() => return Ok(Claim::Not),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let mine = select::<FlowRow>("WHERE id = ? AND owner = ? AND fence = ?");
    let mine = db.maybe(mine.bind(&row.id).bind(owner).bind(row.fence + 1)).await?;
    Ok(mine.map_or(Claim::Not, |row| Claim::Ours(Box::new(row))))
}

/// Forgets flows that ended long ago.
pub(crate) async fn purge(db: &Db, service: &str) -> Result<u64, db::Error> {
    let before = clock::now().plus_seconds(-KEPT_SECONDS);
    let old = "DELETE FROM flows WHERE service = ? AND state IN (?, ?) AND updated_at < ?";
    db.run(sql(old).bind(service).bind(State::Done).bind(State::Failed).bind(before)).await
}
