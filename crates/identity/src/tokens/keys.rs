//! Keystone's key repository: a directory of numbered files.
//!
//! `0` is staged: it seals nothing yet, but other controllers already open with it. The highest number is primary and
//! seals; those between were primary once and still open. Rotation gives `0` the next number and stages a new key.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use super::fernet::{Key, Keys};

/// How long a rotation by another process may go unnoticed. The staged key makes that harmless.
const RELOAD: Duration = Duration::from_secs(1);
/// Limit: keys of one repository; each one costs an HMAC per foreign token.
const MAX_KEYS: usize = 64;
/// Limit: one key file; a key has 44 characters.
const MAX_KEY_BYTES: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the key repository {path} cannot be read or written")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("the key repository {path} has no key; run the setup command first")]
    Empty { path: PathBuf },
    #[error("the key repository {path} has more than {MAX_KEYS} keys")]
    TooMany { path: PathBuf },
    #[error("the key {path} is not 32 bytes in URL-safe base64")]
    Malformed { path: PathBuf },
}

/// What tells that a directory has changed: time in nanoseconds, inode, number of files.
type Stamp = (i64, i64, u64);

struct Loaded {
    keys: Arc<Keys>,
    stamp: Stamp,
}

/// The keys of one directory, read again when it changes.
pub struct KeyRepository {
    path: PathBuf,
    loaded: RwLock<Loaded>,
    looked: Mutex<Instant>,
}

impl KeyRepository {
    pub fn open(path: &Path) -> Result<KeyRepository, KeyError> {
        let loaded = RwLock::new(load(path)?);
        Ok(KeyRepository { path: path.to_path_buf(), loaded, looked: Mutex::new(Instant::now()) })
    }

    /// The keys in force. Looks at the directory at most once a second; when it has become unreadable, the last good
    /// keys stay in force.
    pub fn keys(&self) -> Arc<Keys> {
        if self.due() {
            self.reload();
        }
        self.loaded.read().unwrap_or_else(|poison| poison.into_inner()).keys.clone()
    }

    /// Looks at the directory now. True when other keys came into force.
    pub fn reload(&self) -> bool {
        let known = self.loaded.read().unwrap_or_else(|poison| poison.into_inner()).stamp;
        if stamp(&self.path).is_ok_and(|now| now == known) {
            return false;
        }
        match load(&self.path) {
            Ok(loaded) => {
                *self.loaded.write().unwrap_or_else(|poison| poison.into_inner()) = loaded;
                true
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "keeping the keys that were read before");
                false
            }
        }
    }

    fn due(&self) -> bool {
        let Ok(mut looked) = self.looked.try_lock() else { return false };
        let due = looked.elapsed() >= RELOAD;
        if due {
            *looked = Instant::now();
        }
        due
    }
}

/// Makes the directory and its first keys. Does nothing when there are keys already.
pub fn setup(path: &Path) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_path_buf(), source };
    if !path.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    }
    if numbers(path)?.is_empty() {
        write(path, 0)?;
        promote(path, 0)?;
    }
    Ok(())
}

/// Gives the staged key the next number, stages a new one, and removes the oldest beyond `max_active`.
pub fn rotate(path: &Path, max_active: usize) -> Result<(), KeyError> {
    let known = numbers(path)?;
    let Some(highest) = known.last().copied() else { return Err(KeyError::Empty { path: path.to_path_buf() }) };
    match known.first() {
        Some(0) => promote(path, highest)?,
        // An interrupted rotation left no staged key: only that is made up for.
        _ => write(path, 0)?,
    }
    let spent = numbers(path)?;
    // Upstream: at least the primary key stays, whatever is configured.
    let excess = spent.len().saturating_sub(max_active.max(2));
    for number in spent.iter().filter(|number| **number != 0).take(excess) {
        let file = path.join(number.to_string());
        fs::remove_file(&file).map_err(|source| KeyError::Io { path: file, source })?;
    }
    Ok(())
}

/// The staged key becomes primary, a new key is staged.
fn promote(path: &Path, highest: u64) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_path_buf(), source };
    fs::rename(path.join("0"), path.join((highest + 1).to_string())).map_err(io)?;
    write(path, 0)
}

/// Writes a fresh key whole, or not at all.
fn write(path: &Path, number: u64) -> Result<(), KeyError> {
    let io = |source| KeyError::Io { path: path.to_path_buf(), source };
    let unfinished = path.join(format!("{number}.tmp"));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).map_err(io)?;
    file.write_all(Key::fresh().as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(unfinished, path.join(number.to_string())).map_err(io)
}

/// The numbers of a directory's keys, ascending. Other files are none of our business.
fn numbers(path: &Path) -> Result<Vec<u64>, KeyError> {
    let io = |source| KeyError::Io { path: path.to_path_buf(), source };
    let mut numbers = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        numbers.extend(name.parse::<u64>().ok());
        if numbers.len() > MAX_KEYS {
            return Err(KeyError::TooMany { path: path.to_path_buf() });
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn stamp(path: &Path) -> Result<Stamp, KeyError> {
    let at = fs::metadata(path).map_err(|source| KeyError::Io { path: path.to_path_buf(), source })?;
    Ok((at.mtime(), at.mtime_nsec(), at.ino()))
}

fn load(path: &Path) -> Result<Loaded, KeyError> {
    // The stamp is taken first: a change while we read is seen next time.
    let stamp = stamp(path)?;
    let mut keys = Vec::new();
    for number in numbers(path)?.into_iter().rev() {
        let file = path.join(number.to_string());
        let io = |source| KeyError::Io { path: file.clone(), source };
        if fs::metadata(&file).map_err(io)?.len() > MAX_KEY_BYTES {
            return Err(KeyError::Malformed { path: file });
        }
        let text = fs::read_to_string(&file).map_err(io)?;
        keys.push(Key::parse(&text).ok_or(KeyError::Malformed { path: file })?);
    }
    let keys = Keys::new(keys).ok_or_else(|| KeyError::Empty { path: path.to_path_buf() })?;
    Ok(Loaded { keys: Arc::new(keys), stamp })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Time;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn tokens_outlive_rotations_until_their_key_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fernet-keys");
        setup(&path).unwrap();
        assert_eq!(numbers(&path).unwrap(), [0, 1]);
        setup(&path).unwrap();
        assert_eq!(numbers(&path).unwrap(), [0, 1]);

        let repository = KeyRepository::open(&path).unwrap();
        let sealed = repository.keys().seal(b"x", Time(0));
        for expected in [&[0, 1, 2][..], &[0, 2, 3], &[0, 3, 4]] {
            let opens = numbers(&path).unwrap().contains(&1);
            assert_eq!(repository.keys().open(&sealed).is_some(), opens);
            rotate(&path, 3).unwrap();
            assert_eq!(numbers(&path).unwrap(), expected);
            assert!(repository.reload());
            assert!(!repository.reload());
        }
    }

    #[test]
    fn a_staged_key_opens_what_another_controller_seals_after_rotating() {
        let dir = tempfile::tempdir().unwrap();
        setup(dir.path()).unwrap();
        let here = KeyRepository::open(dir.path()).unwrap();
        rotate(dir.path(), 3).unwrap();
        let there = KeyRepository::open(dir.path()).unwrap();
        let sealed = there.keys().seal(b"x", Time(0));
        assert!(here.keys().open(&sealed).is_some());
    }

    #[test]
    fn keys_are_for_their_owner_only_and_must_be_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        setup(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("0")), mode(&path.join("1"))), (0o700, 0o600, 0o600));

        fs::write(path.join("notes.txt"), "not a key").unwrap();
        assert!(KeyRepository::open(&path).is_ok());
        fs::write(path.join("2"), "short").unwrap();
        assert!(matches!(KeyRepository::open(&path), Err(KeyError::Malformed { .. })));
        assert!(matches!(KeyRepository::open(&dir.path().join("none")), Err(KeyError::Io { .. })));
        assert!(matches!(KeyRepository::open(dir.path()), Err(KeyError::Empty { .. })));
    }
}
