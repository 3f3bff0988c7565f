//! One image, and room for more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use api::message::BoxFuture;
use api::{Endpoint, Json, Reply, Request, json};

use super::missing;

/// The image of every test.
pub const IMAGE: &str = "622176fb-7e1e-4b66-928d-4ea6a5284421";

pub struct FakeImages(Mutex<HashMap<String, Json>>);

impl FakeImages {
    pub fn new() -> Arc<FakeImages> {
        let images = FakeImages(Mutex::default());
        images.add(IMAGE, json!({"hw_disk_bus": "virtio"}));
        Arc::new(images)
    }

    /// Adds an active image; `more` is merged into it.
    pub fn add(&self, id: &str, more: Json) {
        let mut image = json!({
            "id": id, "name": "tiny", "status": "active", "visibility": "public", "owner": "admins", "size": 1 << 20,
            "virtual_size": 1 << 24, "disk_format": "qcow2", "container_format": "bare", "min_disk": 0, "min_ram": 0,
            "checksum": "c", "os_hash_algo": "sha512", "os_hash_value": "h", "protected": false, "os_hidden": false,
            "tags": [], "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
            "file": "/v2/images/x/file", "self": "/v2/images/x", "schema": "/v2/schemas/image",
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            image[key] = value.clone();
        }
        self.0.lock().unwrap().insert(id.to_string(), image);
    }
}

impl Endpoint for FakeImages {
    fn call(&self, request: Request) -> BoxFuture<'_, Reply> {
        let id = request.path.trim_start_matches("/v2/images/").to_string();
        let found = self.0.lock().unwrap().get(&id).cloned();
        Box::pin(async move { found.map_or_else(|| missing("The image"), |image| Reply::json(200, &image)) })
    }
}
