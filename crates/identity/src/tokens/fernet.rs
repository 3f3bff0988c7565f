//! Fernet: AES-128-CBC, then HMAC-SHA256, with the moment of sealing in clear.
//!
//! ```text
//! 0x80 | seconds, 8 bytes | IV, 16 bytes | ciphertext, padded | HMAC over all before, 32 bytes
//! ```

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use base::Time;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const VERSION: u8 = 0x80;
const HEAD: usize = 1 + 8 + 16;
const MAC: usize = 32;

/// URL-safe, written with padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// One key: half signs, half encrypts.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    signing: [u8; 16],
    encryption: [u8; 16],
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<key>")
    }
}

impl Key {
    /// Reads a key file's text.
    pub fn parse(text: &str) -> Option<Key> {
        let bytes: [u8; 32] = BASE64.decode(text.trim()).ok()?.try_into().ok()?;
        let mut key = Key { signing: [0; 16], encryption: [0; 16] };
        key.signing.copy_from_slice(&bytes[..16]);
        key.encryption.copy_from_slice(&bytes[16..]);
        Some(key)
    }

    /// A fresh random key, as the text of a key file.
    pub fn fresh() -> String {
        BASE64.encode(rand::random::<[u8; 32]>())
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.signing).expect("HMAC takes keys of any length");
        mac.update(signed);
        mac
    }

    fn seal(&self, plain: &[u8], seconds: u64, iv: [u8; 16]) -> Vec<u8> {
        let mut sealed = vec![VERSION];
        sealed.extend(seconds.to_be_bytes());
        sealed.extend(iv);
        let cipher = cbc::Encryptor::<aes::Aes128>::new(&self.encryption.into(), &iv.into());
        sealed.extend(cipher.encrypt_padded_vec_mut::<Pkcs7>(plain));
        let mac = self.mac(&sealed).finalize().into_bytes();
        sealed.extend(mac);
        sealed
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (signed, mac) = sealed.split_at_checked(sealed.len().checked_sub(MAC)?)?;
        if signed.len() < HEAD || signed[0] != VERSION {
            return None;
        }
        // Compares in constant time.
        self.mac(signed).verify_slice(mac).ok()?;
        let iv: [u8; 16] = signed[9..HEAD].try_into().ok()?;
        let cipher = cbc::Decryptor::<aes::Aes128>::new(&self.encryption.into(), &iv.into());
        cipher.decrypt_padded_vec_mut::<Pkcs7>(&signed[HEAD..]).ok()
    }
}

/// The keys in force. Invariant: there is at least one, and the first one seals.
#[derive(Debug, Clone)]
pub struct Keys {
    primary: Key,
    older: Vec<Key>,
}

impl Keys {
    /// `None` without a key.
    pub fn new(mut keys: Vec<Key>) -> Option<Keys> {
        if keys.is_empty() {
            return None;
        }
        let primary = keys.remove(0);
        Some(Keys { primary, older: keys })
    }

    /// The primary key as it stands in its file.
    pub fn primary_text(&self) -> String {
        let Key { signing, encryption } = &self.primary;
        BASE64.encode([*signing, *encryption].concat())
    }

    /// Seals with the primary key, as padded text.
    pub fn seal(&self, plain: &[u8], now: Time) -> String {
        let seconds = u64::try_from(now.0 / 1_000_000).unwrap_or_default();
        BASE64.encode(self.primary.seal(plain, seconds, rand::random()))
    }

    /// Opens with whichever key fits; also says when it was sealed.
    pub fn open(&self, text: &str) -> Option<(Vec<u8>, Time)> {
        let sealed = BASE64.decode(text).ok()?;
        let keys = std::iter::once(&self.primary).chain(&self.older);
        let plain = keys.into_iter().find_map(|key| key.open(&sealed))?;
        let seconds = u64::from_be_bytes(sealed[1..9].try_into().ok()?);
        let issued = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?;
        Some((plain, Time(issued)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";

    #[test]
    fn the_specifications_vector_is_met() {
        let key = Key::parse(KEY).unwrap();
        let iv: Vec<u8> = (0..16).collect();
        let sealed = key.seal(b"hello", 499162800, iv.try_into().unwrap());
        let expected =
            "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";
        assert_eq!(BASE64.encode(sealed), expected);
        let keys = Keys::new(vec![Key::parse(&Key::fresh()).unwrap(), key]).unwrap();
        assert_eq!(keys.open(expected), Some((b"hello".to_vec(), Time(499162800000000))));
        assert_eq!(keys.open(expected.trim_end_matches('=')).unwrap().0, b"hello");
    }

    #[test]
    fn what_was_touched_does_not_open() {
        let keys = Keys::new(vec![Key::parse(KEY).unwrap()]).unwrap();
        let sealed = keys.seal(b"payload", Time(1_000_000));
        for at in 0..sealed.len() - 2 {
            let mut touched = sealed.clone().into_bytes();
            touched[at] = if touched[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(keys.open(&String::from_utf8(touched).unwrap()), None, "{at}");
            assert_eq!(keys.open(&sealed[..at]), None);
        }
        let other = Keys::new(vec![Key::parse(&Key::fresh()).unwrap()]).unwrap();
        assert_eq!(other.open(&sealed), None);
    }
}
