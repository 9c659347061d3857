//! Manifests of plugins in other languages, on their way from the bus to the store.

use super::aside::aside;
use super::external::text_of;
use super::{Control, control_record};
use crate::bus::{Bus, BusError, Record};
use crate::plugins::eligibility::Eligibility;
use crate::plugins::manifest::Manifest;
use crate::store::AcceptedManifest;
use crate::store::model::StoreError;
use crate::stores::FieldError;

/// Bytes of the name under which a refused manifest is shown.
const NAME_BYTES_MAX: usize = 64;
const WHY_BYTES_MAX: usize = 2000;
const ACTOR: &str = "manifest";

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestOutcome {
    /// It holds from now on, or did so before.
    Taken,
    /// It is wrong in these fields.
    Refused(Vec<FieldError>),
}

/// Why it is not known what becomes of a manifest: it must be read again.
#[derive(Debug, thiserror::Error)]
pub enum ManifestFault {
    /// The store is away.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The plugin's topics cannot be made.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Control {
    /// Takes a record of `pos.plugins.manifests`. A plugin that is new or has changed is known when this returns, and has its
    /// topics.
    ///
    /// # Errors
    /// Faults of bus and store.
    pub async fn take_manifest(&self, bus: &dyn Bus, record: &Record) -> Result<ManifestOutcome, ManifestFault> {
        let key = record.key.as_deref();
        if record.value.is_empty() {
            if self.store.withdraw_manifest(&shown_name(key)).await? {
                self.refresh().await?;
            }
            return Ok(ManifestOutcome::Taken);
        }
        let refused = match parse_aside(record).await {
            Ok(manifest) => match bus.create_input(manifest.input).await {
                Ok(()) => match self.accept(manifest, record.offset).await {
                    Ok(()) => return Ok(ManifestOutcome::Taken),
                    // Here as well, trying again helps nobody.
                    Err(StoreError::Refused(why)) => vec![FieldError::new("", format!("cannot be stored: {why}"))],
                    Err(error) => return Err(error.into()),
                },
                // Trying again helps nobody: the next manifest would wait for a person.
                Err(error @ (BusError::Refused(_) | BusError::Misconfigured(_))) => {
                    vec![FieldError::new("name", format!("its topics cannot be used: {error}"))]
                }
                Err(error) => return Err(error.into()),
            },
            Err(errors) => errors,
        };
        let (name, why) = (shown_name(key), shortened(&text_of(&refused), WHY_BYTES_MAX));
        tracing::warn!(
            plugin = name,
            offset = record.offset,
            why,
            "the manifest of a plugin was refused; later ones are read"
        );
        if self.store.refuse_manifest(&name, &why).await? {
            self.refresh().await?;
        }
        Ok(ManifestOutcome::Refused(refused))
    }

    /// Makes the topics of the plugins that are known where somebody has deleted them: what is let through for one that lacks
    /// its input would wait, and all that follows from the same partitions with it.
    pub async fn ensure_inputs(&self, bus: &dyn Bus) {
        for plugin in self.snapshot().externals() {
            if let Err(error) = bus.create_input(plugin.manifest.input).await {
                tracing::error!(plugin = plugin.row.name, %error, "the topics of a plugin in another language cannot be used");
            }
        }
    }

    async fn accept(&self, manifest: Manifest, offset: i64) -> Result<(), StoreError> {
        let document = &manifest.document;
        let (name, version) = (document.name.clone(), document.version.clone());
        let accepted = AcceptedManifest {
            name: name.clone(),
            manifest: serde_json::to_value(document).expect("a manifest is plain data"),
            settings: document.default_settings.clone(),
            eligibility: serde_json::to_value(Eligibility::default()).expect("an eligibility block is plain data"),
            offset,
        };
        let holds = move |settings: &serde_json::Value| manifest.check_settings(settings).is_ok();
        if self.store.accept_manifest(accepted, holds, |row| control_record(row, ACTOR)).await? {
            self.refresh().await?;
            tracing::info!(plugin = name, version, "the manifest of a plugin was accepted");
        }
        Ok(())
    }
}

/// Reads a manifest where it keeps nobody waiting.
async fn parse_aside(record: &Record) -> Result<Manifest, Vec<FieldError>> {
    let (key, value) = (record.key.clone(), record.value.clone());
    let parsed = aside(move || Manifest::parse(key.as_deref(), &value)).await;
    parsed.unwrap_or_else(|error| Err(vec![FieldError::new("", format!("could not be checked: {error}"))]))
}

/// The name under which a refused manifest is shown: its key, as far as that can be shown.
fn shown_name(key: Option<&[u8]>) -> String {
    let name = String::from_utf8_lossy(key.unwrap_or_default());
    let name: String = name.chars().filter(|letter| !letter.is_control()).collect();
    if name.is_empty() { "(no name)".to_owned() } else { shortened(&name, NAME_BYTES_MAX) }
}

fn shortened(text: &str, bytes: usize) -> String {
    text[..text.floor_char_boundary(bytes)].to_owned()
}
