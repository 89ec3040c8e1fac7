//! What the commands say to the person at the terminal. A closed pipe is no reason to stop, so write errors are dropped.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// One line on standard output.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One line on standard error.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "odock: {line}");
}
