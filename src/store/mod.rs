//! The store: the relational database. Only this folder (and the embedded bus) knows Diesel.
//!
//! One text of queries serves SQLite and MySQL. All database work runs on the store's own threads; callers await.
//! [`Store`] is the handle; its methods stand in the file of the thing that they are about.
#![allow(clippy::ref_option_ref, reason = "Diesel's derive(Insertable) makes references to optional references")]

mod age_prompts;
mod alerts;
mod audit;
mod backup;
mod cluster;
mod commit;
mod connection;
mod control;
mod counts;
mod cursor;
mod dead_letters;
mod entities;
mod evidence;
mod expiry;
mod external;
mod forgetting;
mod http_calls;
mod inspect;
mod leases;
mod logins;
mod migrate;
pub mod model;
mod mysql;
mod offsets;
mod open;
mod orders;
mod outbox;
mod processes;
mod recommendations;
mod records;
mod repartition;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;
mod threads;

use std::sync::Arc;

pub use age_prompts::AgePromptFilter;
pub use alerts::{ASSIGNEE_BYTES_MAX, Alert, AlertChange, AlertFilter, AlertStatus, Disposition, NOTE_BYTES_MAX};
pub use control::PluginChange;
pub use counts::Counts;
pub use cursor::{PAGE_ITEMS_MAX, Page};
pub use dead_letters::{DECISION_LETTERS_MAX, DeadLetterFilter, DeadLetterSelection, StoredDeadLetter};
pub use entities::TimerRow;
pub use evidence::{MissingEvidence, MissingPage};
pub use expiry::{EXPIRED_ROWS_MAX, Expiring};
pub use external::AcceptedManifest;
pub use forgetting::{FORGET_LOOK_ROWS, FORGOTTEN_TABLES, ForgetStep};
pub use http_calls::{HttpDue, HttpEnd, HttpRow};
pub use inspect::StoreReport;
pub use leases::{Lease, LeaseRequest};
pub use logins::{LOGINS_OF_TOKEN_MAX, Login, NewLogin};
pub use migrate::SchemaState;
pub use model::*;
pub use offsets::SettingsUse;
pub use open::StoreOptions;
pub use orders::*;
pub use outbox::{LaneBacklog, lane};
pub use processes::ProcessRow;
pub use recommendations::RecommendationStat;
pub use repartition::{BoundBus, Moved, Owners};
pub use sessions::{SessionFilter, SessionGroup, SessionTotal};

use crate::sqlite::{Checkpointer, Files};
use connection::{Database, Target};
use threads::{Durability, Queue};

/// The queries of all files, for SQLite.
mod sqlite_queries {
    pub(in crate::store) use super::{
        alerts::sqlite as alerts, audit::sqlite as audit, control::sqlite as control,
        dead_letters::sqlite as dead_letters, entities::sqlite as entities, external::sqlite as external,
        http_calls::sqlite as http_calls, leases::sqlite as leases, offsets::sqlite as offsets,
        orders::sqlite as orders, outbox::sqlite as outbox, records::sqlite as records,
    };
}

/// The queries of all files, for MySQL.
mod mysql_queries {
    pub(in crate::store) use super::{
        alerts::mysql as alerts, audit::mysql as audit, control::mysql as control, dead_letters::mysql as dead_letters,
        entities::mysql as entities, external::mysql as external, http_calls::mysql as http_calls,
        leases::mysql as leases, offsets::mysql as offsets, orders::mysql as orders, outbox::mysql as outbox,
        records::mysql as records,
    };
}

/// The handle to the database; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writes: Queue,
    reads: Queue,
    /// Of SQLite: what keeps its write-ahead log small, and its files.
    checkpointer: Option<Checkpointer>,
    files: Option<Arc<Files>>,
    target: Target,
    /// Held as long as the store is open, so that no second process uses the same file.
    lock: std::sync::Mutex<Option<std::fs::File>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// The files of a SQLite store.
    #[must_use]
    pub fn files(&self) -> Option<&Files> {
        self.inner.files.as_deref()
    }

    /// A transaction whose result a person or another system is told of.
    async fn write<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_with(Durability::Durable, work).await
    }

    /// A transaction that the bus, or whoever asked for it, can repeat.
    async fn write_repeatable<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        self.write_with(Durability::Repeatable, work).await
    }

    async fn write_with<T, W>(&self, durability: Durability, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        let outcome = self.inner.writes.run(durability, work).await;
        if let Some(checkpointer) = &self.inner.checkpointer {
            checkpointer.written();
        }
        outcome
    }

    /// Reads what has been committed.
    async fn read<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&mut Database) -> Result<T, StoreError> + Send + 'static,
    {
        self.inner.reads.run(Durability::Repeatable, work).await
    }
}
