//! WebSocket (RFC 6455), as much of it as a console needs: the handshake, binary frames, ping and close.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::head::Head;

/// The protocol's own constant.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Limit: bytes of one frame of a client, which sends keys and pointer moves, or pastes text.
const FRAME: u64 = 1 << 20;
/// Bytes carried from a screen at once.
const CHUNK: usize = 32 << 10;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The key of a client that wants a WebSocket.
pub(super) fn key(head: &Head) -> Option<String> {
    let wants = head.header("upgrade").is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"));
    head.header("sec-websocket-key").filter(|_| wants).map(String::from)
}

/// Agrees. Older noVNCs insist on the subprotocol `binary`.
pub(super) async fn accept(to: &mut (impl AsyncWrite + Unpin), head: &Head, key: &str) -> std::io::Result<()> {
    let offered = head.header("sec-websocket-protocol").unwrap_or_default();
    let binary = offered.split(',').any(|word| word.trim() == "binary");
    let protocol = if binary { "sec-websocket-protocol: binary\r\n" } else { "" };
    let text = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {}\r\n{protocol}\r\n",
        answer(key)
    );
    to.write_all(text.as_bytes()).await
}

fn answer(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}{GUID}")))
}

/// Carries bytes between a client and a screen until one of them goes away.
pub(super) async fn carry(
    client: impl AsyncRead + AsyncWrite + Send,
    screen: impl AsyncRead + AsyncWrite + Send,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_screen, mut to_screen) = tokio::io::split(screen);
    // Answers to pings go out between two frames of the screen.
    let (pongs, mut pong) = tokio::sync::mpsc::channel::<Vec<u8>>(4);
    let up = async {
        while let Some((opcode, payload)) = frame(&mut from_client).await? {
            match opcode {
                CLOSE => break,
                PING => drop(pongs.try_send(payload)),
                PONG => {}
                _ => to_screen.write_all(&payload).await?,
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let down = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            tokio::select! {
                read = from_screen.read(&mut buffer) => match read? {
                    0 => return Ok(()),
                    count => send(&mut to_client, BINARY, &buffer[..count]).await?,
                },
                Some(payload) = pong.recv() => send(&mut to_client, PONG, &payload).await?,
            }
        }
    };
    let ended: std::io::Result<()> = tokio::select! {
        ended = up => ended,
        ended = down => ended,
    };
    let _ = send(&mut to_client, CLOSE, &1000_u16.to_be_bytes()).await;
    let _ = to_client.shutdown().await;
    ended
}

/// Reads a frame of the client; None when it is gone. Its frames are masked, or it does not speak the protocol.
async fn frame(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let Ok(first) = from.read_u8().await else { return Ok(None) };
    let second = from.read_u8().await?;
    let length = match second & 0x7f {
        126 => from.read_u16().await?.into(),
        127 => from.read_u64().await?,
        length => length.into(),
    };
    let opcode = first & 0x0f;
    if second & 0x80 == 0 || length > FRAME || !matches!(opcode, 0 | TEXT | BINARY | CLOSE | PING | PONG) {
        return Err(std::io::Error::other("the client does not speak WebSocket"));
    }
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; length as usize];
    from.read_exact(&mut payload).await?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok(Some((opcode, payload)))
}

async fn send(to: &mut (impl AsyncWrite + Unpin), opcode: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(payload.len() + 10);
    bytes.push(0x80 | opcode);
    match payload.len() {
        length @ 0..=125 => bytes.push(length as u8),
        length @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    to.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_that_of_the_rfc() {
        assert_eq!(answer("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_the_client_closes() {
        let (mut browser, client) = tokio::io::duplex(1 << 16);
        let (mut guest, screen) = tokio::io::duplex(1 << 16);
        let carried = tokio::spawn(carry(client, screen));

        guest.write_all(b"RFB 003.008\n").await.unwrap();
        let mut frame = [0; 14];
        browser.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame[..2], [0x82, 12]);
        assert_eq!(&frame[2..], b"RFB 003.008\n");

        let masked = |opcode: u8, text: &[u8]| {
            let mut bytes = vec![0x80 | opcode, 0x80 | text.len() as u8, 1, 2, 3, 4];
            bytes.extend(text.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
            bytes
        };
        browser.write_all(&masked(BINARY, b"hello")).await.unwrap();
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"hello");

        browser.write_all(&masked(PING, b"?")).await.unwrap();
        let mut pong = [0; 3];
        browser.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, &[0x8a, 1, b'?']);

        browser.write_all(&masked(CLOSE, b"")).await.unwrap();
        carried.await.unwrap().unwrap();
        assert_eq!(guest.read(&mut typed).await.unwrap(), 0);
    }
}
