//! `tillstream stub`: stand-ins for remote systems, for trying things out.

use clap::{Args, Subcommand};

use super::usage;
use crate::delivery::stub::Behaviour;
use crate::delivery::stub_customers::StubCustomers;
use crate::delivery::stub_orders::StubOrders;

/// Stand-ins for the remote systems that Tillstream calls.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tillstream stub customers --port 8090 --latency-ms 200 --fail 0.1\n  \
                  TILLSTREAM__CUSTOMERS__URL=http://127.0.0.1:8090/customers tillstream serve\n\n  \
                  tillstream stub orders --port 8091 --lose-answer 0.3 --fail 0.2\n  \
                  TILLSTREAM__ORDERS__URL=http://127.0.0.1:8091/orders tillstream serve\n  \
                  curl -X PUT http://127.0.0.1:8091/control --json '{\"latencyMs\": 500}'")]
pub struct StubArgs {
    #[command(subcommand)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum System {
    /// The remote customer system: GET /customers/{id}, GET /received, GET, PUT and POST /control.
    Customers(CustomersArgs),
    /// The third-party order system, which honours the Idempotency-Key: POST /orders, GET /orders/{id}, GET /received, GET, PUT and POST /control.
    Orders(OrdersArgs),
}

#[derive(Debug, Args)]
struct CustomersArgs {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8090)]
    port: u16,
    #[command(flatten)]
    faults: FaultArgs,
}

#[derive(Debug, Args)]
struct OrdersArgs {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 8091)]
    port: u16,
    #[command(flatten)]
    faults: FaultArgs,
    /// Orders that are remembered; the oldest are forgotten beyond that.
    #[arg(long, default_value_t = StubOrders::REMEMBER_DEFAULT, value_name = "N")]
    remember: usize,
}

#[derive(Debug, Args)]
struct FaultArgs {
    /// Every answer takes this long.
    #[arg(long, default_value_t = 0, value_name = "N")]
    latency_ms: u64,
    /// Fraction that is answered with status 500 and not processed.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    fail: f64,
    /// Fraction that hangs, neither processed nor answered.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    hang: f64,
    /// Fraction that is processed but never answered: half of the connections are cut, the others hang.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    lose_answer: f64,
    /// Fraction that is processed and answered with something that makes no sense.
    #[arg(long, default_value_t = 0.0, value_name = "F")]
    garbage: f64,
    /// Requests a second beyond which the answer is 429; 0 for no limit.
    #[arg(long, default_value_t = 0, value_name = "N")]
    rate_limit: u32,
    /// What Retry-After says then, in seconds.
    #[arg(long, default_value_t = 1, value_name = "N")]
    retry_after: u32,
    /// The same seed gives the same requests the same faults.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

impl FaultArgs {
    fn behaviour(&self) -> anyhow::Result<Behaviour> {
        let behaviour = Behaviour {
            latency_ms: self.latency_ms,
            fail: self.fail,
            hang: self.hang,
            lose_answer: self.lose_answer,
            garbage: self.garbage,
            rate_limit: self.rate_limit,
            retry_after_seconds: self.retry_after,
        };
        behaviour.check().map_err(|message| usage(format!("--{message}")))?;
        Ok(behaviour)
    }
}

/// Runs a stub until it is interrupted.
///
/// # Errors
/// If an argument is out of range or the port is taken.
pub fn run(args: &StubArgs) -> anyhow::Result<()> {
    actix_web::rt::System::new().block_on(async {
        match &args.system {
            System::Customers(CustomersArgs { port, faults }) => {
                let stub = StubCustomers::start_seeded(*port, faults.behaviour()?, faults.seed);
                let stub = stub.map_err(|error| port_error(*port, &error))?;
                announce(&stub.url());
                super::stop_signal().await;
                stub.stop().await;
            }
            System::Orders(OrdersArgs { port, faults, remember }) => {
                let stub = StubOrders::start(*port, faults.behaviour()?, faults.seed, *remember);
                let stub = stub.map_err(|error| port_error(*port, &error))?;
                announce(&stub.url());
                super::stop_signal().await;
                stub.stop().await;
            }
        }
        Ok(())
    })
}

fn port_error(port: u16, error: &std::io::Error) -> anyhow::Error {
    anyhow::anyhow!("port {port} cannot be used: {error}; choose another one with --port")
}

#[expect(clippy::print_stdout, reason = "scripts read the address from here")]
fn announce(url: &str) {
    println!("{url}");
}
