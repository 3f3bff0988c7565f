//! Checksums of an image, made while it passes by.

use md5::Md5;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// `[DEFAULT] hashing_algorithm`, which becomes an image's `os_hash_algo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    Sha256,
    Sha384,
    #[default]
    Sha512,
}

impl Algorithm {
    pub fn named(name: &str) -> Option<Algorithm> {
        [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512].into_iter().find(|known| known.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha384 => "sha384",
            Algorithm::Sha512 => "sha512",
        }
    }
}

/// One running sum.
pub enum Sum {
    Md5(Md5),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Box<Sha512>),
}

impl Sum {
    /// What `checksum` holds: not for security, but clients compare it after a download.
    pub fn md5() -> Sum {
        Sum::Md5(Md5::new())
    }

    pub fn of(algorithm: Algorithm) -> Sum {
        match algorithm {
            Algorithm::Sha256 => Sum::Sha256(Sha256::new()),
            Algorithm::Sha384 => Sum::Sha384(Sha384::new()),
            Algorithm::Sha512 => Sum::Sha512(Box::default()),
        }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        match self {
            Sum::Md5(sum) => sum.update(bytes),
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::Sha384(sum) => sum.update(bytes),
            Sum::Sha512(sum) => sum.update(bytes),
        }
    }

    /// In lower-case hex.
    pub fn finish(self) -> String {
        match self {
            Sum::Md5(sum) => hex(&sum.finalize()),
            Sum::Sha256(sum) => hex(&sum.finalize()),
            Sum::Sha384(sum) => hex(&sum.finalize()),
            Sum::Sha512(sum) => hex(&sum.finalize()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(mut sum: Sum) -> String {
        sum.add(b"a");
        sum.add(b"bc");
        sum.finish()
    }

    #[test]
    fn sums_are_those_that_everybody_else_computes() {
        assert_eq!(sum(Sum::md5()), "900150983cd24fb0d6963f7d28e17f72");
        assert!(sum(Sum::of(Algorithm::Sha256)).starts_with("ba7816bf8f01cfea"));
        assert!(sum(Sum::of(Algorithm::Sha384)).starts_with("cb00753f45a35e8b"));
        assert!(sum(Sum::of(Algorithm::Sha512)).starts_with("ddaf35a193617aba"));
        assert_eq!(Algorithm::named("sha512"), Some(Algorithm::default()));
        assert_eq!(Algorithm::named("crc32"), None);
    }
}
