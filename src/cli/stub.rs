//! `tillstream stub`: stand-ins for remote systems, for trying things out.

use clap::{Args, Subcommand};

use super::usage;
use crate::delivery::stub_customers::{Behaviour, StubCustomers};

/// Stand-ins for the remote systems that Tillstream calls.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tillstream stub customers --port 8090 --latency-ms 200 --fail 0.1\n  \
                  TILLSTREAM__CUSTOMERS__URL=http://127.0.0.1:8090/customers tillstream serve")]
pub struct StubArgs {
    #[command(subcommand)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum System {
    /// The remote customer system: GET /customers/{id}, GET /received, POST /control.
    Customers(CustomersArgs),
}

#[derive(Debug, Args)]
struct CustomersArgs {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Every answer takes this long.
    #[arg(long, default_value_t = 0, value_name = "N")]
    latency_ms: u64,
    /// Fraction that is answered with status 500.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    fail: f64,
    /// Fraction that is received but never answered.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    lose_answer: f64,
    /// Fraction that is answered with something that is no customer.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    garbage: f64,
}

/// Runs a stub until it is interrupted.
///
/// # Errors
/// If an argument is out of range or the port is taken.
pub fn run(args: &StubArgs) -> anyhow::Result<()> {
    let System::Customers(args) = &args.system;
    let CustomersArgs { port, latency_ms, fail, lose_answer, garbage } = *args;
    let behaviour = Behaviour { latency_ms, fail, lose_answer, garbage };
    behaviour.check().map_err(|message| usage(format!("--{message}")))?;
    actix_web::rt::System::new().block_on(async {
        let stub = StubCustomers::start(port, behaviour)
            .map_err(|error| anyhow::anyhow!("port {port} cannot be used: {error}; choose another one with --port"))?;
        announce(&stub.url());
        interrupted().await?;
        stub.stop().await;
        Ok(())
    })
}

#[expect(clippy::print_stdout, reason = "scripts read the address from here")]
fn announce(url: &str) {
    println!("{url}");
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminated.recv() => Ok(()),
    }
}
