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
mod batch;
mod body;
mod connections;
mod days;
mod deadletters;
mod envelope;
mod events;
mod health;
mod large;
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
mod resource;
mod server;
mod session;
mod stores;
mod system;
mod timesheets;

use std::sync::Arc;

use actix_web::web;
use tokio::sync::{Semaphore, watch};

pub use access::new_token;
pub use openapi::document;
pub use problem::{Problem, ProblemField};
pub use resource::{Needs, RouteRule};
pub use server::{Running, ServeError, serve};

use crate::bus::Bus;
use crate::config::Config;
use crate::config::TokenRole::{Admin, Operator, Viewer};
use crate::control::Control;
use crate::feed::Feed;
use crate::orders::OrderSignals;
use crate::orders::acceptor::Acceptor;
use crate::processes::Processes;
use crate::status::Status;
use crate::store::Store;
use resource::{Table, operation};

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
    access: Arc<access::Access>,
    /// The whole API is served, not only probes.
    is_api: bool,
    /// Turns true when the server stops: websockets say good-bye.
    stopping: watch::Receiver<bool>,
    metrics: metrics::Memory,
    /// Writes orders down.
    orders: Arc<Acceptor>,
    /// A place for each client of the live feed.
    feed_places: Arc<Semaphore>,
    /// Large bodies that may be received and worked on at the same time.
    large_bodies: Arc<Semaphore>,
    /// Large batches that may be parsed at the same time.
    batches: Arc<Semaphore>,
}

type State = web::Data<AppState>;

/// What every process serves, whatever its roles.
fn probes() -> Table {
    Table::default()
        .public(operation!(health::live))
        .public(operation!(health::ready))
        .needs(Viewer, operation!(metrics::show))
        .needs(Viewer, operation!(system::show))
}

/// What a process with role `api` serves, with the role that each operation needs. A path that is named stands before a
/// pattern that would take it.
fn api() -> Table {
    probes()
        .public(operation!(session::who))
        .public(operation!(session::log_in))
        .public(operation!(session::log_out))
        .needs(Viewer, operation!(session::list))
        .needs(Viewer, operation!(session::end))
        .public(operation!(openapi::show))
        .needs(Viewer, operation!(live::follow))
        .needs(Viewer, operation!(recent_events::list))
        .needs(Operator, operation!(events::append))
        .needs(Viewer, operation!(plugins::list))
        .needs(Viewer, operation!(plugins::show))
        .needs(Operator, operation!(plugins::change))
        .needs(Viewer, operation!(plugins::history))
        .needs(Viewer, operation!(stores::show))
        .needs(Admin, operation!(stores::replace))
        .needs(Viewer, operation!(alerts::list))
        .needs(Viewer, operation!(alerts::show))
        .needs(Operator, operation!(alerts::change))
        .needs(Viewer, operation!(recommendations::stats))
        .needs(Viewer, operation!(timesheets::list))
        .needs(Viewer, operation!(timesheets::totals))
        .needs(Viewer, operation!(deadletters::list))
        .needs(Operator, operation!(deadletters::replay_many))
        .needs(Operator, operation!(deadletters::discard_many))
        .needs(Viewer, operation!(deadletters::show))
        .needs(Operator, operation!(deadletters::replay))
        .needs(Operator, operation!(deadletters::discard))
        .needs(Operator, operation!(orders::create))
        .needs(Viewer, operation!(orders::list))
        .needs(Viewer, operation!(orders::stats))
        .needs(Viewer, operation!(orders::show))
        .needs(Operator, operation!(orders::resend))
        .needs(Viewer, operation!(audit::list))
        .public(admin::page())
        .public(admin::files())
}

/// The table of routes of a process with role `api`, or of one without it, as its router has them.
#[must_use]
pub fn routes(is_api: bool) -> Vec<RouteRule> {
    if is_api { api().rules() } else { probes().rules() }
}
