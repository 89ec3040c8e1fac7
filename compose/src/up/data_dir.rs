//! The data directory of one `odock up`: who holds it, where everything in it lies, and the secrets made at first start.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use aws_lc_rs::rand;
use nix::unistd::Uid;
use odock_events::{personal::SubjectKeys, seal};
use sha2::{Digest as _, Sha256};

use super::files;

/// An opened data directory. Nobody else has it while this lives.
pub(crate) struct DataDir {
    root: PathBuf,
    /// Where the files of the private stores lie.
    stores: PathBuf,
    pub(crate) store_user: Option<StoreUser>,
    _lock: File,
}

/// Postgres refuses to run as root, so as root the private stores run as nobody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoreUser {
    pub(crate) id: u32,
}

/// What seals provider keys, as files.
pub(crate) struct ProviderKeyFiles {
    pub(crate) key_id: String,
    pub(crate) private: PathBuf,
    pub(crate) public: PathBuf,
}

impl DataDir {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        files::make_private_dir(path).with_context(|| format!("make {}", path.display()))?;
        let root = path
            .canonicalize()
            .with_context(|| format!("find {}", path.display()))?;
        let lock = take_lock(&root)?;
        let store_user = Uid::effective().is_root().then_some(NOBODY);
        let stores = match store_user {
            Some(_) => shared_stores_of(&root),
            None => root.clone(),
        };
        if stores != root && !root.join("keys").exists() {
            remove_orphaned(&stores)?;
        }
        let dir = Self {
            root,
            stores,
            store_user,
            _lock: lock,
        };
        for inner in [dir.run(), dir.logs(), dir.keys()] {
            files::make_private_dir(&inner).with_context(|| format!("make {}", inner.display()))?;
        }
        Ok(dir)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the files of the private stores lie; made on first use, and so not at all for servers that are given.
    pub(crate) fn stores(&self) -> anyhow::Result<&Path> {
        if let Some(user) = self.store_user {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(SHARED_STORES)
                .with_context(|| format!("make {SHARED_STORES}"))?;
            files::make_private_dir(&self.stores)
                .with_context(|| format!("make {}", self.stores.display()))?;
            chown(&self.stores, Some(user.id), Some(user.id))?;
        }
        Ok(&self.stores)
    }

    /// Settings, pids and ready files of the children.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    pub(crate) fn ready_json(&self) -> PathBuf {
        self.root.join("ready.json")
    }

    /// Where the seeded key is kept, the only secret of a tenant that is kept in plain.
    pub(crate) fn demo_key(&self) -> PathBuf {
        self.keys().join("demo-key")
    }

    /// A random password of our own, made on first use.
    pub(crate) fn password(&self, name: &str) -> anyhow::Result<String> {
        let made = files::read_or_make(&self.keys().join(name), || {
            random_hex().map(String::into_bytes)
        })?;
        String::from_utf8(made).with_context(|| format!("{name} is not text"))
    }

    /// `adm_` and 256 random bits.
    pub(crate) fn admin_token(&self) -> anyhow::Result<String> {
        let made = files::read_or_make(&self.keys().join("admin-token"), || {
            random_hex().map(|hex| format!("adm_{hex}").into_bytes())
        })?;
        String::from_utf8(made).context("the admin token is not text")
    }

    /// The master key that wraps the per-person keys.
    pub(crate) fn subject_key(&self) -> anyhow::Result<PathBuf> {
        let path = self.keys().join("subject.key");
        files::read_or_make(&path, || {
            anyhow::Ok(SubjectKeys::generate_file().as_bytes().to_vec())
        })?;
        Ok(path)
    }

    /// The key pair of provider keys. The private half is written last: once it is there, all are.
    pub(crate) fn provider_key_pair(&self) -> anyhow::Result<ProviderKeyFiles> {
        let [id, public, private] = [
            "provider-key.id",
            "provider-key.pub.pem",
            "provider-key.pem",
        ]
        .map(|name| self.keys().join(name));
        files::read_or_make(&private, || {
            let pair = seal::generate_key_pair().context("make a key pair")?;
            files::replace(&id, pair.key_id.as_bytes())?;
            files::replace(&public, pair.public_pem.as_bytes())?;
            anyhow::Ok(pair.private_pem.as_bytes().to_vec())
        })?;
        let key_id = fs::read_to_string(&id).with_context(|| format!("read {}", id.display()))?;
        Ok(ProviderKeyFiles {
            key_id,
            private,
            public,
        })
    }
}

/// Stores whose data directory was removed and made anew: their passwords are gone, and so are the keys that what is in
/// them was sealed with.
fn remove_orphaned(stores: &Path) -> anyhow::Result<()> {
    for name in ["postgres", "redis"] {
        let orphan = stores.join(name);
        if orphan.exists() {
            fs::remove_dir_all(&orphan).with_context(|| format!("remove {}", orphan.display()))?;
        }
    }
    Ok(())
}

/// The lock file holds the pid of who has it; the lock itself is the kernel's, so a kill leaves nothing behind.
fn take_lock(root: &Path) -> anyhow::Result<File> {
    let path = root.join("up.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let mut locked = file.try_lock();
    for _ in 0..LOCK_ATTEMPTS {
        if locked.is_ok() {
            break;
        }
        // A process that was just forked holds its parent's files until it has become another program.
        thread::sleep(LOCK_PAUSE);
        locked = file.try_lock();
    }
    match locked {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)
                .with_context(|| format!("read {}", path.display()))?;
            bail!(
                "{} is in use by `odock up` with pid {}",
                root.display(),
                pid.trim()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

/// `/var/lib/odock/<hash of data-dir>`: the parents of a data directory are often closed to other users (`/root`).
fn shared_stores_of(root: &Path) -> PathBuf {
    let digest = Sha256::digest(root.as_os_str().as_encoded_bytes());
    Path::new(SHARED_STORES).join(hex(digest.get(..8).unwrap_or_default()))
}

/// 256 random bits.
fn random_hex() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).context("random bytes")?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const SHARED_STORES: &str = "/var/lib/odock";
const NOBODY: StoreUser = StoreUser { id: 65_534 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_is_refused_by_pid() {
        let dir = tempfile::tempdir().unwrap();
        let held = take_lock(dir.path()).unwrap();
        let error = take_lock(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("pid {}", std::process::id())),
            "{error}"
        );
        drop(held);
        take_lock(dir.path()).unwrap();
    }

    #[test]
    fn secrets_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let open = || DataDir::open(dir.path()).unwrap();
        let first = open().admin_token().unwrap();
        assert!(first.starts_with("adm_") && first.len() == 68);
        assert_eq!(open().admin_token().unwrap(), first);
        let held = open();
        let key_id = held.provider_key_pair().unwrap().key_id;
        assert_eq!(held.provider_key_pair().unwrap().key_id, key_id);
        let subject_key = || fs::read(held.subject_key().unwrap()).unwrap();
        assert_eq!(subject_key(), subject_key());
    }
}
