//! `tillstream rig`: terminals at work.

use std::path::PathBuf;

use clap::Args;

use super::usage;

/// Terminals at work: sessions in logical order, reproducible byte for byte from the seed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tillstream rig --stores 4 --terminals 50 --events 200000 --duplicates 0.05 \
--corrupt 0.01 --labels truth.ndjson --to bus")]
pub struct RigArgs {
    /// File for the truth: one line of JSON for each anomaly, duplicate or corruption
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Post orders at this rate per second
    #[arg(long, value_name = "RATE")]
    orders: Option<f64>,
}

/// Runs the rig.
///
/// # Errors
/// Wrong usage, or a sink that cannot be written to.
pub fn run(args: &RigArgs) -> anyhow::Result<()> {
    if args.orders.is_some() {
        return Err(usage("--orders: the rig cannot post orders in this version"));
    }
    Err(usage("the rig has no sink yet"))
}
