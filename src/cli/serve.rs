//! `tillstream serve`: the product.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::{logging, stop_signal, usage};
use crate::app::{App, AppOptions, StartError};
use crate::config::{Config, Role};
use crate::status::peak_rss_bytes;

/// Processes events and serves the admin, the API and the live feed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tillstream serve --config tillstream.toml\n  tillstream serve --until-caught-up\n  tillstream serve --role processor,relay --config shop.toml"
)]
pub struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What this process takes on; may be given several times, or with commas. Split roles need Kafka and MySQL.
    #[arg(long = "role", value_name = "ROLE", default_value = "all", value_delimiter = ',', value_parser = ["all", "api", "processor", "relay", "dispatcher"])]
    roles: Vec<String>,
    /// Process everything that is on the bus and what follows from it, print one line of JSON, and exit.
    #[arg(long)]
    until_caught_up: bool,
}

/// Runs until told to stop, or until everything is caught up.
///
/// # Errors
/// If the process cannot start.
pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    logging::start();
    let config = Arc::new(Config::load(args.config.as_deref(), &[])?);
    let roles = roles(&args.roles);
    config.check_roles(&roles)?;
    if args.until_caught_up && !roles.contains(&Role::Processor) {
        return Err(usage("--until-caught-up needs role processor: only that one reads the bus"));
    }
    let options = AppOptions { roles, until_caught_up: args.until_caught_up, ..AppOptions::default() };
    actix::System::new().block_on(serve(config, options))
}

fn roles(names: &[String]) -> Vec<Role> {
    if names.iter().any(|name| name == "all") {
        return Role::ALL.to_vec();
    }
    Role::ALL.into_iter().filter(|role| names.iter().any(|name| name == role.as_str())).collect()
}

/// A start error with the exit code that it deserves.
pub(super) fn start_error(error: StartError) -> anyhow::Error {
    match error {
        StartError::Defaults(_)
        | StartError::Unsupported(_)
        | StartError::Kafka(_)
        | StartError::Database(_)
        | StartError::OlderLog(_) => usage(error.to_string()),
        other => other.into(),
    }
}

#[expect(clippy::print_stdout, reason = "the address and the summary are this command's output")]
async fn serve(config: Arc<Config>, options: AppOptions) -> anyhow::Result<()> {
    let until_caught_up = options.until_caught_up;
    let mut app = App::start(config, options).await.map_err(start_error)?;
    if !until_caught_up {
        if let Some(address) = app.address() {
            println!("http://{address}");
        }
        stop_signal().await;
        tracing::info!("stopping");
        app.stop().await;
        return Ok(());
    }
    tokio::select! {
        () = app.caught_up() => {}
        () = stop_signal() => {
            app.stop().await;
            anyhow::bail!("stopped before everything was caught up; start again to go on");
        }
    }
    let totals = &app.status.totals;
    let (events, seconds) = (totals.events.get(), app.seconds());
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure for people"
    )]
    let rate = if seconds > 0.0 { (events as f64 / seconds).round() as u64 } else { 0 };
    let summary = json!({
        "events": events,
        "duplicates": totals.duplicates.get(),
        "deadLetters": totals.dead_letters.get(),
        "derived": totals.derived.get(),
        "seconds": (seconds * 1000.0).round() / 1000.0,
        "eventsPerSecond": rate,
        "commits": totals.commits.get(),
        "peakRssBytes": peak_rss_bytes(),
    });
    app.stop().await;
    println!("{summary}");
    Ok(())
}
