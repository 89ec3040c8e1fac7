//! The file by which `odock up` and supervisors see that the projector is up and whether it is the active one.
//! Written by rename by `leadership`.

use std::{io, path::PathBuf};

/// Where the state is told; nowhere when no file is set.
#[derive(Clone, Debug)]
pub(crate) struct ReadyFile {
    path: Option<PathBuf>,
}

impl ReadyFile {
    pub(crate) fn new(path: Option<PathBuf>) -> Self {
        Self { path }
    }

    /// Replaces the file, so that a reader sees the old state or the new one and nothing between.
    pub(crate) async fn write(&self, active: bool) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let state =
            serde_json::json!({ "pid": std::process::id(), "addr": null, "active": active });
        let mut temporary = path.clone().into_os_string();
        temporary.push(".new");
        tokio::fs::write(&temporary, state.to_string()).await?;
        tokio::fs::rename(&temporary, path).await
    }
}
