//! Members: the projects that a shared image is shared with, and whether they want it.

use api::{
    Answer, AnyBody, Call, Created, Document, Done, Operation, OrConflict, Path, Reader, Refusal, Show, View, delete,
    get, post, put,
};
use base::{Json, Time, clock, json};
use db::{select, sql};

use crate::Images;
use crate::images::{ImageFault, Visibility, Whole, find, is_admin, words};

pub fn operations() -> Vec<Operation<Images>> {
    vec![
        get("/images/{image_id}/members", list).rule("get_members"),
        // Upstream: 200, though something was made.
        post("/images/{image_id}/members", create).rule("add_member").status(200),
        get("/images/{image_id}/members/{member_id}", show).rule("get_member"),
        put("/images/{image_id}/members/{member_id}", update).rule("modify_member"),
        delete("/images/{image_id}/members/{member_id}", remove).rule("delete_member"),
    ]
}

words! {
    /// What the member says to the offer; lists show it the image only once it is accepted.
    Status {
        Pending = "pending",
        Accepted = "accepted",
        Rejected = "rejected",
    }
}

db::record! {
    pub struct Member in "image_members" {
        pub image_id: String,
        pub member: String,
        pub status: Status,
        pub created_at: Time,
        pub updated_at: Time,
    }
}

impl View for Member {
    const ONE: &'static str = "";
    const MANY: &'static str = "members";

    fn view(&self, _: &Reader) -> Json {
        json!({
            "member_id": self.member,
            "image_id": self.image_id,
            "status": self.status.word(),
            "created_at": self.created_at.iso_z(),
            "updated_at": self.updated_at.iso_z(),
            "schema": "/v2/schemas/member",
        })
    }
}

api::faults! {
    pub enum MemberFault {
        NotFound(member: String, id: String) = 404 "" "{member} not found in the member list of the image {id}.",
        NotShared(id: String) = 403 "" "Not allowed to list members for image {id}: Only shared images have members.",
        NotSharedHidden() = 404 "" "Only shared images have members.",
        NotAllowed(verb: &'static str, id: String) = 403 "" "Not allowed to {verb} members for image {id}.",
        Exists(member: String, id: String) = 409 "" "Member {member} is duplicated for image {id}",
        TooMany(id: String, attempted: i64, maximum: i64) = 413 "" "Image member limit exceeded for image {id}: The limit has been exceeded on the number of allowed image members for this image. Attempted: {attempted}, Maximum: {maximum}:",
        BadStatus() = 400 "" "Incorrect request: Status must be \"pending\", \"accepted\" or \"rejected\".",
    }
}

/// The image, or what everybody hears who may not know of it.
async fn image(call: &Call<Images>, id: &str) -> Answer<Whole> {
    find(call, id).await?.ok_or_else(|| ImageFault::Gone { id: id.into() }.into())
}

async fn list(call: Call<Images>, Path(id): Path<String>) -> Answer<Document> {
    let whole = image(&call, &id).await?;
    if whole.image.visibility != Visibility::Shared {
        return Err(MemberFault::NotShared { id }.into());
    }
    let allowed = call.allow_on(&whole)?;
    let all = select::<Member>("WHERE image_id = ? ORDER BY created_at, member").bind(&id);
    let members = call.db.all(all).await?;
    // A member sees no other members.
    let shown = members.iter().filter(|member| is_own(&call, &whole) || member.member == call.caller.project());
    let shown: Vec<Json> = shown.map(|member| member.view(&call.reader)).collect();
    Ok(Document::new(allowed, json!({"members": shown, "schema": "/v2/schemas/members"})))
}

fn is_own(call: &Call<Images>, whole: &Whole) -> bool {
    is_admin(call) || whole.image.owner == call.caller.project_id
}

async fn show(call: Call<Images>, Path((id, member_id)): Path<(String, String)>) -> Answer<Show<Member>> {
    let whole = image(&call, &id).await?;
    if whole.image.visibility != Visibility::Shared {
        return Err(MemberFault::NotSharedHidden {}.into());
    }
    let allowed = call.allow_on(&whole).map_err(|refusal| Refusal::not_found(refusal.message))?;
    let member = member(&call, &whole, &member_id).await?;
    Ok(Show(allowed.map(|()| member)))
}

async fn member(call: &Call<Images>, whole: &Whole, member_id: &str) -> Answer<Member> {
    let id = &whole.image.id;
    let one = select::<Member>("WHERE image_id = ? AND member = ?").bind(id).bind(member_id);
    let member = call.db.maybe(one).await?;
    let member = member.filter(|member| is_own(call, whole) || member.member == call.caller.project());
    member.ok_or_else(|| MemberFault::NotFound { member: member_id.into(), id: id.clone() }.into())
}

async fn create(call: Call<Images>, (Path(id), AnyBody(body)): (Path<String>, AnyBody)) -> Answer<Created<Member>> {
    let member_id = read_member(&body)?;
    let whole = image(&call, &id).await?;
    let refused = || Refusal::from(MemberFault::NotAllowed { verb: "create", id: id.clone() });
    if whole.image.visibility != Visibility::Shared {
        return Err(refused());
    }
    let allowed = call.allow_on(&whole)?;

    let mut tx = call.db.begin().await?;
    // Holds the image, so that it is not deleted under its new member.
    let hold = sql("UPDATE images SET updated_at = updated_at WHERE id = ?").bind(&id);
    if tx.run(hold).await? == 0 {
        return Err(ImageFault::Gone { id }.into());
    }
    let count = sql("SELECT COUNT(*) FROM image_members WHERE image_id = ?").bind(&id);
    let (attempted, maximum) = (tx.count(count).await? + 1, call.options.image_member_quota);
    if maximum >= 0 && attempted > maximum {
        return Err(MemberFault::TooMany { id, attempted, maximum }.into());
    }
    let now = clock::now();
    let member = Member { image_id: id, member: member_id, status: Status::Pending, created_at: now, updated_at: now };
    let exists = || MemberFault::Exists { member: member.member.clone(), id: member.image_id.clone() };
    tx.insert(&member).await.or_conflict(exists)?;
    tx.commit().await?;
    tracing::info!(image = member.image_id, project = member.member, "image shared");
    Ok(Created(allowed.map(|()| member)))
}

fn read_member(body: &Json) -> Answer<String> {
    let bad = Refusal::bad_request;
    let object = match body {
        Json::Null => return Err(bad("Body expected in request.")),
        Json::Object(object) => object,
        Json::Array(_) => return Err(bad("Expected a member in the form: {\"member\": \"image_id\"}")),
        _ => return Err(bad("Unexpected body type. Expected list/dict.")),
    };
    match object.get("member") {
        None => Err(bad("Member to be added not specified")),
        Some(Json::String(member)) if member.is_empty() => Err(bad("Member can't be empty")),
        Some(Json::String(member)) if member.chars().count() <= 255 && !member.contains('\0') => Ok(member.clone()),
        Some(_) => Err(bad("Expected a member in the form: {\"member\": \"image_id\"}")),
    }
}

async fn update(
    call: Call<Images>,
    (Path((id, member_id)), AnyBody(body)): (Path<(String, String)>, AnyBody),
) -> Answer<Show<Member>> {
    let status = read_status(&body)?;
    let whole = image(&call, &id).await?;
    let refused = || Refusal::from(MemberFault::NotAllowed { verb: "update", id: id.clone() });
    if whole.image.visibility != Visibility::Shared {
        return Err(refused());
    }
    // The owner offers; only who it is offered to answers.
    let mut member = member(&call, &whole, &member_id).await?;
    let allowed = call.allow_on(&whole)?;
    if !is_admin(&call) && member.member != call.caller.project() {
        return Err(refused());
    }
    let status = Status::named(&status).ok_or(MemberFault::BadStatus {})?;
    (member.status, member.updated_at) = (status, clock::now());
    let change = sql("UPDATE image_members SET status = ?, updated_at = ? WHERE image_id = ? AND member = ?");
    call.db.run(change.bind(status).bind(member.updated_at).bind(&id).bind(&member_id)).await?;
    Ok(Show(allowed.map(|()| member)))
}

fn read_status(body: &Json) -> Answer<String> {
    let bad = Refusal::bad_request;
    match body {
        Json::Null => Err(bad("Body expected in request.")),
        Json::Object(object) => match object.get("status") {
            Some(status) => Ok(status.as_str().unwrap_or_default().to_string()),
            None => Err(bad("Status not specified")),
        },
        Json::Array(_) => Err(bad("Expected a status in the form: {\"status\": \"status\"}")),
        _ => Err(bad("Unexpected body type. Expected list/dict.")),
    }
}

async fn remove(call: Call<Images>, Path((id, member_id)): Path<(String, String)>) -> Answer<Done> {
    let whole = image(&call, &id).await?;
    let refused = || Refusal::from(MemberFault::NotAllowed { verb: "delete", id: id.clone() });
    if whole.image.visibility != Visibility::Shared {
        return Err(refused());
    }
    member(&call, &whole, &member_id).await?;
    let allowed = call.allow_on(&whole)?;
    let gone = sql("DELETE FROM image_members WHERE image_id = ? AND member = ?").bind(&id).bind(&member_id);
    call.db.run(gone).await?;
    Ok(Done::with(allowed))
}
