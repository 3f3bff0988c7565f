//! A new trust, by the trustor, or by somebody who was trusted to pass it on.

use api::wire::{flag, integer, list, text};
use api::{Answer, Body, Call, Created, Json, Refusal, wire};
use base::{Time, clock, json};
use db::select;

use super::store::{self, Trust};
use super::{Full, full, not_delegated};
use crate::assignments::effective;
use crate::projects::store as projects;
use crate::roles::Role;
use crate::tokens::Scope;
use crate::{Identity, missing, not_authorized, users};

/// Limit: roles that one trust can name.
const ROLES: usize = 256;

wire! {
    /// What a client sends for a new trust.
    pub struct NewTrust in "trust" open {
        trustor_user_id: String = text(1, 64).required(),
        trustee_user_id: String = text(1, 64).required(),
        impersonation: bool = flag().required(),
        project_id: Option<String> = text(0, 64).nullable(),
        remaining_uses: Option<i64> = integer(1, i64::MAX).nullable(),
        expires_at: Option<String> = text(0, 64).nullable(),
        allow_redelegation: Option<bool> = flag().nullable(),
        redelegation_count: Option<i64> = integer(0, i64::MAX).nullable(),
        redelegated_trust_id: Option<String> = text(0, 64).nullable(),
        roles: Option<Vec<Json>> = list(wire::object()).items(0, ROLES),
    }
}

pub(super) async fn create(call: Call<Identity>, Body(new): Body<NewTrust>) -> Answer<Created<Full>> {
    let permitted = call.allow_on(&json!({"target": {"trust": {
        "trustor_user_id": new.trustor_user_id, "trustee_user_id": new.trustee_user_id,
    }}}))?;
    not_delegated(&call)?;
    let project_id = new.project_id.clone().filter(|id| !id.is_empty());
    let named = new.roles.clone().unwrap_or_default();
    if project_id.is_some() && named.is_empty() {
        return Err(not_authorized("At least one role should be specified"));
    }
    if call.caller.user_id != new.trustor_user_id {
        return Err(not_authorized("The authenticated user should match the trustor"));
    }
    users::store::user(&call.db, &new.trustee_user_id).await?;
    let source = source(&call).await?;
    let role_ids = role_ids(&call, &named).await?;
    if let Some(project_id) = &project_id {
        held(&call, project_id, &role_ids, source.as_ref()).await?;
    }
    let expires_at = expiry(new.expires_at.as_deref())?;
    let count = redelegation_count(&call, &new)?;
    let mut trust = Trust {
        id: base::id::hex(),
        trustor_user_id: new.trustor_user_id,
        trustee_user_id: new.trustee_user_id,
        project_id,
        impersonation: new.impersonation,
        expires_at,
        remaining_uses: new.remaining_uses,
        redelegated_trust_id: None,
        redelegation_count: count,
        deleted_at: None,
        role_ids,
        extra: crate::extra(new.rest),
    };
    if let Some(source) = source {
        pass_on(&call, &mut trust, &source, new.redelegation_count).await?;
    }
    call.db.insert(&trust).await?;
    Ok(Created(full(&call, permitted.map(|()| trust)).await?))
}

/// The trust that the caller acts by, when it does.
async fn source(call: &Call<Identity>) -> Answer<Option<Trust>> {
    match &call.caller.trust_id {
        None => Ok(None),
        Some(id) => store::usable(&call.db, id).await?.ok_or_else(|| missing("trust", id)).map(Some),
    }
}

/// The ids of the roles named. A name must be that of one role only.
async fn role_ids(call: &Call<Identity>, named: &[Json]) -> Answer<Vec<String>> {
    let mut ids = Vec::new();
    for role in named {
        if let Some(id) = role["id"].as_str() {
            ids.push(id.to_string());
            continue;
        }
        let Some(name) = role["name"].as_str() else {
            return Err(Refusal::bad_request("Invalid input for field 'roles': a role needs an id or a name"));
        };
        ids.push(role_named(call, name).await?);
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The id of the only role with this name.
pub async fn role_named(call: &Call<Identity>, name: &str) -> Answer<String> {
    let found = call.db.all(select::<Role>("WHERE name = ? ORDER BY id").bind(name)).await?;
    match found.as_slice() {
        [only] => Ok(only.id.clone()),
        [] => Err(Refusal::not_found(format!("Role {name} is not defined"))),
        _ => Err(Refusal::bad_request(format!(
            "There are multiple role entities named '{name}'. Please use ID instead of names to resolve the ambiguity."
        ))),
    }
}

/// Only roles that the trustor has can be passed on; by trust, those that the first trustor has.
async fn held(call: &Call<Identity>, project_id: &str, ids: &[String], source: Option<&Trust>) -> Answer<()> {
    projects::project(&call.db, project_id).await?;
    let trustor = match source {
        None => call.caller.user_id.clone(),
        Some(source) => {
            let chain = store::chain(&call.db, source).await?;
            chain.last().map_or_else(String::new, |first| first.trustor_user_id.clone())
        }
    };
    let held = effective::all_roles(&call.db, &trustor, &Scope::Project(project_id.to_string())).await?;
    match ids.iter().find(|id| held.iter().all(|role| role.id != **id)) {
        Some(id) => Err(missing("role", id)),
        None => Ok(()),
    }
}

/// Reads a moment at which something is to end, which must lie ahead.
pub fn expiry(text: Option<&str>) -> Answer<Option<Time>> {
    const TAIL: &str = "The server could not comply with the request since it is either malformed or otherwise \
                        incorrect. The client is assumed to be in error.";
    let Some(text) = text else { return Ok(None) };
    let bad_form = || Refusal::bad_request(format!("Timestamp not in expected format. {TAIL}"));
    match Time::parse(text).ok_or_else(bad_form)? {
        time if time < clock::now() => {
            Err(Refusal::bad_request(format!("The 'expires_at' must not be before now. {TAIL}")))
        }
        time => Ok(Some(time)),
    }
}

fn redelegation_count(call: &Call<Identity>, new: &NewTrust) -> Answer<i64> {
    let max = call.settings.max_redelegation_count;
    let wanted = new.redelegation_count;
    if !new.allow_redelegation.unwrap_or(false) || wanted == Some(0) {
        return Ok(0);
    }
    if wanted.is_some_and(|wanted| wanted > max) {
        let wanted = wanted.unwrap_or_default();
        return Err(Refusal::forbidden(format!(
            "Requested redelegation depth of {wanted} is greater than allowed {max}"
        )));
    }
    match new.remaining_uses {
        Some(_) => Err(Refusal::bad_request("remaining_uses must not be set if redelegation is allowed")),
        None => Ok(wanted.unwrap_or(max)),
    }
}

/// A trust that is passed on may grant nothing more than the one it comes from.
async fn pass_on(call: &Call<Identity>, trust: &mut Trust, source: &Trust, wanted: Option<i64>) -> Answer<()> {
    let left = source.redelegation_count - 1;
    if trust.redelegation_count > 0 && wanted.is_some_and(|wanted| wanted != left) {
        return Err(Refusal::forbidden(
            "Modifying \"redelegation_count\" upon redelegation is forbidden. Omitting this parameter is advised.",
        ));
    }
    if trust.redelegation_count > 0 {
        trust.redelegation_count = left;
    }
    trust.redelegated_trust_id = Some(source.id.clone());
    for earlier in store::chain(&call.db, source).await? {
        within(call, trust, &earlier)?;
    }
    Ok(())
}

fn within(call: &Call<Identity>, trust: &mut Trust, source: &Trust) -> Answer<()> {
    let (depth, max) = (source.redelegation_count, call.settings.max_redelegation_count);
    if !(1..=max).contains(&depth) {
        return Err(Refusal::forbidden(format!(
            "Remaining redelegation depth of {depth} out of allowed range of [0..{max}]"
        )));
    }
    if let Some(uses) = trust.remaining_uses {
        return Err(Refusal::forbidden(format!(
            "Field \"remaining_uses\" is set to {uses} while it must not be set in order to redelegate a trust"
        )));
    }
    match (trust.expires_at, source.expires_at) {
        (None, limit) => trust.expires_at = limit,
        (Some(wanted), Some(limit)) if limit < wanted => {
            return Err(Refusal::forbidden("Requested expiration time is more than redelegated trust can provide"));
        }
        _ => {}
    }
    if trust.role_ids.iter().any(|id| !source.role_ids.contains(id)) {
        return Err(Refusal::forbidden("Some of requested roles are not in redelegated trust"));
    }
    if trust.impersonation && !source.impersonation {
        return Err(Refusal::forbidden(format!(
            "Impersonation is not allowed because redelegated trust does not specify impersonation. Redelegated \
             trust id: {}",
            source.id
        )));
    }
    Ok(())
}
