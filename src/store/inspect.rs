//! Looking at a store before it is used: is it there, does it let us in and do what is needed, how old are its tables. Leaves
//! nothing behind.

use std::path::Path;

use diesel::prelude::*;
use diesel::sql_types::Text;

use super::Store;
use super::connection::{Database, Purpose, Target, on, queries};
use super::migrate::SchemaState;
use super::model::{PartitionRow, StoreError};
use super::open::{blocking, lock_file, not_a_database};
use super::schema::{external_plugins, meta};
use super::threads::Connector;
use crate::bus::TopicPartition;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// Program and version, such as `MariaDB 10.11.6` or `SQLite`.
    pub server: String,
    /// Its tables.
    pub schema: SchemaState,
    /// Identity and partitions of the bus that the store belongs to, once it has been used.
    pub bus: Option<(String, String)>,
    /// Where it stands on each partition of the bus, as far as its tables are up to date.
    pub places: Vec<(TopicPartition, i64)>,
    /// Plugins in other languages that it knows, as far as its tables are up to date.
    pub plugins: Vec<String>,
}

impl Store {
    /// The bus that the store belongs to: its identity and the number of its partitions. `None` before it has been used.
    ///
    /// # Errors
    /// Only faults of the store.
    pub async fn bound_bus(&self) -> Result<Option<(String, String)>, StoreError> {
        self.read(|database| on!(database, bus())).await
    }

    /// Looks at the store at `sqlite:PATH` or `mysql://…` and tries the rights that it will need: those to change tables if
    /// there is something to migrate and `migrate` says that it will be.
    ///
    /// # Errors
    /// As [`Store::open`]; each text says what to do.
    pub async fn inspect(url: &str, migrate: bool) -> Result<StoreReport, StoreError> {
        let url = url.to_owned();
        blocking(move || {
            let target = Target::parse(&url)?;
            let _lock = match &target {
                Target::Sqlite(path) if !path.exists() => {
                    Self::is_writable(path).map_err(|why| {
                        StoreError::Misconfigured(format!("store.url: {} cannot be made: {why}", path.display()))
                    })?;
                    return new_file(migrate);
                }
                Target::Sqlite(path) => Some(lock_file(path)?),
                Target::Mysql(_) => None,
            };
            let mut connector = Connector::new(target.clone(), Purpose::Migrate);
            let report = connector.run(|database| look(database, migrate));
            report.map_err(|error| not_a_database(&target, error))
        })
        .await
    }

    /// Whether a file can be made at `path`, of whose directories some may not be there yet.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn is_writable(path: &Path) -> Result<(), String> {
        let mut directories = path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
        let directory = directories.find(|directory| directory.exists()).unwrap_or_else(|| Path::new("."));
        let probe = directory.join(format!(".tillstream-check-{}", std::process::id()));
        let tried = std::fs::File::create(&probe).and_then(|_| std::fs::remove_file(&probe));
        tried.map_err(|error| format!("{error}. Allow writing in {}, or choose another place", directory.display()))
    }
}

/// What is found where a SQLite file is not there yet.
fn new_file(migrate: bool) -> Result<StoreReport, StoreError> {
    let mut empty = Target::Sqlite(":memory:".into()).connect(Purpose::Read)?;
    look(&mut empty, migrate)
}

fn look(database: &mut Database, migrate: bool) -> Result<StoreReport, StoreError> {
    let server = version(database)?;
    let schema = database.schema_state()?;
    schema.refuse_unknown()?;
    if !migrate {
        schema.refuse_pending()?;
    }
    if matches!(database, Database::Mysql(_)) {
        if !schema.pending.is_empty() {
            try_changing_tables(database).map_err(rights)?;
        }
        if !schema.applied.is_empty() {
            on!(database, try_writing()).map_err(rights)?;
        }
    }
    let bus = if schema.applied.is_empty() { None } else { on!(database, bus())? };
    let (plugins, rows) = if schema.pending.is_empty() {
        (on!(database, plugins())?, on!(database, places())?)
    } else {
        (Vec::new(), Vec::new())
    };
    let places = rows.into_iter().map(|row| (row.partition, row.next_offset)).collect();
    Ok(StoreReport { server, schema, bus, places, plugins })
}

fn version(database: &mut Database) -> Result<String, StoreError> {
    #[derive(QueryableByName)]
    struct Version {
        #[diesel(sql_type = Text)]
        version: String,
    }
    let Database::Mysql(session) = database else {
        return Ok("SQLite".to_owned());
    };
    let row: Version = diesel::sql_query("SELECT VERSION() AS version").get_result(session.connection())?;
    let number = row.version.split('-').next().unwrap_or_default();
    Ok(format!("{} {number}", if row.version.contains("MariaDB") { "MariaDB" } else { "MySQL" }))
}

/// What migrations do, on a table of our own.
fn try_changing_tables(database: &mut Database) -> Result<(), StoreError> {
    let table = format!("tillstream_check_{}", std::process::id());
    database.batch_execute(&format!("CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY) ENGINE=InnoDB"))?;
    let tried = database.batch_execute(&format!(
        "ALTER TABLE {table} ADD COLUMN value BIGINT; CREATE INDEX {table}_value ON {table} (value)"
    ));
    let dropped = database.batch_execute(&format!("DROP TABLE {table}"));
    tried.and(dropped)
}

/// A right that is missing, as what to do about it.
pub(super) fn rights(error: StoreError) -> StoreError {
    match error {
        StoreError::Unavailable(text) if text.contains("denied") => StoreError::Misconfigured(format!(
            "store.url: the user lacks a right: {text}. Grant SELECT, INSERT, UPDATE, DELETE on the database, and for migrations \
             CREATE, ALTER, INDEX, DROP as well (docs/mysql.md)"
        )),
        other => other,
    }
}

queries! {
    use diesel::prelude::*;

    /// Writes, changes and deletes a row, and takes it all back.
    pub(in crate::store) fn try_writing(db: &mut Db) -> Result<(), StoreError> {
        let name = "check";
        let tried = db.transaction(|db| -> Result<(), StoreError> {
            diesel::insert_into(meta::table).values((meta::name.eq(name), meta::value.eq(""))).execute(db)?;
            diesel::update(meta::table.find(name)).set(meta::value.eq("changed")).execute(db)?;
            diesel::delete(meta::table.find(name)).execute(db)?;
            Err(diesel::result::Error::RollbackTransaction.into())
        });
        match tried {
            Err(StoreError::Unavailable(text)) if text == diesel::result::Error::RollbackTransaction.to_string() => Ok(()),
            other => other,
        }
    }

    pub(in crate::store) fn bus(db: &mut Db) -> Result<Option<(String, String)>, StoreError> {
        let mut of = |name: &str| -> QueryResult<Option<String>> {
            meta::table.find(name).select(meta::value).first(db).optional()
        };
        Ok(of("bus_identity")?.zip(of("bus_partitions")?))
    }
    pub(in crate::store) fn places(db: &mut Db) -> Result<Vec<PartitionRow>, StoreError> {
        queries::offsets::partitions(db)
    }

    pub(in crate::store) fn plugins(db: &mut Db) -> Result<Vec<String>, StoreError> {
        Ok(external_plugins::table.order(external_plugins::name).select(external_plugins::name).load(db)?)
    }
}
