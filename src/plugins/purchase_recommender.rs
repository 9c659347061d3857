//! Placeholder of `purchase-recommender`, replaced by its own commit.
use super::{FieldError, Plugin, Subscription};
use crate::effect::Effects;
use crate::event::Event;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
/// The plugin.
#[derive(Debug)]
pub struct PurchaseRecommender;
/// Settings.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Settings {}
impl Plugin for PurchaseRecommender {
    type State = ();
    type Settings = Settings;
    type Compiled = Settings;
    const NAME: &'static str = "purchase-recommender";
    const DESCRIPTION: &'static str = "";
    fn compile(settings: &Settings) -> Result<Settings, Vec<FieldError>> {
        Ok(settings.clone())
    }
    fn subscriptions(_: &Settings) -> Vec<Subscription> {
        Vec::new()
    }
    fn apply((): &mut (), _: &Settings, _: &Event, _: &mut Effects<'_>) {}
}
