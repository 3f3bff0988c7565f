//! The catalog: which services there are for somebody, and where.

use std::collections::{BTreeMap, HashMap};

use api::{Caller, Json};
use base::json;
use db::select;

use crate::endpoints::Endpoint;
use crate::services::Service;
use crate::{Identity, endpoint_filter};

/// The catalog of a caller: all of it, or what was chosen for the project.
pub async fn of(identity: &Identity, caller: &Caller) -> Result<Json, db::Error> {
    let services = identity.db.all(select::<Service>("WHERE enabled = 1 ORDER BY id")).await?;
    let endpoints = identity.db.all(select::<Endpoint>("WHERE enabled = 1 ORDER BY id")).await?;
    let chosen = match &caller.project_id {
        Some(project_id) => endpoint_filter::chosen(identity, project_id, &endpoints).await?,
        None => None,
    };
    let mut by_service: HashMap<&str, Vec<Json>> = HashMap::new();
    for endpoint in &endpoints {
        if chosen.as_ref().is_some_and(|chosen| !chosen.contains(&endpoint.id)) {
            continue;
        }
        // An address that cannot be filled in for this caller is left out.
        if let Some(url) = filled(&endpoint.url, caller.project_id.as_deref(), &caller.user_id) {
            by_service.entry(&endpoint.service_id).or_default().push(json!({
                "id": endpoint.id,
                "interface": endpoint.interface,
                "region_id": endpoint.region_id,
                "region": endpoint.region_id,
                "url": url,
            }));
        }
    }
    let entry = |service: &Service| {
        let endpoints = by_service.remove(service.id.as_str()).unwrap_or_default();
        let name = service.name.as_deref().unwrap_or_default();
        (chosen.is_none() || !endpoints.is_empty())
            .then(|| json!({"endpoints": endpoints, "id": service.id, "type": service.r#type, "name": name}))
    };
    Ok(services.iter().filter_map(entry).collect())
}

/// Whether an address has only places that we can fill.
pub fn can_be_filled(url: &str) -> bool {
    filled(url, Some("project"), "user").is_some()
}

/// Puts ids in the place of `%(project_id)s` and `$(project_id)s`.
fn filled(url: &str, project_id: Option<&str>, user_id: &str) -> Option<String> {
    let mut known = BTreeMap::from([("user_id", user_id)]);
    if let Some(id) = project_id {
        known.insert("project_id", id);
        known.insert("tenant_id", id);
    }
    let mut whole = String::with_capacity(url.len());
    let mut rest = url;
    while let Some(at) = rest.find(['%', '$']) {
        let (before, after) = rest.split_at(at);
        whole.push_str(before);
        let (sign, after) = after.split_at(1);
        match (sign, after.strip_prefix('('), after.strip_prefix('%')) {
            (_, Some(name), _) => {
                let (name, after) = name.split_once(")s")?;
                whole.push_str(known.get(name)?);
                rest = after;
            }
            ("$", ..) => {
                whole.push('$');
                rest = after;
            }
            (_, _, Some(after)) => {
                whole.push('%');
                rest = after;
            }
            _ => return None,
        }
    }
    whole.push_str(rest);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_filled_into_addresses() {
        let with = |url: &str, project| filled(url, project, "u");
        assert_eq!(with("http://c/v1/%(tenant_id)s", Some("p")).as_deref(), Some("http://c/v1/p"));
        assert_eq!(with("http://c/AUTH_$(project_id)s/$(user_id)s", Some("p")).as_deref(), Some("http://c/AUTH_p/u"));
        assert_eq!(with("http://c/%(project_id)s", None), None);
        assert_eq!(with("http://c/%(other)s", Some("p")), None);
        assert_eq!(with("http://c/100%%$", None).as_deref(), Some("http://c/100%$"));
        assert_eq!(with("http://c/100%", None), None);
    }
}
