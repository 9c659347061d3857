//! Plugins as the API shows them.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::members::Member;
use super::snapshot::{PluginSnapshot, Registered};
use super::{Control, ExternalSnapshot};
use crate::event::Scope;
use crate::plugins::eligibility::Eligibility;
use crate::plugins::validate::schema_of;
use crate::status::{ConditionFigures, PluginFigures, time_in};
use crate::store::model::{PluginRow, WhileOff};
use crate::time::Timestamp;

/// In which language a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PluginKind {
    /// A part of Tillstream.
    Builtin,
    /// A program of its own, which speaks the plugin protocol.
    External,
}

/// A plugin as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginView {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Part of Tillstream, or a program of its own.
    pub kind: PluginKind,
    /// Switched on.
    pub active: bool,
    /// Raised by one with each change.
    pub revision: i64,
    /// The eligibility block.
    pub eligibility: Value,
    /// The settings.
    pub settings: Value,
    /// JSON Schemas of `settings` and `eligibility`.
    pub schema: Value,
    /// Why it cannot run although it is switched on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// What it has done since this process started.
    pub stats: PluginStats,
    /// What only plugins in other languages have.
    #[serde(flatten)]
    pub external: Option<ExternalView>,
    /// Why its manifest was refused: then there is no such plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// What only plugins in other languages have.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalView {
    /// The version of its manifest.
    pub version: String,
    /// The kind of entity that keys its input.
    pub scope: Scope,
    /// The event types that it wants.
    pub event_types: Vec<String>,
    /// What becomes of its input while it is off.
    pub while_off: WhileOff,
    /// True if a member was heard of less than 15 s ago.
    pub alive: bool,
    /// Its members, those that are alive first.
    pub members: Vec<Member>,
}

/// What a plugin has done since the processes that are alive have started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStats {
    /// Events that it was given.
    pub consumed: u64,
    /// Events that were not eligible.
    pub skipped: u64,
    /// Effects that it asked for.
    pub effects: u64,
    /// Events on which it failed.
    pub errors: u64,
    /// Time of the newest event that it was given.
    pub last_event_at: Option<Timestamp>,
    /// Conditions that gave neither true nor false, and so counted as false.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionStats>,
}

/// A condition that gave neither true nor false.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionStats {
    /// `eligibility.when`, or `rules.ID`.
    pub condition: String,
    /// Events for which it cost more than its budget.
    pub over_budget: u64,
    /// Events that were too large for expressions.
    pub too_large: u64,
    /// Events for which it failed, such as by reading an absent key.
    pub failed: u64,
    /// Time of the newest such event.
    pub last_at: Option<Timestamp>,
    /// `source#id` of that event.
    pub last_event: String,
    /// Why it failed for that event.
    pub last_error: String,
}

impl From<PluginFigures> for PluginStats {
    fn from(figures: PluginFigures) -> Self {
        Self {
            consumed: figures.consumed,
            skipped: figures.skipped,
            effects: figures.effects,
            errors: figures.errors,
            last_event_at: time_in(figures.last_event_at),
            conditions: figures.conditions.iter().map(ConditionStats::from).collect(),
        }
    }
}

impl From<(&str, &ConditionFigures)> for ConditionStats {
    fn from((condition, figures): (&str, &ConditionFigures)) -> Self {
        Self {
            condition: condition.to_owned(),
            over_budget: figures.over_budget,
            too_large: figures.too_large,
            failed: figures.failed,
            last_at: time_in(figures.last_at),
            last_event: figures.last_event.clone(),
            last_error: figures.last_error.clone(),
        }
    }
}

impl Control {
    /// All plugins: the built-in ones in the order of the registry, then the others by name, then what was refused.
    #[must_use]
    pub fn views(&self) -> Vec<PluginView> {
        let snapshot = self.snapshot();
        let builtin = snapshot.plugins().iter().filter_map(|plugin| self.builtin_view(plugin));
        let external = snapshot.externals().iter().map(|plugin| self.external_view(plugin));
        let refused = snapshot.refused().iter().map(|(name, why)| refused_view(name, why));
        builtin.chain(external).chain(refused).collect()
    }

    /// One plugin.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<PluginView> {
        let snapshot = self.snapshot();
        let builtin = snapshot.plugin(name).and_then(|plugin| self.builtin_view(plugin));
        builtin
            .or_else(|| snapshot.external(name).map(|plugin| self.external_view(plugin)))
            .or_else(|| snapshot.refused().get(name).map(|why| refused_view(name, why)))
    }

    fn builtin_view(&self, plugin: &PluginSnapshot) -> Option<PluginView> {
        let Registered { description, schema, .. } = self.registered(&plugin.row.name)?;
        let view = self.row_view(&plugin.row, PluginKind::Builtin, (*description).to_owned());
        Some(PluginView { schema: Value::clone(schema), fault: plugin.fault.clone(), ..view })
    }

    fn external_view(&self, plugin: &ExternalSnapshot) -> PluginView {
        let document = &plugin.manifest.document;
        let view = self.row_view(&plugin.row, PluginKind::External, document.description.clone());
        let members = self.members.of(&plugin.row.name);
        // A program of its own counts its errors itself.
        let errors = members.iter().map(|member| u64::try_from(member.heartbeat.errors).unwrap_or(0)).sum();
        let external = ExternalView {
            version: document.version.clone(),
            scope: document.scope,
            event_types: document.event_types.clone(),
            while_off: plugin.row.external.as_ref().map(|external| external.while_off).unwrap_or_default(),
            alive: members.iter().any(|member| member.alive),
            members,
        };
        PluginView {
            schema: schema_with(&document.settings_schema),
            fault: plugin.fault.clone(),
            stats: PluginStats { errors, ..view.stats },
            external: Some(external),
            ..view
        }
    }

    fn row_view(&self, row: &PluginRow, kind: PluginKind, description: String) -> PluginView {
        PluginView {
            name: row.name.clone(),
            description,
            kind,
            active: row.active,
            revision: row.revision,
            eligibility: row.eligibility.clone(),
            settings: row.settings.clone(),
            schema: Value::Null,
            fault: None,
            stats: self.status.plugin_everywhere(&row.name).into(),
            external: None,
            refused: None,
        }
    }

    /// Who was heard of among the members of plugins in other languages.
    #[must_use]
    pub const fn members(&self) -> &Arc<super::members::Members> {
        &self.members
    }
}

fn refused_view(name: &str, why: &str) -> PluginView {
    PluginView {
        name: name.to_owned(),
        description: String::new(),
        kind: PluginKind::External,
        active: false,
        revision: 0,
        eligibility: json!({}),
        settings: json!({}),
        schema: schema_with(&json!({"type": "object"})),
        fault: None,
        stats: PluginFigures::default().into(),
        external: None,
        refused: Some(why.to_owned()),
    }
}

fn schema_with(settings: &Value) -> Value {
    json!({"settings": settings, "eligibility": schema_of::<Eligibility>()})
}
