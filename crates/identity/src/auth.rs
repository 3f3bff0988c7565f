//! Authentication: from a password, a token or a credential to a token; and what tokens are good for.

mod issue;
mod methods;
pub mod password;
mod request;
mod scope;

use api::listing::{flag, text};
use api::view::listed;
use api::{
    Answer, Call, Document, Done, Listing, NoInput, Operation, Permitted, Refusal, Reply, View, delete, get, head, post,
};
use base::json;
use db::select;

use crate::assignments::store::Filter;
use crate::domains::Domain;
use crate::projects::{self, Project, Shown};
use crate::sessions::{self, Session, Unusable};
use crate::{Identity, assignments, catalog, groups, revocations};

const MINE: Listing = Listing { sort: &["id"], filter: &[text("name"), flag("enabled")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        post("/auth/tokens", issue::issue).public(),
        get("/auth/tokens", validate).rule("identity:validate_token"),
        head("/auth/tokens", validate).rule("identity:check_token"),
        delete("/auth/tokens", revoke).rule("identity:revoke_token"),
        get("/auth/catalog", show_catalog).rule("identity:get_auth_catalog"),
        get("/auth/projects", my_projects).rule("identity:get_auth_projects").paged(&MINE),
        get("/auth/domains", my_domains).rule("identity:get_auth_domains").paged(&MINE),
        get("/auth/system", my_system).rule("identity:get_auth_system"),
        get("/OS-FEDERATION/projects", my_projects).rule("identity:get_auth_projects").paged(&MINE).deprecated(),
        get("/OS-FEDERATION/domains", my_domains).rule("identity:get_auth_domains").paged(&MINE).deprecated(),
    ]
}

/// The session of `X-Subject-Token`, once the operation's rule about it was asked. Upstream: who asks about a token
/// that is none learns that before the rule is asked.
async fn subject(call: &Call<Identity>) -> Answer<Permitted<std::sync::Arc<Session>>> {
    let window_s = match call.query.get("allow_expired").and_then(api::listing::flag_value) {
        Some(true) => call.settings.allow_expired_window_s,
        _ => 0,
    };
    let Some(text) = call.header("x-subject-token") else {
        call.allow_on(&json!({}))?;
        return Err(Refusal::not_found("No token in the request"));
    };
    let session = call.living_session(text, window_s).await.map_err(|why| not_recognised(why, text))?;
    let caller = &session.caller;
    let permitted = call.allow_on(&json!({"target": {"token": {
        "user_id": caller.user_id,
        "user": {"domain": {"id": caller.user_domain_id}},
    }}}))?;
    Ok(permitted.map(|()| session))
}

fn not_recognised(why: Unusable, text: &str) -> Refusal {
    tracing::debug!(%why, "a token is of no use");
    match why {
        Unusable::Database(error) => error.into(),
        Unusable::Foreign => Refusal::not_found("Could not recognize Fernet token"),
        Unusable::Expired => Refusal::not_found("Failed to validate token"),
        _ => crate::missing("token", text),
    }
}

async fn validate(call: Call<Identity>, _: NoInput) -> Answer<Permitted<Reply>> {
    let session = subject(&call).await?;
    let limited = session.application_credential.as_ref().is_some_and(|shown| shown.access_rules.is_some());
    let understood = call.header("openstack-identity-access-rules").is_some_and(|text| text.trim() >= "1");
    if limited && !understood {
        return Err(Refusal::not_found("Failed to validate token"));
    }
    let with_catalog = !call.query.has("nocatalog");
    let body = sessions::body(&call.service, &session, with_catalog).await?;
    let text = call.header("x-subject-token").unwrap_or_default().to_string();
    Ok(session.map(|_| Reply::text(200, "application/json", body).header("x-subject-token", &text)))
}

async fn revoke(call: Call<Identity>, _: NoInput) -> Answer<Done> {
    let session = subject(&call).await?;
    let mut tx = call.db.begin().await?;
    revocations::of_token(&mut tx, &session.token).await?;
    call.settle(tx).await?;
    Ok(Done::with(session))
}

async fn show_catalog(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    if call.caller.project_id.is_none() {
        return Err(Refusal::forbidden("A project-scoped token is required to produce a service catalog."));
    }
    let catalog = catalog::of(&call.service, &call.caller).await?;
    let links = json!({"self": call.reader.link("/auth/catalog")});
    Ok(Document::new(permitted, json!({"catalog": catalog, "links": links})))
}

async fn my_projects(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let ids = assignments::projects_of_user(&call.db, &call.caller.user_id).await?;
    let rows = crate::rows(&call, select::<Project>("").in_list("id", &ids)).await?;
    let shown = Shown::all(&call.db, rows).await?;
    Ok(Document::new(permitted, projects::page(&shown, &call.reader)))
}

async fn my_domains(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let ids = assignments::domains_of_user(&call.db, &call.caller.user_id).await?;
    let rows = crate::rows(&call, select::<Project>("").in_list("id", &ids)).await?;
    let shown = Shown::all(&call.db, rows).await?;
    let items = shown.into_iter().map(|shown| Domain(shown).view(&call.reader)).collect();
    Ok(Document::new(permitted, listed("domains", items, &call.reader)))
}

async fn my_system(call: Call<Identity>, _: NoInput) -> Answer<Document> {
    let permitted = call.allow()?;
    let user_id = call.caller.user_id.as_str();
    let group_ids = groups::store::of_user(&call.db, user_id).await?;
    let of_user = Filter { user_id: Some(user_id), system: Some(true), ..Filter::default() };
    let of_groups = Filter { group_ids: Some(&group_ids), system: Some(true), ..Filter::default() };
    let mut found = assignments::store::list(&call.db, &of_user).await?;
    found.extend(assignments::store::list(&call.db, &of_groups).await?);
    let system = if found.is_empty() { json!([]) } else { json!([{"all": true}]) };
    let links = json!({"self": call.reader.link("/auth/system")});
    Ok(Document::new(permitted, json!({"system": system, "links": links})))
}
