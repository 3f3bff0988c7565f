//! Where a cloud keeps its things: one data directory, one lock.

use std::fs;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// Limit: how long the lock of a process that is going away is waited for.
const DYING: Duration = Duration::from_secs(2);

/// The data directory of a cloud.
#[derive(Debug, Clone)]
pub struct Layout {
    pub root: PathBuf,
}

impl Layout {
    /// `/var/lib/ferrostack` for root, the user's own data directory for everybody else.
    pub fn at(chosen: Option<PathBuf>) -> Result<Layout> {
        let root = match chosen {
            Some(path) => path,
            None if nix::unistd::geteuid().is_root() => PathBuf::from("/var/lib/ferrostack"),
            None => match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
                (Some(data), _) => PathBuf::from(data).join("ferrostack"),
                (None, Some(home)) => PathBuf::from(home).join(".local/share/ferrostack"),
                (None, None) => bail!("neither HOME nor XDG_DATA_HOME is set; say where with --data-dir"),
            },
        };
        let root = std::path::absolute(&root).with_context(|| format!("the data directory {}", root.display()))?;
        Ok(Layout { root })
    }

    /// Makes the directories. What is there stays as it is.
    pub fn make(&self) -> Result<()> {
        for path in [self.root.clone(), self.etc(), self.databases(), self.images(), self.hosts()] {
            fs::create_dir_all(&path).with_context(|| format!("making the directory {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        }
        fs::set_permissions(self.databases(), fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    pub fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    pub fn databases(&self) -> PathBuf {
        self.root.join("databases")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub fn hosts(&self) -> PathBuf {
        self.root.join("host")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("ferrostack.log")
    }

    /// How the cloud was started, for `status`, `down` and `leaks`.
    pub fn running(&self) -> PathBuf {
        self.root.join("running.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Takes the directory for this process. Held until dropped; the kernel lets go when we die, which for a process
    /// that was killed may take a moment.
    pub fn lock(&self) -> Result<Lock> {
        let begun = Instant::now();
        loop {
            match self.try_lock() {
                Err(_) if begun.elapsed() < DYING => std::thread::sleep(Duration::from_millis(20)),
                done => return done,
            }
        }
    }

    fn try_lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                held.set_len(0)?;
                held.rewind()?;
                write!(held, "{}", std::process::id())?;
                Ok(Lock { _held: held })
            }
            Err((mut file, _)) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid)?;
                bail!("this cloud is already running as process {pid} (data directory {})", self.root.display())
            }
        }
    }

    /// The process that holds the lock, if one does.
    pub fn holder(&self) -> Result<Option<i32>> {
        let Ok(mut file) = fs::File::open(self.lock_file()) else {
            return Ok(None);
        };
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err(_) => Ok(pid.trim().parse().ok()),
        }
    }
}

/// The lock on a data directory.
pub struct Lock {
    _held: Flock<fs::File>,
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("new");
    let attempt = || -> std::io::Result<()> {
        let _ = fs::remove_file(&draft);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_belongs_to_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(Some(dir.path().join("cloud"))).unwrap();
        layout.make().unwrap();
        assert_eq!(layout.holder().unwrap(), None);
        let held = layout.lock().unwrap();
        assert_eq!(layout.holder().unwrap(), Some(std::process::id() as i32));
        let refused = layout.lock().map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("already running"), "{refused}");
        drop(held);
        assert_eq!(layout.holder().unwrap(), None);
    }
}
