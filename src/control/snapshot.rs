//! The settings of one moment, checked and ready: what shards look at while they apply a batch.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::external::ExternalSnapshot;
use crate::effect::Position;
use crate::plugins::eligibility::{CompiledEligibility, Eligibility};
use crate::plugins::validate::{schema_of, validate, validate_eligibility};
use crate::plugins::{Plugin, PluginVisitor, Subscription, visit_all};
use crate::store::model::PluginRow;
use crate::stores::{FieldError, Store as Shop, Stores};

/// What is known of a plugin's type, without its type.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) schema: Arc<Value>,
    compile: fn(&Value, &Value) -> Result<Compiled, Vec<FieldError>>,
}

/// Settings and eligibility that have been checked.
pub(super) struct Compiled {
    /// The eligibility block in full.
    pub(super) eligibility_json: Value,
    /// The settings in full.
    pub(super) settings_json: Value,
    settings: Arc<dyn Any + Send + Sync>,
    subscriptions: Vec<Subscription>,
    eligibility: Arc<CompiledEligibility>,
}

fn compile<P: Plugin>(eligibility: &Value, settings: &Value) -> Result<Compiled, Vec<FieldError>> {
    let (block, settings) = match (validate_eligibility(eligibility), validate::<P>(settings)) {
        (Ok(block), Ok(settings)) => (block, settings),
        (block, settings) => {
            return Err([block.err(), settings.err()].into_iter().flatten().flatten().collect());
        }
    };
    let (eligibility_block, eligibility) = block;
    let (settings, compiled) = settings;
    Ok(Compiled {
        eligibility_json: serde_json::to_value(&eligibility_block).expect("an eligibility block is plain data"),
        settings_json: serde_json::to_value(&settings).expect("settings are plain data"),
        subscriptions: P::subscriptions(&compiled),
        settings: Arc::new(compiled),
        eligibility: Arc::new(eligibility),
    })
}

impl Registered {
    pub(super) fn compile(&self, eligibility: &Value, settings: &Value) -> Result<Compiled, Vec<FieldError>> {
        (self.compile)(eligibility, settings)
    }
}

/// Every built-in plugin, in the order of the registry.
pub(super) fn registry() -> Vec<Registered> {
    struct Collect(Vec<Registered>);
    impl PluginVisitor for Collect {
        fn visit<P: Plugin>(&mut self) {
            let schema = json!({"settings": schema_of::<P::Settings>(), "eligibility": schema_of::<Eligibility>()});
            self.0.push(Registered {
                name: P::NAME,
                description: P::DESCRIPTION,
                schema: Arc::new(schema),
                compile: compile::<P>,
            });
        }
    }
    let mut collect = Collect(Vec::new());
    visit_all(&mut collect);
    collect.0
}

/// One plugin at one moment.
#[derive(Debug, Clone)]
pub struct PluginSnapshot {
    /// What the manager decided.
    pub row: PluginRow,
    /// Why it cannot run although it is switched on: settings from another version that no longer hold.
    pub fault: Option<String>,
    settings: Option<Arc<dyn Any + Send + Sync>>,
    subscriptions: Vec<Subscription>,
    eligibility: Option<Arc<CompiledEligibility>>,
}

impl PluginSnapshot {
    pub(super) fn new(row: PluginRow, compiled: Result<Compiled, Vec<FieldError>>) -> Self {
        match compiled {
            Ok(compiled) => Self {
                row: PluginRow { eligibility: compiled.eligibility_json, settings: compiled.settings_json, ..row },
                fault: None,
                settings: Some(compiled.settings),
                subscriptions: compiled.subscriptions,
                eligibility: Some(compiled.eligibility),
            },
            Err(errors) => {
                let fault = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                Self { row, fault: Some(fault), settings: None, subscriptions: Vec::new(), eligibility: None }
            }
        }
    }
}

/// All settings of one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    epoch: i64,
    stores: Arc<Stores>,
    stores_revision: i64,
    plugins: Vec<PluginSnapshot>,
    externals: Vec<ExternalSnapshot>,
    refused: BTreeMap<String, String>,
    routes_events: bool,
    routes_published: bool,
}

impl Snapshot {
    pub(super) const fn new(
        epoch: i64,
        stores: Arc<Stores>,
        stores_revision: i64,
        plugins: Vec<PluginSnapshot>,
    ) -> Self {
        Self {
            epoch,
            stores,
            stores_revision,
            plugins,
            externals: Vec::new(),
            refused: BTreeMap::new(),
            routes_events: false,
            routes_published: false,
        }
    }

    /// With plugins in other languages, and the names whose manifest was refused.
    pub(super) fn with_externals(self, externals: Vec<ExternalSnapshot>, refused: BTreeMap<String, String>) -> Self {
        let active = || externals.iter().filter(|plugin| plugin.is_active());
        let routes_events = active().next().is_some();
        let routes_published = active().any(|plugin| plugin.manifest.wants_published);
        Self { externals, refused, routes_events, routes_published, ..self }
    }

    /// Plugins in other languages, by name.
    #[must_use]
    pub fn externals(&self) -> &[ExternalSnapshot] {
        &self.externals
    }

    /// One plugin in another language.
    #[must_use]
    pub fn external(&self, name: &str) -> Option<&ExternalSnapshot> {
        self.externals.iter().find(|plugin| plugin.row.name == name)
    }

    /// Names under which there is no plugin since the manifest was refused, with the reason.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<String, String> {
        &self.refused
    }

    /// True if events go to plugins in other languages.
    #[must_use]
    pub const fn routes_events(&self) -> bool {
        self.routes_events
    }

    /// True if what plugins publish goes to plugins in other languages.
    #[must_use]
    pub const fn routes_published(&self) -> bool {
        self.routes_published
    }

    /// What a manager decided about a plugin, in whatever language it is.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&PluginRow> {
        let builtin = self.plugin(name).map(|plugin| &plugin.row);
        builtin.or_else(|| self.external(name).map(|plugin| &plugin.row))
    }

    /// Raised with every change of any plugin or store.
    #[must_use]
    pub const fn epoch(&self) -> i64 {
        self.epoch
    }

    /// The stores.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The stores as they were written, with their revision.
    #[must_use]
    pub fn stores_document(&self) -> (i64, BTreeMap<String, Shop>) {
        (self.stores_revision, self.stores.iter().map(|(id, shop)| (id.to_owned(), shop.clone())).collect())
    }

    /// All plugins, in the order of the registry.
    #[must_use]
    pub fn plugins(&self) -> &[PluginSnapshot] {
        &self.plugins
    }

    /// One plugin by name.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<&PluginSnapshot> {
        self.plugins.iter().find(|plugin| plugin.row.name == name)
    }

    /// True unless the event was on the bus before the plugin was switched on.
    #[must_use]
    pub fn is_for<P: Plugin>(&self, position: Position) -> bool {
        let ends = self.of::<P>().row.starts.as_deref();
        ends.and_then(|ends| ends.get(position.partition as usize)).is_none_or(|end| position.offset >= *end)
    }

    fn of<P: Plugin>(&self) -> &PluginSnapshot {
        self.plugin(P::NAME).expect("every plugin of the registry is in every snapshot")
    }

    /// True if the plugin is switched on and can run.
    #[must_use]
    pub fn is_active<P: Plugin>(&self) -> bool {
        let plugin = self.of::<P>();
        plugin.row.active && plugin.settings.is_some()
    }

    /// The plugin's settings. Only for plugins that are active.
    ///
    /// # Panics
    /// If the plugin is not active.
    #[must_use]
    pub fn compiled<P: Plugin>(&self) -> &P::Compiled {
        let settings = self.of::<P>().settings.as_deref().expect("asked of active plugins only");
        settings.downcast_ref().expect("compiled by the plugin itself")
    }

    /// The plugin's eligibility. Only for plugins that are active.
    ///
    /// # Panics
    /// If the plugin is not active.
    #[must_use]
    pub fn eligibility<P: Plugin>(&self) -> &CompiledEligibility {
        self.of::<P>().eligibility.as_deref().expect("asked of active plugins only")
    }

    /// What the plugin wants to see.
    #[must_use]
    pub fn subscriptions<P: Plugin>(&self) -> &[Subscription] {
        &self.of::<P>().subscriptions
    }
}

#[cfg(test)]
impl Snapshot {
    /// Only this plugin, switched on with these settings.
    pub(crate) fn with_only<P: Plugin>(settings: &Value) -> Self {
        let row = PluginRow {
            name: P::NAME.to_owned(),
            active: true,
            revision: 1,
            eligibility: json!({}),
            settings: settings.clone(),
            starts: None,
            external: None,
        };
        let compiled = compile::<P>(&json!({}), settings);
        Self::new(1, Arc::default(), 0, vec![PluginSnapshot::new(row, compiled)])
    }
}
