//! Sessions: what a token means at this moment, kept until something changes.
//!
//! A token says little; who its user is, whether all of them are enabled, and which roles there are is looked up. The
//! result is remembered under a digest of the token, together with a generation: every change in this process starts
//! a new generation at once. Changes by other processes raise a number in the database, which is looked at once a
//! [`STALE`].

mod resolve;
mod show;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};
use std::time::{Duration, Instant};

use api::message::BoxFuture;
use api::{AuthError, Authenticator, Caller};
use base::{Time, clock};
use bytes::Bytes;
use db::{Queries, sql};
use sha2::{Digest, Sha256};

use crate::Identity;
use crate::tokens::{self, Token};
pub use resolve::{Unusable, resolve};
pub use show::body;

/// How long a change by another process may go unnoticed.
pub const STALE: Duration = Duration::from_secs(1);
/// Limit: sessions remembered; each takes about two kilobytes.
const SESSIONS: usize = 20_000;

/// A token with all that was looked up about it.
pub struct Session {
    pub token: Token,
    pub caller: Arc<Caller>,
    /// When the password of the user expires.
    pub password_expires_at: Option<Time>,
    /// Whether the project of the scope acts as a domain.
    pub is_domain: bool,
    pub trust: Option<crate::trusts::Trust>,
    pub application_credential: Option<crate::application_credentials::Shown>,
    /// The answer to a validation, with and without the catalog, once somebody has asked.
    with_catalog: OnceLock<Bytes>,
    without_catalog: OnceLock<Bytes>,
}

type Digested = [u8; 32];

struct Entry {
    generation: u64,
    session: Arc<Session>,
}

/// The sessions that this process remembers.
pub struct Sessions {
    entries: RwLock<HashMap<Digested, Entry>>,
    generation: AtomicU64,
    /// The number in the database when it was last looked at, and when that was, in milliseconds since `started`.
    epoch: AtomicI64,
    looked_ms: AtomicU64,
    started: Instant,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            entries: RwLock::default(),
            generation: AtomicU64::new(1),
            epoch: AtomicI64::new(-1),
            looked_ms: AtomicU64::new(0),
            started: Instant::now(),
        }
    }
}

impl Sessions {
    /// Starts a new generation: whatever is remembered is looked up again.
    pub fn forget(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn get(&self, key: &Digested) -> Option<Arc<Session>> {
        let entries = self.entries.read().unwrap_or_else(|poison| poison.into_inner());
        let entry = entries.get(key).filter(|entry| entry.generation == self.generation())?;
        Some(entry.session.clone())
    }

    /// `generation` is the one from before the session was looked up, so that a change meanwhile is not missed.
    fn put(&self, key: Digested, generation: u64, session: Arc<Session>) {
        let current = self.generation();
        let mut entries = self.entries.write().unwrap_or_else(|poison| poison.into_inner());
        if entries.len() >= SESSIONS {
            entries.retain(|_, entry| entry.generation == current);
        }
        if entries.len() >= SESSIONS {
            entries.clear();
        }
        entries.insert(key, Entry { generation, session });
    }

    /// Looks at the database's number when it is due. The first to notice that it is due asks; others go on.
    async fn refresh(&self, db: &db::Db) -> Result<(), db::Error> {
        let now = self.started.elapsed().as_millis() as u64;
        let looked = self.looked_ms.load(Ordering::Relaxed);
        let due = self.epoch.load(Ordering::Relaxed) < 0 || now.saturating_sub(looked) >= STALE.as_millis() as u64;
        if !due || self.looked_ms.compare_exchange(looked, now, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Ok(());
        }
        let asked = db.count(sql("SELECT value FROM epochs WHERE name = 'tokens'")).await;
        let epoch = asked.inspect_err(|_| self.looked_ms.store(looked, Ordering::SeqCst))?;
        if self.epoch.swap(epoch, Ordering::SeqCst) != epoch {
            self.forget();
        }
        Ok(())
    }
}

/// Tells other processes that tokens must be looked up again.
pub async fn raise_epoch(mut db: impl Queries) -> Result<(), db::Error> {
    db.run(sql("UPDATE epochs SET value = value + 1 WHERE name = 'tokens'")).await?;
    Ok(())
}

impl Identity {
    /// What `text` means now. Says nothing about whether it has expired.
    pub async fn session(&self, text: &str) -> Result<Arc<Session>, Unusable> {
        self.sessions.refresh(&self.db).await?;
        let key: Digested = Sha256::digest(text).into();
        if let Some(session) = self.sessions.get(&key) {
            return Ok(session);
        }
        let generation = self.sessions.generation();
        let token = tokens::open(text, &self.token_keys.keys()).map_err(|_| Unusable::Foreign)?;
        let session = Arc::new(resolve(self, token, text).await?);
        self.sessions.put(key, generation, session.clone());
        Ok(session)
    }

    /// Like [`Identity::session`], for tokens that have not expired more than `window_s` ago.
    pub async fn living_session(&self, text: &str, window_s: i64) -> Result<Arc<Session>, Unusable> {
        let session = self.session(text).await?;
        match clock::now() < session.token.expires.plus_seconds(window_s) {
            true => Ok(session),
            false => Err(Unusable::Expired),
        }
    }
}

impl Authenticator for Identity {
    fn authenticate<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Arc<Caller>, AuthError>> {
        Box::pin(async move {
            match self.living_session(token, 0).await {
                Ok(session) => Ok(session.caller.clone()),
                Err(Unusable::Database(error)) => Err(AuthError::Unreachable(error.to_string())),
                Err(_) => Err(AuthError::Invalid),
            }
        })
    }

    fn public_url(&self) -> Option<String> {
        self.public_url.clone()
    }
}
