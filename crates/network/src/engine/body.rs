//! Bodies: the envelope of one or many, unknown attributes, defaults, checks.

use api::{Answer, Caller, JsonMap, Refusal};
use base::{Json, json};

use super::attribute::{Attribute, Attributes, Kind, Post};
use crate::fault::plain;

/// Limit: resources of one bulk request.
const BULK: usize = 1000;

/// The resources in a body of `POST`, and whether they came as a list.
pub fn entries(kind: &Kind, body: Answer<Json>) -> Answer<(Vec<JsonMap>, bool)> {
    let body = readable(body)?;
    let missing = || plain(format!("Unable to find '{}' in request body", kind.one));
    let Json::Object(mut body) = body else {
        return Err(missing());
    };
    if let Some(Json::Array(items)) = body.remove(kind.many) {
        if items.is_empty() {
            return Err(plain("Resources required"));
        }
        if items.len() > BULK {
            return Err(Refusal::new(
                413,
                "HTTPRequestEntityTooLarge",
                format!("More than {BULK} {} at once", kind.many),
            ));
        }
        let object = |item| match item {
            Json::Object(map) => Ok(map),
            _ => Err(missing()),
        };
        return Ok((items.into_iter().map(object).collect::<Answer<_>>()?, true));
    }
    match body.remove(kind.one) {
        Some(Json::Object(map)) => Ok((vec![map], false)),
        _ => Err(missing()),
    }
}

/// The resource in a body of `PUT`.
pub fn entry(kind: &Kind, body: Answer<Json>) -> Answer<JsonMap> {
    match readable(body)? {
        Json::Object(mut body) => match body.remove(kind.one) {
            Some(Json::Object(map)) => Ok(map),
            _ => Err(plain(format!("Unable to find '{}' in request body", kind.one))),
        },
        _ => Err(plain(format!("Unable to find '{}' in request body", kind.one))),
    }
}

fn readable(body: Answer<Json>) -> Answer<Json> {
    body.map_err(|refusal| if refusal.status == 400 { plain("Body contains invalid data") } else { refusal })
}

/// The attributes of something new, with defaults; `on` says which extensions there are.
pub fn fresh(kind: &Kind, mut given: JsonMap, caller: &Caller, on: &dyn Fn(&str) -> bool) -> Answer<Attributes> {
    let project = project(&mut given, caller)?;
    let mut taken = JsonMap::new();
    for attribute in present(kind, on) {
        match (given.remove(attribute.name), attribute.post) {
            (Some(_), Post::Never) => {
                return Err(plain(format!("Attribute '{}' not allowed in POST", attribute.name)));
            }
            (Some(value), _) => {
                taken.insert(attribute.name.into(), checked(attribute, value)?);
            }
            (None, Post::Required) => {
                let text = format!("Failed to parse request. Required attribute '{}' not specified", attribute.name);
                return Err(plain(text));
            }
            (None, Post::Default(default)) => {
                taken.insert(attribute.name.into(), default.json());
            }
            (None, _) => {}
        }
    }
    unknown(given)?;
    taken.insert("project_id".into(), json!(project));
    taken.insert("tenant_id".into(), json!(project));
    Ok(Attributes(taken))
}

/// The attributes to change.
pub fn change(kind: &Kind, mut given: JsonMap, on: &dyn Fn(&str) -> bool) -> Answer<Attributes> {
    let mut taken = JsonMap::new();
    for attribute in present(kind, on) {
        let Some(value) = given.remove(attribute.name) else { continue };
        if !attribute.put {
            return Err(plain(format!("Cannot update read-only attribute {}", attribute.name)));
        }
        taken.insert(attribute.name.into(), checked(attribute, value)?);
    }
    unknown(given)?;
    Ok(Attributes(taken))
}

pub fn present<'a>(kind: &'a Kind, on: &'a dyn Fn(&str) -> bool) -> impl Iterator<Item = &'a Attribute> {
    kind.attributes.iter().filter(move |attribute| attribute.extension.is_none_or(on))
}

/// Checks one value.
pub fn checked(attribute: &Attribute, value: Json) -> Answer<Json> {
    let wrong = |reason| plain(format!("Invalid input for {}. Reason: {reason}.", attribute.name));
    attribute.rule.check(value).map_err(wrong)
}

fn unknown(rest: JsonMap) -> Answer<()> {
    if rest.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = rest.keys().map(String::as_str).collect();
    Err(plain(format!("Unrecognized attribute(s) '{}'", names.join(", "))))
}

/// Whose the new thing will be. Only an administrator gives to others.
fn project(given: &mut JsonMap, caller: &Caller) -> Answer<String> {
    let (project, tenant) = (given.remove("project_id"), given.remove("tenant_id"));
    if let (Some(project), Some(tenant)) = (&project, &tenant)
        && project != tenant
    {
        return Err(plain("'project_id' and 'tenant_id' do not match"));
    }
    match project.or(tenant) {
        None => Ok(caller.project().to_string()),
        Some(Json::String(wanted)) if wanted == caller.project() || caller.has_role("admin") => {
            super::rule::text(json!(wanted), 255).map_err(plain)?;
            Ok(wanted)
        }
        Some(Json::String(_)) => Err(plain(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin \
             privileges",
        )),
        Some(_) => Err(plain("Invalid input for project_id. Reason: it is not a valid string.")),
    }
}
