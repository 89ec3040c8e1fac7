//! Builds the binary again when a migration is added: `sqlx::migrate!` embeds the folder and cargo cannot see that.

fn main() {
    let mut out = std::io::stdout();
    let _ = std::io::Write::write_all(&mut out, b"cargo::rerun-if-changed=../migrations\n");
}
