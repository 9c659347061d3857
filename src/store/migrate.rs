//! Migrations: which there are, which a store has, and bringing the tables up to date, one process at a time.
//!
//! MySQL commits each statement that changes tables by itself, so its migrations are written to be run again after one
//! was interrupted.

use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::connection::Database;
use super::model::StoreError;

const SQLITE_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");
const MYSQL_MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/mysql");
/// How long one process waits for another one that migrates, in seconds.
const LOCK_SECONDS: u32 = 60;
/// MySQL's names of locks are at most so long, and the same on the whole server.
const LOCK_NAME: &str = "LEFT(CONCAT('tillstream.', DATABASE()), 64)";

/// What a store has of the migrations that this version knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaState {
    /// Names of migrations that the store has.
    pub applied: Vec<String>,
    /// Names of those that it lacks, in order.
    pub pending: Vec<String>,
    /// Versions that the store has and this version does not know.
    pub unknown: Vec<String>,
}

impl SchemaState {
    /// Refuses a store of a newer version.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if it is one.
    pub(super) fn refuse_unknown(&self) -> Result<(), StoreError> {
        match self.unknown.first() {
            None => Ok(()),
            Some(version) => Err(StoreError::Misconfigured(format!(
                "store.url: the store was written by a newer Tillstream (migration {version}); use that version, or another \
                 store"
            ))),
        }
    }

    /// Refuses a store that lacks something.
    ///
    /// # Errors
    /// [`StoreError::Misconfigured`] if it does.
    pub(super) fn refuse_pending(&self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        Err(StoreError::Misconfigured(format!(
            "store.url: the tables are behind this version of Tillstream and store.migrate is false (missing: {}); run \
             `tillstream migrate`",
            self.pending.join(", ")
        )))
    }
}

impl Database {
    /// What the store has, without changing anything.
    pub(super) fn schema_state(&mut self) -> Result<SchemaState, StoreError> {
        #[derive(QueryableByName)]
        struct Version {
            #[diesel(sql_type = Text)]
            version: String,
        }
        let has_table = match self {
            Self::Sqlite(_) => "SELECT COUNT(*) AS number FROM sqlite_master WHERE name = '__diesel_schema_migrations'",
            Self::Mysql(_) => {
                "SELECT COUNT(*) AS number FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = '__diesel_schema_migrations'"
            }
        };
        let versions = "SELECT version FROM __diesel_schema_migrations ORDER BY version";
        let mut applied: Vec<Version> = Vec::new();
        if self.number(has_table)? == Some(1) {
            applied = match self {
                Self::Sqlite(db) => diesel::sql_query(versions).load(db)?,
                Self::Mysql(session) => diesel::sql_query(versions).load(session.connection())?,
            };
        }
        let known = match self {
            Self::Sqlite(_) => names::<diesel::sqlite::Sqlite>(&SQLITE_MIGRATIONS)?,
            Self::Mysql(_) => names::<diesel::mysql::Mysql>(&MYSQL_MIGRATIONS)?,
        };
        let is_applied = |version: &str| applied.iter().any(|one| one.version == version);
        let (has, lacks): (Vec<_>, Vec<_>) = known.iter().cloned().partition(|(version, _)| is_applied(version));
        let is_known = |version: &str| known.iter().any(|(one, _)| one == version);
        Ok(SchemaState {
            applied: has.into_iter().map(|(_, name)| name).collect(),
            pending: lacks.into_iter().map(|(_, name)| name).collect(),
            unknown: applied.into_iter().map(|one| one.version).filter(|version| !is_known(version)).collect(),
        })
    }

    /// Brings the tables up to date and answers the names of the migrations that were run by this call.
    pub(super) fn migrate(&mut self) -> Result<Vec<String>, StoreError> {
        let state = self.schema_state()?;
        state.refuse_unknown()?;
        if state.pending.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Self::Sqlite(db) => run_pending(db, SQLITE_MIGRATIONS),
            Self::Mysql(_) => {
                // Of several processes that start at once, one migrates; the others find nothing left to do.
                let taken = self.number(&format!("SELECT GET_LOCK({LOCK_NAME}, {LOCK_SECONDS}) AS number"))?;
                if taken != Some(1) {
                    return Err(StoreError::Unavailable(format!(
                        "another process has been changing the tables for more than {LOCK_SECONDS} s; wait for it and start again"
                    )));
                }
                let outcome = match self {
                    Self::Mysql(session) => run_pending(session.connection(), MYSQL_MIGRATIONS),
                    Self::Sqlite(_) => unreachable!("matched above"),
                };
                // If it fails the connection is gone, and the lock with it.
                let _ = self.batch_execute(&format!("DO RELEASE_LOCK({LOCK_NAME})"));
                outcome
            }
        }
    }

    /// The only number that a query gives.
    pub(super) fn number(&mut self, query: &str) -> Result<Option<i64>, StoreError> {
        #[derive(QueryableByName)]
        struct Number {
            #[diesel(sql_type = Nullable<BigInt>)]
            number: Option<i64>,
        }
        let row: Number = match self {
            Self::Sqlite(db) => diesel::sql_query(query).get_result(db)?,
            Self::Mysql(session) => diesel::sql_query(query).get_result(session.connection())?,
        };
        Ok(row.number)
    }
}

/// Versions and names of all migrations, in the order in which they are run.
fn names<DB: diesel::backend::Backend>(source: &EmbeddedMigrations) -> Result<Vec<(String, String)>, StoreError>
where
    EmbeddedMigrations: MigrationSource<DB>,
{
    let mut migrations = MigrationSource::<DB>::migrations(source).map_err(|error| failed(&*error))?;
    migrations.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(migrations.iter().map(|one| (one.name().version().to_string(), one.name().to_string())).collect())
}

fn run_pending<C>(db: &mut C, migrations: EmbeddedMigrations) -> Result<Vec<String>, StoreError>
where
    C: MigrationHarness<C::Backend> + Connection,
    EmbeddedMigrations: MigrationSource<C::Backend>,
{
    let names: Vec<(String, String)> = names::<C::Backend>(&migrations)?;
    let run = db.run_pending_migrations(migrations).map_err(|error| failed(&*error))?;
    let name = |version: String| names.iter().find(|(one, _)| *one == version).map(|(_, name)| name.clone());
    Ok(run.into_iter().filter_map(|version| name(version.to_string())).collect())
}

fn failed(error: &(dyn std::error::Error + Send + Sync)) -> StoreError {
    let text = error.to_string();
    let begin = format!("store.url: the tables could not be brought up to date: {text}");
    if text.contains("denied") {
        return StoreError::Misconfigured(format!(
            "{begin}. Grant the user CREATE, ALTER, INDEX and DROP (docs/mysql.md) and run `tillstream migrate`; what was done is kept"
        ));
    }
    StoreError::Unavailable(format!("{begin}. What was done is kept: start again, or run `tillstream migrate`"))
}
