//! What the commands say to the person at the terminal. A closed pipe is no reason to stop, so write errors are dropped.

use std::{
    fmt::Display,
    io::{self, Write as _},
    process::ExitCode,
};

/// One line on standard output.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// One line on standard error.
pub(crate) fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "odock: {line}");
}

/// Says why a command failed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it ends here, and main hands it over"
)]
pub(crate) fn fail(error: anyhow::Error) -> ExitCode {
    complain(format_args!("{error:#}"));
    ExitCode::FAILURE
}
