//! A service that keeps widgets, in the manners of each of the five.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::message::{BoxFuture, HeaderMap};
use api::wire::{any, integer, list, text};
use api::*;
use db::{Db, Migration, Order, Schema, record, select, sql};
use tokio::sync::Notify;

pub const COMPUTE: usize = 0;
pub const IDENTITY: usize = 1;
pub const IMAGE: usize = 2;
pub const NETWORK: usize = 3;
pub const PLACEMENT: usize = 4;

const SHAPES: [Shape; 5] = [
    Shape {
        name: "compute",
        envelope: Envelope::Compute,
        versions: Some(Versions {
            word: "compute",
            older_header: Some("x-openstack-nova-api-version"),
            min: v(2, 1),
            max: v(2, 104),
        }),
        mounts: &["/v2.1", "/v2"],
        project_in_path: true,
    },
    Shape { name: "identity", envelope: Envelope::Identity, versions: None, mounts: &["/v3"], project_in_path: false },
    Shape { name: "image", envelope: Envelope::Image, versions: None, mounts: &["/v2"], project_in_path: false },
    Shape { name: "network", envelope: Envelope::Network, versions: None, mounts: &["/v2.0"], project_in_path: false },
    Shape {
        name: "placement",
        envelope: Envelope::Placement,
        versions: Some(Versions { word: "placement", older_header: None, min: v(1, 0), max: v(1, 39) }),
        mounts: &[""],
        project_in_path: false,
    },
];

const POLICY: &str = "\
    widgets:show\trole:admin or project_id:%(project_id)s\tproject\t-\n\
    widgets:list\trole:reader\tproject\t-\n\
    widgets:create\trole:member\tproject\t-\n\
    widgets:act\trole:member\tproject\t-\n\
    widgets:odd\t@\tproject\t-\n";

const MISSING: &str = "\
    GET /v2.1/gadgets 7\n\
    DELETE /v2.1/widgets/{id} 7\n\
    POST /v2.1/widgets/{id}/action burn 7\n\
    POST /v2.1/gadgets/{id}/action spin 7\n\
    GET /v3/gadgets 3\n\
    GET /v2/gadgets 4\n\
    GET /v2.0/gadgets 5\n\
    GET /gadgets 6\n";

/// The widgets service in the manners of service `E`.
pub struct Toy<const E: usize> {
    db: Option<Db>,
    pub gate: Gate,
}

/// What slow handlers wait for, and how many have come how far.
#[derive(Default)]
pub struct Gate {
    pub arrived: Notify,
    pub open: Notify,
    pub finished: AtomicUsize,
}

impl<const E: usize> Service for Toy<E> {
    const SHAPE: Shape = SHAPES[E];

    fn list_limit(&self) -> Option<u32> {
        (E == IDENTITY).then_some(3)
    }

    fn document(&self, request: &Request) -> Option<Reply> {
        assert!(request.path != "/broken-document", "the document is broken");
        (request.path == "/").then(|| Reply::json(200, &json!({"base": request.base_url})))
    }
}

impl<const E: usize> Toy<E> {
    fn db(&self) -> &Db {
        self.db.as_ref().expect("this test's service has a database")
    }
}

record! {
    pub struct Widget in "widgets" {
        id: String,
        project_id: String,
        name: String,
        size: i64,
        round: bool,
    }
}

impl Target for Widget {
    fn attribute(&self, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        (name == "project_id").then(|| self.project_id.as_str().into())
    }
}

impl View for Widget {
    const ONE: &'static str = "widget";
    const MANY: &'static str = "widgets";

    fn view(&self, to: &Reader) -> Json {
        let links = json!([{"rel": "self", "href": to.link(&format!("/widgets/{}", self.id))}]);
        json!({"id": self.id, "name": self.name, "size": self.size, "links": links})
    }
}

wire! {
    pub struct NewWidget in "widget" {
        name: String = text(1, 255).required(),
        size: Option<i64> = integer(0, 100),
        labels: Option<Vec<Json>> = list(any()).unique(),
        notes: Option<Json> = any(),
    }
}

wire! {
    pub struct Paint {
        color: String = text(1, 10).required(),
    }
}

wire! {
    pub struct Nothing {}
}

const WIDGETS: Listing = Listing {
    sort: &["name", "size", "id"],
    filter: &[listing::text("name"), listing::flag("round")],
    order: &[("name", Order::Asc)],
    ..Listing::PLAIN
};

const PLENTY: Limit = Limit { name: "widgets", default: 5, count: "SELECT COUNT(*) FROM widgets WHERE project_id = ?" };

pub fn operations<const E: usize>() -> Vec<Operation<Toy<E>>> {
    vec![
        get("/widgets", list_widgets).rule("widgets:list").paged(&WIDGETS),
        post("/widgets", create).rule("widgets:create"),
        get("/widgets/{id}", show).rule("widgets:show"),
        get("/echo/{first}/{second}", echo).open(),
        action("/widgets/{id}/action", "paint", paint).rule("widgets:act"),
        action("/widgets/{id}/action", "sink", sink).rule("widgets:act").since(v(2, 5)),
        get("/newer", nothing).open().since(if E == PLACEMENT { v(1, 10) } else { v(2, 10) }),
        get("/panic", panics).open(),
        get("/forgetful", forgetful).rule("widgets:odd"),
        get("/whoami", whoami).open(),
        get("/public", welcome).public(),
        post("/slow", slow).open(),
        post("/upload", upload).open(),
        put("/upload", upload).open(),
        get("/stream", stream).open(),
        get("/big", big).open(),
    ]
}

async fn list_widgets<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Listed<Widget>> {
    let rows = select::<Widget>("WHERE project_id = ?").bind(call.caller.project());
    let rows = call.db().page(rows, &call.page).await?;
    Ok(Listed(call.permit_listed(rows)?))
}

async fn create<const E: usize>(call: Call<Toy<E>>, Body(new): Body<NewWidget>) -> Answer<Created<Widget>> {
    let widget = call.permit(Widget {
        id: base::id::uuid(),
        project_id: call.caller.project().to_string(),
        name: new.name,
        size: new.size.unwrap_or(0),
        round: false,
    })?;
    let mut tx = call.db().begin().await?;
    call.within(&mut tx, &PLENTY, 1).await?;
    tx.insert(&*widget).await?;
    tx.commit().await?;
    Ok(Created(widget))
}

async fn show<const E: usize>(call: Call<Toy<E>>, Path(id): Path<String>) -> Answer<Show<Widget>> {
    let found = call.db().maybe(select::<Widget>("WHERE id = ?").bind(&id)).await?;
    let widget = found.ok_or_else(|| Refusal::not_found(format!("No widget {id}.")))?;
    Ok(Show(call.permit_or(widget, Refusal::not_found(format!("No widget {id}.")))?))
}

async fn echo<const E: usize>(call: Call<Toy<E>>, Path((first, second)): Path<(String, String)>) -> Answer<Document> {
    let query: Vec<Json> = call.query.0.iter().map(|(name, value)| json!([name, value])).collect();
    let link = call.reader.link("/here");
    Ok(Document::new(call.allow()?, json!({"names": [first, second], "query": query, "link": link})))
}

async fn paint<const E: usize>(
    call: Call<Toy<E>>,
    (Path(id), Action(paint)): (Path<String>, Action<Paint>),
) -> Answer<Document> {
    Ok(Document::new(call.allow()?, json!({"painted": id, "color": paint.color})))
}

async fn sink<const E: usize>(call: Call<Toy<E>>, Action(_): Action<Nothing>) -> Answer<Done> {
    Ok(Done::with(call.allow()?))
}

async fn nothing<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Done> {
    Ok(Done::with(call.allow()?))
}

async fn panics<const E: usize>(_: Call<Toy<E>>, _: NoInput) -> Answer<Reply> {
    panic!("on purpose")
}

async fn forgetful<const E: usize>(_: Call<Toy<E>>, _: NoInput) -> Answer<Reply> {
    Ok(Reply::json(200, &json!({"secret": true})))
}

async fn whoami<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Document> {
    let seen = json!({
        "user": call.caller.user_id,
        "service_roles": call.caller.service_roles,
        "request": call.request_id,
        "lasting": trace::current(),
    });
    Ok(Document::new(call.allow()?, seen))
}

async fn welcome<const E: usize>(_: Call<Toy<E>>, _: NoInput) -> Answer<Reply> {
    Ok(Reply::json(200, &json!({"welcome": true})))
}

async fn slow<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Done> {
    call.gate.arrived.notify_one();
    call.gate.open.notified().await;
    call.gate.finished.fetch_add(1, Ordering::SeqCst);
    call.gate.arrived.notify_one();
    Ok(Done::with(call.allow()?))
}

async fn upload<const E: usize>(call: Call<Toy<E>>, Upload(content): Upload) -> Answer<Document> {
    let permitted = call.allow()?;
    let mut chunks = content.chunks();
    let (mut bytes, mut broken) = (0, false);
    while let Some(chunk) = futures_util::StreamExt::next(&mut chunks).await {
        match chunk {
            Ok(chunk) => bytes += chunk.len(),
            Err(_) => broken = true,
        }
    }
    call.gate.finished.fetch_add(1, Ordering::SeqCst);
    call.gate.arrived.notify_one();
    Ok(Document::new(permitted, json!({"bytes": bytes, "broken": broken})))
}

/// Two chunks; the second one comes when the gate opens.
async fn stream<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Permitted<Reply>> {
    let service = call.service.clone();
    let chunks = futures_util::stream::unfold(0, move |step| {
        let service = service.clone();
        async move {
            match step {
                0 => Some((Ok("first".into()), 1)),
                1 => {
                    service.gate.open.notified().await;
                    Some((Ok("second".into()), 2))
                }
                _ => None,
            }
        }
    });
    let reply = Reply { content: Content::Chunks { length: None, chunks: Box::pin(chunks) }, ..Reply::new(200) };
    Ok(call.allow()?.map(|()| reply))
}

/// More than any socket buffers.
async fn big<const E: usize>(call: Call<Toy<E>>, _: NoInput) -> Answer<Permitted<Reply>> {
    let reply = Reply::text(200, "application/octet-stream", vec![7; 64 << 20]);
    call.service.gate.arrived.notify_one();
    Ok(call.allow()?.map(|()| reply))
}

/// Tokens are names of people: `alice` and `reader` of project `blue`, `bob` of `red`, `nova` is a service.
pub struct People(HashMap<&'static str, Arc<Caller>>);

/// Alice's project, as it may stand in a path.
pub const BLUE: &str = "0123456789abcdef0123456789abcdef";

impl Default for People {
    fn default() -> People {
        let person = |name: &str, project: &str, roles: &[&str]| {
            let roles = roles.iter().map(|role| role.to_string()).collect();
            Caller { user_id: name.into(), project_id: Some(project.into()), roles, ..Caller::default() }
        };
        let rule = AccessRule { service: "compute".into(), method: "GET".into(), path: "/v2.1/whoami".into() };
        let limited = Caller { access_rules: Some(vec![rule]), ..person("limited", BLUE, &["member", "reader"]) };
        People(HashMap::from([
            ("alice", Arc::new(person("alice", BLUE, &["member", "reader"]))),
            ("reader", Arc::new(person("reader", BLUE, &["reader"]))),
            ("bob", Arc::new(person("bob", "red", &["member", "reader"]))),
            ("nova", Arc::new(person("nova", "service", &["service"]))),
            ("limited", Arc::new(limited)),
        ]))
    }
}

impl Authenticator for People {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move {
            match token {
                "nobody-answers" => Err(AuthError::Unreachable("identity is away".into())),
                token => self.0.get(token).cloned().ok_or(AuthError::Invalid),
            }
        })
    }

    fn public_url(&self) -> Option<String> {
        Some("http://controller:5000/v3".to_string())
    }
}

/// One service for one test.
pub struct Stage<const E: usize> {
    pub app: Arc<App<Toy<E>>>,
    _db: Option<engines::TestDb>,
}

const SCHEMA: Schema = Schema {
    service: "toy",
    migrations: &[
        Migration { number: 1, name: "quotas", sql: quota::MIGRATION },
        Migration {
            number: 2,
            name: "widgets",
            sql: "CREATE TABLE widgets (id VARCHAR(36) NOT NULL PRIMARY KEY, project_id VARCHAR(64) NOT NULL, \
                  name VARCHAR(255) NOT NULL, size BIGINT NOT NULL, round SMALLINT NOT NULL);",
        },
    ],
};

impl<const E: usize> Stage<E> {
    /// Without a database.
    pub fn bare() -> Stage<E> {
        Stage { app: app(None), _db: None }
    }

    pub async fn new() -> Stage<E> {
        let held = engines::test_db();
        let db = Db::open(held.url(), db::Options::default()).unwrap();
        db.migrate(&SCHEMA).await.unwrap();
        Stage { app: app(Some(db)), _db: Some(held) }
    }

    /// Widgets of Alice's: `a`, `b`, … of size 1, 2, ….
    pub async fn with_widgets(names: &[&str]) -> Stage<E> {
        let stage = Stage::new().await;
        for (place, name) in names.iter().enumerate() {
            let widget = Widget {
                id: format!("id-{name}"),
                project_id: BLUE.into(),
                name: name.to_string(),
                size: place as i64 + 1,
                round: place % 2 == 0,
            };
            stage.db().insert(&widget).await.unwrap();
        }
        stage
    }

    pub fn db(&self) -> &Db {
        self.app.service().db()
    }

    pub async fn set_quota(&self, project: &str, limit: i64) {
        let row = sql("INSERT INTO quotas (project_id, resource, hard_limit) VALUES (?, 'widgets', ?)");
        self.db().run(row.bind(project).bind(limit)).await.unwrap();
    }

    /// A request of Alice's.
    pub fn ask(&self, method: &str, target: &str) -> Asking<'_> {
        let request = Request::new(method.parse().unwrap(), target).header("x-auth-token", "alice");
        Asking { endpoint: &*self.app, request: request.header("accept", "application/json") }
    }

    pub async fn get(&self, target: &str) -> Got {
        self.ask("GET", target).send().await
    }
}

fn app<const E: usize>(db: Option<Db>) -> Arc<App<Toy<E>>> {
    let toy = Arc::new(Toy { db, gate: Gate::default() });
    let policy = Policy::new(POLICY, None).unwrap();
    Arc::new(App::new(toy, operations(), MISSING, policy, Arc::new(People::default())))
}

pub struct Asking<'a> {
    endpoint: &'a dyn Endpoint,
    request: Request,
}

impl Asking<'_> {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("x-auth-token", token)
    }

    pub fn without(mut self, header: &str) -> Self {
        self.request.headers.remove(header);
        self
    }

    pub fn json(mut self, body: &Json) -> Self {
        self.request = self.request.json(body);
        self
    }

    pub fn body(mut self, body: impl Into<bytes::Bytes>) -> Self {
        self.request.content = Content::Bytes(body.into());
        self
    }

    pub fn base_url(mut self, url: &str) -> Self {
        self.request.base_url = url.to_string();
        self
    }

    pub async fn send(self) -> Got {
        Got::read(self.endpoint.call(self.request).await).await
    }
}

/// A reply, read to its end.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Got {
    pub async fn read(reply: Reply) -> Got {
        let bytes = reply.content.bytes(usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Got { status: reply.status.as_u16(), headers: reply.headers, text }
    }

    pub fn json(&self) -> Json {
        serde_json::from_str(&self.text).unwrap_or(Json::Null)
    }

    /// All values of a header, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }

    #[track_caller]
    pub fn is(&self, status: u16) -> Json {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}
