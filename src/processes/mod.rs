//! Who shares the work: every process tells the store about itself once a second, and learns there of the others.
//!
//! Owns this process's name and the list of all. Decides nothing: the bus hands out partitions, leases hand out lanes and
//! calls; what is counted here only says into how many shares. Where the store serves one process, nothing is written.

mod info;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

pub use info::{
    ActorInfo, ClockInfo, DispatcherInfo, ParkedInfo, ParkedPart, PartInfo, PartitionInfo, ProcessInfo, RelayInfo,
    TotalsInfo, parked_items,
};

use crate::config::Role;
use crate::delivery::Delivery;
use crate::delivery::leases::Leases;
use crate::status::{PluginFigures, Status};
use crate::store::{ProcessRow, Store, StoreError};
use crate::time::Timestamp;

/// How often a process tells of itself.
const BEAT: Duration = Duration::from_secs(1);
/// A process that was not heard of for so long is shown as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(10);
/// A process that was not heard of for so long is no longer shown.
const FORGET_AFTER: Duration = Duration::from_mins(15);
/// Longest part of the host's name in a process's id.
const HOST_BYTES_MAX: usize = 40;

/// This process's name, and how many share each kind of work; made before anything else.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Another one for every start: `host-pid-random`.
    pub id: String,
    host: String,
    relays: Arc<AtomicUsize>,
    dispatchers: Arc<AtomicUsize>,
    processors: Arc<AtomicUsize>,
}

impl Identity {
    /// A new name.
    #[must_use]
    pub fn new() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let host = host.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let mut host: String = host.trim().chars().filter(allowed).take(HOST_BYTES_MAX).collect();
        if host.is_empty() {
            "localhost".clone_into(&mut host);
        }
        Self {
            id: format!("{host}-{}-{:04x}", std::process::id(), rand::random::<u16>()),
            host,
            relays: Arc::default(),
            dispatchers: Arc::default(),
            processors: Arc::default(),
        }
    }

    /// Leases for a kind of work that processes of this role share.
    #[must_use]
    pub fn leases(&self, store: &Store, role: Role, prefix: &'static str) -> Leases {
        let contenders = match role {
            Role::Relay => &self.relays,
            Role::Dispatcher => &self.dispatchers,
            Role::Processor | Role::Api => &self.processors,
        };
        Leases::new(store.clone(), prefix, &self.id, Arc::clone(contenders))
    }

    fn count(&self, processes: &[Process]) {
        let counts =
            [(Role::Relay, &self.relays), (Role::Dispatcher, &self.dispatchers), (Role::Processor, &self.processors)];
        for (role, count) in counts {
            let alive = processes.iter().filter(|process| process.is_alive && process.info.has(role)).count();
            count.store(alive, Ordering::Relaxed);
        }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

/// A process as it was heard of last.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its name.
    pub id: String,
    /// When it started.
    pub started_at: Timestamp,
    /// When it was heard of last.
    pub heartbeat_at: Timestamp,
    /// False if it was not heard of for so long that it counts as gone.
    pub is_alive: bool,
    /// What it said of itself.
    pub info: ProcessInfo,
}

/// All processes, as this one knows them.
pub struct Processes {
    identity: Identity,
    store: Store,
    status: Arc<Status>,
    delivery: Delivery,
    is_shared: bool,
    started_at: Timestamp,
    address: OnceLock<SocketAddr>,
    others: ArcSwap<Vec<Process>>,
}

impl std::fmt::Debug for Processes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processes").field("id", &self.identity.id).finish_non_exhaustive()
    }
}

impl Processes {
    /// Knows this process only. `is_shared`: others may use the same bus and store.
    #[must_use]
    pub fn new(
        identity: Identity,
        store: Store,
        status: Arc<Status>,
        delivery: Delivery,
        is_shared: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            store,
            status,
            delivery,
            is_shared,
            started_at: Timestamp::now(),
            address: OnceLock::new(),
            others: ArcSwap::default(),
        })
    }

    /// This process's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// True if other processes may use the same bus and store.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// What delivers in this process.
    #[must_use]
    pub const fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// Where this process's HTTP server listens.
    pub fn set_address(&self, address: SocketAddr) {
        // Set once, when it listens.
        let _ = self.address.set(address);
    }

    /// This process as it is now, then the others as they were heard of last, the oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Process> {
        let mut all = vec![self.this()];
        all.extend(self.others.load().iter().cloned());
        all
    }

    /// The other processes that are alive.
    #[must_use]
    pub fn others_alive(&self) -> Vec<Process> {
        self.others.load().iter().filter(|process| process.is_alive).cloned().collect()
    }

    /// Another process that is alive and has this role, if there is one.
    #[must_use]
    pub fn other_with(&self, role: Role) -> Option<Process> {
        self.others_alive().into_iter().find(|process| process.info.has(role))
    }

    fn this(&self) -> Process {
        Process {
            id: self.identity.id.clone(),
            started_at: self.started_at,
            heartbeat_at: Timestamp::now(),
            is_alive: true,
            info: ProcessInfo::collect(&self.identity.host, self.address.get().copied(), &self.status, &self.delivery),
        }
    }

    /// Tells of itself and learns of the others until the future is dropped.
    pub async fn run(&self) {
        if !self.is_shared {
            return std::future::pending().await;
        }
        let mut interval = tokio::time::interval(BEAT);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            if let Err(error) = self.beat().await {
                tracing::debug!(%error, "the list of processes cannot be kept now; trying again");
            }
        }
    }

    /// One heartbeat.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let this = self.this();
        let info = serde_json::to_string(&this.info).map_err(|error| StoreError::Refused(error.to_string()))?;
        let rows = self.store.heartbeat(&this.id, this.started_at, info, FORGET_AFTER).await?;
        let others = rows.into_iter().filter(|row| row.id != this.id).map(heard_of).collect::<Vec<_>>();
        let mut all = others.clone();
        all.push(this);
        self.identity.count(&all);
        let mut plugins: BTreeMap<String, PluginFigures> = BTreeMap::new();
        for (name, figures) in others.iter().filter(|other| other.is_alive).flat_map(|other| &other.info.plugins) {
            let sum = plugins.entry(name.clone()).or_default();
            *sum = std::mem::take(sum).plus(figures);
        }
        self.status.set_plugins_elsewhere(plugins);
        self.others.store(Arc::new(others));
        Ok(())
    }

    /// Takes this process off the list and gives back what it had leased.
    pub async fn leave(&self) {
        if !self.is_shared {
            return;
        }
        let (released, stopped) =
            (self.store.release_leases(self.id()).await, self.store.process_stopped(self.id()).await);
        if let Err(error) = released.and(stopped) {
            tracing::warn!(%error, "the others will only notice by this process's silence that it has stopped");
        }
    }
}

fn heard_of(row: ProcessRow) -> Process {
    let info = serde_json::from_str(&row.info).unwrap_or_else(|error| {
        // Another version; what it says cannot be shown, but that it is there can.
        tracing::debug!(%error, process = row.id, "what a process says of itself is not understood");
        ProcessInfo::default()
    });
    Process {
        is_alive: row.silent < GONE_AFTER,
        id: row.id,
        started_at: row.started_at,
        heartbeat_at: row.heartbeat_at,
        info,
    }
}
