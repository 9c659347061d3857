//! The truth about plugins and stores: who is switched on, with which settings, since which revision.
//!
//! The store decides; this keeps a compiled copy that the shards read without waiting. A change is one transaction, and
//! once it has returned, every event appended afterwards meets the new settings.

mod aside;
mod external;
mod manifests;
pub mod members;
mod patch;
mod snapshot;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use compact_str::CompactString;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use aside::aside;
pub use external::ExternalSnapshot;
pub use manifests::{ManifestFault, ManifestOutcome};
pub use members::Member;
use patch::{patched, while_off};
pub use snapshot::{PluginSnapshot, Snapshot};
use snapshot::{Registered, registry};
pub use view::{ConditionStats, ExternalView, PluginKind, PluginStats, PluginView};

use crate::bus::{Bus, BusError, NewRecord, Topic, TopicPartition};
use crate::event::stable_id;
use crate::feed::{Feed, FeedBody, FeedItem, FeedKind};
use crate::pipeline::source::content_type;
use crate::plugins::defaults::Defaults;
use crate::plugins::validate::{read, schema_of};
use crate::status::Status;
use crate::store::PluginChange;
use crate::store::Store;
use crate::store::model::{ExternalRow, PluginRow, StoreError, WhileOff};
use crate::stores::{FieldError, Store as Shop, Stores};
use crate::time::Timestamp;

/// Type of the messages on `pos.plugins`.
pub const CONTROL_TYPE: &str = "tillstream.plugin.changed";
/// The truth about plugins and stores.
pub struct Control {
    store: Store,
    feed: Feed,
    status: Arc<Status>,
    registry: Vec<Registered>,
    current: ArcSwap<Snapshot>,
    /// One change at a time in this process; other processes are told apart by revisions.
    changing: Mutex<()>,
    bus: OnceLock<Arc<dyn Bus>>,
    members: Arc<members::Members>,
}

/// A change that a person asks for.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// JSON merge patch (RFC 7396) of `active`, `eligibility`, `settings`, and `whileOff` for plugins in other languages.
    pub patch: Value,
    /// The revision that the person saw.
    pub if_match: Option<i64>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: Option<String>,
}

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// There is no such plugin.
    #[error("there is no such plugin")]
    NotFound,
    /// Somebody else changed it first; here is what it is now.
    #[error("changed by somebody else meanwhile")]
    Conflict(Box<PluginView>),
    /// The stores document was changed first; here is its revision now.
    #[error("changed by somebody else meanwhile")]
    StoresConflict(i64),
    /// Fields that are wrong; nothing was changed.
    #[error("{} fields are wrong", .0.len())]
    Invalid(Vec<FieldError>),
    /// The store is away; nothing was changed.
    #[error("{0}")]
    Unavailable(String),
}

impl From<BusError> for ChangeError {
    fn from(error: BusError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::NotFound,
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl Control {
    /// Brings the defaults to the store where it does not know a plugin or the stores yet, and reads what holds.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn start(
        store: Store,
        feed: Feed,
        status: Arc<Status>,
        defaults: &Defaults,
    ) -> Result<Arc<Self>, StoreError> {
        let registry = registry();
        let rows = registry.iter().filter_map(|registered| {
            let default = defaults.plugins.get(registered.name)?;
            Some(PluginRow {
                name: registered.name.to_owned(),
                active: default.active,
                revision: 1,
                eligibility: serde_json::to_value(&default.eligibility).expect("an eligibility block is plain data"),
                settings: default.settings.clone(),
                starts: None,
                external: None,
            })
        });
        store.insert_plugin_defaults(rows.collect()).await?;
        if store.load_stores().await?.is_none() {
            let stores = serde_json::to_value(&defaults.stores).expect("stores are plain data");
            match store.change_stores(0, stores, "plugins.yaml", None).await {
                Ok(_) | Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        let snapshot = load(&store, &registry).await?;
        Ok(Arc::new(Self {
            store,
            feed,
            status,
            registry,
            current: ArcSwap::from_pointee(snapshot),
            changing: Mutex::new(()),
            bus: OnceLock::new(),
            members: Arc::default(),
        }))
    }

    /// From now on a plugin that is switched on goes on with the next event on this bus: what was appended before and
    /// still waits for other partitions is not for it.
    pub fn follow(&self, bus: Arc<dyn Bus>) {
        // Set once, at the start.
        let _ = self.bus.set(bus);
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let snapshot = load(&self.store, &self.registry).await?;
        self.current.store(Arc::new(snapshot));
        Ok(())
    }

    /// Where each partition of `pos.events` ends.
    async fn ends(&self) -> Result<Option<Vec<i64>>, BusError> {
        let Some(bus) = self.bus.get() else {
            return Ok(None);
        };
        let mut ends = Vec::new();
        for partition in 0..bus.partitions() {
            ends.push(bus.bounds(TopicPartition::new(Topic::Events, partition)).await?.high);
        }
        Ok(Some(ends))
    }

    /// The settings that hold now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Reads what holds from the store: another process may have changed it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        self.reload().await?;
        Ok(())
    }

    fn registered(&self, name: &str) -> Option<&Registered> {
        self.registry.iter().find(|registered| registered.name == name)
    }

    /// Changes a plugin. When this returns, all events appended afterwards meet the new settings in this process.
    ///
    /// # Errors
    /// If nothing was changed, with the reason.
    pub async fn change(&self, name: &str, change: Change) -> Result<PluginView, ChangeError> {
        let _changing = self.changing.lock().await;
        let snapshot = self.snapshot();
        let old = snapshot.row(name).ok_or(ChangeError::NotFound)?;
        let conflict = || self.view(name).map_or(ChangeError::NotFound, |view| ChangeError::Conflict(Box::new(view)));
        if change.if_match.is_some_and(|revision| revision != old.revision) {
            return Err(conflict());
        }
        let (active, eligibility, settings) = patched(old, &change.patch)?;
        let (eligibility, settings) = self.checked(&snapshot, name, active, eligibility, settings).await?;
        let is_switched_on = active && !old.active;
        let while_off = old.external.as_ref().map(|external| while_off(external, &change.patch)).transpose()?;
        let while_off = while_off.map(|while_off| {
            let before = old.external.as_ref().map_or(0, |external| external.skip_before);
            let skips = is_switched_on && while_off == WhileOff::Skip;
            (while_off, if skips { old.revision + 1 } else { before })
        });
        let starts = if is_switched_on { self.ends().await? } else { None };
        let new = PluginChange { active, eligibility, settings, starts, while_off };
        let row = PluginRow {
            active,
            revision: old.revision + 1,
            eligibility: new.eligibility.clone(),
            settings: new.settings.clone(),
            external: old.external.clone().zip(while_off).map(|(external, (while_off, skip_before))| ExternalRow {
                while_off,
                skip_before,
                ..external
            }),
            ..old.clone()
        };
        let record = control_record(&row, &change.actor);
        let changed =
            self.store.change_plugin(name, old.revision, new, &change.actor, change.reason.as_deref(), record).await;
        match changed {
            Ok(_) => {}
            Err(StoreError::Conflict) => {
                // Another process was first; the person shall see what it made of it.
                self.reload().await?;
                return Err(conflict());
            }
            Err(error) => return Err(error.into()),
        }
        self.reload().await?;
        let view = self.view(name).ok_or(ChangeError::NotFound)?;
        self.announce(&view, &change.actor);
        Ok(view)
    }

    /// Eligibility and settings in full, if they hold. A plugin in another language can be switched off whatever they are:
    /// its manifest may have come after them.
    async fn checked(
        &self,
        snapshot: &Snapshot,
        name: &str,
        active: bool,
        eligibility: Value,
        settings: Value,
    ) -> Result<(Value, Value), ChangeError> {
        let checked = if let Some(plugin) = snapshot.external(name) {
            let is_as_before = !active && plugin.row.settings == settings && plugin.row.eligibility == eligibility;
            if is_as_before {
                return Ok((eligibility, settings));
            }
            let manifest = Arc::clone(&plugin.manifest);
            aside(move || {
                let checked = external::check(&manifest, &eligibility, &settings)?;
                Ok((checked.eligibility_json, settings))
            })
            .await
        } else {
            let registered = self.registered(name).ok_or(ChangeError::NotFound)?.clone();
            aside(move || {
                let compiled = registered.compile(&eligibility, &settings)?;
                Ok((compiled.eligibility_json, compiled.settings_json))
            })
            .await
        };
        checked.map_err(|error| ChangeError::Unavailable(error.to_string()))?.map_err(ChangeError::Invalid)
    }

    /// Replaces the stores document. Answers its new revision.
    ///
    /// # Errors
    /// If nothing was changed, with the reason.
    pub async fn change_stores(
        &self,
        stores: &Value,
        if_match: Option<i64>,
        actor: &str,
        reason: Option<&str>,
    ) -> Result<i64, ChangeError> {
        let _changing = self.changing.lock().await;
        let revision = self.snapshot().stores_document().0;
        if if_match.is_some_and(|expected| expected != revision) {
            return Err(ChangeError::StoresConflict(revision));
        }
        let stores = stores.clone();
        let checked = aside(move || {
            let shops: BTreeMap<String, Shop> = read(&stores, "stores")?;
            Stores::new(shops.clone())?;
            Ok(serde_json::to_value(&shops).expect("stores are plain data"))
        });
        let checked = checked.await.map_err(|error| ChangeError::Unavailable(error.to_string()))?;
        let document = checked.map_err(ChangeError::Invalid)?;
        let changed = self.store.change_stores(revision, document, actor, reason).await;
        self.reload().await?;
        match changed {
            Ok((_, revision)) => Ok(revision),
            Err(StoreError::Conflict) => Err(ChangeError::StoresConflict(self.snapshot().stores_document().0)),
            Err(error) => Err(error.into()),
        }
    }

    /// JSON Schema of the stores document.
    #[must_use]
    pub fn stores_schema() -> Value {
        schema_of::<BTreeMap<String, Shop>>()
    }

    fn announce(&self, view: &PluginView, actor: &str) {
        let json = json!({
            "plugin": view.name, "active": view.active, "revision": view.revision, "actor": actor,
        });
        let body = FeedBody::Json {
            type_name: CompactString::const_new(CONTROL_TYPE),
            terminal: None,
            plugin: Some(CompactString::new(&view.name)),
            json: Bytes::from(json.to_string()),
        };
        self.feed.publish(vec![FeedItem { kind: FeedKind::Control, at: Timestamp::now(), body }]);
    }
}

/// The message for `pos.plugins` about a plugin as it is from now on.
fn control_record(row: &PluginRow, actor: &str) -> NewRecord {
    let (name, revision) = (row.name.as_str(), row.revision);
    let mut data = json!({
        "name": name, "revision": revision, "active": row.active,
        "eligibility": row.eligibility, "settings": row.settings, "actor": actor,
    });
    if let Some(external) = &row.external {
        data["whileOff"] = json!(external.while_off);
        data["skipBefore"] = json!(external.skip_before);
    }
    let event = json!({
        "specversion": "1.0",
        "id": stable_id(&["control", name, &revision.to_string()]),
        "source": format!("/plugins/{name}"),
        "type": CONTROL_TYPE,
        "time": Timestamp::now(),
        "datacontenttype": "application/json",
        "data": data,
    });
    NewRecord {
        topic: Topic::Plugins,
        partition: None,
        key: Some(Bytes::copy_from_slice(name.as_bytes())),
        value: Bytes::from(event.to_string()),
        headers: vec![content_type()],
    }
}

async fn load(store: &Store, registry: &[Registered]) -> Result<Snapshot, StoreError> {
    let (epoch, rows) = store.load_plugins().await?;
    let refused = store.refused_manifests().await?;
    let (revision, document) = store.load_stores().await?.unwrap_or((0, json!({})));
    let registry = registry.to_vec();
    let checked = aside(move || {
        let mut rows: BTreeMap<String, PluginRow> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        let plugins = registry.iter().map(|registered| builtin(registered, rows.remove(registered.name))).collect();
        let (externals, refused) = external::load(rows, refused);
        let stores = stores_of(revision, document)?;
        Ok(Snapshot::new(epoch, Arc::new(stores), revision, plugins).with_externals(externals, refused))
    });
    checked.await.map_err(|error| StoreError::Unavailable(error.to_string()))?
}

/// A built-in plugin as its row says, or as one that nobody has switched on yet.
fn builtin(registered: &Registered, row: Option<PluginRow>) -> PluginSnapshot {
    let row = row.unwrap_or_else(|| PluginRow {
        name: registered.name.to_owned(),
        active: false,
        revision: 0,
        eligibility: json!({}),
        settings: json!({}),
        starts: None,
        external: None,
    });
    let compiled = registered.compile(&row.eligibility, &row.settings);
    let plugin = PluginSnapshot::new(row, compiled);
    if let Some(fault) = &plugin.fault {
        tracing::error!(
            plugin = registered.name,
            fault,
            "its stored settings do not hold in this version; it rests until they are corrected"
        );
    }
    plugin
}

/// The stores as they stand in the database. Whatever is wrong with one of them, none may be guessed: business days, opening hours
/// and jurisdictions would be others, for good.
fn stores_of(revision: i64, document: Value) -> Result<Stores, StoreError> {
    let faults = match serde_json::from_value::<BTreeMap<String, Shop>>(document).map(Stores::new) {
        Ok(Ok(stores)) => return Ok(stores),
        Ok(Err(faults)) => faults,
        Err(error) => vec![FieldError::new("stores", error.to_string())],
    };
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    Err(StoreError::Misconfigured(format!(
        "the stores document in the database (revision {revision}) does not hold in this version of Tillstream: {}. Use the version \
         that wrote it, or correct it: with all processes stopped, set value in the row 'stores' of table documents, or delete that \
         row to begin with the stores of plugins.file",
        faults.join("; ")
    )))
}
