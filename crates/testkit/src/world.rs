//! The usual things that people have: a flavor, an image, a network, a server.

use api::{Json, json};

use crate::cloud::id_of;
use crate::member::Member;

/// What a server needs.
pub struct World {
    pub flavor: String,
    pub image: String,
    pub network: String,
    pub subnet: String,
}

impl Member<'_> {
    /// Makes what a server of this person's needs. The flavor is made by the administrator, once.
    pub async fn world(&self) -> World {
        let network = json!({"network": {"name": "private"}});
        let network = id_of(self.network().post("/networks", &network).await, 201);
        let subnet = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": "10.0.0.0/24"}});
        let subnet = id_of(self.network().post("/subnets", &subnet).await, 201);
        World { flavor: self.small_flavor().await, image: self.make_image().await, network, subnet }
    }

    async fn small_flavor(&self) -> String {
        let admin = self.cloud.admin().await;
        let compute = admin.compute(2, 1);
        if compute.get("/flavors/small").await.status != 200 {
            let flavor = json!({"flavor": {"id": "small", "name": "small", "vcpus": 1, "ram": 512, "disk": 1}});
            compute.post("/flavors", &flavor).await.ok(200);
        }
        "small".to_string()
    }

    /// A small raw image of this person's, with data.
    pub async fn make_image(&self) -> String {
        let image = json!({"name": "tiny", "disk_format": "raw", "container_format": "bare"});
        let id = id_of(self.image().post("/images", &image).await, 201);
        self.image().upload(&format!("/images/{id}/file"), vec![0; 4096]).await.ok(204);
        id
    }

    /// Asks for a server on the network of `world`.
    pub async fn ask_for_server(&self, name: &str, world: &World) -> String {
        let body = json!({"server": {
            "name": name,
            "flavorRef": world.flavor,
            "imageRef": world.image,
            "networks": [{"uuid": world.network}],
        }});
        id_of(self.compute(2, 37).post("/servers", &body).await, 202)
    }

    pub async fn server(&self, id: &str) -> Json {
        self.compute(2, 100).get(&format!("/servers/{id}")).await.ok(200)["server"].clone()
    }

    /// Waits until a server has this status.
    pub async fn until(&self, server: &str, status: &str) -> Json {
        let what = format!("server {server} is {status}");
        self.cloud.until(&what, async || self.server(server).await["status"] == status).await;
        self.server(server).await
    }

    /// A server that runs.
    pub async fn boot(&self, name: &str, world: &World) -> String {
        let id = self.ask_for_server(name, world).await;
        self.until(&id, "ACTIVE").await;
        id
    }

    /// Deletes a server and waits until nobody knows it any more.
    pub async fn delete_server(&self, id: &str) {
        let path = format!("/servers/{id}");
        self.compute(2, 1).delete(&path).await.ok(204);
        let what = format!("server {id} is gone");
        self.cloud.until(&what, async || self.compute(2, 1).get(&path).await.status == 404).await;
        self.cloud.settled().await;
    }
}
