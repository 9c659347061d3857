//! Plugins in other languages: their manifests, beside the rows that every plugin has, and what was refused.

use std::collections::BTreeMap;

use super::Store;
use super::audit::{NewEntry, read_json};
use super::connection::{on, queries};
use super::model::{ExternalRow, PluginRow, StoreError, WhileOff};
use super::outbox::lane;
use super::schema::{external_plugins, plugin_starts, plugins, refused_manifests};
use crate::bus::NewRecord;

/// Names that are remembered with the reason for which their manifest was refused: names cost a writer nothing.
const REFUSED_MAX: i64 = 200;
/// Who changes what follows from a manifest.
const ACTOR: &str = "manifest";

/// A manifest that was found good.
#[derive(Debug, Clone)]
pub struct AcceptedManifest {
    /// The plugin's name.
    pub name: String,
    /// The manifest.
    pub manifest: serde_json::Value,
    /// Settings that a new plugin begins with.
    pub settings: serde_json::Value,
    /// Eligibility that a new plugin begins with.
    pub eligibility: serde_json::Value,
    /// Its offset on `pos.plugins.manifests`: older ones come too late.
    pub offset: i64,
}

#[derive(diesel::Queryable)]
pub(super) struct Row {
    pub(super) name: String,
    manifest: String,
    offset: i64,
    while_off: String,
    skip_before: i64,
}

impl Row {
    pub(super) fn into_external(self) -> Result<ExternalRow, StoreError> {
        Ok(ExternalRow {
            manifest: read_json(&self.manifest)?,
            while_off: WhileOff::from_name(&self.while_off).unwrap_or_default(),
            skip_before: self.skip_before,
        })
    }
}

impl Store {
    /// Takes a manifest: a new plugin gets a row, switched off at revision 1; a known one keeps its settings, unless `holds`
    /// says that they do not fit any more: then it is switched off. `record` makes the message for `pos.plugins` of the
    /// new row. Answers true if the settings epoch was raised.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn accept_manifest(
        &self,
        accepted: AcceptedManifest,
        holds: impl Fn(&serde_json::Value) -> bool + Send + 'static,
        record: impl Fn(&PluginRow) -> NewRecord + Send + 'static,
    ) -> Result<bool, StoreError> {
        self.write(move |database| on!(database, accept(&accepted, &holds, &record))).await
    }

    /// Remembers why a manifest was refused. Answers true if that is news and fits among the names that are remembered.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn refuse_manifest(&self, name: &str, why: &str) -> Result<bool, StoreError> {
        let (name, why) = (name.to_owned(), why.to_owned());
        self.write(move |database| on!(database, refuse(&name, &why))).await
    }

    /// Takes away what was refused under this name, and the plugin of this name if it is switched off; the number of its last
    /// revision is kept. Answers true if anything was there to take away.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn withdraw_manifest(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.write(move |database| on!(database, withdraw(&name))).await
    }

    /// Names whose last manifest was refused, with the reason.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn refused_manifests(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.read(|database| on!(database, refused())).await
    }
}

queries! {
    use diesel::prelude::*;

    pub(in crate::store) fn of_all(db: &mut Db) -> Result<BTreeMap<String, Row>, StoreError> {
        let rows: Vec<Row> = external_plugins::table.load(db)?;
        Ok(rows.into_iter().map(|row| (row.name.clone(), row)).collect())
    }

    pub(in crate::store) fn of(db: &mut Db, name: &str) -> Result<Option<ExternalRow>, StoreError> {
        let row: Option<Row> = external_plugins::table.find(name).first(db).optional()?;
        row.map(Row::into_external).transpose()
    }

    pub(in crate::store) fn set_while_off(
        db: &mut Db,
        name: &str,
        while_off: WhileOff,
        skip_before: i64,
    ) -> Result<(), StoreError> {
        diesel::update(external_plugins::table.find(name))
            .set((external_plugins::while_off.eq(while_off.as_str()), external_plugins::skip_before.eq(skip_before)))
            .execute(db)?;
        Ok(())
    }

    pub(in crate::store) fn refused(db: &mut Db) -> Result<BTreeMap<String, String>, StoreError> {
        let rows: Vec<(String, String)> = refused_manifests::table.load(db)?;
        Ok(rows.into_iter().collect())
    }

    pub(in crate::store) fn accept(
        db: &mut Db,
        accepted: &AcceptedManifest,
        holds: &impl Fn(&serde_json::Value) -> bool,
        record: &impl Fn(&PluginRow) -> NewRecord,
    ) -> Result<bool, StoreError> {
        let AcceptedManifest { name, manifest, offset, .. } = accepted;
        db.transaction(|db| {
            let cleared = diesel::delete(refused_manifests::table.find(name)).execute(db)? > 0;
            let text = manifest.to_string();
            let known: Option<Row> = external_plugins::table.find(name).first(db).optional()?;
            if let Some(known) = &known
                && (known.offset >= *offset || known.manifest == text)
            {
                if known.offset < *offset {
                    diesel::update(external_plugins::table.find(name))
                        .set(external_plugins::offset.eq(offset))
                        .execute(db)?;
                }
                if cleared {
                    queries::offsets::raise_settings(db)?;
                }
                return Ok(cleared);
            }
            let epoch = queries::offsets::raise_settings(db)?;
            // One that was taken away before goes on with its revisions, since members and input know the former ones; what lay in
            // its input is no longer meant for it.
            let old = queries::control::find_plugin(db, name)?;
            let before = old.as_ref().map_or(0, |row| row.revision);
            let back = if old.is_some() { before + 1 } else { 0 };
            let skip_before = known.as_ref().map_or(back, |known| known.skip_before);
            diesel::replace_into(external_plugins::table)
                .values((
                    external_plugins::name.eq(name),
                    external_plugins::manifest.eq(&text),
                    external_plugins::offset.eq(offset),
                    external_plugins::while_off
                        .eq(known.as_ref().map_or(WhileOff::default().as_str(), |known| &known.while_off)),
                    external_plugins::skip_before.eq(skip_before),
                ))
                .execute(db)?;
            let mut entry = NewEntry {
                actor: ACTOR,
                subject: name,
                settings_epoch: Some(epoch),
                new: Some(serde_json::json!({"manifest": manifest})),
                ..NewEntry::default()
            };
            let is_new = known.is_none();
            if let Some(known) = known {
                entry.old = Some(serde_json::json!({"manifest": read_json::<serde_json::Value>(&known.manifest)?}));
            }
            entry.action = "plugin.manifest";
            let row = match old {
                _ if is_new => {
                    let row = PluginRow {
                        name: name.clone(),
                        active: false,
                        revision: before + 1,
                        eligibility: accepted.eligibility.clone(),
                        settings: accepted.settings.clone(),
                        starts: None,
                        external: of(db, name)?,
                    };
                    diesel::replace_into(plugins::table)
                        .values((
                            plugins::name.eq(name),
                            plugins::active.eq(false),
                            plugins::revision.eq(row.revision),
                            plugins::eligibility.eq(row.eligibility.to_string()),
                            plugins::settings.eq(row.settings.to_string()),
                        ))
                        .execute(db)?;
                    Some(row)
                }
                Some(row) if row.active && !holds(&row.settings) => {
                    entry.reason = Some("its settings do not satisfy the new manifest's schema: switched off");
                    let row = PluginRow { active: false, revision: row.revision + 1, ..row };
                    diesel::update(plugins::table.find(name))
                        .set((plugins::active.eq(false), plugins::revision.eq(row.revision)))
                        .execute(db)?;
                    Some(row)
                }
                _ => None,
            };
            entry.revision = row.as_ref().map(|row| row.revision);
            queries::audit::write(db, &entry)?;
            if let Some(row) = row {
                queries::outbox::append(db, lane::CONTROL, &[record(&row)])?;
            }
            Ok(true)
        })
    }

    pub(in crate::store) fn refuse(db: &mut Db, name: &str, why: &str) -> Result<bool, StoreError> {
        db.transaction(|db| {
            let known: Option<String> =
                refused_manifests::table.find(name).select(refused_manifests::why).first(db).optional()?;
            if known.as_deref() == Some(why) {
                return Ok(false);
            }
            let others: i64 = refused_manifests::table.count().get_result(db)?;
            if known.is_none() && others >= REFUSED_MAX {
                return Ok(false);
            }
            queries::offsets::raise_settings(db)?;
            diesel::replace_into(refused_manifests::table)
                .values((refused_manifests::name.eq(name), refused_manifests::why.eq(why)))
                .execute(db)?;
            Ok(true)
        })
    }

    pub(in crate::store) fn withdraw(db: &mut Db, name: &str) -> Result<bool, StoreError> {
        db.transaction(|db| {
            let epoch = queries::offsets::raise_settings(db)?;
            let mut gone = diesel::delete(refused_manifests::table.find(name)).execute(db)? > 0;
            let row = queries::control::find_plugin(db, name)?;
            if let Some(row) = row.filter(|row| !row.active && row.external.is_some()) {
                diesel::delete(external_plugins::table.find(name)).execute(db)?;
                diesel::delete(plugin_starts::table.find(name)).execute(db)?;
                let entry = NewEntry {
                    actor: ACTOR,
                    action: "plugin.withdraw",
                    subject: name,
                    revision: Some(row.revision),
                    settings_epoch: Some(epoch),
                    ..NewEntry::default()
                };
                queries::audit::write(db, &entry)?;
                gone = true;
            }
            Ok(gone)
        })
    }
}
