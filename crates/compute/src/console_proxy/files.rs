//! noVNC's own pages, from the distribution's package.

use std::path::Path;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::head::Head;

/// Limit: bytes of one file.
const BYTES: u64 = 8 << 20;

/// Answers with a file below `root`, or 404.
pub(super) async fn answer(to: &mut (impl AsyncWrite + Unpin), head: &Head, root: &Path) -> std::io::Result<()> {
    let (status, kind, body) = match found(&head.path, root).await {
        Some((kind, bytes)) => ("200 OK", kind, bytes),
        None => ("404 Not Found", "text/plain", absent(root)),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    to.write_all(head.as_bytes()).await?;
    to.write_all(&body).await?;
    to.shutdown().await
}

fn absent(root: &Path) -> Vec<u8> {
    match root.is_dir() {
        true => b"There is no such file.".to_vec(),
        false => b"noVNC is not installed on this controller (Debian and Ubuntu: package novnc).".to_vec(),
    }
}

async fn found(path: &str, root: &Path) -> Option<(&'static str, Vec<u8>)> {
    let path = api::message::decode(path);
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0']);
    let relative = path.trim_start_matches('/');
    if !relative.split('/').all(plain) {
        return None;
    }
    let file = root.join(relative);
    let facts = tokio::fs::metadata(&file).await.ok().filter(|facts| facts.is_file() && facts.len() <= BYTES);
    facts?;
    Some((kind(relative), tokio::fs::read(&file).await.ok()?))
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "ttf" => "font/ttf",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_outside_is_shown() {
        let root = std::env::temp_dir().join(format!("novnc-{}", base::id::uuid()));
        std::fs::create_dir_all(root.join("core")).unwrap();
        std::fs::write(root.join("core/rfb.js"), "1").unwrap();
        std::fs::write(root.with_extension("secret"), "x").unwrap();
        assert_eq!(found("/core/rfb.js", &root).await.unwrap().0, "text/javascript; charset=utf-8");
        assert!(found("/core/", &root).await.is_none());
        assert!(found("/core", &root).await.is_none());
        assert!(found("/..%2f..%2fetc/passwd", &root).await.is_none());
        assert!(found("/core/../../etc/passwd", &root).await.is_none());
        std::fs::remove_file(root.with_extension("secret")).unwrap();
        std::fs::remove_dir_all(root).unwrap();
    }
}
