//! `tillstream health`: whether a running server can do its work, as an exit code. Containers and init systems probe with it,
//! so an image needs no other program.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::server_args::{ServerArgs, install_tls};

/// Asks a running server whether it can do its work: exit code 0 if so, 1 if not
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tillstream health\n  tillstream health --live --url http://127.0.0.1:9000 --timeout-ms 1000"
)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Ask only whether the process answers, not whether its bus and store do
    #[arg(long)]
    live: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    timeout_ms: u64,
}

/// Runs the command.
///
/// # Errors
/// If the server is not there, or says that it cannot work; the text names what fails.
pub fn run(args: &HealthArgs) -> anyhow::Result<()> {
    install_tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask(args))
}

async fn ask(args: &HealthArgs) -> anyhow::Result<()> {
    let url = args.server.endpoint(if args.live { "/health/live" } else { "/health/ready" })?;
    let client = reqwest::Client::builder().timeout(Duration::from_millis(args.timeout_ms)).build()?;
    let response = client.get(url).send().await;
    let response =
        response.with_context(|| format!("no answer from {}; is tillstream running there?", args.server.shown()))?;
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(writeln!(std::io::stdout().lock(), "ok")?);
    }
    let checks = body["checks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failed = checks.iter().filter(|check| check["ok"] == false);
    let reasons: Vec<_> = failed
        .map(|check| {
            let text = |key: &str| check[key].as_str().unwrap_or_default();
            format!("{}: {}", text("name"), text("message"))
        })
        .collect();
    if reasons.is_empty() {
        bail!("{} answers {status}", args.server.shown());
    }
    bail!("not ready: {}", reasons.join("; "))
}
