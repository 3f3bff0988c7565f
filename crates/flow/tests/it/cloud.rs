//! A cloud small enough to see through: things that exist, and things that go wrong on request.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use db::{Db, Migration, Options, Schema};
use engines::TestDb;
use flow::{Definition, Engine, Failure, Flow, FlowRow, Flows, Kind, Order, Pace, Run, StepError, Stop, Work};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub const SCHEMA: Schema =
    Schema { service: "test", migrations: &[Migration { number: 1, name: "flows", sql: flow::MIGRATION }] };

#[derive(Serialize, Deserialize, Clone)]
pub struct ServerOrder {
    pub id: String,
}

impl Order for ServerOrder {
    fn resource(&self) -> &str {
        &self.id
    }
}

pub fn order(id: &str) -> ServerOrder {
    ServerOrder { id: id.into() }
}

/// The truth about the little cloud.
pub struct Cloud {
    pub flows: Flows,
    /// `claim s1`, `port s1`, `guest s1`.
    pub things: Mutex<BTreeSet<String>>,
    pub states: Mutex<HashMap<String, String>>,
    /// Everything that was done, in order.
    pub log: Mutex<Vec<String>>,
    /// How often a thing fails before it works; `usize::MAX` refuses.
    pub trouble: Mutex<HashMap<String, usize>>,
    /// Makes `boot` stand still until told.
    pub gate: Option<Arc<Notify>>,
    pub entered: Notify,
}

pub struct Place {
    files: TestDb,
    pub db: Db,
}

impl Place {
    pub async fn new() -> Place {
        let files = engines::test_db();
        let db = Db::open(files.url(), Options::test()).unwrap();
        db.migrate(&SCHEMA).await.unwrap();
        Place { files, db }
    }

    pub fn cloud(&self) -> Cloud {
        empty(Flows::new("compute", &self.db))
    }

    pub fn url(&self) -> &str {
        self.files.url()
    }
}

pub fn empty(flows: Flows) -> Cloud {
    Cloud {
        flows,
        things: Mutex::default(),
        states: Mutex::default(),
        log: Mutex::default(),
        trouble: Mutex::default(),
        gate: None,
        entered: Notify::new(),
    }
}

impl Cloud {
    pub fn engine(self: &Arc<Cloud>, owner: &str) -> Engine {
        self.engine_with(owner, definitions())
    }

    pub fn engine_with(self: &Arc<Cloud>, owner: &str, flows: Vec<Definition<Cloud>>) -> Engine {
        let work = Work { flows, reconcilers: Vec::new() };
        Engine::start_at(&self.flows, owner, self.clone(), work, Pace::test())
    }

    pub async fn start(&self, db: &Db, kind: Kind<ServerOrder>, id: &str) {
        let mut tx = db.begin().await.unwrap();
        self.flows.start(&mut tx, kind, &order(id)).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn cancel(&self, db: &Db, id: &str) {
        let mut tx = db.begin().await.unwrap();
        self.flows.cancel(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn newest(&self, id: &str) -> FlowRow {
        self.flows.of(id).await.unwrap().remove(0)
    }

    pub fn trouble(&self, what: &str, times: usize) {
        self.trouble.lock().unwrap().insert(what.into(), times);
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub fn things(&self) -> Vec<String> {
        self.things.lock().unwrap().iter().cloned().collect()
    }

    pub fn state(&self, id: &str) -> Option<String> {
        self.states.lock().unwrap().get(id).cloned()
    }

    fn write(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    async fn make(&self, what: &str, id: &str) -> Result<String, StepError> {
        self.write(format!("make {what} {id}"));
        if let Some(left) = self.trouble.lock().unwrap().get_mut(what) {
            match *left {
                usize::MAX => return Err(StepError::refused("no_room", format!("no room for a {what}"))),
                0 => {}
                _ => {
                    *left -= 1;
                    return Err(StepError::again(format!("the {what} did not come")));
                }
            }
        }
        self.things.lock().unwrap().insert(format!("{what} {id}"));
        Ok(format!("h1-{what}"))
    }

    async fn unmake(&self, what: &str, id: &str) -> Result<(), StepError> {
        self.write(format!("unmake {what} {id}"));
        self.things.lock().unwrap().remove(&format!("{what} {id}"));
        Ok(())
    }

    async fn boot(&self, host: &str, id: &str) -> Result<(), StepError> {
        assert_eq!(host, "h1-claim", "the result of an earlier step, also after a crash");
        self.make("guest", id).await?;
        self.entered.notify_one();
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        Ok(())
    }

    async fn mark(&self, id: &str, state: &str) -> Result<(), StepError> {
        self.states.lock().unwrap().insert(id.into(), state.into());
        Ok(())
    }
}

pub const BOOT: Kind<ServerOrder> = Kind::new("create_server", 1);
pub const DELETE: Kind<ServerOrder> = Kind::new("delete_server", 1);

pub fn boot() -> Definition<Cloud> {
    Flow::new(BOOT, create_server).failed(create_failed).into()
}

pub fn definitions() -> Vec<Definition<Cloud>> {
    vec![boot(), Flow::new(DELETE, delete_server).unstoppable().into()]
}

pub async fn create_server(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    let host: String = run
        .step("claim a host", async |c, new| c.make("claim", &new.id).await)
        .undo(async |c, new| c.unmake("claim", &new.id).await)
        .await?;

    run.step("bind ports", async |c, new| c.make("port", &new.id).await)
        .undo(async |c, new| c.unmake("port", &new.id).await)
        .await?;

    run.step("boot the guest", async |c, new| c.boot(&host, &new.id).await)
        .undo(async |c, new| c.unmake("guest", &new.id).await)
        .retries(3)
        .await?;

    run.step("mark active", async |c, new| c.mark(&new.id, "ACTIVE").await).await
}

async fn create_failed(cloud: Arc<Cloud>, new: Arc<ServerOrder>, why: Failure) -> Result<(), StepError> {
    cloud.mark(&new.id, &format!("ERROR {} {}", why.code, why.message)).await
}

async fn delete_server(run: &mut Run<Cloud, ServerOrder>) -> Result<(), Stop> {
    run.step("remove everything", async |c, server| {
        for what in ["guest", "port", "claim"] {
            c.unmake(what, &server.id).await?;
        }
        c.mark(&server.id, "DELETED").await
    })
    .await
}
