//! Migrations: servers on their way between hosts. There are none yet, and the list says so.

use api::{Answer, Call, Document, NoInput, Operation, Own, Refusal, get, json, v};
use base::Time;

use crate::{Compute, query};

/// Keys of the query, each with the version that brought it; before 2.59 others are overlooked.
const KEYS: &[(&str, (u16, u16))] = &[
    ("hidden", (2, 1)),
    ("host", (2, 1)),
    ("instance_uuid", (2, 1)),
    ("source_compute", (2, 1)),
    ("status", (2, 1)),
    ("migration_type", (2, 1)),
    ("limit", (2, 59)),
    ("marker", (2, 59)),
    ("changes-since", (2, 59)),
    ("changes-before", (2, 66)),
    ("user_id", (2, 80)),
    ("project_id", (2, 80)),
];

pub fn operations() -> Vec<Operation<Compute>> {
    vec![get("/os-migrations", list).rule("os_compute_api:os-migrations:index")]
}

async fn list(call: Call<Compute>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let known = KEYS.iter().filter(|(_, (major, minor))| call.version >= v(*major, *minor));
    let known: Vec<&str> = known.map(|(key, _)| *key).collect();
    query::strict(&call, v(2, 59), &known)?;
    // Upstream: who does not ask for the own project asks for all.
    let own = call.query.get("project_id").is_some_and(|project| project == call.caller.project());
    if !own {
        call.must("os_compute_api:os-migrations:index:all_projects", &Own(&call.caller))?;
    }
    for key in ["changes-since", "changes-before"] {
        if let Some(text) = call.query.get(key).filter(|_| known.contains(&key))
            && Time::parse(text).is_none()
        {
            let words =
                format!("Invalid input for query parameters {key}. Value: {text}. '{text}' is not a 'date-time'");
            return Err(Refusal::bad_request(words));
        }
    }
    if known.contains(&"limit") {
        query::limit(&call)?;
        if let Some(marker) = call.query.get("marker") {
            return Err(Refusal::bad_request(format!("Marker {marker} could not be found.")));
        }
    }
    Ok(Document::new(permitted, json!({"migrations": []})))
}
