//! What servers learn about themselves.

use api::{Endpoint, Json, Method, Request, json};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::cloud::{Cloud, SECRET, new_server};

struct Guest<'a> {
    service: compute::metadata::Service,
    id: &'a str,
}

impl Guest<'_> {
    fn request(&self, method: Method, path: &str) -> Request {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(self.id.as_bytes());
        let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Request::new(method, path)
            .header("x-instance-id", self.id)
            .header("x-tenant-id", "blue")
            .header("x-instance-id-signature", &signature)
    }

    async fn answer(&self, request: Request) -> (u16, String) {
        let reply = self.service.call(request).await;
        let status = reply.status.as_u16();
        (status, String::from_utf8(reply.content.bytes(1 << 20).await.unwrap().to_vec()).unwrap())
    }

    async fn read(&self, path: &str) -> String {
        let (status, text) = self.answer(self.request(Method::GET, path)).await;
        assert_eq!(status, 200, "{path}: {text}");
        text
    }

    async fn json(&self, path: &str) -> Json {
        serde_json::from_str(&self.read(path).await).unwrap()
    }
}

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDp3u3T0Bm8Hq3hPZ8rZyqXk1q7Zk1gJk0c0pW1cQm3S alice@laptop";

/// A server with everything that metadata can show.
async fn rich(cloud: &Cloud) -> String {
    let key = json!({"keypair": {"name": "laptop", "public_key": KEY}});
    cloud.by("alice").post("/v2.1/os-keypairs", key).await.expect(200);
    let mut body = new_server("Web One");
    body["server"]["key_name"] = json!("laptop");
    body["server"]["user_data"] = json!("IyEvYmluL3NoCmVjaG8gaGk=");
    body["server"]["metadata"] = json!({"role": "web"});
    body["server"]["config_drive"] = json!(true);
    body["server"]["networks"] = json!([{"uuid": crate::fakes::network::PRIVATE, "tag": "front"}]);
    let got = cloud.by("alice").at("2.52").post("/v2.1/servers", body).await.expect(202);
    cloud.settled().await;
    got.body["server"]["id"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn a_guest_walks_both_trees() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    let id = rich(&cloud).await;
    let guest = Guest { service: compute::metadata::Service::new(cloud.compute.clone(), SECRET), id: &id };

    assert!(guest.read("/").await.starts_with("1.0\n2007-01-19\n"));
    assert!(guest.read("/openstack").await.ends_with("2025-04-04\nlatest"));
    let listing = "meta_data.json\nuser_data\npassword\nvendor_data.json\nnetwork_data.json\nvendor_data2.json";
    assert_eq!(guest.read("/openstack/latest/").await, listing);
    assert_eq!(guest.read("/openstack/2012-08-10").await, "meta_data.json\nuser_data");
    let data = guest.json("/openstack/latest/meta_data.json").await;
    assert_eq!(data["uuid"], id.as_str());
    assert_eq!(data["hostname"], "web-one.novalocal");
    assert_eq!(data["public_keys"], json!({"laptop": KEY}));
    assert_eq!(data["keys"], json!([{"name": "laptop", "type": "ssh", "data": KEY}]));
    assert_eq!(data["meta"], json!({"role": "web"}));
    assert_eq!(data["availability_zone"], "nova");
    assert_eq!(data["devices"][0]["tags"], json!(["front"]));
    assert_eq!(data["admin_pass"], json!(null));
    let older = guest.json("/openstack/2012-08-10/meta_data.json").await;
    assert_eq!(older["random_seed"], json!(null));
    assert_eq!(older["project_id"], json!(null));
    assert_eq!(guest.read("/openstack/latest/user_data").await, "#!/bin/sh\necho hi");
    assert_eq!(guest.json("/openstack/latest/vendor_data2.json").await, json!({"static": {}}));

    let network = guest.json("/openstack/latest/network_data.json").await;
    assert_eq!(network["networks"][0]["type"], "ipv4_dhcp");
    assert_eq!(network["links"][0]["type"], "bridge");
    assert_eq!(network["services"], json!([{"type": "dns", "address": "9.9.9.9"}]));

    assert_eq!(guest.read("/2009-04-04").await, "meta-data/\nuser-data");
    assert!(
        guest
            .read("/latest/meta-data/")
            .await
            .starts_with("ami-id\nami-launch-index\nami-manifest-path\nblock-device-mapping/\n")
    );
    assert_eq!(guest.read("/latest/meta-data/public-keys/").await, "0=laptop");
    assert_eq!(guest.read("/latest/meta-data/public-keys/0/").await, "openssh-key");
    assert_eq!(guest.read("/latest/meta-data/public-keys/0/openssh-key").await, KEY);
    assert_eq!(guest.read("/latest/meta-data/local-ipv4").await, "10.0.0.11");
    assert_eq!(guest.read("/latest/meta-data/security-groups").await, "default");
    assert_eq!(guest.read("/1.0/meta-data/instance-id").await, "i-00000001");
    assert_eq!(guest.answer(guest.request(Method::GET, "/1.0/meta-data/instance-type")).await.0, 404);
    assert_eq!(guest.answer(guest.request(Method::GET, "/2042-01-01/meta-data")).await.0, 404);

    let files = host.guest(&id).unwrap().0.config_drive.unwrap();
    let on_drive: Json = serde_json::from_slice(&files["openstack/latest/meta_data.json"]).unwrap();
    assert_eq!(on_drive["hostname"], "web-one.novalocal");
    assert!(on_drive["admin_pass"].is_string());
    assert!(files.contains_key("ec2/latest/meta-data.json"));
    assert_eq!(files["openstack/2012-08-10/user_data"], b"#!/bin/sh\necho hi");
}

#[tokio::test]
async fn only_a_proxy_with_the_secret_is_believed() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let guest = Guest { service: compute::metadata::Service::new(cloud.compute.clone(), SECRET), id: &id };
    let path = "/openstack/latest/meta_data.json";

    let bare = guest.answer(Request::new(Method::GET, path)).await;
    assert_eq!(bare.0, 400);
    let forged = guest.request(Method::GET, path).header("x-instance-id-signature", "00");
    assert_eq!(guest.answer(forged).await.0, 403);
    let stranger = guest.request(Method::GET, path).header("x-tenant-id", "red");
    assert_eq!(guest.answer(stranger).await.0, 404);
    let nobody = base::id::uuid();
    let nobody = Guest { service: compute::metadata::Service::new(cloud.compute.clone(), SECRET), id: &nobody };
    assert_eq!(nobody.answer(nobody.request(Method::GET, path)).await.0, 404);
}

#[tokio::test]
async fn a_guest_posts_its_password_once() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let guest = Guest { service: compute::metadata::Service::new(cloud.compute.clone(), SECRET), id: &id };
    let path = "/openstack/2013-04-04/password";
    assert_eq!(guest.read(path).await, "");
    let post = || {
        let mut request = guest.request(Method::POST, path);
        request.content = api::Content::Bytes("c2VjcmV0".into());
        request
    };
    assert_eq!(guest.answer(post()).await.0, 200);
    assert_eq!(guest.answer(post()).await.0, 409);
    assert_eq!(guest.read(path).await, "c2VjcmV0");
}
