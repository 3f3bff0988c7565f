//! What a client may ask about the service itself: versions, stores, import methods, usage.

use api::{Answer, Call, Document, Done, NoInput, Operation, Path, Refusal, Reply, Request, delete, get};
use base::{Json, json};

use crate::Images;
use crate::images::{ImageFault, found};

pub fn operations() -> Vec<Operation<Images>> {
    let mut operations = vec![
        get("/info/import", import).open(),
        get("/info/stores", stores).open(),
        get("/info/stores/detail", stores_detail).rule("stores_info_detail"),
        get("/info/usage", usage).open(),
        get("/images/{image_id}/locations", locations).rule("fetch_image_location"),
        delete("/stores/{store_id}/{image_id}", delete_from_store).rule("delete_image_location"),
    ];
    operations.extend(cache());
    operations
}

/// Upstream: minor versions tell of features; these are the ones of a service with named stores.
const MINORS: [u32; 16] = [17, 15, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0];

/// `GET /` and `GET /versions`; a path of no version that we know gets the same choices.
pub fn versions(request: &Request) -> Option<Reply> {
    let first = request.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let status = match first {
        "v2" => return None,
        "versions" => 200,
        _ => 300,
    };
    let version = |minor: &u32| {
        json!({
            "id": format!("v2.{minor}"),
            "status": if *minor == MINORS[0] { "CURRENT" } else { "SUPPORTED" },
            "links": [{"rel": "self", "href": format!("{}/v2/", request.base_url)}],
        })
    };
    Some(Reply::json(status, &json!({"versions": MINORS.iter().map(version).collect::<Vec<Json>>()})))
}

/// None yet: an image's data comes by `PUT …/file`.
async fn import(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let methods = json!({"description": "Import methods available.", "type": "array", "value": []});
    Ok(Document::new(call.allow()?, json!({"import-methods": methods})))
}

async fn stores(call: Call<Images>, _: NoInput) -> Answer<Document> {
    Ok(Document::new(call.allow()?, json!({"stores": [{"id": call.options.store, "default": "true"}]})))
}

async fn stores_detail(call: Call<Images>, _: NoInput) -> Answer<Document> {
    let store = json!({
        "id": call.options.store,
        "default": "true",
        "type": "file",
        "weight": 0,
        "properties": {
            "data_dir": call.options.data_dir.display().to_string(),
            "chunk_size": 262_144,
            "thin_provisioning": false,
        },
    });
    Ok(Document::new(call.allow()?, json!({"stores": [store]})))
}

/// Upstream: empty where the limits are not kept in identity.
async fn usage(call: Call<Images>, _: NoInput) -> Answer<Document> {
    Ok(Document::new(call.allow()?, json!({"usage": {}})))
}

async fn locations(call: Call<Images>, Path(id): Path<String>) -> Answer<Document> {
    let whole = call.permit(found(&call, &id).await?)?;
    let url = format!("file://{}", call.options.data_dir.join(&id).display());
    let locations = match whole.image.has_data() {
        true => json!([{"url": url, "metadata": {"store": call.options.store}}]),
        false => json!([]),
    };
    Ok(Document::of(whole, |_| locations))
}

async fn delete_from_store(call: Call<Images>, Path((store, id)): Path<(String, String)>) -> Answer<Done> {
    let whole = call.permit(found(&call, &id).await?)?;
    if store != call.options.store {
        return Err(Refusal::conflict(format!("The selected store {store} is not available on this node.")));
    }
    if !whole.image.has_data() {
        return Err(ImageFault::NotFound { id }.into());
    }
    let only = "Cannot delete image data from the only store containing it. Consider deleting the image instead.";
    Err(Refusal::forbidden(only))
}

/// Upstream: without a cache, which is the default, its whole API says so.
fn cache() -> Vec<Operation<Images>> {
    vec![
        get("/cache", no_cache).open(),
        delete("/cache", no_cache).open(),
        api::post("/cache/clean", no_cache).open(),
        api::post("/cache/prune", no_cache).open(),
        get("/cache/nodes/{image_id}", no_cache).open(),
        api::put("/cache/{image_id}", no_cache).open(),
        delete("/cache/{image_id}", no_cache).open(),
    ]
}

async fn no_cache(_: Call<Images>, _: NoInput) -> Answer<Done> {
    Err(Refusal::not_found("Caching via API is not supported at this site."))
}
