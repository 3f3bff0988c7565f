//! The engine of the service: list, show, create, update and delete, once for all resources.
//!
//! A resource declares its attributes as data ([`attribute`]) and says how rows are made, changed and shown
//! ([`Resource`]). Everything else is here: reading and checking bodies ([`body`]), rights by attribute ([`rights`]),
//! filters, fields, order and pages ([`query`]), revisions, quotas, and trying again after a conflict.

pub mod attribute;
pub mod body;
pub mod query;
pub mod rights;
pub mod rule;

use std::collections::HashMap;

use api::{Answer, Call, Caller, JsonMap, Limit, NoInput, Path, Refusal, Reply};
use base::{Json, Time, json};
use db::{Queries, Record, Select, select};

use crate::Network;
use crate::fault::{Fault, bad};
use crate::stop::Stop;
use crate::work::Work;
pub use attribute::{Attributes, Condition, Kind};
use rights::Sight;

/// What all rows of resources have.
pub trait Entity: Record + Clone + Sync {
    fn id(&self) -> &str;
    fn project(&self) -> &str;
    fn revision(&self) -> i64;
}

/// Declares a row with the columns that every resource has, and `id`, `project_id` and stamps among them.
///
/// ```ignore
/// entity! { pub struct AddressScope in "address_scopes" { name: String, ip_version: i64 } }
/// ```
macro_rules! entity {
    ($(#[$meta:meta])* pub struct $name:ident in $table:literal { $($field:ident: $type:ty),* $(,)? }) => {
        db::record! {
            $(#[$meta])*
            pub struct $name in $table {
                pub id: String,
                pub project_id: String,
                $(pub $field: $type,)*
                pub created_at: base::Time,
                pub updated_at: base::Time,
                pub revision_number: i64,
            }
        }

        impl crate::engine::Entity for $name {
            fn id(&self) -> &str {
                &self.id
            }

            fn project(&self) -> &str {
                &self.project_id
            }

            fn revision(&self) -> i64 {
                self.revision_number
            }
        }
    };
}
pub(crate) use entity;

/// One kind of resource.
pub trait Resource: Send + Sync + 'static {
    const KIND: &'static Kind;
    const QUOTA: Option<&'static Limit> = None;
    type Row: Entity;

    fn not_found(id: &str) -> Fault;

    /// Leaves out the rows that the caller must not know of. Rows of the caller's project, unless said otherwise.
    fn scope(select: Select<Self::Row>, caller: &Caller) -> Select<Self::Row> {
        own(select, caller)
    }

    /// The rows as JSON, with all attributes and with what rules ask about parents (`network:project_id`).
    fn items<Q: Queries>(
        db: Q,
        rows: Vec<Self::Row>,
        caller: &Caller,
    ) -> impl Future<Output = Result<Vec<Json>, db::Error>> + Send;

    /// Done before a list is read.
    fn prepare(_: &Call<Network>) -> impl Future<Output = Answer<()>> + Send {
        async { Ok(()) }
    }

    /// What rules about something new ask of its parents; refuses parents that are not there.
    fn parents(_: &Call<Network>, _: &Attributes) -> impl Future<Output = Answer<JsonMap>> + Send {
        async { Ok(JsonMap::new()) }
    }

    /// Adds a row, and returns its id.
    fn create(work: &mut Work<'_>, new: &Attributes) -> impl Future<Output = Result<String, Stop>> + Send;

    /// Changes a row, which is locked and has its new revision already.
    fn update(
        work: &mut Work<'_>,
        row: Self::Row,
        change: &Attributes,
    ) -> impl Future<Output = Result<(), Stop>> + Send;

    fn remove(work: &mut Work<'_>, row: Self::Row) -> impl Future<Output = Result<(), Stop>> + Send;

    /// Checks that look at all the resources of one request.
    fn together(_: &[Attributes]) -> Result<(), Fault> {
        Ok(())
    }

    /// What the answer to a creation shows beside the rest.
    fn newborn(_: &mut Json) {}

    /// Whether a change raises the revision number.
    fn revises(_: &Attributes) -> bool {
        true
    }
}

/// Whether nothing is hidden from the caller.
pub fn sees_all(caller: &Caller) -> bool {
    ["admin", "service", "advsvc"].iter().any(|role| caller.has_role(role))
}

/// The caller's project, or a word that is no project.
pub fn own_project(caller: &Caller) -> &str {
    match caller.project() {
        "" => "-",
        project => project,
    }
}

pub fn own<T: Record>(select: Select<T>, caller: &Caller) -> Select<T> {
    match sees_all(caller) {
        true => select,
        false => select.and("project_id = ?").bind(own_project(caller)),
    }
}

pub async fn list<R: Resource>(call: Call<Network>, _: NoInput) -> Answer<Reply> {
    // The rule is asked about each row below; without any there is nothing to ask about.
    let _ = call.allow();
    let asked = query::read(&call, R::KIND)?;
    R::prepare(&call).await?;
    let rows = query::narrow(R::scope(select(""), &call.caller), asked.conditions);
    let rows = call.db.page(rows, &asked.page).await.map_err(|error| match (error, &asked.page.marker) {
        (db::Error::MarkerNotFound, Some(marker)) => R::not_found(marker).into(),
        (error, _) => Refusal::from(error),
    })?;
    let full = asked.page.limit.is_some_and(|limit| rows.len() >= limit as usize);
    let ends = rows.first().zip(rows.last()).map(|(first, last)| (first.id().to_string(), last.id().to_string()));

    let items = R::items(&call.db, rows, &call.caller).await?;
    let seen = items.iter().filter(|item| call.allow_on(*item).is_ok());
    let sight = Sight::new(&call, R::KIND, &asked.fields);
    let shown: Vec<Json> = seen.map(|item| sight.of(item)).collect();
    let mut body = JsonMap::new();
    body.insert(R::KIND.many.into(), Json::Array(shown));
    let ends = ends.as_ref().map(|(first, last)| (first.as_str(), last.as_str()));
    query::links(&call, R::KIND, &asked.page, ends, full, &mut body);
    Ok(Reply::json(200, &Json::Object(body)))
}

pub async fn show<R: Resource>(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let item = find::<R>(&call, &id).await?;
    call.permit_or(item.clone(), R::not_found(&id))?;
    let shown = Sight::new(&call, R::KIND, &query::fields(&call)).of(&item);
    Ok(Reply::json(200, &json!({R::KIND.one: shown})))
}

pub async fn create<R: Resource>(mut call: Call<Network>, _: NoInput) -> Answer<Reply> {
    let (entries, bulk) = body::entries(R::KIND, call.json().await)?;
    let mut news = Vec::with_capacity(entries.len());
    for entry in entries {
        let new = body::fresh(R::KIND, entry, &call.caller, &|extension| call.settings.has_extension(extension))?;
        let mut target = new.0.clone();
        target.extend(R::parents(&call, &new).await?);
        rights::demand(&call, "create", R::KIND, &new, &Json::Object(target))?;
        news.push(new);
    }
    R::together(&news).map_err(Refusal::from)?;

    let ids = call
        .db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            if let Some(quota) = R::QUOTA {
                within(&mut work, quota, &news).await?;
            }
            let mut ids = Vec::with_capacity(news.len());
            for new in &news {
                ids.push(R::create(&mut work, new).await?);
            }
            work.commit().await?;
            Ok::<_, Stop>(ids)
        })
        .await?;

    let mut items = load::<R>(&call, &ids).await?;
    items.iter_mut().for_each(R::newborn);
    let sight = Sight::new(&call, R::KIND, &[]);
    let mut shown: Vec<Json> = items.iter().map(|item| sight.of(item)).collect();
    let body = match bulk {
        true => json!({R::KIND.many: shown}),
        false => json!({R::KIND.one: shown.pop()}),
    };
    Ok(Reply::json(201, &body))
}

pub async fn update<R: Resource>(mut call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let given = body::entry(R::KIND, call.json().await)?;
    let item = find::<R>(&call, &id).await?;
    let change = body::change(R::KIND, given, &|extension| call.settings.has_extension(extension))?;
    let mut target = item.clone();
    if let Some(target) = target.as_object_mut() {
        target.extend(change.0.clone());
    }
    hidden::<R>(&call, &id, &item, rights::demand(&call, "update", R::KIND, &change, &target))?;

    let constraint = constraint(&call)?;
    call.db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            let row = take::<R>(&mut work, &id, constraint, R::revises(&change)).await?;
            R::update(&mut work, row, &change).await?;
            work.commit().await
        })
        .await?;
    reply_with::<R>(&call, &id).await
}

/// The answer to a change: the thing as it is now.
pub async fn reply_with<R: Resource>(call: &Call<Network>, id: &str) -> Answer<Reply> {
    let items = load::<R>(call, &[id.to_string()]).await?;
    let item = items.first().ok_or_else(|| R::not_found(id))?;
    let shown = Sight::new(call, R::KIND, &[]).of(item);
    Ok(Reply::json(200, &json!({R::KIND.one: shown})))
}

pub async fn remove<R: Resource>(call: Call<Network>, Path(id): Path<String>) -> Answer<Reply> {
    let item = find::<R>(&call, &id).await?;
    hidden::<R>(&call, &id, &item, rights::demand(&call, "delete", R::KIND, &Attributes::default(), &item))?;
    let constraint = constraint(&call)?;
    call.db
        .retry(|| async {
            let mut work = Work::begin(&call.service, &call.caller).await?;
            let row = take::<R>(&mut work, &id, constraint, true).await?;
            let id = row.id().to_string();
            R::remove(&mut work, row).await?;
            crate::tags::forget(&mut work.tx, &id).await?;
            work.commit().await
        })
        .await?;
    Ok(Reply::new(204))
}

/// A refusal to somebody who may not even see the thing says that it is not there.
pub fn hidden<R: Resource>(call: &Call<Network>, id: &str, item: &Json, answer: Answer<()>) -> Answer<()> {
    answer.map_err(|refusal| match call.may(&format!("get_{}", R::KIND.one), item) {
        true => refusal,
        false => R::not_found(id).into(),
    })
}

/// The thing with this id, if the caller may know of it.
pub async fn find<R: Resource>(call: &Call<Network>, id: &str) -> Answer<Json> {
    // No database keeps a NUL, and PostgreSQL does not even look for one.
    if id.contains('\0') {
        return Err(R::not_found(id).into());
    }
    let rows = R::scope(select::<R::Row>("").and("id = ?").bind(id), &call.caller);
    let row = call.db.maybe(rows).await?.ok_or_else(|| R::not_found(id))?;
    let mut items = R::items(&call.db, vec![row], &call.caller).await?;
    items.pop().ok_or_else(|| R::not_found(id).into())
}

async fn load<R: Resource>(call: &Call<Network>, ids: &[String]) -> Answer<Vec<Json>> {
    let rows: Vec<R::Row> = gather(&call.db, "id", ids).await?;
    let items = R::items(&call.db, rows, &call.caller).await?;
    let mut by_id: HashMap<String, Json> =
        items.into_iter().map(|item| (item["id"].as_str().unwrap_or_default().to_string(), item)).collect();
    Ok(ids.iter().filter_map(|id| by_id.remove(id)).collect())
}

/// Limit: values asked for in one query.
const CHUNK: usize = 8000;

/// All rows whose `column` is one of `values`.
pub async fn gather<T: Record>(mut db: impl Queries, column: &str, values: &[String]) -> Result<Vec<T>, db::Error> {
    let mut rows = Vec::new();
    for chunk in values.chunks(CHUNK) {
        rows.extend(db.all(select::<T>("").in_list(column, chunk)).await?);
    }
    Ok(rows)
}

/// Locks a row for the rest of the transaction and gives it its next revision.
pub async fn take<R: Resource>(
    work: &mut Work<'_>,
    id: &str,
    constraint: Option<i64>,
    revises: bool,
) -> Result<R::Row, Stop> {
    if !work.revise(R::Row::TABLE, id, i64::from(revises)).await? {
        return Err(R::not_found(id).into());
    }
    let row = work.tx.one(select::<R::Row>("WHERE id = ?").bind(id)).await?;
    let current = row.revision() - i64::from(revises);
    match constraint {
        Some(expected) if expected != current => {
            Err(Fault::RevisionNumberConstraintFailed { expected, current }.into())
        }
        _ => Ok(row),
    }
}

/// The revision that `If-Match` demands.
pub fn constraint(call: &Call<Network>) -> Answer<Option<i64>> {
    let Some(header) = call.header("if-match") else {
        return Ok(None);
    };
    let tags = header.split(',').map(|tag| tag.trim().trim_matches('"'));
    let mut numbers = tags.filter_map(|tag| tag.strip_prefix("revision_number="));
    let (first, second) = (numbers.next(), numbers.next());
    if second.is_some() {
        return Err(bad("if-match", "Multiple revision_number etags are not supported.").into());
    }
    let read = |text: &str| {
        let wrong = || bad("if-match", "Revision number etag must be in the format of revision_number=<int>");
        text.parse().map_err(|_| Refusal::from(wrong()))
    };
    first.map(read).transpose()
}

async fn within(work: &mut Work<'_>, quota: &'static Limit, news: &[Attributes]) -> Result<(), Stop> {
    let mut by_project: HashMap<String, i64> = HashMap::new();
    for new in news {
        *by_project.entry(new.text("project_id")).or_default() += 1;
    }
    for (project, count) in by_project {
        work.within(&project, quota, count).await?;
    }
    Ok(())
}

/// A time as the service shows it.
pub fn stamp(time: Time) -> String {
    time.iso_z()
}
