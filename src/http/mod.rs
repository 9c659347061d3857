//! The HTTP server: REST under `/api`, the live feed, probes, metrics and the browser admin.
//!
//! A process without role `api` serves probes, metrics and `/api/system` only.
//!
//! Handlers are thin: they read and check a request, ask the bus, the store, the control or the feed, and write the answer.
//! They never talk to shards. Every error is a problem detail (RFC 9457).

mod access;
mod admin;
mod alerts;
mod audit;
mod body;
mod days;
mod deadletters;
mod envelope;
mod events;
mod health;
mod live;
mod log_reader;
pub mod metrics;
mod openapi;
mod order_timeline;
mod orders;
mod page;
mod params;
mod plugins;
mod preconditions;
mod problem;
mod recent_events;
mod recommendations;
mod replay;
mod server;
mod session;
mod stores;
mod system;
mod timesheets;

use std::sync::Arc;

use actix_web::web;
use tokio::sync::watch;
use utoipa_actix_web::service_config::ServiceConfig;

pub use access::new_token;
pub use openapi::document;
pub use problem::{Problem, ProblemField};
pub use server::{Running, ServeError, serve};

use crate::bus::Bus;
use crate::config::Config;
use crate::control::Control;
use crate::feed::Feed;
use crate::orders::OrderSignals;
use crate::orders::acceptor::Acceptor;
use crate::processes::Processes;
use crate::status::Status;
use crate::store::Store;

/// What the server answers from.
#[derive(Clone)]
pub struct AppState {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where events go to and come from.
    pub bus: Arc<dyn Bus>,
    /// What was decided and found.
    pub store: Store,
    /// The truth about plugins and stores.
    pub control: Arc<Control>,
    /// What was committed last.
    pub feed: Feed,
    /// What the process is doing.
    pub status: Arc<Status>,
    /// Wakes the stages that follow when an order is accepted.
    pub orders: OrderSignals,
    /// This process and the others that share the work.
    pub processes: Arc<Processes>,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What one server needs besides [`AppState`].
#[derive(Debug)]
struct Local {
    access: access::Access,
    routes: openapi::Routes,
    /// The whole API is served, not only probes.
    is_api: bool,
    /// Turns true when the server stops: websockets say good-bye.
    stopping: watch::Receiver<bool>,
    metrics: metrics::Memory,
    /// Writes orders down.
    orders: Arc<Acceptor>,
}

type State = web::Data<AppState>;

/// What every process serves, whatever its roles.
fn probes(config: &mut ServiceConfig<'_>) {
    config.service(system::show).service(metrics::show).service(health::live).service(health::ready);
}

/// Every route that is part of the API.
fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(session::who)
        .service(session::log_in)
        .service(session::log_out)
        .service(events::append)
        .service(recent_events::list)
        .service(plugins::list)
        .service(plugins::show)
        .service(plugins::change)
        .service(plugins::history)
        .service(stores::show)
        .service(stores::replace)
        .service(alerts::list)
        .service(alerts::show)
        .service(alerts::change)
        .service(recommendations::stats)
        .service(timesheets::list)
        .service(timesheets::totals)
        .service(deadletters::list)
        .service(deadletters::replay_many)
        .service(deadletters::discard_many)
        .service(deadletters::show)
        .service(deadletters::replay)
        .service(deadletters::discard)
        .service(orders::create)
        .service(orders::list)
        .service(orders::stats)
        .service(orders::show)
        .service(orders::resend)
        .service(audit::list)
        .service(system::show)
        .service(live::follow)
        .service(openapi::show)
        .service(metrics::show)
        .service(health::live)
        .service(health::ready);
}
