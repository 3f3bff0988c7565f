//! Usages: sums of allocations, of a provider or of a project.

use api::message::Reply;
use api::{Answer, Call, Json, OfProject, Operation, Path, Permitted, Refusal, get, json, v};
use base::clock;
use db::{Row, Statement, sql};
use serde_json::Map;

use crate::Placement;
use crate::exchange::{AcceptsJson, bad_query, only_queries, shown};
use crate::providers;

pub fn operations() -> Vec<Operation<Placement>> {
    vec![
        get("/resource_providers/{uuid}/usages", of_provider).rule("placement:resource_providers:usages"),
        get("/usages", of_project).rule("placement:usages").since(v(1, 9)),
    ]
}

async fn of_provider(call: Call<Placement>, (_, Path(uuid)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let provider = providers::find(&call.db, &uuid).await.map_err(|refusal| match refusal.status {
        404 => Refusal::not_found(format!("No resource provider with uuid {uuid} found: {}", refusal.message)),
        _ => refusal,
    })?;
    let sums = sql("SELECT i.resource_class, SUM(a.used) FROM inventories i LEFT JOIN allocations a \
                    ON a.provider = i.provider AND a.resource_class = i.resource_class \
                    WHERE i.provider = ? GROUP BY i.resource_class ORDER BY i.resource_class");
    let rows = call.db.rows(sums.bind(&uuid)).await?;
    let sum = |row: &Row| Ok((row.get(0)?, json!(row.get::<Option<i64>>(1)?.unwrap_or(0))));
    let usages = rows.iter().map(sum).collect::<Result<Map<_, _>, db::Error>>()?;
    let body = json!({"resource_provider_generation": provider.generation, "usages": usages});
    Ok(permitted.map(|()| shown(&call, &body, clock::now())))
}

/// Whose usage is asked for.
struct Whose {
    project: String,
    user: Option<String>,
    /// A type, `all`, `unknown`, or none: each type by itself.
    kind: Option<String>,
}

impl Whose {
    fn read(call: &Call<Placement>) -> Answer<Whose> {
        only_queries(call, &[("project_id", v(1, 9)), ("user_id", v(1, 9)), ("consumer_type", v(1, 38))])?;
        let text = |name: &str| call.query.get(name).map(str::to_string);
        for (name, value) in &call.query.0 {
            match value.chars().count() {
                0 => return Err(bad_query(format!("'' is too short ({name})"))),
                256.. => return Err(bad_query(format!("'{value}' is too long ({name})"))),
                _ => {}
            }
        }
        let kind = text("consumer_type");
        let plain = |kind: &String| kind.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        if let Some(kind) = kind.as_ref().filter(|kind| !plain(kind) && !matches!(kind.as_str(), "all" | "unknown")) {
            return Err(bad_query(format!("'{kind}' does not match '^[A-Z0-9_]+$|^all|^unknown$'")));
        }
        let project = text("project_id").ok_or_else(|| bad_query("'project_id' is a required property"))?;
        Ok(Whose { project, user: text("user_id"), kind })
    }

    /// `SELECT what` over the allocations meant; the rest of the statement follows.
    fn select(&self, what: &str, rest: &str) -> Statement {
        let text = format!(
            "SELECT {what} FROM allocations a JOIN consumers c ON c.uuid = a.consumer WHERE c.project_id = ? {rest}"
        );
        let mut statement = sql(text).bind(&self.project);
        if let Some(user) = &self.user {
            statement = statement.and("c.user_id = ?").bind(user);
        }
        match self.kind.as_deref() {
            None | Some("all") => statement,
            Some("unknown") => statement.and("c.consumer_type IS NULL"),
            Some(kind) => statement.and("c.consumer_type = ?").bind(kind),
        }
    }
}

async fn of_project(call: Call<Placement>, _: AcceptsJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow_on(&OfProject(call.query.get("project_id").unwrap_or_default()))?;
    let whose = Whose::read(&call)?;
    let usages = match (call.version >= v(1, 38), whose.kind.as_deref()) {
        (false, _) => Json::Object(sums(&call, &whose).await?),
        (true, Some(kind @ ("all" | "unknown"))) => together(&call, &whose, kind).await?,
        (true, _) => by_type(&call, &whose).await?,
    };
    Ok(permitted.map(|()| shown(&call, &json!({"usages": usages}), clock::now())))
}

async fn sums(call: &Call<Placement>, whose: &Whose) -> Result<Map<String, Json>, db::Error> {
    let rows = whose.select("a.resource_class, SUM(a.used)", "GROUP BY a.resource_class ORDER BY a.resource_class");
    let sum = |row: &Row| Ok((row.get(0)?, json!(row.get::<i64>(1)?)));
    call.db.rows(rows).await?.iter().map(sum).collect()
}

async fn together(call: &Call<Placement>, whose: &Whose, kind: &str) -> Result<Json, db::Error> {
    let mut sums = sums(call, whose).await?;
    if sums.is_empty() {
        return Ok(json!({}));
    }
    let consumers = call.db.count(whose.select("COUNT(DISTINCT a.consumer)", "")).await?;
    sums.insert("consumer_count".into(), json!(consumers));
    Ok(json!({kind: sums}))
}

async fn by_type(call: &Call<Placement>, whose: &Whose) -> Result<Json, db::Error> {
    let name = |row: &Row| Ok(row.get::<Option<String>>(0)?.unwrap_or_else(|| "unknown".to_string()));
    let mut types = Map::new();
    let sums =
        whose.select("c.consumer_type, a.resource_class, SUM(a.used)", "GROUP BY c.consumer_type, a.resource_class");
    for row in call.db.rows(sums).await? {
        let of_type = types.entry(name(&row)?).or_insert_with(|| json!({}));
        of_type[row.get::<String>(1)?] = json!(row.get::<i64>(2)?);
    }
    let counts = whose.select("c.consumer_type, COUNT(DISTINCT a.consumer)", "GROUP BY c.consumer_type");
    for row in call.db.rows(counts).await? {
        if let Some(of_type) = types.get_mut(&name(&row)?) {
            of_type["consumer_count"] = json!(row.get::<i64>(1)?);
        }
    }
    Ok(Json::Object(types))
}
