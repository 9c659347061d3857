//! One connection to either database, and the two macros that let one text of queries serve both.
//!
//! Diesel's types differ per backend, so a function over "any connection" would need pages of bounds. Instead the
//! functions are written once inside `queries!`, which instantiates them for each connection type; `on!` picks the
//! instance at run time.

use std::path::PathBuf;

use diesel::connection::SimpleConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, ConnectionError};

use super::model::StoreError;
use super::mysql::{self, Session};
use crate::sqlite::BUSY_TIMEOUT_MS;

/// An open connection.
pub(super) enum Database {
    Sqlite(SqliteConnection),
    Mysql(Session),
}

/// Writes functions once and instantiates them for both databases, as modules `sqlite` and `mysql`. Inside, `Db` is the
/// connection's type, `queries` reaches the functions of the other files for the same database,
/// and `dialect` holds what differs between the two.
macro_rules! queries {
    ($($item:item)*) => {
        #[allow(clippy::wildcard_imports, unused_imports, reason = "the text is shared, so are its imports")]
        pub(in crate::store) mod sqlite {
            use super::*;
            use crate::store::sqlite_queries as queries;
            use crate::store::connection::sqlite_dialect as dialect;
            type Db = diesel::sqlite::SqliteConnection;
            $($item)*
        }
        #[allow(clippy::wildcard_imports, unused_imports, reason = "the text is shared, so are its imports")]
        pub(in crate::store) mod mysql {
            use super::*;
            use crate::store::mysql_queries as queries;
            use crate::store::connection::mysql_dialect as dialect;
            type Db = crate::store::mysql::MysqlConnection;
            $($item)*
        }
    };
}

/// Calls a function written in `queries!` on whichever database this is.
macro_rules! on {
    ($database:expr, $($function:ident)::+ ( $($argument:expr),* $(,)? )) => {
        match $database {
            $crate::store::connection::Database::Sqlite(db) => sqlite::$($function)::+(db, $($argument),*),
            $crate::store::connection::Database::Mysql(session) => {
                mysql::$($function)::+(session.connection(), $($argument),*)
            }
        }
    };
}

pub(super) use {on, queries};

/// What SQLite does in its own way. There is one writer, so nothing that it reads can change under it.
pub(super) mod sqlite_dialect {
    /// Behind a SELECT on which a decision rests.
    pub(in crate::store) const LOCK_IN_SHARE_MODE: &str = "";
    /// Rows that a transaction has read may change before it writes them.
    pub(in crate::store) const HAS_SEVERAL_WRITERS: bool = false;
    /// The database's clock.
    pub(in crate::store) const SELECT_NOW: &str =
        "SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) AS now";
    /// Behind a SELECT whose rows are written next.
    pub(in crate::store) const FOR_UPDATE: &str = "";
    /// Behind a table's name.
    pub(in crate::store) const BY_PRIMARY_KEY: &str = "";
}

/// What MySQL does in its own way.
pub(super) mod mysql_dialect {
    /// Behind a SELECT on which a decision rests: the row stays so until the end of the transaction. MariaDB knows no
    /// `FOR SHARE`, MySQL knows both.
    pub(in crate::store) const LOCK_IN_SHARE_MODE: &str = " LOCK IN SHARE MODE";
    /// Rows that a transaction has read may change before it writes them.
    pub(in crate::store) const HAS_SEVERAL_WRITERS: bool = true;
    /// The database's clock, whatever the session's time zone.
    pub(in crate::store) const SELECT_NOW: &str =
        "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000 AS `now`";
    /// Behind a SELECT whose rows are written next: nobody else changes them until the end of the transaction.
    pub(in crate::store) const FOR_UPDATE: &str = " FOR UPDATE";
    /// Behind a table's name, where rows are locked: a scan of a small table would also wait for the rows of others.
    pub(in crate::store) const BY_PRIMARY_KEY: &str = " FORCE INDEX (PRIMARY)";
}

/// Rows of a multi-row statement: with at most 17 columns it stays below SQLite's 32 766 binds, and the statement is short
/// enough to be parsed quickly.
pub(super) const ROWS_PER_STATEMENT: usize = 500;
/// Bytes of the rows of a multi-row statement: with what surrounds them they fit into the smallest packet that a MySQL server
/// may be set to. A row that is larger by itself goes alone.
const ROW_BYTES_PER_STATEMENT: usize = 768 << 10;

/// What a statement takes besides its rows.
const PACKET_OVERHEAD_BYTES: u64 = 64 << 10;

/// Cuts rows into those of one statement each; `bytes` is about what a row takes.
pub(super) fn statements<T>(rows: Vec<T>, bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut rows = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut statement = Vec::new();
        let mut sum = 0;
        while let Some(row) = rows.peek() {
            sum += bytes(row);
            if !statement.is_empty() && (statement.len() == ROWS_PER_STATEMENT || sum > ROW_BYTES_PER_STATEMENT) {
                break;
            }
            statement.extend(rows.next());
        }
        Some(statement).filter(|statement| !statement.is_empty())
    })
}

/// Where the database is. Not `Debug`: a URL may hold a password.
#[derive(Clone)]
pub(super) enum Target {
    Sqlite(PathBuf),
    Mysql(String),
}

/// What a connection is for: SQLite has one that writes and some that only read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
    Checkpoint,
    /// As `Write`, for statements that may take long.
    Migrate,
}

impl Target {
    /// From a value of `store.url`.
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if url.starts_with("mysql://") {
            return Ok(Self::Mysql(url.to_owned()));
        }
        Err(StoreError::Misconfigured("store.url must be sqlite:PATH or mysql://user:password@host:port/db".to_owned()))
    }

    /// Opens a connection and prepares its session.
    pub(super) fn connect(&self, purpose: Purpose) -> Result<Database, StoreError> {
        match self {
            Self::Sqlite(path) => {
                let text = path.to_str().ok_or_else(|| {
                    StoreError::Misconfigured(format!("store.url: the path {} is not UTF-8", path.display()))
                })?;
                let mut connection = SqliteConnection::establish(text).map_err(|error| connect_error(&error))?;
                // Pages of 16 KiB hold the scattered rows of a commit in fewer pieces. The writer never checkpoints by
                // itself: a large checkpoint would hold up commits for a quarter of a second (see `crate::sqlite`).
                connection.batch_execute(&format!(
                    "PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}; PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; \
                     PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA wal_autocheckpoint = 0;",
                ))?;
                connection.batch_execute(match purpose {
                    Purpose::Write | Purpose::Migrate => "PRAGMA cache_size = -24576;",
                    Purpose::Read => "PRAGMA cache_size = -4096; PRAGMA query_only = ON;",
                    Purpose::Checkpoint => "PRAGMA cache_size = -1024;",
                })?;
                Ok(Database::Sqlite(connection))
            }
            Self::Mysql(url) => Ok(Database::Mysql(mysql::connect(url, purpose == Purpose::Migrate)?)),
        }
    }
}

impl Database {
    /// Refuses a row of about so many bytes if the server would not take it. It would close the connection instead of saying
    /// so, and the row be tried for ever.
    pub(super) fn require_room_for(&self, row_bytes: usize) -> Result<(), StoreError> {
        match self {
            Self::Mysql(session) if row_bytes as u64 + PACKET_OVERHEAD_BYTES > session.packet_bytes() => {
                Err(StoreError::Refused(format!(
                    "a row of {row_bytes} bytes does not fit into the database's max_allowed_packet of {} bytes",
                    session.packet_bytes()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Runs statements that differ between databases or return nothing of interest.
    pub(super) fn batch_execute(&mut self, statements: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(db) => Ok(db.batch_execute(statements)?),
            Self::Mysql(session) => Ok(session.connection().batch_execute(statements)?),
        }
    }
}

fn connect_error(error: &ConnectionError) -> StoreError {
    match error {
        ConnectionError::InvalidConnectionUrl(text) => StoreError::Misconfigured(format!("store.url: {text}")),
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// Faults of a value rather than of the database: trying again is useless.
const REFUSALS: [&str; 8] = [
    "too big",
    "too large",
    "too long",
    "Incorrect string value",
    "Out of range value",
    "max_allowed_packet",
    "datatype mismatch",
    "Data truncat",
];

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound => Self::NotFound,
            Error::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation => Self::Refused(error.to_string()),
                // Everything that is not known to be the value's fault (disk full, locked, connection lost, a disk that
                // fails) is worth another try: nothing is lost by waiting, but a good batch would be by refusing it.
                _ if REFUSALS.iter().any(|text| information.message().contains(text)) => {
                    Self::Refused(error.to_string())
                }
                _ => Self::Unavailable(error.to_string()),
            },
            Error::InvalidCString(_)
            | Error::QueryBuilderError(_)
            | Error::SerializationError(_)
            | Error::DeserializationError(_) => Self::Refused(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
