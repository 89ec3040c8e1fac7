//! Segment files: `<16 digits>.journal`, each beginning with a state record, written by one writer and read by many.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use super::{
    JournalError,
    frame::{self, Frame},
    record::{Record, StateRecord, Tag, pack, unpack},
    state::JournalState,
};

pub(crate) const EXTENSION: &str = "journal";

/// One segment file and the seqs in it. `last_seq` below `first_seq`: no event yet.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
}

/// All segment files, oldest first.
#[derive(Debug)]
pub(crate) struct Segments {
    directory: PathBuf,
    list: Mutex<Vec<Segment>>,
}

impl Segments {
    /// The files that are there. Seqs are filled in by whoever reads them.
    pub(crate) fn scan(directory: &Path) -> Result<Self, JournalError> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(directory).map_err(JournalError::io(directory))? {
            let path = entry.map_err(JournalError::io(directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == EXTENSION)
            {
                paths.push(path);
            }
        }
        paths.sort();
        let list = paths.into_iter().map(|path| Segment {
            path,
            first_seq: 0,
            last_seq: 0,
        });
        Ok(Self {
            directory: directory.to_owned(),
            list: Mutex::new(list.collect()),
        })
    }

    pub(crate) fn list(&self) -> Vec<Segment> {
        self.lock().clone()
    }

    pub(crate) fn set_range(&self, path: &Path, first_seq: u64, last_seq: u64) {
        if let Some(segment) = self.lock().iter_mut().find(|segment| segment.path == path) {
            (segment.first_seq, segment.last_seq) = (first_seq, last_seq);
        }
    }

    /// Fills in the seqs of segments of earlier lives, from their heads: each ends where the next one begins.
    pub(crate) fn learn_ranges(&self) {
        let mut list = self.lock();
        let mut next = None;
        for segment in list.iter_mut().rev() {
            if let Some(next) = next {
                segment.first_seq = first_seq(&segment.path).unwrap_or(u64::MAX);
                segment.last_seq = next - 1;
            }
            if segment.first_seq != u64::MAX {
                next = Some(segment.first_seq);
            }
        }
    }

    /// Removes a segment that never got a whole head.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), JournalError> {
        fs::remove_file(path).map_err(JournalError::io(path))?;
        self.lock().retain(|segment| segment.path != path);
        Ok(())
    }

    pub(crate) fn note_last_seq(&self, seq: u64) {
        if let Some(segment) = self.lock().last_mut() {
            segment.last_seq = seq;
        }
    }

    /// Removes segments that Postgres has whole: those too old, and the oldest while all are too much. Never the last.
    pub(crate) fn release(
        &self,
        watermark: u64,
        keep_for: Duration,
        keep_bytes: u64,
    ) -> Result<(), JournalError> {
        let mut list = self.lock();
        let sizes: Vec<(u64, Duration)> =
            list.iter().map(|segment| measure(&segment.path)).collect();
        let mut total: u64 = sizes.iter().map(|(bytes, _)| bytes).sum();
        let mut gone = 0;
        let finished = list.len().saturating_sub(1);
        for (segment, (bytes, age)) in list.iter().zip(&sizes).take(finished) {
            let shipped = segment.last_seq <= watermark;
            if !shipped || (*age < keep_for && total <= keep_bytes) {
                break;
            }
            fs::remove_file(&segment.path).map_err(JournalError::io(&segment.path))?;
            total -= bytes;
            gone += 1;
        }
        list.drain(..gone);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The seq after which a segment was begun, plus one. `None`: its head does not read.
fn first_seq(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut bytes = vec![0; frame::HEADER];
    file.read_exact(&mut bytes).ok()?;
    let length = frame::length(&bytes)?;
    file.take(length).read_to_end(&mut bytes).ok()?;
    let Frame::Whole(range) = frame::read(&bytes, 0) else {
        return None;
    };
    let Ok(Record::State(head)) = Record::parse(bytes.get(range)?) else {
        return None;
    };
    unpack::<StateRecord>(head).ok().map(|state| state.next_seq)
}

fn measure(path: &Path) -> (u64, Duration) {
    let metadata = fs::metadata(path);
    metadata.map_or((0, Duration::ZERO), |metadata| {
        let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        (metadata.len(), changed.elapsed().unwrap_or_default())
    })
}

/// The end of the newest segment.
pub(crate) struct Writer {
    file: Arc<File>,
    path: PathBuf,
    /// Up to here every record is whole.
    length: u64,
    failed: bool,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a new segment with the state as it is, synced together with its directory. A file that could not be
    /// begun is removed again.
    pub(crate) fn begin(segments: &Segments, state: &JournalState) -> Result<Self, JournalError> {
        let mut list = segments.lock();
        let number = list
            .last()
            .map_or(1, |segment| number_of(&segment.path) + 1);
        let path = segments.directory.join(format!("{number:016}.{EXTENSION}"));
        let head = pack(&state.to_record())?;
        let file = create(&path).map_err(JournalError::io(&path))?;
        let mut writer = Self {
            file: Arc::new(file),
            path: path.clone(),
            length: 0,
            failed: false,
            buffer: Vec::new(),
        };
        let written = writer.write(Tag::State, &[&head]).and_then(|()| {
            let synced = writer
                .file
                .sync_all()
                .and_then(|()| sync_directory(&segments.directory));
            synced.map_err(JournalError::io(&path))
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        list.push(Segment {
            path,
            first_seq: state.next_seq,
            last_seq: state.next_seq - 1,
        });
        Ok(writer)
    }

    /// One `write(2)`. After a failure the file is cut back to its last whole record, at the latest before anything
    /// else is written, so that a full disk leaves no torn record in the middle.
    pub(crate) fn write(&mut self, tag: Tag, parts: &[&[u8]]) -> Result<(), JournalError> {
        if self.failed {
            self.cut_back().map_err(JournalError::io(&self.path))?;
        }
        self.buffer.clear();
        frame::append(&mut self.buffer, |buffer| {
            buffer.push(tag as u8);
            for part in parts {
                buffer.extend_from_slice(part);
            }
        });
        match (&*self.file).write_all(&self.buffer) {
            Ok(()) => {
                self.failed = false;
                self.length += self.buffer.len() as u64;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                let _ = self.cut_back();
                Err(JournalError::io(&self.path)(error))
            }
        }
    }

    fn cut_back(&self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        (&*self.file).seek(SeekFrom::Start(self.length))?;
        Ok(())
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    pub(crate) fn replace_file(&mut self, file: Arc<File>) -> Arc<File> {
        std::mem::replace(&mut self.file, file)
    }

    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

/// The umask may only take rights away: usage is nobody else's business.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn number_of(path: &Path) -> u64 {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    stem.and_then(|stem| stem.parse().ok()).unwrap_or(0)
}
