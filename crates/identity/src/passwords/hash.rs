//! The formats of password hashes, as keystone and passlib write them.
//!
//! ```text
//! $2b$12$<salt and digest>                        bcrypt; $2a$ and $2y$ are read as well
//! $bcrypt-sha256$v=2,t=2b,r=12$<salt>$<digest>    bcrypt over base64(HMAC-SHA256(salt, password))
//! $bcrypt-sha256$2b,12$<salt>$<digest>            bcrypt over base64(SHA256(password)), the older form
//! $scrypt$ln=16,r=8,p=1$<salt>$<digest>
//! $pbkdf2-sha512$25000$<salt>$<digest>            base64 with '.' for '+'
//! $6$rounds=656000$<salt>$<digest>                sha512_crypt, the default of ten years ago
//! ```

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

/// bcrypt looks at 72 bytes. Upstream: longer passwords are cut, not refused.
const BCRYPT_BYTES: usize = 72;
/// Limit: work factors in stored hashes, so that a hostile row cannot hold a thread for hours.
const MAX_BCRYPT_COST: u32 = 16;
const MAX_SCRYPT_LOG_N: u8 = 20;
const MAX_PBKDF2_ROUNDS: u32 = 2_000_000;
const MAX_SHA512_ROUNDS: u32 = 5_000_000;

/// `[identity] password_hash_algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    #[default]
    Bcrypt,
    BcryptSha256,
    Scrypt,
    Pbkdf2Sha512,
}

impl Algorithm {
    /// Upstream's name of the algorithm.
    pub fn named(name: &str) -> Option<Algorithm> {
        match name {
            "bcrypt" => Some(Algorithm::Bcrypt),
            "bcrypt_sha256" => Some(Algorithm::BcryptSha256),
            "scrypt" => Some(Algorithm::Scrypt),
            "pbkdf2_sha512" => Some(Algorithm::Pbkdf2Sha512),
            _ => None,
        }
    }
}

/// Hashes `password` with a fresh salt.
pub(super) fn make(algorithm: Algorithm, rounds: Option<u32>, password: &str) -> String {
    let salt: [u8; 16] = rand::random();
    let cost = rounds.unwrap_or(12).clamp(4, MAX_BCRYPT_COST);
    match algorithm {
        Algorithm::Bcrypt => bcrypt_text(cut(password), cost, salt),
        Algorithm::BcryptSha256 => {
            // The salt's text is the key of the inner hash, so it is made first.
            let salt_text = bcrypt_text(b"", 4, salt)[7..29].to_string();
            let whole = bcrypt_text(inner(password, Some(&salt_text)).as_bytes(), cost, salt);
            format!("$bcrypt-sha256$v=2,t=2b,r={cost}${salt_text}${}", &whole[29..])
        }
        Algorithm::Scrypt => {
            let log_n = rounds.map_or(16, |rounds| rounds.clamp(1, u32::from(MAX_SCRYPT_LOG_N)) as u8);
            let digest = scrypt_digest(password, &salt, (log_n, 8, 1), 32).expect("the parameters are in range");
            format!("$scrypt$ln={log_n},r=8,p=1${}${}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(digest))
        }
        Algorithm::Pbkdf2Sha512 => {
            let rounds = rounds.unwrap_or(25_000).clamp(1, MAX_PBKDF2_ROUNDS);
            let digest = pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), &salt, rounds);
            let code = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes).replace('+', ".");
            format!("$pbkdf2-sha512${rounds}${}${}", code(&salt), code(&digest))
        }
    }
}

/// Whether `stored` was made of `password`. Unknown formats are nobody's password.
pub(super) fn verify(password: &str, stored: &str) -> bool {
    let mut parts = stored.splitn(3, '$').skip(1);
    let (Some(kind), Some(rest)) = (parts.next(), parts.next()) else { return false };
    let right = match kind {
        "2a" | "2b" | "2y" => verify_bcrypt(cut(password), stored),
        "bcrypt-sha256" => verify_bcrypt_sha256(password, rest),
        "scrypt" => verify_scrypt(password, rest),
        "pbkdf2-sha512" => verify_pbkdf2(password, rest),
        "6" => verify_sha512_crypt(password, stored, rest),
        _ => None,
    };
    right.unwrap_or(false)
}

fn cut(password: &str) -> &[u8] {
    &password.as_bytes()[..password.len().min(BCRYPT_BYTES)]
}

fn bcrypt_text(password: &[u8], cost: u32, salt: [u8; 16]) -> String {
    let parts = bcrypt::hash_with_salt(password, cost, salt).expect("the cost is in range");
    parts.format_for_version(bcrypt::Version::TwoB)
}

fn verify_bcrypt(password: &[u8], stored: &str) -> Option<bool> {
    let cost: u32 = stored.get(4..6)?.parse().ok()?;
    if cost > MAX_BCRYPT_COST {
        return None;
    }
    bcrypt::verify(password, stored).ok()
}

/// What bcrypt hashes in place of the password. The older form has no salt of its own.
fn inner(password: &str, salt: Option<&str>) -> String {
    match salt {
        None => STANDARD.encode(Sha256::digest(password)),
        Some(salt) => {
            let mut mac =
                <Hmac<Sha256> as Mac>::new_from_slice(salt.as_bytes()).expect("HMAC takes keys of any length");
            mac.update(password.as_bytes());
            STANDARD.encode(mac.finalize().into_bytes())
        }
    }
}

fn verify_bcrypt_sha256(password: &str, rest: &str) -> Option<bool> {
    let mut parts = rest.split('$');
    let (options, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
    let (kind, cost, inner) = match options.strip_prefix("v=2,t=") {
        Some(options) => {
            let (kind, cost) = options.split_once(",r=")?;
            (kind, cost, inner(password, Some(salt)))
        }
        None => {
            let (kind, cost) = options.split_once(',')?;
            (kind, cost, inner(password, None))
        }
    };
    let cost: u32 = cost.parse().ok()?;
    verify_bcrypt(inner.as_bytes(), &format!("${kind}${cost:02}${salt}{digest}"))
}

fn verify_scrypt(password: &str, rest: &str) -> Option<bool> {
    let mut parts = rest.split('$');
    let (options, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
    let mut options = options.split(',');
    let log_n: u8 = options.next()?.strip_prefix("ln=")?.parse().ok()?;
    let r: u32 = options.next()?.strip_prefix("r=")?.parse().ok()?;
    let p: u32 = options.next()?.strip_prefix("p=")?.parse().ok()?;
    let (salt, expected) = (STANDARD_NO_PAD.decode(salt).ok()?, STANDARD_NO_PAD.decode(digest).ok()?);
    let digest = scrypt_digest(password, &salt, (log_n, r, p), expected.len())?;
    Some(digest.ct_eq(&expected).into())
}

fn scrypt_digest(password: &str, salt: &[u8], (log_n, r, p): (u8, u32, u32), bytes: usize) -> Option<Vec<u8>> {
    if log_n > MAX_SCRYPT_LOG_N || r > 32 || p > 16 || bytes != 32 {
        return None;
    }
    let mut digest = vec![0; bytes];
    let params = scrypt::Params::new(log_n, r, p, bytes).ok()?;
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut digest).ok()?;
    Some(digest)
}

fn verify_pbkdf2(password: &str, rest: &str) -> Option<bool> {
    let mut parts = rest.split('$');
    let rounds: u32 = parts.next()?.parse().ok()?;
    let mut decoded = || STANDARD_NO_PAD.decode(parts.next()?.replace('.', "+")).ok();
    let (salt, expected) = (decoded()?, decoded()?);
    if rounds == 0 || rounds > MAX_PBKDF2_ROUNDS || expected.len() != 64 {
        return None;
    }
    let digest = pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password.as_bytes(), &salt, rounds);
    Some(digest.ct_eq(expected.as_slice()).into())
}

fn verify_sha512_crypt(password: &str, stored: &str, rest: &str) -> Option<bool> {
    let rounds = rest.strip_prefix("rounds=").and_then(|rest| rest.split('$').next());
    let rounds: u32 = rounds.map_or(Some(5000), |rounds| rounds.parse().ok())?;
    if rounds > MAX_SHA512_ROUNDS {
        return None;
    }
    Some(sha_crypt::sha512_check(password, stored).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pässword`, hashed by Python's bcrypt and passlib.
    const STORED: &[&str] = &[
        "$2b$04$2b3Q3FIX2w0LqMLgSRJ7Auyy7ZzLVJ5aOyrzWQVff3fmqucs3EJdC",
        "$2a$04$5HRpiAOYdDrXnc7vpy5ERuqHM8fnldgChHlgzdmQZTl8pPzYCnogW",
        "$2y$04$5HRpiAOYdDrXnc7vpy5ERuqHM8fnldgChHlgzdmQZTl8pPzYCnogW",
        "$6$rounds=1000$XZnxwh3Iu8gfC7Du$oWQ9nbLqkN0Wivt6zww.xuIylda7MlK65SN2lzdSs7AMUXHX.hjzPaey/7sW8hO2NTXmu9Usm/qpUu4wQ87Iw.",
        "$6$saltsalt$rVIyJtXnL0mXUCLepstXWqeOv9JVyd7nOH8wn0BvOU5lCiAviUJLxXZ5CkPgq6XNTHV22yG4mV0IO9gqPL5WQ.",
        "$scrypt$ln=4,r=8,p=1$47w3Ziyl9J5zDsE4h3DOuQ$lUfy1SoFGHLuZiH8/EfsgreYw5QFF1p5ZiJJ8sxnOd0",
        "$pbkdf2-sha512$100$McY4Z0zpHSME4BxjbE2pdQ$Sz9gYoJBqLYgDL7PH2zo9wGQ1.rhZczljuZ31RoW59AuocKr.n31RKr29zdxDv8IoXvEEHVUZG6sSUmwYLgDeQ",
        "$bcrypt-sha256$v=2,t=2b,r=4$GLwc1NWRutlN5epVwXju8e$j9NerL0KykjC/Hu2D.aA2qDaSR3QU8G",
        "$bcrypt-sha256$2b,4$GLwc1NWRutlN5epVwXju8e$lrBOBLxImGHIV6RlgUR8reGBlFUxpSu",
    ];

    #[test]
    fn hashes_of_upstreams_libraries_verify() {
        for stored in STORED {
            assert!(verify("pässword", stored), "{stored}");
            assert!(!verify("password", stored), "{stored}");
            assert!(!verify("", stored), "{stored}");
        }
    }

    #[test]
    fn our_hashes_verify_and_have_a_salt() {
        for name in ["bcrypt", "bcrypt_sha256", "scrypt", "pbkdf2_sha512"] {
            let algorithm = Algorithm::named(name).unwrap();
            let stored = make(algorithm, Some(4), "secret");
            assert!(verify("secret", &stored), "{stored}");
            assert!(!verify("secreT", &stored), "{stored}");
            assert_ne!(stored, make(algorithm, Some(4), "secret"));
        }
    }

    #[test]
    fn bcrypt_looks_at_72_bytes() {
        let long = "x".repeat(72);
        let stored = make(Algorithm::Bcrypt, Some(4), &format!("{long}a"));
        assert!(verify(&format!("{long}b"), &stored));
        assert!(!verify(&long[1..], &stored));
    }

    #[test]
    fn broken_hashes_are_nobodys_password() {
        for stored in STORED {
            for end in 0..stored.len() - 1 {
                assert!(!verify("pässword", &stored[..end]), "{}", &stored[..end]);
            }
        }
        for stored in
            ["$2b$31$x", "$scrypt$ln=60,r=8,p=1$AA$AA", "$6$rounds=999999999$a$b", "plain", "$$", "$pbkdf2-sha512$0$$"]
        {
            assert!(!verify("plain", stored));
        }
    }
}
