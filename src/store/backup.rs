//! A copy of a SQLite store, whole and consistent, whether or not a process works on it.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::Store;
use super::connection::{Database, Purpose, Target};
use super::model::StoreError;
use crate::sqlite::private;

impl Store {
    /// Copies the SQLite store at `from` as it is now to the new file `to`. Blocks.
    ///
    /// The copy has no identity: it gets a new one when it is first used. Otherwise the bus would take what it decides anew
    /// for what it knows already, since a restored store allots the same numbers to other rows of its outbox.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if there is no store or `to` exists.
    pub fn backup(from: &Path, to: &Path) -> Result<(), StoreError> {
        let refuse = |text: String| Err(StoreError::Misconfigured(text));
        if !from.exists() {
            return refuse(format!("store.url: there is no store at {}", from.display()));
        }
        if to.exists() {
            return refuse(format!("{} exists; a backup is only written to a new file", to.display()));
        }
        let Some(name) = to.to_str() else {
            return refuse(format!("the path {} is not UTF-8", to.display()));
        };
        let Database::Sqlite(mut store) = Target::Sqlite(from.to_owned()).connect(Purpose::Checkpoint)? else {
            unreachable!("a file is opened as SQLite")
        };
        private::create(to).map_err(|error| StoreError::Misconfigured(format!("{name} cannot be written: {error}")))?;
        let copied = diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(name).execute(&mut store);
        copied.inspect_err(|_| drop(std::fs::remove_file(to)))?;
        let mut copy = SqliteConnection::establish(name).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        diesel::sql_query("DELETE FROM meta WHERE name = 'identity'").execute(&mut copy)?;
        Ok(())
    }
}
