//! Consoles: what a server wrote, and tokens that open its screen.
//!
//! ```text
//! client ── POST remote-consoles ──► token, URL          browser ── URL, token ──► console proxy ──► VNC server of the guest
//! ```

use api::wire::one_of;
use api::{Action, Answer, Body, Call, Document, Json, Operation, Path, Reader, Refusal, action, get, json, post, v};
use base::Time;
use base::config::Config;
use contract::message;
use db::{Db, record, select, sql};
use sha2::{Digest, Sha256};

use crate::Compute;
use crate::servers::diagnostics::ask_host;
use crate::servers::store::{Server, known};
use crate::servers::{ConsoleOutput, ServerFault};

/// Limit: how long a token opens a console. Upstream's `[consoleauth] token_ttl`.
const TOKEN_SECONDS: i64 = 600;
/// Limit: bytes of a console's log that are read for one answer.
const LOG_BYTES: u64 = 100 << 10;
/// The port of the console proxy.
pub const PORT: u16 = 6080;
const PAGE: &str = "vnc_lite.html";

/// Where browsers find the console proxy.
#[derive(Debug, Clone)]
pub struct Consoles {
    /// Upstream's `[vnc] novncproxy_base_url`. None: the host of the API, and the port below.
    pub base_url: Option<String>,
    pub port: u16,
}

impl Default for Consoles {
    fn default() -> Consoles {
        Consoles { base_url: None, port: PORT }
    }
}

impl Consoles {
    pub fn read(config: &Config) -> Consoles {
        Consoles { base_url: config.text("vnc", "novncproxy_base_url").map(String::from), ..Consoles::default() }
    }

    fn url(&self, token: &str, to: &Reader) -> String {
        let base =
            self.base_url.clone().unwrap_or_else(|| format!("{}:{}/{PAGE}", without_port(&to.base_url), self.port));
        format!("{base}?path=%3Ftoken%3D{token}")
    }
}

/// `http://controller` of `http://controller:8774/compute`.
fn without_port(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    format!("{scheme}://{host}")
}

pub fn operations() -> Vec<Operation<Compute>> {
    const PATH: &str = "/servers/{id}/action";
    const RULE: &str = "os_compute_api:os-remote-consoles";
    vec![
        action(PATH, "os-getConsoleOutput", output).rule("os_compute_api:os-console-output").status(200),
        post("/servers/{server_id}/remote-consoles", create).rule(RULE).since(v(2, 6)).status(200),
        action(PATH, "os-getVNCConsole", vnc).rule(RULE).until(v(2, 5)).status(200),
        action(PATH, "os-getSPICEConsole", spice).rule(RULE).until(v(2, 5)).status(200),
        action(PATH, "os-getSerialConsole", serial).rule(RULE).until(v(2, 5)).status(200),
        get("/os-console-auth-tokens/{id}", show).rule("os_compute_api:os-console-auth-tokens"),
    ]
}

const PROTOCOLS: &[&str] = &["vnc", "spice", "rdp", "serial", "mks"];
const TYPES: &[&str] = &["novnc", "xvpvnc", "spice-html5", "spice-direct", "rdp-html5", "serial", "webmks"];

api::wire! {
    /// Which console.
    pub struct NewConsole in "remote_console" {
        protocol: String = one_of(PROTOCOLS).required(),
        kind as "type": String = one_of(TYPES).required(),
    }
}

api::wire! {
    pub struct VncConsole {
        kind as "type": String = one_of(&["novnc", "xvpvnc"]).required(),
    }
}

api::wire! {
    pub struct SpiceConsole {
        kind as "type": String = one_of(&["spice-html5"]).required(),
    }
}

api::wire! {
    pub struct SerialConsole {
        kind as "type": String = one_of(&["serial"]).required(),
    }
}

record! {
    /// A token that opens a console, by its digest: the token itself is known to its bearer only.
    pub struct ConsoleToken in "console_tokens" {
        pub token_hash: String,
        pub server_id: String,
        pub kind: String,
        /// Where the guest's VNC server is.
        pub host: String,
        pub port: i64,
        /// A socket of the host instead of a port.
        pub socket: Option<String>,
        pub expires_at: Time,
    }
}

async fn output(
    call: Call<Compute>,
    (Path(id), Action(how)): (Path<String>, Action<ConsoleOutput>),
) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let body = json!({"guest": id, "bytes": LOG_BYTES});
    let answer = ask_host(&call, &server, message::CONSOLE_LOG, body).await?;
    let text = answer["text"].as_str().unwrap_or_default();
    let shown = tail(&clean(text), how.length);
    Ok(Document::of(server, |_| json!({"output": shown})))
}

/// Without control characters, which some readers of the answer cannot take.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')).collect()
}

/// The last `length` lines; everything when none or -1 is asked for.
fn tail(text: &str, length: Option<i64>) -> String {
    let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { return text.to_string() };
    let lines: Vec<&str> = text.split('\n').collect();
    lines[lines.len().saturating_sub(length)..].join("\n")
}

async fn create(call: Call<Compute>, (Path(id), Body(new)): (Path<String>, Body<NewConsole>)) -> Answer<Document> {
    if new.kind == "webmks" && call.version < v(2, 8) || new.kind == "spice-direct" && call.version < v(2, 99) {
        let text = format!(
            "Invalid input for field/attribute type. Value: {0}. '{0}' is not one of {1}",
            new.kind, "['novnc']"
        );
        return Err(Refusal::bad_request(text));
    }
    let server = call.permit(known(&call, &id).await?)?;
    let url = open(&call, &server, &new.kind).await?;
    Ok(Document::of(server, |_| json!({"remote_console": {"protocol": new.protocol, "type": new.kind, "url": url}})))
}

async fn vnc(call: Call<Compute>, (Path(id), Action(new)): (Path<String>, Action<VncConsole>)) -> Answer<Document> {
    older(call, id, new.kind).await
}

async fn spice(call: Call<Compute>, (Path(id), Action(new)): (Path<String>, Action<SpiceConsole>)) -> Answer<Document> {
    older(call, id, new.kind).await
}

async fn serial(
    call: Call<Compute>,
    (Path(id), Action(new)): (Path<String>, Action<SerialConsole>),
) -> Answer<Document> {
    older(call, id, new.kind).await
}

async fn older(call: Call<Compute>, id: String, kind: String) -> Answer<Document> {
    let server = call.permit(known(&call, &id).await?)?;
    let url = open(&call, &server, &kind).await?;
    Ok(Document::of(server, |_| json!({"console": {"type": kind, "url": url}})))
}

/// Makes a token for a server's screen; returns the URL that carries it.
async fn open(call: &Call<Compute>, server: &Server, kind: &str) -> Answer<String> {
    if kind != "novnc" {
        return Err(Refusal::bad_request(format!("Unavailable console type {kind}.")));
    }
    let answer = ask_host(call, server, message::CONSOLE_VNC, json!({"guest": server.id})).await;
    let place = answer.map_err(|refusal| match refusal.status {
        // It has no screen at the moment.
        404 => ServerFault::NotReady { id: server.id.clone() }.into(),
        _ => refusal,
    })?;
    let (host, port) = address(&place, server.host.as_deref().unwrap_or_default());
    let token = base::id::uuid();
    let now = base::clock::now();
    let row = ConsoleToken {
        token_hash: hash(&token),
        server_id: server.id.clone(),
        kind: kind.to_string(),
        host,
        port,
        socket: place["socket"].as_str().map(String::from),
        expires_at: now.plus_seconds(TOKEN_SECONDS),
    };
    let mut tx = call.db.begin().await?;
    tx.run(sql("DELETE FROM console_tokens WHERE expires_at < ?").bind(now)).await?;
    tx.insert(&row).await?;
    tx.commit().await?;
    Ok(call.consoles.url(&token, &call.reader))
}

fn address(place: &Json, host: &str) -> (String, i64) {
    let address = place["address"].as_str().and_then(|address| address.rsplit_once(':'));
    match address {
        Some((address, port)) => (address.to_string(), port.parse().unwrap_or(0)),
        None => (host.to_string(), 0),
    }
}

async fn show(call: Call<Compute>, Path(token): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    let missing = || Refusal::not_found("Token not found");
    let row = find(&call.db, &token).await?.ok_or_else(missing)?;
    // Upstream: before 2.31 only tokens of a kind that nobody makes any more were shown.
    if call.version < v(2, 31) {
        return Err(Refusal::new(401, "", "The requested console type details are not accessible"));
    }
    let mut console = json!({
        "instance_uuid": row.server_id,
        "host": row.host,
        "port": row.port,
        "internal_access_path": row.socket,
    });
    if call.version >= v(2, 99) {
        console["tls_port"] = Json::Null;
    }
    Ok(Document::new(permitted, json!({"console": console})))
}

/// What a token opens, as long as it does.
pub async fn find(db: &Db, token: &str) -> Result<Option<ConsoleToken>, db::Error> {
    let row = select::<ConsoleToken>("WHERE token_hash = ? AND expires_at >= ?");
    db.maybe(row.bind(hash(token)).bind(base::clock::now())).await
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_cut_at_lines() {
        assert_eq!(tail("a\nb\nc", Some(2)), "b\nc");
        assert_eq!(tail("a\nb\nc", Some(0)), "");
        assert_eq!(tail("a\nb\nc", Some(-1)), "a\nb\nc");
        assert_eq!(tail("a\nb\nc", None), "a\nb\nc");
        assert_eq!(clean("a\u{1b}[0m\tb\r\n"), "a[0m\tb\r\n");
    }

    #[test]
    fn the_proxy_is_where_the_api_is() {
        assert_eq!(without_port("http://controller:8774"), "http://controller");
        assert_eq!(without_port("https://cloud.example/compute"), "https://cloud.example");
        assert_eq!(without_port("http://[::1]:8774"), "http://[::1]");
    }
}
