//! Who changed what, when and why.

use std::sync::{Mutex, PoisonError};

use super::Store;
use super::connection::{on, queries};
use super::cursor::{Cut, Page};
use super::model::{AuditEntry, StoreError};
use super::schema::audit;
use crate::time::Timestamp;

/// An entry that is about to be written.
#[derive(Debug, Clone, Default)]
pub(super) struct NewEntry<'a> {
    pub(super) actor: &'a str,
    pub(super) action: &'a str,
    pub(super) subject: &'a str,
    pub(super) revision: Option<i64>,
    pub(super) settings_epoch: Option<i64>,
    pub(super) old: Option<serde_json::Value>,
    pub(super) new: Option<serde_json::Value>,
    pub(super) reason: Option<&'a str>,
}

#[derive(diesel::Queryable)]
struct Row {
    id: i64,
    at: i64,
    actor: String,
    action: String,
    subject: String,
    revision: Option<i64>,
    settings_epoch: Option<i64>,
    old_value: Option<String>,
    new_value: Option<String>,
    reason: Option<String>,
}

/// Reads JSON that this store has written.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Refused(format!("a stored document cannot be read: {error}")))
}

impl Row {
    fn into_entry(self) -> Result<AuditEntry, StoreError> {
        Ok(AuditEntry {
            id: self.id,
            at: Timestamp::from_millis(self.at),
            actor: self.actor,
            action: self.action,
            subject: self.subject,
            revision: self.revision,
            settings_epoch: self.settings_epoch,
            old: self.old_value.as_deref().map(read_json).transpose()?,
            new: self.new_value.as_deref().map(read_json).transpose()?,
            reason: self.reason,
        })
    }
}

/// When the first try of a decision was made. A try that comes later follows one whose outcome is not known, since the connection
/// broke: it may have been done.
#[derive(Debug, Default)]
pub(super) struct FirstTry(Mutex<Option<Timestamp>>);

/// What MySQL and MariaDB say of a transaction that lost a deadlock or a lock: it was rolled back, so its outcome is known.
const ROLLED_BACK: &str = "try restarting transaction";

impl FirstTry {
    /// Notes the first try; when that was, if this is another one.
    pub(super) fn before(&self) -> Option<Timestamp> {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = *first;
        first.get_or_insert_with(Timestamp::now);
        known
    }

    /// Forgets a try of which it is known that nothing came.
    pub(super) fn ended<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().is_err_and(|error| error.to_string().contains(ROLLED_BACK)) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }
}

impl Store {
    /// Every change by a person, newest first.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn audit(&self, cursor: Option<&str>, limit: usize) -> Result<Page<AuditEntry>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        self.read(move |database| on!(database, page(None, &cut))).await
    }

    /// Changes of one plugin, newest first; its defaults are the oldest.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a cursor or limit that makes no sense.
    pub async fn plugin_history(
        &self,
        name: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let cut = Cut::new(cursor, limit)?;
        let name = name.to_owned();
        self.read(move |database| on!(database, page(Some(&name), &cut))).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn page(
        db: &mut Db,
        plugin: Option<&str>,
        cut: &Cut<i64>,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let mut query = audit::table.into_boxed().order(audit::id.desc()).limit(cut.rows());
        if let Some(name) = plugin {
            query = query
                .filter(audit::subject.eq(name))
                .filter(audit::action.eq_any(["plugin.change", "plugin.defaults", "plugin.manifest", "plugin.withdraw"]));
        }
        if let Some(after) = cut.after {
            query = query.filter(audit::id.lt(after));
        }
        let rows: Vec<Row> = query.load(db)?;
        let entries = rows.into_iter().map(Row::into_entry).collect::<Result<Vec<_>, _>>()?;
        Ok(cut.page(entries, |entry| entry.id))
    }

    /// The newest entry of this actor about such an action, if it was made since then: what a try whose outcome was not known has
    /// done.
    pub(in crate::store) fn done_since(
        db: &mut Db,
        actor: &str,
        action: &str,
        since: Timestamp,
    ) -> Result<Option<AuditEntry>, StoreError> {
        let row: Option<Row> = audit::table
            .filter(audit::actor.eq(actor).and(audit::action.eq(action)).and(audit::at.ge(since.as_millis())))
            .order(audit::id.desc())
            .first(db)
            .optional()?;
        row.map(Row::into_entry).transpose()
    }

    pub(in crate::store) fn write(db: &mut Db, entry: &NewEntry<'_>) -> Result<(), StoreError> {
        diesel::insert_into(audit::table)
            .values((
                (
                    audit::at.eq(Timestamp::now().as_millis()),
                    audit::actor.eq(entry.actor),
                    audit::action.eq(entry.action),
                ),
                (audit::subject.eq(entry.subject), audit::revision.eq(entry.revision)),
                audit::settings_epoch.eq(entry.settings_epoch),
                (
                    audit::old_value.eq(entry.old.as_ref().map(ToString::to_string)),
                    audit::new_value.eq(entry.new.as_ref().map(ToString::to_string)),
                    audit::reason.eq(entry.reason),
                ),
            ))
            .execute(db)?;
        Ok(())
    }
}
