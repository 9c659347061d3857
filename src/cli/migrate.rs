//! `tillstream migrate`: brings the store's tables up to date, apart from `serve`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::config::Config;
use crate::store::Store;
use crate::store::model::StoreError;

use super::{logging, usage};

/// Brings the tables of the store up to date
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tillstream migrate --config tillstream.toml --dry-run\n  tillstream migrate --config tillstream.toml"
)]
pub struct MigrateArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only list what would be run
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// If the store cannot be reached or changed, or is of a newer version.
pub fn run(args: &MigrateArgs) -> anyhow::Result<()> {
    logging::start();
    let config = Config::load(args.config.as_deref(), &[])?;
    let url = config.store.url.to_text();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout().lock();
    if args.dry_run {
        let state = runtime.block_on(Store::schema_state(&url)).map_err(store_error)?;
        if let Some(version) = state.unknown.first() {
            anyhow::bail!("the store was written by a newer Tillstream (migration {version}); use that version");
        }
        for name in &state.pending {
            writeln!(out, "would run {name}").context("stdout")?;
        }
        return Ok(writeln!(out, "{} of {} to run", state.pending.len(), state.pending.len() + state.applied.len())?);
    }
    let run = runtime.block_on(Store::migrate(&url)).map_err(store_error)?;
    for name in &run {
        writeln!(out, "ran {name}").context("stdout")?;
    }
    Ok(writeln!(out, "the tables are up to date")?)
}

/// A configuration that a person must mend ends with 2, like any other.
fn store_error(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Misconfigured(text) => usage(text),
        other => other.into(),
    }
}
