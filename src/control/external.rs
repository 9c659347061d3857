//! Plugins in other languages, as the settings of one moment have them.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::bus::Header;
use crate::effect::Position;
use crate::event::Event;
use crate::pipeline::source::content_type;
use crate::plugins::eligibility::CompiledEligibility;
use crate::plugins::expression::Failure;
use crate::plugins::manifest::Manifest;
use crate::plugins::validate::validate_eligibility;
use crate::store::model::{ExternalRow, PluginRow};
use crate::stores::{FieldError, Stores};

/// One plugin in another language at one moment.
#[derive(Debug, Clone)]
pub struct ExternalSnapshot {
    /// What the manager decided.
    pub row: PluginRow,
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
    /// Why it cannot be switched on, or gets nothing although it is.
    pub fault: Option<String>,
    eligibility: Option<Arc<CompiledEligibility>>,
}

/// What a manager may set of such a plugin, checked.
pub(super) struct CheckedSettings {
    pub(super) eligibility_json: Value,
    eligibility: CompiledEligibility,
}

/// Checks eligibility and settings of a plugin with this manifest.
pub(super) fn check(
    manifest: &Manifest,
    eligibility: &Value,
    settings: &Value,
) -> Result<CheckedSettings, Vec<FieldError>> {
    match (validate_eligibility(eligibility), manifest.check_settings(settings)) {
        (Ok((block, eligibility)), Ok(())) => {
            let eligibility_json = serde_json::to_value(&block).expect("an eligibility block is plain data");
            Ok(CheckedSettings { eligibility_json, eligibility })
        }
        (block, settings) => Err([block.err(), settings.err()].into_iter().flatten().flatten().collect()),
    }
}

/// What the rows of plugins in other languages come to: those with a manifest that holds, and those without, with the reason.
pub(super) fn load(
    rows: BTreeMap<String, PluginRow>,
    mut refused: BTreeMap<String, String>,
) -> (Vec<ExternalSnapshot>, BTreeMap<String, String>) {
    let mut externals = Vec::new();
    for (name, row) in rows {
        let Some(ExternalRow { manifest, .. }) = &row.external else {
            continue;
        };
        // A panic about one plugin must not take the others' settings away.
        let compiled = catch_unwind(|| Manifest::compile(manifest));
        match compiled.unwrap_or_else(|_| Err(vec![FieldError::new("", "could not be checked")])) {
            Ok(manifest) => {
                refused.remove(&name);
                externals.push(ExternalSnapshot::new(row, Arc::new(manifest)));
            }
            Err(errors) => {
                let why = text_of(&errors);
                tracing::error!(plugin = name, why, "its stored manifest does not hold in this version");
                refused.insert(name, format!("its manifest does not hold in this version of Tillstream: {why}"));
            }
        }
    }
    (externals, refused)
}

/// All faults in one line.
pub(super) fn text_of(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl ExternalSnapshot {
    fn new(row: PluginRow, manifest: Arc<Manifest>) -> Self {
        match check(&manifest, &row.eligibility, &row.settings) {
            Ok(checked) => {
                let row = PluginRow { eligibility: checked.eligibility_json, ..row };
                Self { row, manifest, fault: None, eligibility: Some(Arc::new(checked.eligibility)) }
            }
            Err(errors) => Self { row, manifest, fault: Some(text_of(&errors)), eligibility: None },
        }
    }

    /// True if events are written to its input.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        self.row.active && self.eligibility.is_some()
    }

    /// True if it wants the type of this event, and did not publish it itself.
    #[must_use]
    pub fn wants(&self, event: &Event) -> bool {
        self.manifest.event_types.contains(event.event_type()) && event.source.plugin() != Some(self.row.name.as_str())
    }

    /// True if the event qualifies, and was not on the bus before the plugin was switched on.
    ///
    /// # Errors
    /// Why the eligibility expression gives no answer; the event does not qualify then.
    pub fn is_eligible(&self, event: &Event, position: Position, stores: &Stores) -> Result<bool, Failure> {
        let ends = self.row.starts.as_deref();
        let end = ends.and_then(|ends| ends.get(position.partition as usize));
        if end.is_some_and(|end| position.offset < *end) {
            return Ok(false);
        }
        self.eligibility.as_deref().map_or(Ok(false), |block| block.qualifies(event, stores))
    }

    /// The headers that every record of its input has.
    #[must_use]
    pub fn input_headers(&self, entity: &str) -> Vec<Header> {
        let text = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
        vec![
            content_type(),
            text("tillstream-plugin", &self.row.name),
            text("tillstream-scope", self.manifest.document.scope.as_str()),
            text("tillstream-entity", entity),
            text("tillstream-revision", &self.row.revision.to_string()),
        ]
    }
}
