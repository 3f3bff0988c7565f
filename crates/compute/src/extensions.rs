//! Extensions: a list from the time before microversions. Upstream serves it unchanged, and so do we.

use api::{Answer, Call, Document, Json, NoInput, Operation, Path, Refusal, get, json, v};

use crate::{Compute, query};

/// A line each: alias, name, description, in which `\n` ends a line.
const ALL: &str = include_str!("../extensions.tsv");

pub fn operations() -> Vec<Operation<Compute>> {
    vec![
        get("/extensions", list).rule("os_compute_api:extensions"),
        get("/extensions/{alias}", show).rule("os_compute_api:extensions"),
    ]
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let views: Vec<Json> = ALL.lines().filter_map(view).collect();
    Ok(Document::new(permitted, json!({"extensions": views})))
}

async fn show(call: Call<Compute>, Path(alias): Path<String>) -> Answer<Document> {
    let permitted = call.allow()?;
    query::strict(&call, v(2, 102), &[])?;
    let found = ALL.lines().filter_map(view).find(|view| view["alias"] == alias.as_str());
    let found = found.ok_or_else(|| Refusal::not_found("The resource could not be found."))?;
    Ok(Document::new(permitted, json!({"extension": found})))
}

fn view(line: &str) -> Option<Json> {
    let mut parts = line.split('\t');
    let (alias, name, description) = (parts.next()?, parts.next()?, parts.next()?);
    Some(json!({
        "alias": alias,
        "name": name,
        "description": description.replace("\\n", "\n"),
        "links": [],
        "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        "updated": "2014-12-03T00:00:00Z",
    }))
}
