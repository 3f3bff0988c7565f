//! Extensions: what of the API there is, by upstream's aliases. Only what works is listed.

use api::{Answer, Call, NoInput, Operation, Path, Reply, get};
use base::{Json, json};

use crate::Network;

/// Alias, name, description, date.
const LISTED: &str = include_str!("../extensions.tsv");

/// Extensions that are there when the operator asks for them in `[ml2] extension_drivers`.
const OPTIONAL: &[(&str, &str, &str, &str, &str)] = &[
    ("dns", "dns-integration", "DNS Integration", "Provides integration with DNS.", "2015-08-15T18:00:00-00:00"),
    (
        "dns_domain_ports",
        "dns-domain-ports",
        "dns_domain for ports",
        "Allows the DNS domain to be specified for a network port.",
        "2017-06-25T18:00:00-00:00",
    ),
];

pub fn operations() -> Vec<Operation<Network>> {
    vec![get("/extensions", list).open(), get("/extensions/{alias}", show).open()]
}

fn all(network: &Network) -> Vec<Json> {
    let lines = LISTED.lines().filter(|line| !line.starts_with('#'));
    let fixed = lines.filter_map(|line| {
        let mut words = line.split('\t');
        Some(entry(words.next()?, words.next()?, words.next()?, words.next()?))
    });
    let optional = OPTIONAL.iter().filter(|(driver, ..)| network.settings.has_extension(driver));
    let optional = optional.map(|(_, alias, name, description, updated)| entry(alias, name, description, updated));
    fixed.chain(optional).collect()
}

fn entry(alias: &str, name: &str, description: &str, updated: &str) -> Json {
    json!({"alias": alias, "name": name, "description": description, "updated": updated, "links": []})
}

async fn list(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    Ok(Reply::json(200, &json!({"extensions": all(&call)})))
}

async fn show(call: Call<Network>, Path(alias): Path<String>) -> Answer<Reply> {
    match all(&call).into_iter().find(|entry| entry["alias"] == alias) {
        Some(entry) => Ok(Reply::json(200, &json!({"extension": entry}))),
        None => Ok(missing(&alias)),
    }
}

/// Upstream: this one refusal is a web page.
fn missing(alias: &str) -> Reply {
    let safe = alias.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let page = format!(
        "<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  The resource \
         could not be found.<br /><br />\nExtension with alias {safe} does not exist\n\n\n </body>\n</html>"
    );
    Reply::text(404, "text/html; charset=UTF-8", page)
}
