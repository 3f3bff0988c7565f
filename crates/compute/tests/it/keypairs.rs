//! Keypairs.

use api::json;

use crate::cloud::Cloud;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMLaANPpj6Ko6K0Qa8iQJZG0C/ukuevGoosOjuJSVsOq test@example";
const PRINT: &str = "cb:77:07:44:44:23:09:79:cb:8a:f6:b4:b5:0d:8e:fd";

#[tokio::test]
async fn a_key_is_imported_shown_listed_and_removed() {
    let cloud = Cloud::idle().await;
    let alice = cloud.by("alice");
    let body = json!({"keypair": {"name": "mypub", "public_key": KEY}});
    let made = alice.at("2.10").post("/v2.1/os-keypairs", body.clone()).await.expect(201);
    let mut shown =
        json!({"type": "ssh", "name": "mypub", "public_key": KEY, "fingerprint": PRINT, "user_id": "alice"});
    assert_eq!(made.body["keypair"], shown);
    let got = alice.post("/v2.1/os-keypairs", body).await.expect(409);
    assert_eq!(got.message(), "Key pair 'mypub' already exists.");

    let one = alice.at("2.10").get("/v2.1/os-keypairs/mypub").await.expect(200).body["keypair"].clone();
    let keys: Vec<&str> = one.as_object().unwrap().keys().map(String::as_str).collect();
    let mut wanted =
        ["name", "public_key", "fingerprint", "user_id", "created_at", "deleted", "deleted_at", "id"].to_vec();
    wanted.extend(["updated_at", "type"]);
    wanted.sort_unstable();
    assert_eq!(
        {
            let mut keys = keys;
            keys.sort_unstable();
            keys
        },
        wanted
    );
    shown.as_object_mut().unwrap().remove("user_id");
    assert_eq!(
        alice.at("2.10").get("/v2.1/os-keypairs").await.expect(200).body,
        json!({"keypairs": [{"keypair": shown}]})
    );

    cloud.by("bob").get("/v2.1/os-keypairs/mypub").await.expect(404);
    alice.at("2.10").delete("/v2.1/os-keypairs/mypub").await.expect(204);
    let got = alice.get("/v2.1/os-keypairs/mypub").await.expect(404);
    assert_eq!(got.message(), "Keypair mypub not found for user alice");
}

#[tokio::test]
async fn at_2_1_there_is_no_type_and_other_statuses() {
    let cloud = Cloud::idle().await;
    let alice = cloud.by("alice");
    let made = alice.post("/v2.1/os-keypairs", json!({"keypair": {"name": "k", "public_key": KEY}})).await.expect(200);
    assert!(made.body["keypair"].get("type").is_none());
    let typed = json!({"keypair": {"name": "l", "public_key": KEY, "type": "ssh"}});
    alice.post("/v2.1/os-keypairs", typed).await.expect(400);
    alice.delete("/v2.1/os-keypairs/k").await.expect(202);
}

#[tokio::test]
async fn a_pair_is_made_for_old_clients_and_its_private_half_shown_once() {
    let cloud = Cloud::idle().await;
    let alice = cloud.by("alice");
    let body = json!({"keypair": {"name": "made"}});
    let made = alice.at("2.91").post("/v2.1/os-keypairs", body.clone()).await.expect(201);
    let pair = &made.body["keypair"];
    assert!(pair["private_key"].as_str().unwrap().starts_with(concat!("-----BEGIN RSA PRIVATE", " KEY-----")));
    assert!(pair["public_key"].as_str().unwrap().starts_with("ssh-rsa AAAA"));
    let shown = alice.get("/v2.1/os-keypairs/made").await.expect(200);
    assert!(shown.body["keypair"].get("private_key").is_none());
    alice.at("2.92").post("/v2.1/os-keypairs", body).await.expect(400);
    let certificate = json!({"keypair": {"name": "c", "type": "x509"}});
    alice.at("2.91").post("/v2.1/os-keypairs", certificate).await.expect(400);
}

#[tokio::test]
async fn bad_keys_and_names_are_refused() {
    let cloud = Cloud::idle().await;
    let make = async |version: &str, name: &str, key: &str| {
        let body = json!({"keypair": {"name": name, "public_key": key}});
        cloud.by("alice").at(version).post("/v2.1/os-keypairs", body).await
    };
    let got = make("2.1", "bad", "zz").await.expect(400);
    assert_eq!(got.message(), "Keypair data is invalid: failed to generate fingerprint");
    make("2.91", "a@b.c", KEY).await.expect(400);
    make("2.92", "a@b.c", KEY).await.expect(201);
    make("2.92", " a", KEY).await.expect(400);
    make("2.92", "a/b", KEY).await.expect(400);
}

#[tokio::test]
async fn an_administrator_reaches_the_keys_of_others_from_2_10() {
    let cloud = Cloud::idle().await;
    let body = json!({"keypair": {"name": "k", "public_key": KEY, "user_id": "bob"}});
    cloud.by("alice").at("2.10").post("/v2.1/os-keypairs", body.clone()).await.expect(403);
    cloud.by("admin").at("2.9").post("/v2.1/os-keypairs", body.clone()).await.expect(400);
    cloud.by("admin").at("2.10").post("/v2.1/os-keypairs", body).await.expect(201);
    cloud.by("bob").get("/v2.1/os-keypairs/k").await.expect(200);
    cloud.by("alice").at("2.10").get("/v2.1/os-keypairs/k?user_id=bob").await.expect(403);
    cloud.by("admin").at("2.10").get("/v2.1/os-keypairs?user_id=bob").await.expect(200);
    cloud.by("admin").at("2.10").delete("/v2.1/os-keypairs/k?user_id=bob").await.expect(204);
}

#[tokio::test]
async fn lists_are_paged_from_2_35_and_strict_from_2_75() {
    let cloud = Cloud::idle().await;
    let alice = cloud.by("alice");
    for name in ["c", "a", "b"] {
        let body = json!({"keypair": {"name": name, "public_key": KEY}});
        alice.post("/v2.1/os-keypairs", body).await.expect(200);
    }
    let page = alice.at("2.35").get("/v2.1/os-keypairs?limit=2").await.expect(200);
    let names: Vec<&str> =
        page.body["keypairs"].as_array().unwrap().iter().map(|row| row["keypair"]["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(page.body["keypairs_links"][0]["href"], "http://controller:8774/v2.1/os-keypairs?limit=2&marker=b");
    let rest = alice.at("2.35").get("/v2.1/os-keypairs?limit=2&marker=b").await.expect(200);
    assert_eq!(rest.body["keypairs"].as_array().unwrap().len(), 1);
    let all = alice.at("2.34").get("/v2.1/os-keypairs?limit=2").await.expect(200);
    assert_eq!(all.body["keypairs"].as_array().unwrap().len(), 3);
    assert!(all.body.get("keypairs_links").is_none(), "{}", all.body);
    let got = alice.at("2.35").get("/v2.1/os-keypairs?marker=z").await.expect(400);
    assert_eq!(got.message(), "Marker z could not be found.");
    alice.at("2.74").get("/v2.1/os-keypairs?colour=red").await.expect(200);
    alice.at("2.75").get("/v2.1/os-keypairs?colour=red").await.expect(400);
}

#[tokio::test]
async fn the_quota_of_keypairs_is_kept() {
    let cloud = Cloud::idle().await;
    let body = json!({"quota_class_set": {"key_pairs": 1}});
    cloud.by("admin").put("/v2.1/os-quota-class-sets/default", body).await.expect(200);
    let make = async |name: &str| {
        let body = json!({"keypair": {"name": name, "public_key": KEY}});
        cloud.by("alice").post("/v2.1/os-keypairs", body).await
    };
    make("a").await.expect(200);
    assert_eq!(make("b").await.expect(403).message(), "Quota exceeded, too many key pairs.");
}
