//! Consoles: logs, tokens, and the proxy between a browser and a screen.

use api::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::cloud::Cloud;

#[tokio::test]
async fn the_last_lines_of_a_log_are_shown() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    let got = alice.act(&id, json!({"os-getConsoleOutput": {"length": 2}})).await.expect(200);
    assert_eq!(got.body, json!({"output": "line 49\nline 50"}));
    let got = alice.act(&id, json!({"os-getConsoleOutput": {"length": "1"}})).await.expect(200);
    assert_eq!(got.body, json!({"output": "line 50"}));
    let all = alice.act(&id, json!({"os-getConsoleOutput": {}})).await.expect(200);
    assert!(all.body["output"].as_str().unwrap().starts_with("line 1\n"));
    alice.act(&id, json!({"os-getConsoleOutput": {"length": -2}})).await.expect(400);
    let nobody = base::id::uuid();
    alice.act(&nobody, json!({"os-getConsoleOutput": {}})).await.expect(404);
}

#[tokio::test]
async fn a_screen_is_opened_by_a_token() {
    let cloud = Cloud::new().await;
    let _host = cloud.host("h1").await;
    let id = cloud.boot("web").await;
    let alice = cloud.by("alice");
    let path = format!("/v2.1/servers/{id}/remote-consoles");
    let body = json!({"remote_console": {"protocol": "vnc", "type": "novnc"}});
    let got = alice.at("2.6").post(&path, body.clone()).await.expect(200);
    let url = got.body["remote_console"]["url"].as_str().unwrap().to_string();
    let token = url.strip_prefix("http://controller:6080/vnc_lite.html?path=%3Ftoken%3D").unwrap().to_string();
    alice.at("2.5").post(&path, body).await.expect(404);
    let old = alice.at("2.5").act(&id, json!({"os-getVNCConsole": {"type": "novnc"}})).await.expect(200);
    assert_eq!(old.body["console"]["type"], "novnc");
    alice.at("2.6").act(&id, json!({"os-getVNCConsole": {"type": "novnc"}})).await.expect(404);
    let serial = json!({"remote_console": {"protocol": "serial", "type": "serial"}});
    alice.at("2.6").post(&path, serial).await.expect(400);

    let admin = cloud.by("admin");
    let shown = admin.at("2.31").get(&format!("/v2.1/os-console-auth-tokens/{token}")).await.expect(200);
    let wanted = json!({"instance_uuid": id, "host": "192.0.2.1", "port": 5900, "internal_access_path": null});
    assert_eq!(shown.body["console"], wanted);
    admin.at("2.31").get("/v2.1/os-console-auth-tokens/nosuch").await.expect(404);
    alice.at("2.31").get(&format!("/v2.1/os-console-auth-tokens/{token}")).await.expect(403);
}

/// A VNC server that greets and says back what it hears.
async fn screen() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        client.write_all(b"RFB 003.008\n").await.unwrap();
        let mut heard = [0; 4];
        client.read_exact(&mut heard).await.unwrap();
        client.write_all(&heard).await.unwrap();
    });
    port
}

#[tokio::test]
async fn a_browser_reaches_the_screen_through_the_proxy() {
    let cloud = Cloud::new().await;
    let host = cloud.host("h1").await;
    host.screen_at(&format!("127.0.0.1:{}", screen().await));
    let id = cloud.boot("web").await;
    let path = format!("/v2.1/servers/{id}/remote-consoles");
    let body = json!({"remote_console": {"protocol": "vnc", "type": "novnc"}});
    let got = cloud.by("alice").at("2.6").post(&path, body).await.expect(200);
    let url = got.body["remote_console"]["url"].as_str().unwrap().to_string();
    let token = url.rsplit("%3D").next().unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let proxy = tokio::spawn(compute::console_proxy::serve(listener, cloud.compute.clone(), stopped));
    let open = async |token: &str, origin: &str| {
        let mut browser = TcpStream::connect(at).await.unwrap();
        let head = format!(
            "GET /?token={token} HTTP/1.1\r\nHost: controller:6080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Origin: {origin}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: binary\r\n\r\n"
        );
        browser.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(browser.read_u8().await.unwrap());
        }
        (browser, String::from_utf8(answer).unwrap())
    };
    assert!(open("nosuch", "http://controller:6080").await.1.starts_with("HTTP/1.1 403"));
    assert!(open(token, "http://evil.example").await.1.starts_with("HTTP/1.1 403"));

    let (mut browser, answer) = open(token, "http://controller:6080").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    assert!(answer.contains("sec-websocket-protocol: binary"), "{answer}");
    let mut frame = [0; 14];
    browser.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame[2..], b"RFB 003.008\n");
    browser.write_all(&[0x82, 0x84, 0, 0, 0, 0, b'p', b'i', b'n', b'g']).await.unwrap();
    let mut frame = [0; 6];
    browser.read_exact(&mut frame).await.unwrap();
    assert_eq!(&frame[2..], b"ping");
    stop.send_replace(true);
    proxy.await.unwrap();
}
