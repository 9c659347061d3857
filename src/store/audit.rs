//! Who changed what, when and why.

use std::sync::atomic::{AtomicU32, Ordering};

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
    /// Of a [`Decision`], its id.
    pub(super) decision: Option<&'a str>,
}

#[derive(diesel::Queryable, diesel::Selectable)]
#[diesel(table_name = audit)]
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

/// One decision of a person, however often it is tried. A try that follows another one follows one whose outcome may not be known,
/// since the connection broke: what it wrote is found by the decision's id, and by nothing else. Actors are no help: without tokens
/// everybody is `local`.
#[derive(Debug)]
pub(super) struct Decision {
    id: String,
    tries: AtomicU32,
}

impl Decision {
    /// A decision that nobody has tried yet.
    pub(super) fn new() -> Self {
        Self { id: format!("{:032x}", rand::random::<u128>()), tries: AtomicU32::new(0) }
    }

    /// Its id, for [`NewEntry`].
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Notes a try.
    pub(super) fn begin(&self) {
        self.tries.fetch_add(1, Ordering::Relaxed);
    }

    fn is_tried_again(&self) -> bool {
        self.tries.load(Ordering::Relaxed) > 1
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
        let mut query =
            audit::table.select(Row::as_select()).order(audit::id.desc()).limit(cut.rows()).into_boxed();
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

    /// What an earlier try of this decision has written, if this is another try and the earlier one was done. The earlier one may still
    /// be at it: look behind a lock that both need.
    pub(in crate::store) fn done(db: &mut Db, decision: &Decision) -> Result<Option<AuditEntry>, StoreError> {
        if !decision.is_tried_again() {
            return Ok(None);
        }
        let row: Option<Row> =
            audit::table.filter(audit::decision.eq(decision.id())).select(Row::as_select()).first(db).optional()?;
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
                    audit::decision.eq(entry.decision),
                ),
            ))
            .execute(db)?;
        Ok(())
    }
}
