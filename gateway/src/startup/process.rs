//! What concerns the process rather than the gateway: its limits, and the file that says that it is up.

use std::{io::Write as _, net::SocketAddr, path::Path};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

#[derive(Serialize)]
struct Ready {
    pid: u32,
    addr: SocketAddr,
}

/// By rename, so that whoever waits for it never reads half.
pub(super) fn write_ready_file(path: &Path, addr: SocketAddr) -> std::io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let mut file = std::fs::File::create(&partial)?;
    serde_json::to_writer(
        &mut file,
        &Ready {
            pid: std::process::id(),
            addr,
        },
    )?;
    file.flush()?;
    std::fs::rename(partial, path)
}

/// As many descriptors as the system lets us have; no core dumps, which would hold keys.
pub(super) fn limit_process() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised.and_then(|()| setrlimit(Resource::RLIMIT_CORE, 0, 0)) {
        tracing::warn!(%error, "cannot set the limits of the process");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_file_says_who_listens_where() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        write_ready_file(&path, "127.0.0.1:8080".parse().unwrap()).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected = format!(
            "{{\"pid\":{},\"addr\":\"127.0.0.1:8080\"}}",
            std::process::id()
        );
        assert_eq!(text, expected);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
