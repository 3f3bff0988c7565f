//! Images: what they look like, who sees them, and how they come and go.

use std::borrow::Cow;
use std::collections::BTreeMap;

use api::{
    Answer, AnyBody, Call, Caller, Done, Operation, Path, Permitted, Reader, Refusal, Reply, Show, Target, View,
    delete, get, patch, post,
};
use base::{Json, Time, clock, json};

use crate::Images;

mod document;
mod patches;
mod query;
pub mod store;

pub(crate) use document::{check_tag, python};
pub(crate) use query::page_link;

pub fn operations() -> Vec<Operation<Images>> {
    vec![
        get("/images", query::list).rule("get_images"),
        post("/images", create).rule("add_image"),
        get("/images/{image_id}", show).rule("get_image"),
        patch("/images/{image_id}", patches::update).rule("modify_image"),
        delete("/images/{image_id}", remove).rule("delete_image"),
        post("/images/{image_id}/actions/deactivate", deactivate).rule("deactivate").status(204),
        post("/images/{image_id}/actions/reactivate", reactivate).rule("reactivate").status(204),
    ]
}

/// A word that a column holds, and its enum.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];

            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word),* }
            }

            pub fn named(word: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|known| known.word() == word)
            }
        }

        impl db::Bind for $name {
            fn to_value(&self) -> db::Value {
                db::Value::Text(self.word().to_string())
            }
        }

        impl db::Column for $name {
            fn from_value(value: db::Value) -> Result<Self, String> {
                let word = String::from_value(value)?;
                $name::named(&word).ok_or_else(|| format!("the unknown word {word}"))
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where an image is in its life.
    ///
    /// ```text
    /// POST ──► queued ──PUT file──► saving ──► active ◄──reactivate/deactivate──► deactivated
    ///             ▲                    │
    ///             └──── broken off ────┘           any of them ──DELETE──► (archived)
    /// ```
    Status {
        Queued = "queued",
        Saving = "saving",
        Active = "active",
        Deactivated = "deactivated",
    }
}

words! {
    /// Who finds an image: everybody in lists; everybody who knows its id; the owner; the owner and its members.
    Visibility {
        Public = "public",
        Community = "community",
        Private = "private",
        Shared = "shared",
    }
}

db::record! {
    pub struct Image in "images" {
        pub id: String,
        pub owner: Option<String>,
        pub name: Option<String>,
        pub status: Status,
        pub visibility: Visibility,
        pub disk_format: Option<String>,
        pub container_format: Option<String>,
        pub size: Option<i64>,
        pub virtual_size: Option<i64>,
        pub checksum: Option<String>,
        pub os_hash_algo: Option<String>,
        pub os_hash_value: Option<String>,
        pub min_disk: i64,
        pub min_ram: i64,
        pub protected: bool,
        pub os_hidden: bool,
        pub created_at: Time,
        pub updated_at: Time,
        /// Rises with every change, which is how two changes at once are told apart.
        pub generation: i64,
    }
}

impl Image {
    fn new(owner: Option<String>) -> Image {
        let now = clock::now();
        Image {
            id: base::id::uuid(),
            owner,
            name: None,
            status: Status::Queued,
            visibility: Visibility::Shared,
            disk_format: None,
            container_format: None,
            size: None,
            virtual_size: None,
            checksum: None,
            os_hash_algo: None,
            os_hash_value: None,
            min_disk: 0,
            min_ram: 0,
            protected: false,
            os_hidden: false,
            created_at: now,
            updated_at: now,
            generation: 0,
        }
    }

    /// Whether there is a file to download.
    pub fn has_data(&self) -> bool {
        matches!(self.status, Status::Active | Status::Deactivated)
    }
}

/// An image with all that belongs to it.
#[derive(Debug, Clone)]
pub struct Whole {
    pub image: Image,
    pub properties: BTreeMap<String, String>,
    pub tags: Vec<String>,
    /// The caller's project, if the image is shared with it.
    pub member: Option<String>,
    /// Where the data is, for those images that have some.
    pub store: String,
}

impl Target for Whole {
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        let Image { id, owner, visibility, name: own_name, status, .. } = &self.image;
        match name {
            "project_id" | "owner" => owner.as_deref().map(Cow::Borrowed),
            "member_id" => self.member.as_deref().map(Cow::Borrowed),
            "visibility" => Some(Cow::Borrowed(visibility.word())),
            "image_id" | "id" => Some(Cow::Borrowed(id)),
            "name" => own_name.as_deref().map(Cow::Borrowed),
            "status" => Some(Cow::Borrowed(status.word())),
            other => self.properties.get(other).map(|value| Cow::Borrowed(value.as_str())),
        }
    }
}

impl View for Whole {
    const ONE: &'static str = "";
    const MANY: &'static str = "images";

    fn view(&self, _: &Reader) -> Json {
        let image = &self.image;
        let mut view: api::JsonMap = self.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let core = json!({
            "name": image.name,
            "disk_format": image.disk_format,
            "container_format": image.container_format,
            "visibility": image.visibility.word(),
            "size": image.size,
            "virtual_size": image.virtual_size,
            "status": image.status.word(),
            "checksum": image.checksum,
            "protected": image.protected,
            "min_ram": image.min_ram,
            "min_disk": image.min_disk,
            "owner": image.owner,
            "os_hidden": image.os_hidden,
            "os_hash_algo": image.os_hash_algo,
            "os_hash_value": image.os_hash_value,
            "id": image.id,
            "created_at": image.created_at.iso_z(),
            "updated_at": image.updated_at.iso_z(),
            "tags": self.tags,
            "self": format!("/v2/images/{}", image.id),
            "file": format!("/v2/images/{}/file", image.id),
            "schema": "/v2/schemas/image",
        });
        if let Json::Object(core) = core {
            view.extend(core);
        }
        if image.has_data() {
            view.insert("stores".into(), json!(self.store));
        }
        Json::Object(view)
    }
}

api::faults! {
    /// Why a call about an image may be refused.
    pub enum ImageFault {
        NotFound(id: String) = 404 "" "No image found with ID {id}",
        NotFoundToDelete(id: String) = 404 "" "Failed to find image {id} to delete",
        /// For calls about what belongs to an image.
        Gone(id: String) = 404 "" "Image {id} not found.",
        Exists(id: String) = 409 "" "Image ID {id} already exists!",
        Protected(id: String) = 403 "" "Image {id} is protected and cannot be deleted.",
        ReadOnly(name: String) = 403 "" "Attribute '{name}' is read-only.",
        Reserved(name: String) = 403 "" "Attribute '{name}' is reserved.",
        OtherOwner(owner: String) = 403 "" "You are not permitted to create images owned by '{owner}'",
        Negative(name: String, value: i64) =
            400 "" "Invalid value '{value}' for parameter '{name}': Cannot be a negative value",
        WrongStatus(verb: &'static str, status: &'static str) =
            403 "" "Not allowed to {verb} image in status '{status}'",
        Properties(attempted: usize, maximum: i64) = 413 ""
            "The limit has been exceeded on the number of allowed image properties. \
             Attempted: {attempted}, Maximum: {maximum}",
        Tags(attempted: usize, maximum: i64) = 413 ""
            "The limit has been exceeded on the number of allowed image tags. \
             Attempted: {attempted}, Maximum: {maximum}",
        Busy(id: String) = 409 "" "Image {id} is being changed by somebody else.",
    }
}

/// Upstream: an administrator of images is whoever passes this rule.
pub(crate) fn is_admin(call: &Call<Images>) -> bool {
    call.may_own("context_is_admin")
}

/// The image, if the caller may know that it exists.
pub(crate) async fn find(call: &Call<Images>, id: &str) -> Answer<Option<Whole>> {
    let whole = store::find(&call.db, &call.options.store, id, call.caller.project()).await?;
    Ok(whole.filter(|whole| is_visible(whole, &call.caller, is_admin(call)) && call.may("get_image", whole)))
}

pub(crate) async fn found(call: &Call<Images>, id: &str) -> Answer<Whole> {
    find(call, id).await?.ok_or_else(|| ImageFault::NotFound { id: id.into() }.into())
}

fn is_visible(whole: &Whole, caller: &Caller, admin: bool) -> bool {
    let image = &whole.image;
    admin
        || image.owner.is_none()
        || matches!(image.visibility, Visibility::Public | Visibility::Community)
        || image.owner == caller.project_id
        || (image.visibility == Visibility::Shared && whole.member.is_some())
}

/// Making an image visible to everybody, or to everybody who knows its id, are rights of their own.
pub(crate) fn may_become(call: &Call<Images>, visibility: Visibility, target: &dyn Target) -> Answer<()> {
    match visibility {
        Visibility::Public => call.must("publicize_image", target),
        Visibility::Community => call.must("communitize_image", target),
        Visibility::Private | Visibility::Shared => Ok(()),
    }
}

pub(crate) fn within_quotas(call: &Call<Images>, properties: usize, tags: usize) -> Answer<()> {
    let over = |attempted: usize, maximum: i64| maximum >= 0 && attempted as i64 > maximum;
    if over(tags, call.options.image_tag_quota) {
        return Err(ImageFault::Tags { attempted: tags, maximum: call.options.image_tag_quota }.into());
    }
    if over(properties, call.options.image_property_quota) {
        let maximum = call.options.image_property_quota;
        return Err(ImageFault::Properties { attempted: properties, maximum }.into());
    }
    Ok(())
}

async fn create(call: Call<Images>, AnyBody(body): AnyBody) -> Answer<Permitted<Reply>> {
    let mut whole = document::read_new(&body, &call.options, Image::new(call.caller.project_id.clone()))?;
    whole.store.clone_from(&call.options.store);
    let other = whole.image.owner != call.caller.project_id;
    let refused: Refusal = match other {
        true => ImageFault::OtherOwner { owner: whole.image.owner.clone().unwrap_or_else(|| "None".into()) }.into(),
        false => Refusal::forbidden("You are not authorized to complete add_image action."),
    };
    let whole = call.permit_or(whole, refused)?;
    may_become(&call, whole.image.visibility, &*whole)?;
    within_quotas(&call, whole.properties.len(), whole.tags.len())?;

    store::insert(&call.db, &whole).await?;
    tracing::info!(image = whole.image.id, project = call.caller.project(), "image created");

    let location = call.reader.link(&format!("/images/{}", whole.image.id));
    let reader = call.reader.clone();
    Ok(whole.map(|whole| {
        Reply::json(201, &whole.view(&reader))
            .header("location", &location)
            .header("openstack-image-store-ids", &whole.store)
    }))
}

async fn show(call: Call<Images>, Path(id): Path<String>) -> Answer<Show<Whole>> {
    let whole = found(&call, &id).await?;
    Ok(Show(call.permit_or(whole, ImageFault::NotFound { id })?))
}

async fn remove(call: Call<Images>, Path(id): Path<String>) -> Answer<Done> {
    let missing = || ImageFault::NotFoundToDelete { id: id.clone() };
    let whole = find(&call, &id).await?.ok_or_else(missing)?;
    let whole = call.permit(whole)?;
    if whole.image.protected {
        return Err(ImageFault::Protected { id }.into());
    }
    if !store::archive(&call.db, &whole).await? {
        return Err(missing().into());
    }
    tracing::info!(image = id, project = call.caller.project(), "image deleted");
    // The row is gone, so the image is; the sweep removes the file if we cannot.
    call.remove_file(&id).await;
    Ok(Done::with(whole))
}

async fn deactivate(call: Call<Images>, Path(id): Path<String>) -> Answer<Done> {
    change_status(call, id, "deactivate", Status::Active, Status::Deactivated).await
}

async fn reactivate(call: Call<Images>, Path(id): Path<String>) -> Answer<Done> {
    change_status(call, id, "reactivate", Status::Deactivated, Status::Active).await
}

async fn change_status(call: Call<Images>, id: String, verb: &'static str, from: Status, to: Status) -> Answer<Done> {
    let whole = call.permit(found(&call, &id).await?)?;
    if whole.image.status == to {
        return Ok(Done::with(whole));
    }
    if !store::change_status(&call.db, &id, from, to).await? {
        return Err(ImageFault::WrongStatus { verb, status: whole.image.status.word() }.into());
    }
    tracing::info!(image = id, status = to.word(), "image changed its status");
    Ok(Done::with(whole))
}
