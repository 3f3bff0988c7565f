//! A DHCP client of a few lines: discover, offer, request, acknowledgement.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::Guest;

pub struct Leased {
    pub address: Ipv4Addr,
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Leased {
    pub fn addresses(&self, option: u8) -> Vec<Ipv4Addr> {
        let bytes = self.options.get(&option).cloned().unwrap_or_default();
        bytes.chunks_exact(4).map(|four| Ipv4Addr::from(<[u8; 4]>::try_from(four).unwrap())).collect()
    }

    pub fn text(&self, option: u8) -> String {
        String::from_utf8(self.options.get(&option).cloned().unwrap_or_default()).unwrap()
    }
}

/// Asks for an address; none if nobody answers in time.
pub fn lease(guest: &Guest) -> Option<Leased> {
    lease_as(guest, &guest.port.mac)
}

pub fn lease_as(guest: &Guest, mac: &str) -> Option<Leased> {
    let mac: Vec<u8> = mac.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    guest.space.enter(move || {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        setsockopt(&socket, sockopt::BindToDevice, &"eth0".into()).unwrap();
        let offer = (0..3).find_map(|_| ask(&socket, &mac, 1, &[]))?;
        let mut wish = vec![50, 4];
        wish.extend(offer.address.octets());
        wish.extend([54, 4]);
        wish.extend(&offer.options[&54]);
        ask(&socket, &mac, 3, &wish).filter(|answer| answer.options[&53] == [5])
    })
}

fn ask(socket: &UdpSocket, mac: &[u8], kind: u8, more: &[u8]) -> Option<Leased> {
    const BROADCAST: u8 = 0x80;
    let mut packet = vec![0_u8; 236];
    packet[..8].copy_from_slice(&[1, 1, 6, 0, 1, 2, 3, kind]);
    packet[10] = BROADCAST;
    packet[28..34].copy_from_slice(mac);
    packet.extend([0x63, 0x82, 0x53, 0x63, 53, 1, kind]);
    packet.extend(more);
    packet.extend([55, 7, 1, 3, 6, 12, 15, 26, 121, 255]);
    socket.send_to(&packet, ("255.255.255.255", 67)).unwrap();
    let mut answer = vec![0; 1500];
    let length = socket.recv(&mut answer).ok()?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(&answer[16..20]).unwrap());
    Some(Leased { address, options: options(&answer[240..length]) })
}

fn options(mut bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::new();
    while let [kind, length, rest @ ..] = bytes {
        if *kind == 255 {
            break;
        }
        let (value, after) = rest.split_at(usize::from(*length));
        found.insert(*kind, value.to_vec());
        bytes = after;
    }
    found
}
