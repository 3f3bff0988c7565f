//! Credentials that were verified a moment ago, so that each call of a command-line client does not pay for bcrypt.
//!
//! Only a keyed digest of the password is kept, in memory, under a key that dies with the process. It includes the
//! stored hash, so a changed password is unknown at once, whoever changed it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// How long a credential is remembered.
const TIME: Duration = Duration::from_secs(300);
/// Limit: credentials remembered; each takes some hundred bytes.
const ENTRIES: usize = 10_000;

struct Entry {
    stored: [u8; 32],
    until: Instant,
}

/// Digests of verified credentials.
pub struct Remembered {
    key: [u8; 32],
    entries: Mutex<HashMap<[u8; 32], Entry>>,
}

impl Default for Remembered {
    fn default() -> Remembered {
        Remembered { key: rand::random(), entries: Mutex::default() }
    }
}

impl Remembered {
    pub fn knows(&self, password: &str, stored: &str) -> bool {
        let digest = self.digest(password, stored);
        self.entries().get(&digest).is_some_and(|entry| entry.until > Instant::now())
    }

    pub fn add(&self, password: &str, stored: &str) {
        let digest = self.digest(password, stored);
        let now = Instant::now();
        let mut entries = self.entries();
        if entries.len() >= ENTRIES {
            entries.retain(|_, entry| entry.until > now);
        }
        if entries.len() >= ENTRIES
            && let Some(oldest) = entries.iter().min_by_key(|(_, entry)| entry.until).map(|(digest, _)| *digest)
        {
            entries.remove(&oldest);
        }
        entries.insert(digest, Entry { stored: Sha256::digest(stored).into(), until: now + TIME });
    }

    pub fn forget(&self, stored: &str) {
        let stored: [u8; 32] = Sha256::digest(stored).into();
        self.entries().retain(|_, entry| entry.stored != stored);
    }

    fn digest(&self, password: &str, stored: &str) -> [u8; 32] {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(&(stored.len() as u64).to_be_bytes());
        mac.update(stored.as_bytes());
        mac.update(password.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.entries.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_latest_stays() {
        let remembered = Remembered::default();
        for at in 0..ENTRIES + 3 {
            remembered.add("p", &at.to_string());
        }
        assert_eq!(remembered.entries().len(), ENTRIES);
        assert!(remembered.knows("p", &(ENTRIES + 2).to_string()));
        assert!(!remembered.knows("p", "0"));
    }
}
