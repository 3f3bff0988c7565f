//! Domains: what users, groups and projects belong to. A domain is kept as a project that has no domain.

use api::listing::{flag as flag_filter, text as text_filter};
use api::wire::{Maybe, flag, list as list_of, nested, text};
use api::{
    Answer, Body, Call, Created, Done, JsonMap, Listed, Listing, NoInput, Operation, Path, Permitted, Reader, Refusal,
    Show, View, delete, get, patch, post, wire,
};
use base::{Json, json};
use db::select;

use crate::projects::create::{self, Options};
use crate::projects::update::{self, ProjectChange};
use crate::projects::{Project, Shown, remove, store, tags};
use crate::{Identity, missing};

const DOMAINS: Listing =
    Listing { sort: &["name", "id"], filter: &[flag_filter("enabled"), text_filter("name")], ..Listing::PLAIN };

pub fn operations() -> Vec<Operation<Identity>> {
    vec![
        get("/domains", list).rule("identity:list_domains").paged(&DOMAINS),
        post("/domains", create).rule("identity:create_domain"),
        get("/domains/{domain_id}", show).rule("identity:get_domain"),
        patch("/domains/{domain_id}", change).rule("identity:update_domain"),
        delete("/domains/{domain_id}", remove).rule("identity:delete_domain"),
    ]
}

wire! {
    /// What a client sends for a new domain.
    pub struct NewDomain in "domain" open {
        explicit_domain_id: Option<String> = text(1, 64).matching("^[a-zA-Z0-9-]+$"),
        name: String = text(1, 64).matching(r"[\S]+").required(),
        description: Option<String> = text(0, 65535).nullable(),
        enabled: Option<bool> = flag().loose(),
        tags: Option<Vec<String>> = list_of(tags::tag_rule()).items(0, tags::TAGS).unique(),
        options: Option<Options> = nested::<Options>(),
    }
}

wire! {
    /// What a client sends to change a domain.
    pub struct DomainChange in "domain" open {
        id: Option<String> = text(0, 255),
        name: Option<String> = text(1, 64).matching(r"[\S]+"),
        description: Maybe<String> = text(0, 65535).nullable(),
        enabled: Option<bool> = flag().loose(),
        tags: Option<Vec<String>> = list_of(tags::tag_rule()).items(0, tags::TAGS).unique(),
        options: Option<Options> = nested::<Options>(),
    }
}

/// A domain as clients see it: less than a project.
pub struct Domain(pub Shown);

impl View for Domain {
    const ONE: &'static str = "domain";
    const MANY: &'static str = "domains";

    fn view(&self, to: &Reader) -> Json {
        let Shown { project, tags, .. } = &self.0;
        let mut view = project.extra.clone();
        view["id"] = json!(project.id);
        view["name"] = json!(project.name);
        view["description"] = json!(project.description);
        view["enabled"] = json!(project.enabled);
        view["tags"] = json!(tags);
        view["options"] = project.options.clone();
        view["links"] = json!({"self": to.link(&format!("/domains/{}", project.id))});
        view
    }
}

async fn list(call: Call<Identity>, _: NoInput) -> Answer<Listed<Domain>> {
    let rows = crate::rows(&call, select::<Project>("WHERE is_domain = 1")).await?;
    let permitted = call.allow_on(&json!({"target": {"domain": {"id": call.caller.domain_id}}}))?;
    let rows = match &call.caller.domain_id {
        Some(own) => rows.into_iter().filter(|row| row.id == *own).collect(),
        None => rows,
    };
    let shown = Shown::all(&call.db, rows).await?;
    Ok(Listed(permitted.each(shown.into_iter().map(Domain).collect())))
}

async fn show(call: Call<Identity>, Path(id): Path<String>) -> Answer<Show<Domain>> {
    let domain = permitted(&call, &id).await?;
    let shown = Shown::one(&call.db, Project::clone(&domain)).await?;
    Ok(Show(domain.map(|_| Domain(shown))))
}

/// Finds a domain and asks the operation's rule about it.
pub async fn permitted(call: &Call<Identity>, id: &str) -> Answer<Permitted<Project>> {
    let found = store::find_domain(&call.db, id).await?;
    let target = match &found {
        Some(found) => json!({"target": {"domain": {"id": found.id, "name": found.name}}}),
        None => json!({}),
    };
    let permitted = call.allow_on(&target)?;
    let domain = found.ok_or_else(|| missing("domain", id))?;
    Ok(permitted.map(|()| domain))
}

async fn create(call: Call<Identity>, Body(new): Body<NewDomain>) -> Answer<Created<Domain>> {
    let permitted = call.allow_on(&json!({"target": {"domain": {"name": new.name}}}))?;
    let id = explicit_id(&call, new.explicit_domain_id).await?;
    let tags = new.tags.unwrap_or_default();
    let domain = Project {
        id,
        name: new.name.trim().to_string(),
        domain_id: String::new(),
        parent_id: None,
        is_domain: true,
        enabled: new.enabled.unwrap_or(true),
        description: Some(new.description.unwrap_or_default()),
        extra: crate::extra(new.rest),
        options: new.options.map_or(json!({}), |options| options.over(&json!({}))),
    };
    create::insert(&call, &domain, &tags).await?;
    let shown = Domain(Shown { tags, ..Shown::plain(domain) });
    Ok(Created(permitted.map(|()| shown)))
}

async fn explicit_id(call: &Call<Identity>, wanted: Option<String>) -> Answer<String> {
    let Some(id) = wanted else { return Ok(base::id::hex()) };
    if id.len() != 32 || !base::id::is_uuid(&id) {
        return Err(Refusal::bad_request("Domain ID does not conform to required UUID format."));
    }
    match store::find(&call.db, &id).await? {
        None => Ok(id),
        Some(taken) => Err(store::name_taken(&Project { is_domain: false, ..taken })),
    }
}

async fn change(
    call: Call<Identity>,
    (Path(id), Body(change)): (Path<String>, Body<DomainChange>),
) -> Answer<Show<Domain>> {
    let domain = permitted(&call, &id).await?;
    if let Some(name) = &change.name {
        create::not_federated(&id, name)?;
    }
    let change = ProjectChange {
        id: change.id,
        name: change.name,
        description: change.description,
        domain_id: Maybe::Absent,
        parent_id: Maybe::Absent,
        enabled: change.enabled,
        is_domain: None,
        tags: change.tags,
        options: change.options,
        rest: JsonMap::clone(&change.rest),
    };
    let shown = update::apply(&call, Project::clone(&domain), change).await?;
    Ok(Show(domain.map(|_| Domain(shown))))
}

async fn remove(call: Call<Identity>, Path(id): Path<String>) -> Answer<Done> {
    let domain = permitted(&call, &id).await?;
    let mut tx = call.db.begin().await?;
    remove::domain(&mut tx, &domain).await?;
    call.settle(tx).await?;
    Ok(Done::with(domain))
}
