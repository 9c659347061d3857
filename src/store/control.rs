//! Plugins and stores as managers set them: revisions, the settings epoch, the audit trail.

use std::collections::HashMap;

use super::Store;
use super::audit::{Decision, NewEntry, read_json};
use super::connection::{on, queries};
use super::external;
use super::model::{ExternalRow, PluginRow, StoreError, WhileOff};
use super::outbox::lane;
use super::schema::{documents, plugin_starts, plugins, settings_epoch};
use crate::bus::NewRecord;

/// Name of the only document there is.
const STORES: &str = "stores";

/// What a plugin is to be from now on.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginChange {
    /// Switched on.
    pub active: bool,
    /// The whole eligibility block.
    pub eligibility: serde_json::Value,
    /// The whole settings.
    pub settings: serde_json::Value,
    /// If it is switched on by this: where each partition of `pos.events` ends. `None` leaves what is known.
    pub starts: Option<Vec<i64>>,
    /// Of a plugin in another language: what becomes of its input while it is off, and which input is skipped.
    pub while_off: Option<(WhileOff, i64)>,
}

#[derive(diesel::Queryable)]
struct Row {
    name: String,
    active: bool,
    revision: i64,
    eligibility: String,
    settings: String,
}

impl Row {
    fn into_row(self, starts: Option<&str>, external: Option<ExternalRow>) -> Result<PluginRow, StoreError> {
        Ok(PluginRow {
            name: self.name,
            active: self.active,
            revision: self.revision,
            eligibility: read_json(&self.eligibility)?,
            settings: read_json(&self.settings)?,
            starts: starts.map(read_json).transpose()?,
            external,
        })
    }
}

fn audited(row: &PluginRow) -> serde_json::Value {
    let mut audited =
        serde_json::json!({"active": row.active, "eligibility": row.eligibility, "settings": row.settings});
    if let Some(external) = &row.external {
        audited["whileOff"] = external.while_off.as_str().into();
    }
    audited
}

impl Store {
    /// All plugins by name, and the settings epoch at which they were so.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn load_plugins(&self) -> Result<(i64, Vec<PluginRow>), StoreError> {
        self.read(|database| on!(database, load_plugins())).await
    }

    /// The settings epoch: raised with every change of any plugin or store.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn settings_epoch(&self) -> Result<i64, StoreError> {
        self.read(|database| on!(database, settings_epoch_now())).await
    }

    /// Adds plugins that the store does not know yet; those that it knows stay as they are. Answers the settings epoch, which
    /// is raised if anything was added.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn insert_plugin_defaults(&self, rows: Vec<PluginRow>) -> Result<i64, StoreError> {
        self.write(move |database| on!(database, insert_plugin_defaults(&rows))).await
    }

    /// Changes a plugin in one transaction: the row with its next revision, the settings epoch, the audit entry, and
    /// `control_record` on lane `control`. Answers the new epoch and row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if there is no such plugin, [`StoreError::Conflict`] if its revision is not the expected one.
    pub async fn change_plugin(
        &self,
        name: &str,
        expected_revision: i64,
        change: PluginChange,
        actor: &str,
        reason: Option<&str>,
        control_record: NewRecord,
    ) -> Result<(i64, PluginRow), StoreError> {
        let (name, actor, reason) = (name.to_owned(), actor.to_owned(), reason.map(ToOwned::to_owned));
        let records = [control_record];
        let decision = Decision::new();
        self.write(move |database| {
            decision.begin();
            if let Some(done) = on!(database, changed_before(&name, &decision))? {
                return Ok(done);
            }
            let entry = NewEntry {
                actor: &actor,
                action: "plugin.change",
                subject: &name,
                reason: reason.as_deref(),
                decision: Some(decision.id()),
                ..NewEntry::default()
            };
            match on!(database, change_plugin(expected_revision, &change, entry, &records)) {
                // An earlier try may have ended while this one waited for its locks.
                Err(StoreError::Conflict) => {
                    on!(database, changed_before(&name, &decision))?.ok_or(StoreError::Conflict)
                }
                changed => changed,
            }
        })
        .await
    }

    /// The stores document with its revision; `None` before it was first written.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn load_stores(&self) -> Result<Option<(i64, serde_json::Value)>, StoreError> {
        self.read(|database| on!(database, load_stores())).await
    }

    /// Writes the stores document and raises the settings epoch. Revision 0 is expected of a document that is not there yet.
    /// Answers the new epoch and revision.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if its revision is not the expected one.
    pub async fn change_stores(
        &self,
        expected_revision: i64,
        value: serde_json::Value,
        actor: &str,
        reason: Option<&str>,
    ) -> Result<(i64, i64), StoreError> {
        let (actor, reason) = (actor.to_owned(), reason.map(ToOwned::to_owned));
        let decision = Decision::new();
        self.write(move |database| {
            decision.begin();
            if let Some(done) = on!(database, stores_changed_before(&decision))? {
                return Ok(done);
            }
            let entry = NewEntry {
                actor: &actor,
                action: "stores.change",
                subject: STORES,
                reason: reason.as_deref(),
                decision: Some(decision.id()),
                ..NewEntry::default()
            };
            match on!(database, change_stores(expected_revision, &value, entry)) {
                Err(StoreError::Conflict) => {
                    on!(database, stores_changed_before(&decision))?.ok_or(StoreError::Conflict)
                }
                changed => changed,
            }
        })
        .await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn load_plugins(db: &mut Db) -> Result<(i64, Vec<PluginRow>), StoreError> {
        // The epoch first: if a change comes between, the rows are newer than their epoch, and the next look finds the rest.
        let epoch = settings_epoch::table.find(1).select(settings_epoch::epoch).first(db)?;
        let rows: Vec<Row> = plugins::table.order(plugins::name).load(db)?;
        let starts: HashMap<String, String> = plugin_starts::table.load(db)?.into_iter().collect();
        let mut externals = queries::external::of_all(db)?;
        let rows = rows.into_iter().map(|row| {
            let external = externals.remove(&row.name).map(external::Row::into_external).transpose()?;
            let starts = starts.get(&row.name).map(String::as_str);
            row.into_row(starts, external)
        });
        Ok((epoch, rows.collect::<Result<_, _>>()?))
    }

    fn unknown<'a>(db: &mut Db, rows: &'a [PluginRow]) -> QueryResult<Vec<&'a PluginRow>> {
        let known: Vec<String> = plugins::table.select(plugins::name).load(db)?;
        Ok(rows.iter().filter(|row| !known.contains(&row.name)).collect())
    }

    pub(in crate::store) fn settings_epoch_now(db: &mut Db) -> Result<i64, StoreError> {
        Ok(settings_epoch::table.find(1).select(settings_epoch::epoch).first(db)?)
    }

    pub(in crate::store) fn insert_plugin_defaults(db: &mut Db, rows: &[PluginRow]) -> Result<i64, StoreError> {
        db.transaction(|db| {
            if unknown(db, rows)?.is_empty() {
                return Ok(settings_epoch::table.find(1).select(settings_epoch::epoch).first(db)?);
            }
            let epoch = queries::offsets::raise_settings(db)?;
            // Asked again: the epoch keeps other processes off, but one that started at the same time may have been first.
            for row in unknown(db, rows)? {
                diesel::insert_into(plugins::table)
                    .values((
                        (
                            plugins::name.eq(&row.name),
                            plugins::active.eq(row.active),
                            plugins::revision.eq(row.revision),
                        ),
                        (
                            plugins::eligibility.eq(row.eligibility.to_string()),
                            plugins::settings.eq(row.settings.to_string()),
                        ),
                    ))
                    .execute(db)?;
                let entry = NewEntry {
                    actor: "plugins.yaml",
                    action: "plugin.defaults",
                    subject: &row.name,
                    revision: Some(row.revision),
                    settings_epoch: Some(epoch),
                    new: Some(audited(row)),
                    ..NewEntry::default()
                };
                queries::audit::write(db, &entry)?;
            }
            Ok(epoch)
        })
    }

    fn read_plugin(db: &mut Db, name: &str) -> Result<PluginRow, StoreError> {
        let row: Row = plugins::table.find(name).first(db)?;
        let starts: Option<String> =
            plugin_starts::table.find(name).select(plugin_starts::ends).first(db).optional()?;
        let external = queries::external::of(db, name)?;
        row.into_row(starts.as_deref(), external)
    }

    /// A plugin's row, if there is one.
    pub(in crate::store) fn find_plugin(db: &mut Db, name: &str) -> Result<Option<PluginRow>, StoreError> {
        match read_plugin(db, name) {
            Err(StoreError::NotFound) => Ok(None),
            row => row.map(Some),
        }
    }

    /// The epoch of a change whose outcome had not been known, and the plugin as it is now, if the change was made.
    pub(in crate::store) fn changed_before(
        db: &mut Db,
        name: &str,
        decision: &Decision,
    ) -> Result<Option<(i64, PluginRow)>, StoreError> {
        let Some(done) = queries::audit::done(db, decision)? else { return Ok(None) };
        Ok(Some((done.settings_epoch.unwrap_or_default(), read_plugin(db, name)?)))
    }

    pub(in crate::store) fn change_plugin(
        db: &mut Db,
        expected_revision: i64,
        change: &PluginChange,
        mut entry: NewEntry<'_>,
        records: &[NewRecord],
    ) -> Result<(i64, PluginRow), StoreError> {
        db.transaction(|db| {
            let epoch = queries::offsets::raise_settings(db)?;
            let old = read_plugin(db, entry.subject)?;
            let new = PluginRow {
                name: old.name.clone(),
                active: change.active,
                revision: expected_revision + 1,
                eligibility: change.eligibility.clone(),
                settings: change.settings.clone(),
                starts: change.starts.clone().or_else(|| old.starts.clone()),
                external: old.external.clone().map(|external| match change.while_off {
                    Some((while_off, skip_before)) => ExternalRow { while_off, skip_before, ..external },
                    None => external,
                }),
            };
            let changed = diesel::update(plugins::table.find(entry.subject))
                .filter(plugins::revision.eq(expected_revision))
                .set((
                    plugins::active.eq(new.active),
                    plugins::revision.eq(new.revision),
                    plugins::eligibility.eq(new.eligibility.to_string()),
                    plugins::settings.eq(new.settings.to_string()),
                ))
                .execute(db)?;
            if changed == 0 {
                return Err(StoreError::Conflict);
            }
            if let Some((while_off, skip_before)) = change.while_off {
                queries::external::set_while_off(db, entry.subject, while_off, skip_before)?;
            }
            if let Some(ends) = &change.starts {
                let ends = serde_json::to_string(ends).map_err(|error| StoreError::Refused(error.to_string()))?;
                diesel::replace_into(plugin_starts::table)
                    .values((plugin_starts::plugin.eq(entry.subject), plugin_starts::ends.eq(ends)))
                    .execute(db)?;
            }
            entry.revision = Some(new.revision);
            entry.settings_epoch = Some(epoch);
            entry.old = Some(audited(&old));
            entry.new = Some(audited(&new));
            queries::audit::write(db, &entry)?;
            queries::outbox::append(db, lane::CONTROL, records)?;
            Ok((epoch, new))
        })
    }

    pub(in crate::store) fn load_stores(db: &mut Db) -> Result<Option<(i64, serde_json::Value)>, StoreError> {
        let row: Option<(i64, String)> =
            documents::table.find(STORES).select((documents::revision, documents::value)).first(db).optional()?;
        let Some((revision, value)) = row else { return Ok(None) };
        let value = serde_json::from_str(&value).map_err(|error| {
            StoreError::Misconfigured(format!(
                "the stores document in the database (table documents, row '{STORES}') is no JSON: {error}. Correct its value, or delete \
                 the row to begin with the stores of plugins.file"
            ))
        })?;
        Ok(Some((revision, value)))
    }

    /// Epoch and revision of a change whose outcome had not been known, if it was made.
    pub(in crate::store) fn stores_changed_before(
        db: &mut Db,
        decision: &Decision,
    ) -> Result<Option<(i64, i64)>, StoreError> {
        Ok(queries::audit::done(db, decision)?.and_then(|done| done.settings_epoch.zip(done.revision)))
    }

    pub(in crate::store) fn change_stores(
        db: &mut Db,
        expected_revision: i64,
        value: &serde_json::Value,
        mut entry: NewEntry<'_>,
    ) -> Result<(i64, i64), StoreError> {
        db.transaction(|db| {
            let epoch = queries::offsets::raise_settings(db)?;
            let old = load_stores(db)?;
            if old.as_ref().map_or(0, |(revision, _)| *revision) != expected_revision {
                return Err(StoreError::Conflict);
            }
            let revision = expected_revision + 1;
            diesel::replace_into(documents::table)
                .values((
                    documents::name.eq(STORES),
                    documents::revision.eq(revision),
                    documents::value.eq(value.to_string()),
                ))
                .execute(db)?;
            entry.revision = Some(revision);
            entry.settings_epoch = Some(epoch);
            entry.old = old.map(|(_, value)| value);
            entry.new = Some(value.clone());
            queries::audit::write(db, &entry)?;
            Ok((epoch, revision))
        })
    }
}
