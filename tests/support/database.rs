//! The database of one installation under test: a SQLite file, or a database of its own on a real MySQL server.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::mysql::Mysql;
use diesel::sqlite::Sqlite;
use diesel::{Connection, QueryResult, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use diesel_async::AsyncMysqlConnection;
use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;

type MysqlConnection = AsyncConnectionWrapper<AsyncMysqlConnection>;

/// Names the server, as `mysql://user:password@host:port`; the user may create databases. `scripts/services up` prints it.
const SERVER: &str = "TILLSTREAM_TEST_MYSQL";

/// Where the rows are. A database on a server is dropped together with this.
pub(crate) enum Database {
    Sqlite(PathBuf),
    Mysql { server: String, name: String },
}

impl Database {
    /// An empty database on the server that the environment names; without one it says what is skipped.
    pub(crate) fn on_server(what: &str) -> Option<Self> {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(SERVER) else {
            // Not `eprintln`, which the test harness keeps for itself while tests pass.
            let _ = writeln!(std::io::stderr(), "skipped: {what}: {SERVER} names no server (scripts/services up)");
            return None;
        };
        let name = format!("tillstream_it_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let server = server.trim_end_matches('/').to_owned();
        run_apart(|| run(&format!("{server}/mysql"), &format!("CREATE DATABASE {name}"))).expect("a new database");
        Some(Self::Mysql { server, name })
    }

    /// As in `store.url`.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            Self::Mysql { server, name } => format!("{server}/{name}"),
        }
    }

    /// What a query finds. On MySQL `||` and `"name"` mean what they mean in the standard.
    pub(crate) fn try_load<T>(&self, sql: &str) -> QueryResult<Vec<T>>
    where
        T: QueryableByName<Sqlite> + QueryableByName<Mysql> + Send + 'static,
    {
        match self {
            Self::Sqlite(path) => {
                let url = format!("file:{}?mode=ro", path.display());
                let mut connection = SqliteConnection::establish(&url)
                    .map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
                sql_query("PRAGMA busy_timeout = 5000").execute(&mut connection)?;
                sql_query(sql).load(&mut connection)
            }
            Self::Mysql { .. } => run_apart(|| sql_query(sql).load(&mut connect(&self.url())?)),
        }
    }

    /// What a query finds that must hold.
    pub(crate) fn load<T>(&self, sql: &str) -> Vec<T>
    where
        T: QueryableByName<Sqlite> + QueryableByName<Mysql> + Send + 'static,
    {
        self.try_load(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs a statement and returns how many rows it changed.
    pub(crate) fn execute(&self, sql: &str) -> usize {
        match self {
            Self::Sqlite(path) => {
                let mut connection = SqliteConnection::establish(&path.display().to_string()).expect("the file");
                sql_query(sql).execute(&mut connection).unwrap_or_else(|error| panic!("{sql}: {error}"))
            }
            Self::Mysql { .. } => run_apart(|| run(&self.url(), sql)).unwrap_or_else(|error| panic!("{sql}: {error}")),
        }
    }

    /// Ends every other session on this database and returns how many there were.
    pub(crate) fn kill_sessions(&self) -> u64 {
        #[derive(QueryableByName)]
        struct Session {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            id: i64,
        }
        let Self::Mysql { server, name } = self else { return 0 };
        run_apart(|| {
            // From another database, so that it does not end itself.
            let mut connection = connect(&format!("{server}/mysql")).expect("the server");
            let sessions =
                format!("SELECT CAST(id AS SIGNED) AS id FROM information_schema.processlist WHERE db = '{name}'");
            let sessions: Vec<Session> = sql_query(sessions).load(&mut connection).expect("the sessions");
            let mut killed = 0;
            for Session { id } in sessions {
                // It may have ended by itself.
                killed += u64::from(sql_query(format!("KILL {id}")).execute(&mut connection).is_ok());
            }
            killed
        })
    }

    /// The text of each row's first column, which must be called `value`.
    pub(crate) fn texts(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Line {
            #[diesel(sql_type = diesel::sql_types::Text)]
            value: String,
        }
        self.load::<Line>(sql).into_iter().map(|line| line.value).collect()
    }

    /// An expression for a column's value as bytes in hexadecimal digits, or `NULL`, the same on every database.
    pub(crate) fn hex_or_null(&self, column: &str) -> String {
        let bytes = match self {
            Self::Sqlite(_) => "BLOB",
            Self::Mysql { .. } => "BINARY",
        };
        format!(r#"CASE WHEN "{column}" IS NULL THEN 'NULL' ELSE HEX(CAST("{column}" AS {bytes})) END"#)
    }

    /// The names of a table's columns, sorted.
    pub(crate) fn columns(&self, table: &str) -> Vec<String> {
        let mut names = self.texts(&match self {
            Self::Sqlite(_) => format!("SELECT name AS value FROM pragma_table_info('{table}')"),
            Self::Mysql { name, .. } => format!(
                "SELECT column_name AS value FROM information_schema.columns \
                 WHERE table_schema = '{name}' AND table_name = '{table}'"
            ),
        });
        names.sort_unstable();
        names
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Mysql { server, name } = self {
            // A server that a failed test has left without is no reason to hide that failure behind another one.
            let _ = run_apart(|| run(&format!("{server}/mysql"), &format!("DROP DATABASE IF EXISTS {name}")));
        }
    }
}

fn connect(url: &str) -> QueryResult<MysqlConnection> {
    let mut connection =
        MysqlConnection::establish(url).map_err(|error| diesel::result::Error::QueryBuilderError(error.into()))?;
    sql_query("SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'").execute(&mut connection)?;
    Ok(connection)
}

fn run(url: &str, sql: &str) -> QueryResult<usize> {
    sql_query(sql).execute(&mut connect(url)?)
}

/// Runs on a thread of its own: the client waits on a runtime, which must not happen inside the one of a test.
fn run_apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
