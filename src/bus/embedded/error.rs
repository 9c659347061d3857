//! SQLite's faults as faults of the bus, by what to do next.

use std::path::Path;

use crate::bus::BusError;

/// What an error of SQLite means to whoever appends or reads.
pub(super) fn bus_error(path: &Path, error: &diesel::result::Error) -> BusError {
    let text = error.to_string();
    let path = path.display();
    if text.contains("disk is full") {
        BusError::Unavailable(format!(
            "the disk of {path} is full; nothing was appended, and it goes on by itself when there is room"
        ))
    } else if is_damage(&text) {
        BusError::Misconfigured(damaged(&path.to_string(), &text))
    } else if text.contains("readonly database") {
        BusError::Misconfigured(format!(
            "{path} cannot be written to: {text}; check owner and rights of the file and its directory"
        ))
    } else {
        BusError::Unavailable(format!("{path}: {text}"))
    }
}

fn is_damage(text: &str) -> bool {
    text.contains("malformed") || text.contains("not a database")
}

/// The message for a log that cannot be trusted.
pub(super) fn damaged(path: &str, detail: &str) -> String {
    format!(
        "{path} is damaged or no log of Tillstream ({detail}); restore it from a backup together with the store, or move \
         both away to begin anew"
    )
}
