//! Wiring and shutdown order, readable from top to bottom.
//!
//! Start: bus, store, what a restored store has lost of orders, control, then what the process's roles need, from the bottom of the picture up, HTTP last. Stop: HTTP
//! and ingress, which finishes its batches and leaves the group; then the relay what they put into the outbox; then what
//! was leased is given back, and the files are closed.

pub(crate) mod fit;
mod orders;
mod services;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr};
use tokio::sync::{Notify, watch};

use crate::actors::ingress::{IngressOptions, IngressSignals};
use crate::actors::shard::ShardContext;
use crate::actors::sources::Sources;
use crate::actors::supervisor::{Crashes, StopAll, Supervisor};
use crate::bus::embedded::{EmbeddedBus, RetentionOptions};
use crate::bus::kafka::{KafkaBus, KafkaOptions};
use crate::bus::{Bus, BusError};
use crate::config::{BusKind, Config, Role, StoreConfig};
use crate::control::Control;
use crate::delivery::PassError;
use crate::delivery::orders::restore;
use crate::feed::{Feed, FeedKind};
use crate::http::{self, AppState, ServeError};
use crate::orders::OrderSignals;
use crate::plugins::defaults::{Defaults, DefaultsError};
use crate::processes::{Identity, Processes};
use crate::status::Status;
use crate::store::model::StoreError;
use crate::store::{Store, StoreOptions};

/// How long a dispatcher of orders may take to settle what is answered, and to give up the rest.
const ORDERS_STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// A record is about this long; batches are bounded in bytes on the bus.
const RECORD_BYTES: usize = 512;
/// How long ingress and relay may take to finish on shutdown; the whole of it is to end within 10 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a relay goes on where others may commit as well, so that the outbox is never empty for long.
const SHARED_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Log lines and notices of calls that wait to be told to other processes.
const FORWARD_ITEMS_MAX: usize = 2000;

/// How a process runs.
#[derive(Clone, Default)]
pub struct AppOptions {
    /// What it takes on; everything where empty.
    pub roles: Vec<Role>,
    /// The bus, where it is not the configured one.
    pub bus: Option<Arc<dyn Bus>>,
    /// What plugins and stores start with; from `plugins.file` where absent.
    pub defaults: Option<Defaults>,
    /// Finish everything that is on the bus and what follows from it, then say so.
    pub until_caught_up: bool,
}

/// Why a process could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The bus cannot be used.
    #[error("bus: {0}")]
    Bus(#[from] BusError),
    /// Kafka answers, or would, but not to what is configured: a setting, the password, rights, the topics' partitions.
    #[error("bus: {0}")]
    Kafka(String),
    /// The store cannot be used.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// A database server refuses what is configured, or the store is not one for this bus or this version.
    #[error("store: {0}")]
    Database(String),
    /// The log ends before the offsets that the store holds.
    #[error("bus: {0}")]
    OlderLog(String),
    /// `plugins.yaml` is wrong.
    #[error("{0}")]
    Defaults(#[from] DefaultsError),
    /// The HTTP server cannot listen.
    #[error("{0}")]
    Http(#[from] ServeError),
    /// Something that this version cannot do.
    #[error("{0}")]
    Unsupported(String),
}

impl From<PassError> for StartError {
    fn from(error: PassError) -> Self {
        match error {
            PassError::Bus(error) => Self::Bus(error),
            PassError::Store(error) => Self::Store(error),
        }
    }
}

/// What all services of a process are made of.
struct Parts {
    context: ShardContext,
    roles: Vec<Role>,
    /// Other processes may use the same bus and store.
    is_shared: bool,
}

/// A running process.
pub struct App {
    /// What the process is doing.
    pub status: Arc<Status>,
    /// The truth about plugins.
    pub control: Arc<Control>,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The store.
    pub store: Store,
    /// The live feed.
    pub feed: Feed,
    /// This process and the others that share the work.
    pub processes: Arc<Processes>,
    /// Makes long-lived actors crash, for tests.
    pub crashes: Crashes,
    http: Option<http::Running>,
    supervisor: Addr<Supervisor>,
    stop: watch::Sender<bool>,
    caught_up: watch::Receiver<bool>,
    ingress_gone: watch::Receiver<bool>,
    orders_drained: watch::Receiver<bool>,
    span: watch::Receiver<Option<(Instant, Instant)>>,
}

impl App {
    /// Starts everything. Must run inside an actix system.
    ///
    /// # Errors
    /// If the configuration cannot be put to work.
    pub async fn start(config: Arc<Config>, options: AppOptions) -> Result<Self, StartError> {
        let defaults = match options.defaults {
            Some(defaults) => defaults,
            None => load_defaults(&config)?,
        };
        let bus = match options.bus {
            Some(bus) => bus,
            None => open_bus(&config).await?,
        };
        let store = open_store(&config).await?;
        // The store is read before it is changed: a log that is older is nothing to restore from.
        fit::bind(&*bus, &store).await?;
        restore::restore(&store, &*bus).await?;
        let roles = if options.roles.is_empty() { Role::ALL.to_vec() } else { options.roles };
        let is_shared = bus.is_shared() && store.is_shared();
        let status = Arc::new(Status::new(roles.clone()));
        let public_feed = Feed::new(config.feed.capacity);
        let feed = own_feed(&public_feed, is_shared);
        let control = Control::start(store.clone(), feed.clone(), Arc::clone(&status), &defaults).await;
        let control = control.map_err(not_for_us)?;
        control.follow(Arc::clone(&bus));
        control.ensure_inputs(&*bus).await;

        let signals = OrderSignals::default();
        let crashes = Crashes::default();
        let supervisor = Supervisor::new(Arc::clone(&status), crashes.clone()).start();
        let context = ShardContext {
            bus: Arc::clone(&bus),
            store: store.clone(),
            control: Arc::clone(&control),
            feed,
            sources: Arc::new(Sources::new(&*bus)),
            status: Arc::clone(&status),
            outbox: Arc::new(Notify::new()),
            calls: Arc::new(Notify::new()),
            entities_max: config.processor.entities_max,
            forget_sources_ms: config
                .processor
                .forget_sources
                .map(|silence| i64::try_from(silence.as_millis()).unwrap_or(i64::MAX)),
        };
        let parts = Parts { context, roles, is_shared };
        let identity = Identity::new();
        let delivery = services::delivery(&parts, &identity, &config);
        let processes = Processes::new(identity.clone(), store.clone(), Arc::clone(&status), delivery, is_shared);
        if is_shared {
            // The others count on this one from its first moment.
            processes.beat().await?;
        }
        // Without a server nobody reads the feed.
        let feed_shown = (!options.until_caught_up).then_some(&public_feed);
        services::start(&supervisor, &parts, &identity, &processes, feed_shown, &config);
        let (stop, stopping) = watch::channel(false);
        let orders = orders::Orders { signals: &signals, owner: &identity.id, stopping: &stopping };
        let orders_drained = orders.start(&supervisor, &parts, &config);

        let (caught_up, is_caught_up) = watch::channel(false);
        let (span, span_seen) = watch::channel(None);
        let (gone, ingress_gone) = watch::channel(!parts.roles.contains(&Role::Processor));
        if parts.roles.contains(&Role::Processor) {
            let signals = IngressSignals { stop: stopping, caught_up: Arc::new(caught_up), span: Arc::new(span) };
            let options = IngressOptions {
                shards: config.processor.shards,
                batch_bytes_max: config.processor.batch_events_max * RECORD_BYTES,
                until_caught_up: options.until_caught_up,
                sends_orders: config.orders.url.is_some(),
            };
            services::watch_ingress(&supervisor, &parts, options, signals, &crashes, Arc::new(gone));
        }

        let http = if options.until_caught_up {
            None
        } else {
            let state = AppState {
                config: Arc::clone(&config),
                bus: Arc::clone(&bus),
                store: store.clone(),
                control: Arc::clone(&control),
                feed: public_feed.clone(),
                status: Arc::clone(&status),
                orders: signals,
                processes: Arc::clone(&processes),
            };
            let http = http::serve(state, config.http.bind)?;
            processes.set_address(http.address());
            Some(http)
        };
        Ok(Self {
            status,
            control,
            bus,
            store,
            feed: public_feed,
            processes,
            crashes,
            http,
            supervisor,
            stop,
            caught_up: is_caught_up,
            ingress_gone,
            orders_drained,
            span: span_seen,
        })
    }

    /// Where the HTTP server listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(http::Running::address)
    }

    /// Waits until everything is caught up; only for processes started that way.
    pub async fn caught_up(&mut self) {
        // The sender lives as long as ingress; without it nothing would ever be caught up.
        let _ = self.caught_up.wait_for(|caught_up| *caught_up).await;
    }

    /// Seconds from the first read to the last commit.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.span.borrow().map_or(0.0, |(first, last)| last.duration_since(first).as_secs_f64())
    }

    /// Stops in good order: what is in flight is committed, what is committed is on the bus as far as time allows, and the
    /// others can take over at once.
    pub async fn stop(mut self) {
        let begun = Instant::now();
        self.stop.send_replace(true);
        let http = async {
            if let Some(http) = self.http.take() {
                http.stop().await;
            }
        };
        let ingress = async {
            let gone = self.ingress_gone.wait_for(|gone| *gone);
            if tokio::time::timeout(STOP_TIMEOUT, gone).await.is_err() {
                tracing::warn!(
                    "stopped before the last batches were committed; the bus repeats them at the next start"
                );
            }
        };
        let orders = async {
            let drained = self.orders_drained.wait_for(|drained| *drained);
            if tokio::time::timeout(ORDERS_STOP_TIMEOUT, drained).await.is_err() {
                tracing::info!("stopped while orders were being sent; their claims run out by themselves");
            }
        };
        tokio::join!(http, ingress, orders);
        self.empty_outbox(STOP_TIMEOUT.saturating_sub(begun.elapsed())).await;
        // Services use the store, so they end before it does.
        let _ = self.supervisor.send(StopAll).await;
        // Whoever publishes orders next need not wait for the lease.
        let _ = self.store.release_order_publishing(self.processes.id()).await;
        self.processes.leave().await;
        self.store.close().await;
    }

    /// Waits until what was committed is on the bus, if this process carries it there and nobody else would.
    async fn empty_outbox(&self, patience: Duration) {
        if self.processes.delivery().relay.is_none() || self.processes.other_with(Role::Relay).is_some() {
            return;
        }
        let empty = async {
            while !matches!(self.store.outbox_depth().await, Ok(0) | Err(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let patience = if self.processes.is_shared() { patience.min(SHARED_STOP_TIMEOUT) } else { patience };
        if tokio::time::timeout(patience, empty).await.is_err() {
            tracing::info!("stopped before everything was delivered; it goes on at the next start");
        }
    }
}

/// What this process itself tells. Where processes share the work, every feed shows that of all, as the bus tells it.
fn own_feed(public: &Feed, is_shared: bool) -> Feed {
    if is_shared { Feed::of_kinds(FORWARD_ITEMS_MAX, vec![FeedKind::Log, FeedKind::Http]) } else { public.clone() }
}

/// Reads `plugins.file`. Only the default one may be missing: then the built-in copy serves.
///
/// # Errors
/// If it is wrong, or if somebody chose a file that is not there.
pub fn load_defaults(config: &Config) -> Result<Defaults, StartError> {
    let file = &config.plugins.file;
    if config.plugins.file_is_explicit && !file.exists() {
        let message =
            format!("plugins.file: {} does not exist; name another file or leave the key out", file.display());
        return Err(StartError::Unsupported(message));
    }
    Ok(Defaults::load(file)?)
}

/// Opens the configured bus.
///
/// # Errors
/// If it cannot be used.
pub async fn open_bus(config: &Config) -> Result<Arc<dyn Bus>, StartError> {
    if config.bus.kind == BusKind::Kafka {
        return open_kafka(config).await.map_err(|error| match error {
            BusError::Misconfigured(why) => StartError::Kafka(why),
            other => other.into(),
        });
    }
    let bus = config.bus.clone();
    let retention = RetentionOptions::from_limits(bus.retention_hours, bus.retention_bytes);
    let open = move || EmbeddedBus::open_with(&bus.path, bus.partitions, retention);
    let opened = tokio::task::spawn_blocking(open).await.map_err(|error| BusError::Unavailable(error.to_string()))?;
    Ok(opened?)
}

async fn open_kafka(config: &Config) -> Result<Arc<dyn Bus>, BusError> {
    Ok(KafkaBus::open(KafkaOptions::from_config(&config.bus)?).await?)
}

async fn open_store(config: &Config) -> Result<Store, StartError> {
    let StoreConfig { url, migrate, galera_single_writer, writers, readers, keep: _ } = &config.store;
    let options = StoreOptions { migrate: *migrate, writers: *writers, readers: *readers, ..StoreOptions::default() };
    let url = url.to_text();
    // Before anything is made there.
    Store::refuse_several_writers(&url, *galera_single_writer).await.map_err(not_for_us)?;
    let opened = Store::open_with(&url, options).await;
    // Of a file it is the machine that is at fault: somebody else uses it, or the disk is not there.
    let is_file = url.starts_with("sqlite:");
    opened.map_err(|error| if is_file { error.into() } else { not_for_us(error) })
}

/// What a person must put right in the configuration or on the server, before another start can do better.
fn not_for_us(error: StoreError) -> StartError {
    match error {
        StoreError::Misconfigured(why) => StartError::Database(why),
        other => other.into(),
    }
}
