//! A copy of the log's file, whole and consistent, whether or not a process works on it.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{EmbeddedBus, error, log};
use crate::bus::BusError;
use crate::sqlite::private;

impl EmbeddedBus {
    /// Copies the log at `from` as it is now to the new file `to`. Blocks.
    ///
    /// # Errors
    /// [`BusError::Misconfigured`] if there is no log or `to` exists.
    pub fn backup(from: &Path, to: &Path) -> Result<(), BusError> {
        let refuse = |text: String| Err(BusError::Misconfigured(text));
        if !from.exists() {
            return refuse(format!("bus.path: there is no log at {}", from.display()));
        }
        if to.exists() {
            return refuse(format!("{} exists; a backup is only written to a new file", to.display()));
        }
        let Some(name) = to.to_str() else {
            return refuse(format!("the path {} is not UTF-8", to.display()));
        };
        let mut reader = log::open_reader(from).map_err(|error| BusError::Unavailable(error.to_string()))?;
        private::create(to).map_err(|error| BusError::Misconfigured(format!("{name} cannot be written: {error}")))?;
        let copied = diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(name).execute(&mut reader);
        copied.map(drop).inspect_err(|_| drop(std::fs::remove_file(to))).map_err(|error| error::bus_error(from, &error))
    }
}
