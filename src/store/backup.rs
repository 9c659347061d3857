//! A copy of a running SQLite store, whole and consistent.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::Store;
use super::connection::{Database, Purpose};
use super::model::StoreError;

impl Store {
    /// Copies the store as it is now to a new file, while work goes on.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if the file exists or the store is a MySQL database, which has tools of its own.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        if path.exists() {
            let text = format!("{} exists; a backup is only written to a new file", path.display());
            return Err(StoreError::Misconfigured(text));
        }
        let Some(path) = path.to_str().map(ToOwned::to_owned) else {
            return Err(StoreError::Misconfigured(format!("the path {} is not UTF-8", path.display())));
        };
        let target = self.inner.target.clone();
        let copied = tokio::task::spawn_blocking(move || match target.connect(Purpose::Checkpoint)? {
            Database::Sqlite(mut db) => {
                diesel::sql_query("VACUUM INTO ?").bind::<Text, _>(path).execute(&mut db)?;
                Ok(())
            }
            Database::Mysql(_) => {
                Err(StoreError::Misconfigured("copy a MySQL store with mysqldump --single-transaction".to_owned()))
            }
        });
        copied.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
    }
}
