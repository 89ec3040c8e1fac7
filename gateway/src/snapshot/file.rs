//! The snapshot file: the last configuration on the gateway's own disk, for a start without Postgres. It holds hashes
//! of keys and wrapped secrets, nothing that opens anything. Written by `follow::keeper`, read when the gateway starts.
//!
//! Layout: magic, format, a `MessagePack` head, then that many rows, grants and envelopes, and a SHA-256 of all of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use odock_events::{
    clock::Timestamp,
    ids::{GrantId, KeyId, ModelId, SealedSecretId},
    state::EntityRow,
};
use serde::{Deserialize, Serialize};

use super::{Consequences, Snapshot};

/// What the file keeps.
#[derive(Clone, Debug)]
pub struct Saved {
    pub snapshot: Arc<Snapshot>,
    pub saved_at: Timestamp,
    /// When the projector was last heard: the age of the configuration counts from it.
    pub heard_at: Timestamp,
    pub envelopes: Vec<(SealedSecretId, Arc<str>)>,
}

/// Why a file is not taken, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("snapshot file: {0}")]
    Io(#[from] io::Error),
    #[error("the file is not a snapshot of this gateway")]
    Foreign,
    #[error("the snapshot file has format {found}, this build reads {FORMAT}")]
    Format { found: u32 },
    #[error("the snapshot file is damaged")]
    Damaged,
    #[error("the snapshot file does not read: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("the snapshot cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// Replaces the file as a whole: a crash leaves the old one or the new one. Blocks for as long as the disk takes.
pub fn write(path: &Path, saved: &Saved) -> Result<(), FileError> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let temporary = temporary_name(path);
    remove_if_there(&temporary)?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let mut sink = Sink {
        file: BufWriter::new(file),
        hash: digest::Context::new(&digest::SHA256),
    };
    write_contents(&mut sink, saved)?;
    sink.finish()?.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Reads the file; `None` when there is none. Blocks.
pub fn read(path: &Path) -> Result<Option<Saved>, FileError> {
    match fs::read(path) {
        Ok(bytes) => parse(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    version: u64,
    generation: u64,
    saved_at: Timestamp,
    heard_at: Timestamp,
    rows: u64,
    grants: u64,
    envelopes: u64,
    /// There are more keys than these.
    #[serde(default)]
    partial: bool,
}

fn write_contents(sink: &mut Sink, saved: &Saved) -> Result<(), FileError> {
    sink.write_all(MAGIC)?;
    sink.write_all(&FORMAT.to_le_bytes())?;
    let snapshot = &saved.snapshot;
    let head = Head {
        version: snapshot.version,
        generation: snapshot.generation,
        saved_at: saved.saved_at,
        heard_at: saved.heard_at,
        rows: snapshot.rows().count() as u64,
        grants: snapshot.grants().count() as u64,
        envelopes: saved.envelopes.len() as u64,
        partial: !snapshot.is_complete(),
    };
    let mut serializer = rmp_serde::Serializer::new(sink).with_struct_map();
    head.serialize(&mut serializer)?;
    for row in snapshot.rows() {
        row.serialize(&mut serializer)?;
    }
    for grant in snapshot.grants() {
        grant.serialize(&mut serializer)?;
    }
    for (id, envelope) in &saved.envelopes {
        (id, &**envelope).serialize(&mut serializer)?;
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Saved, FileError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(FileError::Foreign)?;
    let (format, _) = rest.split_first_chunk::<4>().ok_or(FileError::Damaged)?;
    let format = u32::from_le_bytes(*format);
    if format != FORMAT {
        return Err(FileError::Format { found: format });
    }
    let (contents, found) = bytes
        .split_last_chunk::<{ digest::SHA256_OUTPUT_LEN }>()
        .ok_or(FileError::Damaged)?;
    if digest::digest(&digest::SHA256, contents).as_ref() != found {
        return Err(FileError::Damaged);
    }
    let body = contents.get(MAGIC.len() + 4..).ok_or(FileError::Damaged)?;
    parse_body(body)
}

fn parse_body(body: &[u8]) -> Result<Saved, FileError> {
    let mut body = rmp_serde::Deserializer::from_read_ref(body);
    let head = Head::deserialize(&mut body)?;
    let mut snapshot = Snapshot {
        version: head.version,
        generation: head.generation,
        ..Snapshot::default()
    };
    let mut consequences = Consequences::default();
    for _ in 0..head.rows {
        snapshot.put(EntityRow::deserialize(&mut body)?, &mut consequences);
    }
    if head.partial {
        snapshot.become_partial();
    }
    for _ in 0..head.grants {
        let (grant, key, model) = <(GrantId, KeyId, ModelId)>::deserialize(&mut body)?;
        snapshot.put_grant(grant, key, model);
    }
    let mut envelopes = Vec::new();
    for _ in 0..head.envelopes {
        let (id, json) = <(SealedSecretId, String)>::deserialize(&mut body)?;
        envelopes.push((id, json.into()));
    }
    Ok(Saved {
        snapshot: Arc::new(snapshot),
        saved_at: head.saved_at,
        heard_at: head.heard_at,
        envelopes,
    })
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Hashes what it writes.
struct Sink {
    file: BufWriter<File>,
    hash: digest::Context,
}

impl Sink {
    fn finish(mut self) -> io::Result<File> {
        self.file.write_all(self.hash.finish().as_ref())?;
        self.file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

const MAGIC: &[u8] = b"ODOCKCFG";
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::snapshot::testing::{World, model_id};

    fn saved() -> Saved {
        let world = World::new();
        let rows: [EntityRow; 7] = [
            world.organisation().into(),
            world.provider(1).into(),
            world.provider_key(1).into(),
            world.model(1).into(),
            world.key(1).into(),
            world.grant(1, 1, 1).into(),
            world.budget_of_key(1, 1).into(),
        ];
        let mut snapshot = Snapshot::of_rows(41, rows);
        snapshot.generation = 7;
        let secret = world.provider_key(1).body.sealed_secret_id;
        Saved {
            snapshot: Arc::new(snapshot),
            saved_at: Timestamp(2),
            heard_at: Timestamp(1),
            envelopes: vec![(secret, "{\"v\":1}".into())],
        }
    }

    fn sorted(snapshot: &Snapshot) -> Vec<EntityRow> {
        let mut rows: Vec<_> = snapshot.rows().collect();
        rows.sort_by_key(|row| row.entity().id);
        rows
    }

    #[test]
    fn what_is_written_is_read_and_only_the_owner_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/snapshot.bin");
        assert!(read(&path).unwrap().is_none());
        let before = saved();
        // Twice: an older file and a rest of a crash are in the way of neither.
        write(&path, &before).unwrap();
        fs::write(temporary_name(&path), b"rest").unwrap();
        write(&path, &before).unwrap();
        let after = read(&path).unwrap().unwrap();
        assert_eq!((after.snapshot.version, after.snapshot.generation), (41, 7));
        assert_eq!(
            (after.saved_at, after.heard_at),
            (before.saved_at, before.heard_at)
        );
        assert_eq!(after.envelopes, before.envelopes);
        assert_eq!(sorted(&after.snapshot), sorted(&before.snapshot));
        let grants = |saved: &Saved| saved.snapshot.grants().collect::<Vec<_>>();
        assert_eq!(grants(&after), grants(&before));
        let secret = World::new().key(1).body.secret_sha256;
        assert!(after.snapshot.key(&secret).unwrap().may_use(model_id(1)));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let files = fs::read_dir(path.parent().unwrap()).unwrap();
        assert_eq!(files.count(), 1);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("snapshot.bin");
        write(&path, &saved()).unwrap();
        let good = fs::read(&path).unwrap();
        assert!(parse(&good).is_ok());
        for length in 0..good.len() {
            assert!(parse(&good[..length]).is_err(), "cut at {length}");
        }
        for place in 0..good.len() {
            let mut damaged = good.clone();
            damaged[place] ^= 1 << (place % 8);
            assert!(parse(&damaged).is_err(), "flipped at {place}");
        }
        assert!(matches!(
            parse(b"{\"other\": \"file\"}"),
            Err(FileError::Foreign)
        ));
        let longer = [good.as_slice(), b"x"].concat();
        assert!(matches!(parse(&longer), Err(FileError::Damaged)));
    }
}
