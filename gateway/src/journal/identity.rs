//! Who this gateway is: an id made with the directory, an epoch that rises at each start, a nonce of this start, and
//! a lock that keeps a second process out.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use odock_events::ids::GatewayId;
use serde::{Deserialize, Serialize};

use super::JournalError;

mod starts;

use self::starts::Starts;

/// The identity of one start.
#[derive(Debug)]
pub struct Identity {
    pub gateway_id: GatewayId,
    pub epoch: u64,
    pub nonce: String,
    /// The machine went down without a graceful end before: the last records may not have reached the disk.
    pub tail_unproven: bool,
    /// The identity that this one follows after its journal turned out to be rolled back or copied.
    pub predecessor: Option<GatewayId>,
    starts: Starts,
    directory: PathBuf,
    /// Held for as long as the process lives.
    _lock: DirectoryLock,
}

/// What becomes of an identity whose journal is not the only one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// No process has it any more: the next one reports it lost.
    Lost,
    /// Another process lives under it and goes on.
    LivesElsewhere,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    gateway_id: GatewayId,
    epoch: u64,
    boot_id: String,
    clean: bool,
    #[serde(default)]
    predecessor: Option<GatewayId>,
    #[serde(default)]
    starts: Starts,
}

impl Stored {
    fn new(predecessor: Option<GatewayId>) -> Self {
        Self {
            gateway_id: GatewayId::generate(),
            epoch: 0,
            boot_id: boot_id(),
            clean: true,
            predecessor,
            starts: Starts::default(),
        }
    }
}

const FILE: &str = "identity.json";
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

impl Identity {
    /// Begins the next epoch in a locked directory whose journal goes on at `next_seq`; on disk when this returns.
    pub(crate) fn begin(lock: DirectoryLock, next_seq: u64) -> Result<Self, JournalError> {
        let directory = lock.directory.clone();
        let mut stored = read(&directory)?.unwrap_or_else(|| Stored::new(None));
        let boot_id = boot_id();
        let tail_unproven = !stored.clean && stored.boot_id != boot_id;
        let nonce = nonce();
        stored.starts.add(stored.epoch, &nonce, next_seq);
        stored.epoch += 1;
        stored.boot_id = boot_id;
        stored.clean = false;
        store(&directory, &stored)?;
        Ok(Self {
            gateway_id: stored.gateway_id,
            epoch: stored.epoch,
            nonce,
            tail_unproven,
            predecessor: stored.predecessor,
            starts: stored.starts,
            directory,
            _lock: lock,
        })
    }

    /// The last seq of this journal that the owner of its stream can have shipped: all of them when that is this start,
    /// those before the next start when it was an earlier one, none when it is a stranger.
    #[must_use]
    pub fn shipped_at_most_by(&self, owner: Option<&(u64, String)>) -> u64 {
        owner.map_or(0, |(epoch, nonce)| {
            self.starts.shipped_at_most_by(*epoch, nonce)
        })
    }

    /// Marks a graceful end.
    pub fn mark_clean(&self) -> Result<(), JournalError> {
        store(
            &self.directory,
            &Stored {
                gateway_id: self.gateway_id,
                epoch: self.epoch,
                boot_id: boot_id(),
                clean: true,
                predecessor: self.predecessor,
                starts: self.starts.clone(),
            },
        )
    }

    /// The journal was rolled back or copied: its files are set aside, and the next start has a new identity. A
    /// directory that another process has begun an epoch in is left alone: then it is this one that has to go.
    pub fn abandon(&self, why: Abandoned) -> Result<(), JournalError> {
        let stored = read(&self.directory)?;
        if stored
            .is_none_or(|stored| (stored.gateway_id, stored.epoch) != (self.gateway_id, self.epoch))
        {
            return Ok(());
        }
        let aside = self
            .directory
            .join(format!("abandoned-{}", self.gateway_id));
        fs::create_dir_all(&aside).map_err(JournalError::io(&aside))?;
        let entries = fs::read_dir(&self.directory).map_err(JournalError::io(&self.directory))?;
        for entry in entries {
            let path = entry.map_err(JournalError::io(&self.directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == super::segment::EXTENSION)
                && let Some(name) = path.file_name()
            {
                fs::rename(&path, aside.join(name)).map_err(JournalError::io(&path))?;
            }
        }
        let predecessor = match why {
            Abandoned::Lost => Some(self.gateway_id),
            Abandoned::LivesElsewhere => None,
        };
        store(&self.directory, &Stored::new(predecessor))
    }
}

/// A directory that no other process opens while this lives.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    directory: PathBuf,
    _file: File,
}

impl DirectoryLock {
    /// Makes the directory when it is not there.
    pub(crate) fn take(directory: &Path) -> Result<Self, JournalError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(JournalError::io(directory))?;
        Ok(Self {
            directory: directory.to_owned(),
            _file: lock(directory)?,
        })
    }
}

fn read(directory: &Path) -> Result<Option<Stored>, JournalError> {
    let path = directory.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| JournalError::Damaged {
                    path,
                    offset: 0,
                    reason: error.to_string(),
                })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(JournalError::io(&path)(error)),
    }
}

fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(JournalError::io(&path))?;
    if !try_lock(&file) {
        let mut pid = String::new();
        file.read_to_string(&mut pid)
            .map_err(JournalError::io(&path))?;
        return Err(JournalError::Locked {
            path: directory.to_owned(),
            pid: pid.trim().to_owned(),
        });
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(JournalError::io(&path))?;
    Ok(file)
}

/// The process before this one may still be on its way out, so a held lock is tried again for a moment.
fn try_lock(file: &File) -> bool {
    let began = Instant::now();
    while file.try_lock().is_err() {
        if began.elapsed() >= LOCK_PATIENCE {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Writes by rename and syncs file and directory.
fn store(directory: &Path, stored: &Stored) -> Result<(), JournalError> {
    let (path, new) = (directory.join(FILE), directory.join("identity.json.new"));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(stored)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(JournalError::io(&path))
}

/// A new one at each boot of the machine; empty where the system has none.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn nonce() -> String {
    let mut bytes = [0_u8; 8];
    // Without randomness the process id and nothing more tells two starts apart; the lock does the rest.
    if SystemRandom::new().fill(&mut bytes).is_err() {
        bytes = u64::from(std::process::id()).to_le_bytes();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}
