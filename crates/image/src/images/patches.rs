//! `PATCH /images/{id}`: a list of changes in one of two old drafts of JSON patch, all applied or none.

use api::message::BoxFuture;
use api::{Answer, Call, Input, Path, Refusal, Show};
use base::Json;

use super::document::{CORE, RESERVED, SERVICE_KEYS};
use super::{ImageFault, Status, Visibility, Whole, document, found, is_admin, may_become, store, within_quotas};
use crate::Images;

const DRAFT_4: &str = "application/openstack-images-v2.0-json-patch";
const DRAFT_10: &str = "application/openstack-images-v2.1-json-patch";

/// Limit: changes in one request.
const CHANGES_MAX: usize = 1000;
/// Limit: how often the changes are tried again after somebody else changed the image meanwhile.
const TRIES: usize = 5;

/// The body of the request, read and checked as far as it can be without the image.
pub struct Patch(Vec<Change>);

#[derive(Debug, Clone, PartialEq)]
struct Change {
    verb: Verb,
    key: String,
    value: Json,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Verb {
    Add,
    /// The older draft's add, which does not replace.
    AddNew,
    Replace,
    Remove,
}

pub async fn update(call: Call<Images>, (Path(id), Patch(changes)): (Path<String>, Patch)) -> Answer<Show<Whole>> {
    for _ in 0..TRIES {
        let mut whole = call.permit(found(&call, &id).await?)?;
        for change in &changes {
            apply(&call, &mut whole, change)?;
        }
        // Upstream: who has too many properties already may still take some away.
        let adds = changes.iter().any(|change| change.verb != Verb::Remove);
        within_quotas(&call, if adds { whole.properties.len() } else { 0 }, whole.tags.len())?;
        if changes.is_empty() || store::update(&call.db, &mut whole).await? {
            return Ok(Show(whole));
        }
    }
    Err(ImageFault::Busy { id }.into())
}

fn apply(call: &Call<Images>, whole: &mut Whole, change: &Change) -> Answer<()> {
    let Change { verb, key, value } = change;
    let core = CORE.contains(&key.as_str());
    let known = core || whole.properties.contains_key(key);
    match verb {
        Verb::Remove if core => Err(Refusal::forbidden(format!("Property {key} may not be removed."))),
        Verb::Remove | Verb::Replace if !known => Err(Refusal::conflict(format!("Property {key} does not exist."))),
        Verb::AddNew if known => Err(Refusal::conflict(format!("Property {key} already present."))),
        Verb::Remove => {
            whole.properties.remove(key);
            Ok(())
        }
        Verb::Add | Verb::AddNew | Verb::Replace => {
            may_set(call, whole, key, value)?;
            document::set(whole, key, value, &call.options)
        }
    }
}

/// What the right to change an image does not include.
fn may_set(call: &Call<Images>, whole: &Whole, key: &str, value: &Json) -> Answer<()> {
    match key {
        "owner" if !is_admin(call) => Err(Refusal::forbidden("Owner can't be updated by non admin.")),
        "visibility" => match value.as_str().and_then(Visibility::named) {
            Some(visibility) => may_become(call, visibility, whole),
            None => Ok(()),
        },
        "disk_format" | "container_format" if whole.image.status != Status::Queued => {
            Err(Refusal::forbidden(format!("Attribute {key} can be only replaced for a queued image.")))
        }
        _ => Ok(()),
    }
}

impl Input<Images> for Patch {
    fn read<'a>(call: &'a mut Call<Images>) -> BoxFuture<'a, Answer<Self>> {
        Box::pin(async {
            let given = call.header("content-type").unwrap_or_default();
            let media = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if media != DRAFT_4 && media != DRAFT_10 {
                let accepted = format!("{DRAFT_4}, {DRAFT_10}");
                let words = format!("Image PATCH expects Content-Type one of: {accepted}");
                return Err(Refusal::new(415, given, words).header("accept-patch", accepted));
            }
            let body = call.json().await?;
            read(&body, media == DRAFT_4).map(Patch)
        })
    }
}

fn read(body: &Json, older: bool) -> Answer<Vec<Change>> {
    let bad = Refusal::bad_request;
    if body.is_null() {
        return Err(bad("Body expected in request."));
    }
    let list = body.as_array().ok_or_else(|| bad("Request body must be a JSON array of operation objects."))?;
    if list.len() > CHANGES_MAX {
        return Err(bad("Request body has too many operation objects."));
    }
    list.iter().map(|raw| read_change(raw, older)).collect()
}

fn read_change(raw: &Json, older: bool) -> Answer<Change> {
    let bad = |words: &str| Refusal::bad_request(words);
    let object = raw.as_object().ok_or_else(|| bad("Operations must be JSON objects."))?;
    let (verb, path) = if older { verb_of_draft_4(object)? } else { verb_of_draft_10(object)? };
    let path = path.as_str().ok_or_else(|| bad("Pointer must be text."))?;
    let parts = pointer(path)?;
    // Upstream: one location is added or removed, all of them are replaced. None are shown, so none are changed.
    let depth = if parts[0] == "locations" && verb != Verb::Replace { 2 } else { 1 };
    if parts.len() != depth {
        return Err(bad(&format!("Invalid JSON pointer for this resource: '/{}'", parts.join("/"))));
    }
    let key = &parts[0];
    may_name(key)?;
    let value = match (verb, object.get("value")) {
        (Verb::Remove, _) => Json::Null,
        (_, Some(value)) => value.clone(),
        (verb, None) => {
            let word = if verb == Verb::Replace { "replace" } else { "add" };
            return Err(bad(&format!("Operation \"{word}\" requires a member named \"value\".")));
        }
    };
    Ok(Change { verb, key: key.clone(), value })
}

fn may_name(key: &str) -> Answer<()> {
    let name = || key.to_string();
    let links = ["direct_url", "self", "file", "schema", "id"];
    if SERVICE_KEYS.contains(&key) || links.contains(&key) {
        return Err(ImageFault::ReadOnly { name: name() }.into());
    }
    if key == "locations" {
        let words = "It's not allowed to add, replace or remove locations if locations are invisible.";
        return Err(Refusal::forbidden(words));
    }
    if RESERVED.contains(&key) {
        return Err(ImageFault::Reserved { name: name() }.into());
    }
    if !CORE.contains(&key) {
        document::check_property_name(key)?;
    }
    Ok(())
}

/// `{"op": "add", "path": "/name", "value": …}`
fn verb_of_draft_10(object: &api::JsonMap) -> Answer<(Verb, &Json)> {
    let known = "It must be one of the following: add, remove, replace.";
    let verb = match object.get("op") {
        None | Some(Json::Null) => {
            return Err(Refusal::bad_request(format!("Unable to find `op` in JSON Schema change. {known}")));
        }
        Some(op) => match op.as_str() {
            Some("add") => Verb::Add,
            Some("replace") => Verb::Replace,
            Some("remove") => Verb::Remove,
            other => {
                let other = other.map_or_else(|| op.to_string(), String::from);
                return Err(Refusal::bad_request(format!("Invalid operation: `{other}`. {known}")));
            }
        },
    };
    let path = object.get("path");
    Ok((verb, path.ok_or_else(|| Refusal::bad_request("Unable to find 'path' in JSON Schema change"))?))
}

/// `{"add": "/name", "value": …}`
fn verb_of_draft_4(object: &api::JsonMap) -> Answer<(Verb, &Json)> {
    let verbs = [("add", Verb::AddNew), ("remove", Verb::Remove), ("replace", Verb::Replace)];
    let found: Vec<_> = verbs.iter().filter_map(|(word, verb)| Some((*verb, object.get(*word)?))).collect();
    let count =
        |count| format!("Operation objects must contain {count} one member named \"add\", \"remove\", or \"replace\".");
    match found[..] {
        [one] => Ok(one),
        [] => Err(Refusal::bad_request(count("exactly"))),
        _ => Err(Refusal::bad_request(count("only"))),
    }
}

/// The parts of a JSON pointer, of which upstream takes a strict form.
fn pointer(text: &str) -> Answer<Vec<String>> {
    let bad = |why: &str| Err(Refusal::bad_request(format!("Pointer `{text}` {why}")));
    let Some(rest) = text.strip_prefix('/') else { return bad("does not start with \"/\".") };
    if rest.trim() == "/" {
        return bad("does not contains valid token.");
    }
    let raw: Vec<&str> = rest.split('/').collect();
    let (last, inner) = raw.split_last().expect("splitting gives one part at least");
    if inner.iter().skip(1).any(|part| part.trim().is_empty()) {
        return bad("contains adjacent \"/\".");
    }
    if last.is_empty() && !inner.is_empty() {
        return bad("end with \"/\".");
    }
    let mut escapes = text.split('~').skip(1);
    if escapes.any(|after| !after.starts_with(['0', '1'])) {
        return bad("contains \"~\" not part of a recognized escape sequence.");
    }
    let plain = |part: &&str| part.replace("~1", "/").replace("~0", "~").trim().to_string();
    let parts: Vec<String> = raw.iter().map(plain).collect();
    if parts[0].is_empty() {
        return bad("does not contains valid token.");
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use base::json;

    use super::*;

    fn refused(body: Json, older: bool) -> (u16, String) {
        let refusal = read(&body, older).unwrap_err();
        (refusal.status, refusal.message)
    }

    #[test]
    fn both_drafts_say_the_same() {
        let newer =
            read(&json!([{"op": "replace", "path": "/a~1b", "value": "x"}, {"op": "remove", "path": "/c"}]), false);
        let older = read(&json!([{"replace": "/a~1b", "value": "x"}, {"remove": "/c"}]), true);
        assert_eq!(newer.clone().unwrap()[0].key, "a/b");
        assert_eq!(newer.unwrap(), older.unwrap());
        assert_eq!(read(&json!([{"add": "/n", "value": "x"}]), true).unwrap()[0].verb, Verb::AddNew);
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let one = |change: Json| refused(json!([change]), false);
        assert_eq!(refused(json!({}), false).1, "Request body must be a JSON array of operation objects.");
        assert_eq!(one(json!(1)).1, "Operations must be JSON objects.");
        assert!(one(json!({"path": "/a"})).1.starts_with("Unable to find `op`"));
        assert!(one(json!({"op": "move", "path": "/a"})).1.starts_with("Invalid operation: `move`"));
        assert_eq!(one(json!({"op": "add"})).1, "Unable to find 'path' in JSON Schema change");
        assert_eq!(one(json!({"op": "add", "path": "/a"})).1, "Operation \"add\" requires a member named \"value\".");
        assert_eq!(one(json!({"op": "remove", "path": "/status"})), (403, "Attribute 'status' is read-only.".into()));
        assert_eq!(one(json!({"op": "remove", "path": "/deleted"})), (403, "Attribute 'deleted' is reserved.".into()));
        assert_eq!(
            one(json!({"op": "remove", "path": "/tags/0"})).1,
            "Invalid JSON pointer for this resource: '/tags/0'"
        );
        assert_eq!(one(json!({"op": "add", "path": "/locations/-", "value": {}})).0, 403);
        for path in ["a", "/", "//", "/a//b", "/a/", "/a~2", "/a~"] {
            assert_eq!(one(json!({"op": "remove", "path": path})).0, 400, "{path}");
        }
        assert!(refused(json!([{"add": "/a", "remove": "/a"}]), true).1.contains("only one member"));
        assert!(refused(json!([{"value": 1}]), true).1.contains("exactly one member"));
    }
}
