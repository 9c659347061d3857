//! Placeholder of `age-verification`, replaced by its own commit.
use super::{FieldError, Plugin, Subscription};
use crate::effect::Effects;
use crate::event::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
/// The plugin.
#[derive(Debug)]
pub struct AgeVerification;
/// Settings.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {}
impl Plugin for AgeVerification {
    type State = ();
    type Settings = Settings;
    type Compiled = Settings;
    const NAME: &'static str = "age-verification";
    const DESCRIPTION: &'static str = "";
    fn compile(settings: &Settings) -> Result<Settings, Vec<FieldError>> {
        Ok(settings.clone())
    }
    fn subscriptions(_: &Settings) -> Vec<Subscription> {
        Vec::new()
    }
    fn apply((): &mut (), _: &Settings, _: &Event, _: &mut Effects<'_>) {}
}
