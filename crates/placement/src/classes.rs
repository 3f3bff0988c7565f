//! Resource classes: the standard ones, and custom ones that clients make.

use api::message::Reply;
use api::wire::text;
use api::{Answer, Call, Json, NoInput, Operation, Path, Permitted, Refusal, delete, get, json, post, put, v};
use base::{Time, clock};
use db::{record, select, sql};

use crate::Placement;
use crate::epoch;
use crate::exchange::{AcceptsJson, Sent, checked, path_link, shown};
use crate::standard::{self, CUSTOM_POSITION};
use crate::stop::Stop;

const CUSTOM: &str = "^CUSTOM_[A-Z0-9_]+$";

pub fn operations() -> Vec<Operation<Placement>> {
    vec![
        get("/resource_classes", list).rule("placement:resource_classes:list").since(v(1, 2)),
        post("/resource_classes", create).rule("placement:resource_classes:create").since(v(1, 2)),
        get("/resource_classes/{name}", show).rule("placement:resource_classes:show").since(v(1, 2)),
        put("/resource_classes/{name}", rename).rule("placement:resource_classes:update").since(v(1, 2)).until(v(1, 6)),
        put("/resource_classes/{name}", ensure).rule("placement:resource_classes:update").since(v(1, 7)),
        delete("/resource_classes/{name}", remove).rule("placement:resource_classes:delete").since(v(1, 2)),
    ]
}

api::wire! {
    pub struct NamedClass {
        name: String = text(0, 255).matching(CUSTOM).required(),
    }
}

record! {
    pub struct Class in "resource_classes" {
        pub name: String,
        pub position: i64,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl Class {
    fn custom(name: &str) -> Class {
        let now = clock::now();
        Class { name: name.to_string(), position: CUSTOM_POSITION, created_at: now, updated_at: now }
    }

    fn view(&self, call: &Call<Placement>) -> Json {
        let href = path_link(call, &format!("/resource_classes/{}", self.name));
        json!({"name": self.name, "links": [{"rel": "self", "href": href}]})
    }
}

async fn find(call: &Call<Placement>, name: &str) -> Answer<Class> {
    let found = call.db.maybe(select::<Class>("WHERE name = ?").bind(name)).await?;
    found.ok_or_else(|| Refusal::not_found(format!("No such resource class {name}.")))
}

async fn list(call: Call<Placement>, _: AcceptsJson) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let classes: Vec<Class> = call.db.all(select("ORDER BY position, created_at, name")).await?;
    let newest = classes.iter().map(|class| class.updated_at).max();
    let body = json!({"resource_classes": classes.iter().map(|class| class.view(&call)).collect::<Vec<_>>()});
    Ok(permitted.map(|()| shown(&call, &body, newest.unwrap_or_else(clock::now))))
}

async fn show(call: Call<Placement>, (_, Path(name)): (AcceptsJson, Path<String>)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let class = find(&call, &name).await?;
    Ok(permitted.map(|()| shown(&call, &class.view(&call), class.updated_at)))
}

async fn create(call: Call<Placement>, sent: Sent<NamedClass>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let name = sent.body()?.name;
    if !call.db.insert_new(&Class::custom(&name)).await? {
        return Err(Refusal::conflict(format!("Conflicting resource class already exists: {name}")));
    }
    let link = call.reader.link(&format!("/resource_classes/{name}"));
    Ok(permitted.map(|()| Reply::new(201).header("location", &link)))
}

/// 1.7: makes the class unless it is there.
async fn ensure(call: Call<Placement>, (Path(name), _): (Path<String>, NoInput)) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let name = checked::<NamedClass>(json!({"name": name}), call.version)?.name;
    let status = if call.db.insert_new(&Class::custom(&name)).await? { 201 } else { 204 };
    let link = call.reader.link(&format!("/resource_classes/{name}"));
    Ok(permitted.map(|()| Reply::new(status).header("location", &link)))
}

/// 1.2 to 1.6: gives a class another name, also where it is in use.
async fn rename(
    call: Call<Placement>,
    (Path(old), sent): (Path<String>, Sent<NamedClass>),
) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    let new = sent.body()?.name;
    let class = find(&call, &old).await?;
    if !standard::is_custom(&old) {
        return Err(Refusal::bad_request(format!("Cannot update standard resource class {old}")));
    }
    let renamed = call.db.retry(async || -> Result<(), Stop> {
        let mut tx = call.db.begin().await?;
        let users = sql("SELECT DISTINCT provider FROM inventories WHERE resource_class = ?").bind(&old);
        let users = tx.rows(users).await?.iter().map(|row| row.get(0)).collect::<Result<_, _>>()?;
        let rename = sql("UPDATE resource_classes SET name = ?, updated_at = ? WHERE name = ?");
        match tx.run(rename.bind(&new).bind(clock::now()).bind(&old)).await {
            Err(error) if error.is_duplicate() => {
                return Err(Refusal::conflict(format!("Resource class already exists: {new}")).into());
            }
            done => done?,
        };
        epoch::touch(&mut tx, &users).await?;
        tx.commit().await?;
        Ok(())
    });
    renamed.await?;
    let class = Class { name: new, updated_at: clock::now(), ..class };
    Ok(permitted.map(|()| Reply::json(200, &class.view(&call))))
}

async fn remove(call: Call<Placement>, Path(name): Path<String>) -> Answer<Permitted<Reply>> {
    let permitted = call.allow()?;
    find(&call, &name).await?;
    if !standard::is_custom(&name) {
        let text = format!("Error in delete resource class: Cannot delete standard resource class {name}.");
        return Err(Refusal::bad_request(text));
    }
    match call.db.run(sql("DELETE FROM resource_classes WHERE name = ?").bind(&name)).await {
        Err(db::Error::Constraint { .. }) => {
            let text = format!("Error in delete resource class: Cannot delete resource class {name}.");
            Err(Refusal::conflict(format!("{text} Class is in use in inventory.")))
        }
        Err(error) => Err(error.into()),
        Ok(0) => Err(Refusal::not_found(format!("No such resource class {name}."))),
        Ok(_) => Ok(permitted.map(|()| Reply::new(204))),
    }
}
