//! Programs that `up` runs and does not bring along: where they are, as whom and with which environment they run.

use std::{
    env, ffi::OsString, os::unix::process::CommandExt as _, path::PathBuf, process::Command,
};

use super::data_dir::StoreUser;

/// The folders of `PATH`.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = env::vars_os().find(|(name, _)| name == "PATH");
    path.map_or_else(Vec::new, |(_, path)| env::split_paths(&path).collect())
}

/// The first of these programs that is on the path.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let folders = search_path();
    names.iter().find_map(|name| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    })
}

/// What a program needs that has nothing to do with us. No other variable is passed on: a child's settings are its file.
pub(crate) fn basic_environment() -> Vec<(OsString, OsString)> {
    pass_on(&["PATH", "HOME", "TZ", "LANG", "LD_LIBRARY_PATH", "TMPDIR"])
}

/// Those of our own variables that are set and named here.
pub(crate) fn pass_on(names: &[&str]) -> Vec<(OsString, OsString)> {
    env::vars_os()
        .filter(|(name, _)| names.iter().any(|wanted| name == wanted))
        .collect()
}

/// As root, makes a command run as the stores' user.
pub(crate) fn run_as(command: &mut Command, user: Option<StoreUser>) {
    if let Some(user) = user {
        command.uid(user.id).gid(user.id).current_dir("/");
    }
}
