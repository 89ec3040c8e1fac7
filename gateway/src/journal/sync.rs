//! The thread that syncs the journal: one `fdatasync` for everything written in the last few milliseconds. After a
//! failed one the kernel may have dropped what was to be written and say nothing the next time: it is not tried again,
//! the journal counts as broken until a new process has read it.

use std::{
    fs::File,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::sync::watch;

use super::{JournalError, Progressed};

/// How long writes are gathered before they are synced.
const GATHER: Duration = Duration::from_millis(4);

/// Handle to the thread; it ends when the handle is dropped.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    progressed: watch::Receiver<Progressed>,
}

struct Shared {
    written: Mutex<Written>,
    woken: Condvar,
}

struct Written {
    file: Arc<File>,
    seq: u64,
    records: u64,
    synced_records: u64,
    ended: bool,
}

impl Syncer {
    pub(crate) fn start(file: Arc<File>, synced_seq: u64) -> Result<Self, JournalError> {
        let written = Written {
            file,
            seq: synced_seq,
            records: 0,
            synced_records: 0,
            ended: false,
        };
        let shared = Arc::new(Shared {
            written: Mutex::new(written),
            woken: Condvar::new(),
        });
        let start = Progressed {
            synced_seq,
            synced_records: 0,
            failed: false,
        };
        let (sender, progressed) = watch::channel(start);
        let own = Arc::clone(&shared);
        thread::Builder::new()
            .name("journal-sync".into())
            .spawn(move || run(&own, &sender))
            .map_err(|_| JournalError::SyncFailed)?;
        Ok(Self { shared, progressed })
    }

    pub(crate) fn progressed(&self) -> watch::Receiver<Progressed> {
        self.progressed.clone()
    }

    pub(crate) fn written(&self, seq: u64, records: u64) {
        let mut written = self.shared.lock();
        let idle = written.records == written.synced_records;
        (written.seq, written.records) = (seq, records);
        drop(written);
        if idle {
            self.shared.woken.notify_one();
        }
    }

    /// From now on another file is synced; the caller has synced the old one.
    pub(crate) fn replace_file(&self, file: Arc<File>) {
        self.shared.lock().file = file;
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.woken.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Shared, sender: &watch::Sender<Progressed>) {
    loop {
        let waiting =
            |written: &mut Written| !written.ended && written.records == written.synced_records;
        let written = shared.woken.wait_while(shared.lock(), waiting);
        let ended = written.unwrap_or_else(PoisonError::into_inner).ended;
        if !ended {
            thread::sleep(GATHER);
        }
        let (file, seq, records) = {
            let written = shared.lock();
            (Arc::clone(&written.file), written.seq, written.records)
        };
        if let Err(error) = file.sync_data() {
            tracing::error!(%error, "the journal could not be synced to disk; it takes a restart");
            sender.send_modify(|progressed| progressed.failed = true);
            return;
        }
        shared.lock().synced_records = records;
        sender.send_modify(|progressed| {
            (progressed.synced_seq, progressed.synced_records) = (seq, records);
        });
        if ended {
            return;
        }
    }
}
