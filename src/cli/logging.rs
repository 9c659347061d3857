//! Logs go to stderr; `RUST_LOG` chooses what, `TILLSTREAM_LOG=json` how.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging; a second call does nothing.
pub(super) fn start() {
    start_at("info");
}

/// Starts logging of warnings and errors only, for commands whose output is figures.
pub(super) fn start_quiet() {
    start_at("warn");
}

fn start_at(level: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let json = std::env::var("TILLSTREAM_LOG").is_ok_and(|format| format == "json");
    let _ = if json { builder.json().try_init() } else { builder.compact().try_init() };
}
