//! The commit: everything that one batch of one shard changes, all of it or nothing.

use std::sync::Arc;

use bytes::Bytes;

use super::Store;
use super::connection::{on, queries};
use super::model::{Commit, StoreError};
use crate::bus::{Header, NewRecord};

impl Store {
    /// Writes a batch in one transaction.
    ///
    /// Calling again with the same commit after [`StoreError::Unavailable`] is safe: if it had been done, which may be unknown
    /// when a connection breaks, the rows say so and nothing happens a second time.
    ///
    /// # Errors
    /// - [`StoreError::Fenced`]: a partition has another owner; nothing was written. Drop its state.
    /// - [`StoreError::SettingsMoved`]: nothing was written. Apply the batch again with the new settings.
    /// - [`StoreError::Unavailable`]: disk full, locked, or the server is away. Call again with the same commit.
    /// - [`StoreError::Refused`]: nothing was written, and never will be: a value that the store does not take.
    pub async fn commit(&self, commit: Arc<Commit>) -> Result<(), StoreError> {
        self.write_repeatable(move |database| {
            database.require_room_for(largest_row(&commit))?;
            on!(database, commit(&commit))
        })
        .await
    }
}

impl Store {
    /// Tries a commit and takes it back: the store's words if it would refuse it.
    ///
    /// # Errors
    /// [`StoreError::SettingsMoved`] and [`StoreError::Unavailable`], as [`Store::commit`].
    pub async fn refuses(&self, commit: Arc<Commit>) -> Result<Option<String>, StoreError> {
        self.write_repeatable(move |database| {
            let tried = database.require_room_for(largest_row(&commit)).and_then(|()| on!(database, try_out(&commit)));
            match tried {
                Ok(()) => Ok(None),
                Err(StoreError::Refused(why)) => Ok(Some(why)),
                Err(error) => Err(error),
            }
        })
        .await
    }
}

/// About the bytes of a commit's largest row.
fn largest_row(commit: &Commit) -> usize {
    let outbox = commit.outbox.iter().map(|row| row.records.iter().map(record_bytes).sum());
    let dead_letters = commit.dead_letters.iter().map(|letter| {
        let key = letter.key.as_ref().map_or(0, Bytes::len);
        letter.bytes.len() + header_bytes(&letter.headers) + key + letter.message.len()
    });
    let states = commit.entities.iter().map(|row| row.state.len());
    let windows = commit.windows.iter().map(|row| row.window.len());
    outbox.chain(dead_letters).chain(states).chain(windows).max().unwrap_or(0)
}

fn record_bytes(record: &NewRecord) -> usize {
    record.value.len() + record.key.as_ref().map_or(0, Bytes::len) + header_bytes(&record.headers) + 64
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn commit(db: &mut Db, commit: &Commit) -> Result<(), StoreError> {
        match db.transaction(|db| write(db, commit)) {
            // The version or the settings have moved on: maybe by this very commit, whose outcome was not known.
            Err(error @ (StoreError::Fenced(_) | StoreError::SettingsMoved)) => {
                if queries::offsets::already_done(db, &commit.partitions, commit.settings_epoch)? {
                    Ok(())
                } else {
                    Err(error)
                }
            }
            outcome => outcome,
        }
    }

    /// What [`commit`] would do, undone.
    pub(in crate::store) fn try_out(db: &mut Db, commit: &Commit) -> Result<(), StoreError> {
        let mut outcome = Ok(());
        let undone = db.transaction(|db| {
            outcome = write(db, commit);
            Err::<(), _>(diesel::result::Error::RollbackTransaction)
        });
        match (outcome, undone) {
            (Err(error), _) => Err(error),
            (Ok(()), Ok(()) | Err(diesel::result::Error::RollbackTransaction)) => Ok(()),
            (Ok(()), Err(error)) => Err(error.into()),
        }
    }

    fn write(db: &mut Db, commit: &Commit) -> Result<(), StoreError> {
        queries::offsets::require_settings(db, commit.settings_epoch)?;
        queries::offsets::advance(db, &commit.partitions, commit.settings_epoch)?;
        queries::entities::replace_windows(db, &commit.windows)?;
        queries::entities::replace_entities(db, &commit.entities)?;
        queries::records::write(db, &commit.records)?;
        queries::outbox::insert(db, &commit.outbox)?;
        queries::http_calls::insert(db, &commit.http)?;
        queries::orders::hand_over::hand_over(db, &commit.deliveries)?;
        queries::dead_letters::replace(db, &commit.dead_letters)?;
        queries::dead_letters::set_replayed(db, &commit.dead_letters_replayed)?;
        Ok(())
    }
}
