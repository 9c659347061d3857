//! Wiring and shutdown order, readable from top to bottom.
//!
//! Start: bus, store, control, then the actors from the bottom of the picture up, HTTP last. Stop: HTTP first, then
//! ingress finishes its batches, the relay what they put into the outbox, and the files are closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr};
use tokio::sync::{Notify, watch};

use crate::actors::ingress::{self, IngressOptions, IngressSignals};
use crate::actors::shard::ShardContext;
use crate::actors::supervisor::{Crashes, Factory, StopAll, Supervisor, Watch};
use crate::bus::embedded::{EmbeddedBus, RetentionOptions};
use crate::bus::kafka::{KafkaBus, KafkaOptions};
use crate::bus::{Bus, BusError};
use crate::config::{BusKind, Config, Role, StoreUrl};
use crate::control::Control;
use crate::delivery::dispatcher::{Dispatcher, Endpoints};
use crate::delivery::{evidence, relay, retention};
use crate::feed::Feed;
use crate::http::{self, AppState, ServeError};
use crate::orders::OrderSignals;
use crate::plugins::defaults::{Defaults, DefaultsError};
use crate::status::Status;
use crate::store::Store;
use crate::store::model::StoreError;

/// A record is about this long; batches are bounded in bytes on the bus.
const RECORD_BYTES: usize = 512;
/// How long ingress and relay may take to finish on shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(8);

/// How a process runs.
#[derive(Debug, Clone, Default)]
pub struct AppOptions {
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
    /// The store cannot be used.
    #[error("store: {0}")]
    Store(#[from] StoreError),
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
    /// Makes long-lived actors crash, for tests.
    pub crashes: Crashes,
    http: Option<http::Running>,
    supervisor: Addr<Supervisor>,
    stop: watch::Sender<bool>,
    caught_up: watch::Receiver<bool>,
    ingress_gone: watch::Receiver<bool>,
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
        let bus = open_bus(&config).await?;
        let store = open_store(&config).await?;
        store.bind_bus(&bus.identity(), bus.partitions()).await?;
        let status = Arc::new(Status::new(Role::ALL.to_vec()));
        let feed = Feed::new(config.feed.capacity);
        let control = Control::start(store.clone(), feed.clone(), Arc::clone(&status), &defaults).await?;
        control.follow(Arc::clone(&bus));

        let orders = OrderSignals::default();
        let crashes = Crashes::default();
        let supervisor = Supervisor::new(Arc::clone(&status), crashes.clone()).start();
        let context = ShardContext {
            bus: Arc::clone(&bus),
            store: store.clone(),
            control: Arc::clone(&control),
            feed: feed.clone(),
            status: Arc::clone(&status),
            outbox: Arc::new(Notify::new()),
            calls: Arc::new(Notify::new()),
            entities_max: config.processor.entities_max,
        };
        watch_relay(&supervisor, &context);
        watch_dispatcher(&supervisor, &context, &config);
        watch_evidence(&supervisor, &context);
        watch_retention(&supervisor, &context);
        let (stop, stopping) = watch::channel(false);
        let (caught_up, is_caught_up) = watch::channel(false);
        let (span, span_seen) = watch::channel(None);
        let (gone, ingress_gone) = watch::channel(false);
        let signals = IngressSignals { stop: stopping, caught_up: Arc::new(caught_up), span: Arc::new(span) };
        let ingress_options = IngressOptions {
            shards: config.processor.shards,
            batch_bytes_max: config.processor.batch_events_max * RECORD_BYTES,
            until_caught_up: options.until_caught_up,
        };
        watch_ingress(&supervisor, &context, ingress_options, signals, &crashes, Arc::new(gone));

        let http = if options.until_caught_up {
            None
        } else {
            let state = AppState {
                config: Arc::clone(&config),
                bus: Arc::clone(&bus),
                store: store.clone(),
                control: Arc::clone(&control),
                feed: feed.clone(),
                status: Arc::clone(&status),
                orders: orders.clone(),
            };
            Some(http::serve(state, config.http.bind)?)
        };
        Ok(Self {
            status,
            control,
            bus,
            store,
            feed,
            crashes,
            http,
            supervisor,
            stop,
            caught_up: is_caught_up,
            ingress_gone,
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

    /// Stops in good order: what is in flight is committed, what is committed is on the bus as far as time allows.
    pub async fn stop(mut self) {
        if let Some(http) = self.http.take() {
            http.stop().await;
        }
        self.stop.send_replace(true);
        let drained = async {
            let _ = self.ingress_gone.wait_for(|gone| *gone).await;
            while !matches!(self.store.outbox_depth().await, Ok(0) | Err(_)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, drained).await.is_err() {
            tracing::warn!("stopped before everything was delivered; it goes on at the next start");
        }
        // Services use the store, so they end before it does.
        let _ = self.supervisor.send(StopAll).await;
        self.store.close().await;
    }
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
        return Ok(KafkaBus::open(KafkaOptions::from_config(&config.bus)?).await?);
    }
    let bus = config.bus.clone();
    let retention = RetentionOptions::from_limits(bus.retention_hours, bus.retention_bytes);
    let open = move || EmbeddedBus::open_with(&bus.path, bus.partitions, retention);
    let opened = tokio::task::spawn_blocking(open).await.map_err(|error| BusError::Unavailable(error.to_string()))?;
    Ok(opened?)
}

async fn open_store(config: &Config) -> Result<Store, StartError> {
    let url = match &config.store.url {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        StoreUrl::MySql(url) => url.reveal().to_owned(),
    };
    Ok(Store::open(&url).await?)
}

fn watch_relay(supervisor: &Addr<Supervisor>, context: &ShardContext) {
    let context = context.clone();
    let factory: Factory = Box::new(move || {
        let relay = relay::Relay::new(context.store.clone(), Arc::clone(&context.bus), Arc::clone(&context.outbox));
        Box::pin(async move { Err(relay.run().await.to_string()) })
    });
    supervisor.do_send(Watch { name: "relay", factory });
}

fn watch_dispatcher(supervisor: &Addr<Supervisor>, context: &ShardContext, config: &Config) {
    let context = context.clone();
    let endpoints = Endpoints { customers: config.customers.url.clone() };
    let factory: Factory = Box::new(move || {
        let feed = context.feed.clone();
        let dispatcher = Dispatcher::new(
            context.store.clone(),
            endpoints.clone(),
            Arc::clone(&context.calls),
            Arc::clone(&context.outbox),
            move |notice| feed.publish(vec![notice.into()]),
        );
        Box::pin(async move {
            dispatcher.run().await;
            Err("the dispatcher ended".to_owned())
        })
    });
    supervisor.do_send(Watch { name: "dispatcher", factory });
}

fn watch_evidence(supervisor: &Addr<Supervisor>, context: &ShardContext) {
    let context = context.clone();
    let factory: Factory = Box::new(move || {
        let (store, bus) = (context.store.clone(), Arc::clone(&context.bus));
        Box::pin(async move { evidence::run(&store, &*bus).await })
    });
    supervisor.do_send(Watch { name: "evidence", factory });
}

fn watch_retention(supervisor: &Addr<Supervisor>, context: &ShardContext) {
    let context = context.clone();
    let factory: Factory = Box::new(move || {
        let bus = Arc::clone(&context.bus);
        Box::pin(async move { retention::run(&*bus).await })
    });
    supervisor.do_send(Watch { name: "retention", factory });
}

fn watch_ingress(
    supervisor: &Addr<Supervisor>,
    context: &ShardContext,
    options: IngressOptions,
    signals: IngressSignals,
    crashes: &Crashes,
    gone: Arc<watch::Sender<bool>>,
) {
    let (context, crashes) = (context.clone(), crashes.clone());
    let factory: Factory = Box::new(move || {
        let run = ingress::run(context.clone(), options.clone(), signals.clone(), crashes.clone());
        let gone = Arc::clone(&gone);
        Box::pin(async move {
            let result = run.await;
            if result.is_ok() {
                gone.send_replace(true);
            }
            result
        })
    });
    supervisor.do_send(Watch { name: "ingress", factory });
}
