//! Passwords: every hash that keystone stores is verified, new ones are made with the configured algorithm.
//!
//! Hashing takes a quarter of a second on purpose, so it runs on threads of its own, a few at a time; a credential
//! that was just verified is remembered for a while.

mod hash;
mod remembered;

use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

pub use hash::Algorithm;
pub use remembered::Remembered;

/// Limit: a password; upstream's `[identity] max_password_length`.
pub const MAX_PASSWORD_BYTES: usize = 4096;
/// Limit: verifications that wait for a thread; at four a second and thread that is a minute's worth.
const WAITING: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// More people log in than this process can verify.
    #[error("too many passwords are being verified")]
    Busy,
    #[error("the password is longer than {MAX_PASSWORD_BYTES} bytes")]
    TooLong,
    #[error("the thread that hashed a password ended early")]
    Ended,
}

/// Hashes and verifies for one process.
pub struct Passwords {
    algorithm: Algorithm,
    rounds: Option<u32>,
    threads: Arc<Semaphore>,
    waiting: Semaphore,
    remembered: Remembered,
    /// A hash that nobody's password has, so that unknown users cost as much as known ones.
    nobody: Arc<OnceLock<String>>,
}

impl Passwords {
    /// `rounds` is upstream's `[identity] password_hash_rounds`: none means the algorithm's own default.
    pub fn new(algorithm: Algorithm, rounds: Option<u32>) -> Passwords {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Passwords {
            algorithm,
            rounds,
            threads: Arc::new(Semaphore::new(threads)),
            waiting: Semaphore::new(WAITING),
            remembered: Remembered::default(),
            nobody: Arc::default(),
        }
    }

    /// The text to store for `password`.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let (algorithm, rounds, password) = (self.algorithm, self.rounds, password.to_string());
        self.on_a_thread(move || hash::make(algorithm, rounds, &password)).await
    }

    /// Whether `password` is what `stored` was made of. Without a stored hash the answer is no, after the same work.
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, PasswordError> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let Some(stored) = stored else {
            self.pretend(password).await?;
            return Ok(false);
        };
        if self.remembered.knows(password, stored) {
            return Ok(true);
        }
        let (given, hash) = (password.to_string(), stored.to_string());
        let right = self.on_a_thread(move || hash::verify(&given, &hash)).await?;
        if right {
            self.remembered.add(password, stored);
        }
        Ok(right)
    }

    /// Forgets that anybody proved to know the password behind `stored`.
    pub fn forget(&self, stored: &str) {
        self.remembered.forget(stored);
    }

    async fn pretend(&self, password: &str) -> Result<(), PasswordError> {
        let (algorithm, rounds, password) = (self.algorithm, self.rounds, password.to_string());
        let nobody = self.nobody.clone();
        let _ = self
            .on_a_thread(move || {
                let stored = nobody.get_or_init(|| hash::make(algorithm, rounds, &base::id::hex()));
                hash::verify(&password, stored)
            })
            .await?;
        Ok(())
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self.waiting.try_acquire().map_err(|_| PasswordError::Busy)?;
        // The permit goes with the work: a client that hangs up does not make room for another thread.
        let permit = self.threads.clone().acquire_owned().await.map_err(|_| PasswordError::Ended)?;
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_until_it_is_changed() {
        let passwords = Passwords::new(Algorithm::Bcrypt, Some(4));
        let old = passwords.hash("first").await.unwrap();
        assert!(passwords.verify("first", Some(&old)).await.unwrap());
        assert!(passwords.remembered.knows("first", &old));
        assert!(passwords.verify("first", Some(&old)).await.unwrap());
        assert!(!passwords.verify("wrong", Some(&old)).await.unwrap());
        assert!(!passwords.remembered.knows("wrong", &old));

        let new = passwords.hash("second").await.unwrap();
        assert!(!passwords.verify("first", Some(&new)).await.unwrap());
        passwords.forget(&old);
        assert!(!passwords.remembered.knows("first", &old));
    }

    #[tokio::test]
    async fn nobody_is_let_in_without_a_hash() {
        let passwords = Passwords::new(Algorithm::Bcrypt, Some(4));
        assert!(!passwords.verify("", None).await.unwrap());
        assert!(!passwords.verify("any", Some("")).await.unwrap());
        assert!(!passwords.verify(&"x".repeat(5000), None).await.unwrap());
        assert!(matches!(passwords.hash(&"x".repeat(5000)).await, Err(PasswordError::TooLong)));
    }
}
