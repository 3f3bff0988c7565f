//! Hears of network devices that come and go, so that a guest's wire is connected within milliseconds.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use tokio::net::UnixDatagram;

use super::space::{Error, Space};

/// Limit: the kernel sends messages of at most a page or two.
const LONGEST_MESSAGE: usize = 32 * 1024;

pub(crate) struct Watch {
    /// Tokio has no type for a netlink socket; its datagram socket makes the same calls.
    socket: UnixDatagram,
    interest: Mutex<Interest>,
}

/// What a message may name for somebody to wake up.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Interest {
    /// Guests' devices: they come unwired, and they go.
    pub taps: BTreeSet<String>,
    /// Our own devices: they go only by somebody else's hand.
    pub devices: BTreeSet<String>,
}

impl Watch {
    /// Must be called inside a tokio runtime.
    pub(crate) fn open(space: &Space) -> Result<Watch, Error> {
        let socket = std::os::unix::net::UnixDatagram::from(space.link_events()?);
        let socket = UnixDatagram::from_std(socket).map_err(|error| Error::io("watch network devices", error))?;
        Ok(Watch { socket, interest: Mutex::default() })
    }

    pub(crate) fn look_for(&self, interest: Interest) {
        *self.interest.lock().unwrap_or_else(PoisonError::into_inner) = interest;
    }

    /// Returns when something happened that asks for a comparison.
    pub(crate) async fn changed(&self) {
        let mut bytes = vec![0; LONGEST_MESSAGE];
        loop {
            if self.is_worth_it(self.socket.recv(&mut bytes).await, &bytes).await {
                // One comparison is enough for all that has happened by now.
                while self.socket.try_recv(&mut bytes).is_ok() {}
                return;
            }
        }
    }

    async fn is_worth_it(&self, received: Result<usize, std::io::Error>, bytes: &[u8]) -> bool {
        match received {
            Ok(length) => self.concerns(&bytes[..length]),
            // The kernel had more to say than the socket could keep.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => true,
            Err(error) => {
                tracing::warn!(%error, "lost the kernel's device messages; the periodic comparison goes on");
                std::future::pending().await
            }
        }
    }

    fn concerns(&self, bytes: &[u8]) -> bool {
        let interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        messages(bytes).any(|message| match message.gone {
            true => interest.taps.contains(&message.name) || interest.devices.contains(&message.name),
            false => !message.enslaved && interest.taps.contains(&message.name),
        })
    }
}

#[derive(Debug, PartialEq)]
struct Message {
    name: String,
    gone: bool,
    enslaved: bool,
}

/// Reads `struct nlmsghdr`, `struct ifinfomsg` and the attributes after them.
fn messages(bytes: &[u8]) -> impl Iterator<Item = Message> + '_ {
    const HEADER: usize = 16;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let one = rest.get(..length).filter(|one| one.len() >= HEADER)?;
        rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message(one))
    })
    .flatten()
}

fn message(one: &[u8]) -> Option<Message> {
    const NEW_LINK: u16 = 16;
    const DEL_LINK: u16 = 17;
    const BRIDGE_FAMILY: u8 = 7;
    const ATTRIBUTES: usize = 32;
    let kind = u16::from_ne_bytes(one.get(4..6)?.try_into().ok()?);
    // A message of the bridge family is about a bridge's port, and another one about the device comes with it.
    if (kind != NEW_LINK && kind != DEL_LINK) || *one.get(16)? == BRIDGE_FAMILY {
        return None;
    }
    let mut found = Message { name: String::new(), gone: kind == DEL_LINK, enslaved: false };
    let mut rest = one.get(ATTRIBUTES..)?;
    while let Some((kind, value, after)) = attribute(rest) {
        const NAME: u16 = 3;
        const MASTER: u16 = 10;
        match kind {
            NAME => found.name = String::from_utf8_lossy(value).trim_end_matches('\0').to_string(),
            MASTER => found.enslaved = true,
            _ => {}
        }
        rest = after;
    }
    Some(found)
}

fn attribute(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
    let value = bytes.get(4..length)?;
    Some((kind, value, bytes.get(aligned(length)..).unwrap_or_default()))
}

fn aligned(length: usize) -> usize {
    length.div_ceil(4) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_message(kind: u16, name: &str, master: Option<u32>) -> Vec<u8> {
        let mut body = vec![0_u8; 16];
        let mut put = |kind: u16, value: &[u8]| {
            body.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(aligned(body.len()), 0);
        };
        put(3, format!("{name}\0").as_bytes());
        master.iter().for_each(|index| put(10, &index.to_ne_bytes()));
        let mut all = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        all.extend(kind.to_ne_bytes());
        all.resize(16, 0);
        all.extend(body);
        all
    }

    #[test]
    fn a_device_is_read_with_its_name_and_whether_it_is_wired() {
        let mut bytes = link_message(16, "tap0a1b2c3d-4e", None);
        bytes.extend(link_message(16, "tap1", Some(7)));
        bytes.extend(link_message(17, "brq1", None));
        let read: Vec<Message> = messages(&bytes).collect();
        let want = |name: &str, gone, enslaved| Message { name: name.into(), gone, enslaved };
        assert_eq!(read, [want("tap0a1b2c3d-4e", false, false), want("tap1", false, true), want("brq1", true, false)]);
    }

    #[test]
    fn a_cut_message_is_not_read() {
        let bytes = link_message(16, "tap1", None);
        (0..bytes.len()).for_each(|length| drop(messages(&bytes[..length]).collect::<Vec<_>>()));
        assert_eq!(messages(&bytes[..bytes.len() - 1]).count(), 0);
    }
}
