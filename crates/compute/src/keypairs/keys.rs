//! Public keys and their fingerprints, and new pairs for clients that are too old to make their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};
use rsa::pkcs1::{EncodeRsaPrivateKey, LineEnding};
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPrivateKey};
use sha1::Sha1;

/// Upstream's size of a new key.
const BITS: usize = 2048;
/// Upstream: what a new public key says about itself.
const COMMENT: &str = "Generated-by-Nova";

/// A new pair, as text.
pub struct Pair {
    pub public: String,
    pub private: String,
}

/// Why there is no new pair; it never happens on a machine that has a source of randomness.
#[derive(Debug, thiserror::Error)]
pub enum NoPair {
    #[error("no RSA key could be made")]
    Rsa(#[from] rsa::Error),
    #[error("the new key cannot be written down")]
    Encoding(#[from] rsa::pkcs1::Error),
}

/// Makes an RSA key. It keeps a processor busy for a while: not for a thread that answers requests.
pub fn generate() -> Result<Pair, NoPair> {
    let key = RsaPrivateKey::new(&mut OsRng, BITS)?;
    let private = key.to_pkcs1_pem(LineEnding::LF)?.to_string();
    let mut octets = Vec::new();
    put(&mut octets, b"ssh-rsa");
    put_number(&mut octets, key.e());
    put_number(&mut octets, key.n());
    Ok(Pair { public: format!("ssh-rsa {} {COMMENT}", STANDARD.encode(octets)), private })
}

fn put(to: &mut Vec<u8>, octets: &[u8]) {
    to.extend((octets.len() as u32).to_be_bytes());
    to.extend(octets);
}

/// A number of SSH is signed: a leading bit that is set needs a zero before it.
fn put_number(to: &mut Vec<u8>, number: &BigUint) {
    let octets = number.to_bytes_be();
    match octets.first() {
        Some(first) if first & 0x80 != 0 => put(to, &[&[0], octets.as_slice()].concat()),
        _ => put(to, &octets),
    }
}

/// The MD5 of an SSH key's octets, or the SHA-1 of a certificate's DER form, in pairs of hex digits.
pub fn fingerprint(kind: &str, public_key: &str) -> Option<String> {
    match kind {
        "x509" => Some(pairs(&Sha1::digest(certificate(public_key)?))),
        _ => Some(pairs(&Md5::digest(ssh_octets(public_key)?))),
    }
}

fn pairs(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// The octets of an OpenSSH public key, whose first field must name the same type as the line does.
fn ssh_octets(line: &str) -> Option<Vec<u8>> {
    let mut words = line.split_whitespace();
    let (kind, coded) = (words.next()?, words.next()?);
    let octets = STANDARD.decode(coded).ok()?;
    let length = u32::from_be_bytes(octets.get(..4)?.try_into().ok()?) as usize;
    let named = octets.get(4..4usize.checked_add(length)?)?;
    let known = ["ssh-rsa", "ssh-ed25519", "ssh-dss"].contains(&kind)
        || kind.starts_with("ecdsa-sha2-nistp")
        || kind.starts_with("sk-");
    (known && named == kind.as_bytes() && octets.len() > 4 + length).then_some(octets)
}

/// The DER form of the first certificate in a PEM text: one whole ASN.1 sequence.
fn certificate(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (inner, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let der = STANDARD.decode(inner.split_whitespace().collect::<String>()).ok()?;
    let (length, header) = match (der.first()?, *der.get(1)?) {
        (0x30, short @ 0..=0x7f) => (usize::from(short), 2),
        (0x30, 0x81) => (usize::from(*der.get(2)?), 3),
        (0x30, 0x82) => (usize::from(u16::from_be_bytes([*der.get(2)?, *der.get(3)?])), 4),
        _ => return None,
    };
    (der.len() == header + length).then_some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_fingerprint_that_upstream_shows() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMLaANPpj6Ko6K0Qa8iQJZG0C/ukuevGoosOjuJSVsOq test@example\n";
        let shown = "cb:77:07:44:44:23:09:79:cb:8a:f6:b4:b5:0d:8e:fd";
        assert_eq!(fingerprint("ssh", key).as_deref(), Some(shown));
        assert_eq!(fingerprint("ssh", "zz"), None);
        assert_eq!(fingerprint("ssh", &key.replace("ssh-ed25519", "ssh-rsa")), None);
        assert_eq!(
            fingerprint("x509", "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n")
                .map(|print| print.len()),
            Some(59)
        );
        assert_eq!(fingerprint("x509", "-----BEGIN CERTIFICATE-----\nzz\n-----END CERTIFICATE-----\n"), None);
    }

    #[test]
    fn a_new_pair_is_a_pair() {
        let pair = generate().unwrap();
        assert!(pair.private.starts_with(concat!("-----BEGIN RSA PRIVATE", " KEY-----\n")), "{}", pair.private);
        assert!(pair.public.ends_with(" Generated-by-Nova"), "{}", pair.public);
        assert!(fingerprint("ssh", &pair.public).is_some());
    }
}
