//! Configuration: defaults, then a TOML file, then the environment, then flags, made into one validated [`Config`].
//!
//! Only the validated type travels: whoever holds a `Config` need not check it again. Unknown keys are refused with the
//! nearest known name, every fault says where it stands and what to do, and secrets never show in `Debug`.

mod keys;
mod remote;
mod secret;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use remote::{RemoteUrl, RemoteUrlError};
pub use secret::Secret;

use sources::Setting;

/// Everything that can be configured, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The bus.
    pub bus: BusConfig,
    /// The store.
    pub store: StoreConfig,
    /// The HTTP server.
    pub http: HttpConfig,
    /// Where the defaults of stores and plugins stand.
    pub plugins: PluginsConfig,
    /// The remote customer system.
    pub customers: RemoteConfig,
    /// The third-party order system.
    pub orders: OrdersConfig,
    /// The processing of events.
    pub processor: ProcessorConfig,
    /// The live feed.
    pub feed: FeedConfig,
    /// What makes a process unready.
    pub health: HealthConfig,
}

/// Which bus it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusKind {
    /// A log in a SQLite file, for one process.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

impl BusKind {
    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
        }
    }
}

/// Section `bus`.
#[derive(Debug, Clone, PartialEq)]
pub struct BusConfig {
    /// `bus.kind`.
    pub kind: BusKind,
    /// `bus.path`: file of the embedded log.
    pub path: PathBuf,
    /// `bus.brokers`: Kafka's bootstrap servers, `host:port,host:port`.
    pub brokers: String,
    /// `bus.group`: the Kafka consumer group that shares the work.
    pub group: String,
    /// `bus.partitions`: partitions of `pos.events`, fixed when the topic is created.
    pub partitions: u32,
    /// `bus.topicPrefix`: put before every topic's name.
    pub topic_prefix: String,
    /// `bus.replicationFactor`: of Kafka topics that are created; -1 = as the brokers say.
    pub replication_factor: i32,
    /// `bus.appendTimeoutMs`: how long Kafka may take to accept a record.
    pub append_timeout_ms: u64,
    /// `bus.retentionHours`: processed records of the embedded log older than this are removed, and Kafka topics that are
    /// created keep records for so long; 0 = never by age.
    pub retention_hours: u64,
    /// `bus.retentionBytes`: processed records are removed, oldest first, while the embedded log is larger; 0 = any size.
    pub retention_bytes: u64,
    /// `[bus.kafka]`: librdkafka's own settings by its own names.
    pub kafka: BTreeMap<String, Secret>,
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreUrl {
    /// `sqlite:PATH`.
    Sqlite(PathBuf),
    /// `mysql://user:password@host:port/db`.
    MySql(Secret),
}

impl StoreUrl {
    /// As it is configured, password included. Never log it.
    #[must_use]
    pub fn to_text(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::MySql(url) => url.reveal().to_owned(),
        }
    }

    /// `sqlite` or `mysql`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::MySql(_) => "mysql",
        }
    }
}

/// Section `store`.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreConfig {
    /// `store.url`.
    pub url: StoreUrl,
    /// `store.migrate`: bring the tables up to date at the start; otherwise a store that is behind is refused.
    pub migrate: bool,
    /// `store.galeraSingleWriter`: all processes write on the same node of a cluster that would take writes on several.
    pub galera_single_writer: bool,
    /// `store.writers`: connections to MySQL that write at the same time; SQLite has one by nature.
    pub writers: usize,
    /// `store.readers`: connections that read at the same time.
    pub readers: usize,
    /// `store.keep…Days`.
    pub keep: KeepConfig,
}

/// For how long the store keeps what has come to its end. `None`, configured as 0: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepConfig {
    /// `store.keepOrdersDays`: orders, with their history.
    pub orders: Option<Duration>,
    /// `store.keepResultsDays`: alerts with their evidence, age prompts, recommendations.
    pub results: Option<Duration>,
    /// `store.keepTimeSheetsDays`: sessions.
    pub time_sheets: Option<Duration>,
    /// `store.keepDeadLettersDays`: dead letters on which somebody has decided.
    pub dead_letters: Option<Duration>,
    /// `store.keepAuditDays`: who changed what.
    pub audit: Option<Duration>,
}

const fn days(count: u64) -> Duration {
    Duration::from_hours(24 * count)
}

impl Default for KeepConfig {
    fn default() -> Self {
        Self {
            orders: Some(days(90)),
            results: Some(days(400)),
            time_sheets: None,
            dead_letters: Some(days(90)),
            audit: None,
        }
    }
}

/// What the holder of a token may do. Each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenRole {
    /// Read everything.
    Viewer,
    /// And change plugins, alerts and dead letters.
    Operator,
    /// And change stores.
    Admin,
}

impl TokenRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// One entry of `http.tokens`. The token itself is not kept, only its hash.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenConfig {
    /// Who holds it; the actor in the audit log.
    pub name: String,
    /// What it allows.
    pub role: TokenRole,
    /// `sha256:HEX` or an Argon2 PHC string (`$argon2id$...`).
    pub hash: Secret,
}

/// Section `http`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// `http.bind`.
    pub bind: SocketAddr,
    /// `http.tokens`; empty: no login, loopback only.
    pub tokens: Vec<TokenConfig>,
    /// `http.allowedHosts`: names besides the loopback ones by which browsers may reach the server.
    pub allowed_hosts: Vec<String>,
    /// `http.sessionHours`: how long a login lasts at most.
    pub session_lasts: Duration,
    /// `http.sessionIdleMinutes`: a login that is not used for so long ends.
    pub session_idle: Duration,
    /// `http.secureCookies`: browsers send the session's cookie over TLS only, as where a proxy speaks TLS for the server.
    pub secure_cookies: bool,
    /// `http.loginAttemptsPerMinute`: wrong tokens that one address may try.
    pub login_attempts_per_minute: u32,
    /// `http.bodySeconds`: how long the body of a request may take to arrive.
    pub body_time: Duration,
    /// `http.batchItemsMax`: events of one batch.
    pub batch_items_max: usize,
}

/// Section `plugins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginsConfig {
    /// `plugins.file`.
    pub file: PathBuf,
    /// True if somebody chose the file: then it must be there. The default one may be missing, a built-in copy serves.
    pub file_is_explicit: bool,
}

/// Section `customers`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RemoteConfig {
    /// `customers.url`.
    pub url: Option<RemoteUrl>,
}

/// Section `orders`.
#[derive(Debug, Clone, PartialEq)]
pub struct OrdersConfig {
    /// `orders.url`: where orders are posted to.
    pub url: Option<RemoteUrl>,
    /// `orders.lookup`: ask `GET {orders.url}/{id}` before an order is sent again.
    pub lookup: bool,
    /// `orders.keepKeysHours`: how long an `Idempotency-Key` is remembered.
    pub keep_keys: Duration,
}

/// Section `processor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessorConfig {
    /// `processor.shards`: threads that apply events.
    pub shards: usize,
    /// `processor.batchEventsMax`: events that one shard takes, applies and commits together, at most.
    pub batch_events_max: usize,
    /// `processor.entitiesMax`: entities that one shard keeps in memory; idle ones beyond it are passivated.
    pub entities_max: usize,
    /// `processor.forgetSourcesDays`: how long a source may be silent until it is forgotten; `None`: never.
    pub forget_sources: Option<Duration>,
}

/// Section `feed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedConfig {
    /// `feed.capacity`: items of the live feed that are kept for those who come back.
    pub capacity: usize,
    /// `feed.clientsMax`: websockets that follow the feed at the same time.
    pub clients_max: usize,
}

/// Section `health`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// `health.standstillSeconds`: a place that has not moved for so long, with something to do, makes the process unready.
    pub standstill: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            bus: BusConfig {
                kind: BusKind::Embedded,
                path: "tillstream-data/bus.db".into(),
                brokers: "127.0.0.1:9092".to_owned(),
                group: "tillstream".to_owned(),
                partitions: 8,
                topic_prefix: String::new(),
                replication_factor: -1,
                append_timeout_ms: 10_000,
                retention_hours: 7 * 24,
                retention_bytes: 8 << 30,
                kafka: BTreeMap::new(),
            },
            store: StoreConfig {
                url: StoreUrl::Sqlite("tillstream-data/store.db".into()),
                migrate: true,
                galera_single_writer: false,
                writers: 4,
                readers: 3,
                keep: KeepConfig::default(),
            },
            http: HttpConfig {
                bind: SocketAddr::from(([127, 0, 0, 1], 8080)),
                tokens: Vec::new(),
                allowed_hosts: Vec::new(),
                session_lasts: Duration::from_hours(12),
                session_idle: Duration::from_hours(1),
                secure_cookies: false,
                login_attempts_per_minute: 20,
                body_time: Duration::from_secs(30),
                batch_items_max: 10_000,
            },
            plugins: PluginsConfig { file: "plugins.yaml".into(), file_is_explicit: false },
            customers: RemoteConfig::default(),
            orders: OrdersConfig { url: None, lookup: false, keep_keys: Duration::from_hours(24) },
            processor: ProcessorConfig {
                shards: cores.min(4),
                batch_events_max: 4_000,
                entities_max: 5_000,
                forget_sources: Some(Duration::from_hours(400 * 24)),
            },
            feed: FeedConfig { capacity: 10_000, clients_max: 1000 },
            health: HealthConfig { standstill: Duration::from_secs(30) },
        }
    }
}

/// One thing that is wrong in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands: file and line, environment variable, or flag.
    pub origin: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// The configuration cannot be used. A process ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Everything that is wrong, in the order in which it was found.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if fault.origin.is_empty() {
                f.write_str(&fault.message)?;
            } else {
                write!(f, "{}: {}", fault.origin, fault.message)?;
            }
        }
        Ok(())
    }
}

impl ConfigError {
    fn one(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { faults: vec![Fault { origin: origin.into(), message: message.into() }] }
    }
}

/// A flag that stands for a configuration key: `("bus.path", "--data", "/var/lib/tillstream/bus.db")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The key, as in the file: `http.bind`.
    pub key: &'static str,
    /// How the user wrote it, for messages: `--port`.
    pub flag: &'static str,
    /// The value as text.
    pub value: String,
}

impl Override {
    /// A flag's value for a key.
    pub fn new(key: &'static str, flag: &'static str, value: impl Into<String>) -> Self {
        Self { key, flag, value: value.into() }
    }
}

impl Config {
    /// Loads the configuration of this process: defaults, then `file`, then the process's environment, then `flags`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(file: Option<&Path>, flags: &[Override]) -> Result<Self, ConfigError> {
        // Not `vars`, which panics on a variable that is not UTF-8.
        let env = std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value)));
        let env = env.filter(|(key, _)| sources::is_ours(key)).map(|(key, value)| {
            let value = value.to_string_lossy().into_owned();
            (key, value)
        });
        Self::from_sources(file, env, flags)
    }

    /// As [`Config::load`], with the environment given.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_sources(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[Override],
    ) -> Result<Self, ConfigError> {
        let mut settings = Vec::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| {
                ConfigError::one(path.display().to_string(), format!("cannot be read ({error}); check --config"))
            })?;
            settings.extend(sources::from_toml(&path.display().to_string(), &text)?);
        }
        settings.extend(sources::from_env(env));
        settings.extend(flags.iter().map(sources::from_flag));
        Self::from_settings(settings)
    }

    fn from_settings(settings: Vec<Setting>) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        let mut faults = Vec::new();
        for Setting { key, value, origin } in settings {
            if let Err(message) = keys::apply(&mut config, &key, &value) {
                faults.push(Fault { origin, message });
            }
        }
        if faults.is_empty() {
            faults.extend(config.check_together());
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigError { faults }) }
    }

    /// What no single key can tell.
    fn check_together(&self) -> Option<Fault> {
        let bind = self.http.bind;
        if !is_loopback(bind.ip()) && self.http.tokens.is_empty() {
            let message = format!(
                "http.bind {bind} can be reached from other machines, which needs a token: make one with \
                 `tillstream token NAME --role admin` and put it into http.tokens, or bind to 127.0.0.1:{}",
                bind.port()
            );
            return Some(Fault { origin: String::new(), message });
        }
        None
    }

    /// Refuses roles that this bus and store cannot serve: the embedded ones belong to one process, which must then do
    /// everything.
    ///
    /// # Errors
    /// If roles are split over processes and the bus or the store is embedded.
    pub fn check_roles(&self, roles: &[Role]) -> Result<(), ConfigError> {
        if Role::ALL.iter().all(|role| roles.contains(role)) {
            return Ok(());
        }
        let embedded = match (self.bus.kind, &self.store.url) {
            (BusKind::Embedded, StoreUrl::Sqlite(_)) => "the embedded bus and store serve",
            (BusKind::Embedded, _) => "the embedded bus serves",
            (_, StoreUrl::Sqlite(_)) => "the embedded store (sqlite) serves",
            _ => return Ok(()),
        };
        let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        let message = format!(
            "--role {} alone is not possible here: {embedded} one process only. Use --role all, or set bus.kind = \"kafka\" \
             and store.url = \"mysql://...\"",
            names.join(" --role ")
        );
        Err(ConfigError::one("", message))
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }
}

/// A part of the work that a process can take on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// HTTP API, admin and feed.
    Api,
    /// Applies events.
    Processor,
    /// Carries the outbox to the bus.
    Relay,
    /// Makes HTTP calls.
    Dispatcher,
}

impl Role {
    /// Every role, which is what `all` stands for.
    pub const ALL: [Self; 4] = [Self::Api, Self::Processor, Self::Relay, Self::Dispatcher];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Processor => "processor",
            Self::Relay => "relay",
            Self::Dispatcher => "dispatcher",
        }
    }
}

#[cfg(test)]
mod tests;
