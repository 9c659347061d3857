//! Connections to MySQL and MariaDB: how they are opened, what each session is set to, and how long anybody waits for an
//! answer. Speaks the protocol in pure Rust; never runs a query of the product.

use std::cell::RefCell;
use std::future::Future;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Unsigned};
use diesel_async::AsyncMysqlConnection;
use diesel_async::async_connection_wrapper::{AsyncConnectionWrapper, BlockOn};
use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder};
use tokio::runtime::Runtime;

use super::model::StoreError;

/// MySQL in pure Rust, used as an ordinary synchronous Diesel connection on a thread of the store.
pub(super) type MysqlConnection = AsyncConnectionWrapper<AsyncMysqlConnection, Patience>;

/// Longest wait for a connection, the greeting and the log-in included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Tries to open a connection that breaks at once, the first included.
const TRIES_MAX: u32 = 3;
/// Longest wait for the answer to one statement. Far above what any takes, the wait for a lock included: a server that is silent
/// for so long has gone without a word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Smallest packet that statements are made for; see `ROW_BYTES_PER_STATEMENT`.
pub(super) const PACKET_BYTES_MIN: u64 = 1 << 20;
/// URL parameter of ours: a file of certificates that the server's must lead to.
const CA_PARAMETER: &str = "ssl_ca";

/// What every session is set to, whatever the server's own settings are.
///
/// - READ COMMITTED takes no gap locks, so shards that write neighbouring rows do not deadlock, and a statement sees what
///   was committed before it. Nothing here needs repeatable reads: what must not change is locked.
/// - Strict mode: a value that does not fit is refused, never cut.
/// - All times are integers; the zone is set so that no function could mean another one.
/// - Messages in English: faults are told apart by them.
/// - A session that says nothing for 15 s is ended by the server, and what it had locked is free: a process that is paused in the
///   middle of a transaction must not keep its successor from its partitions. An idle connection is opened again when needed.
const SESSION: &str = "SET NAMES utf8mb4; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
     SESSION time_zone = '+00:00', SESSION lc_messages = 'en_US', SESSION innodb_lock_wait_timeout = 10, \
     SESSION wait_timeout = 15, SESSION autocommit = 1";

thread_local! {
    /// From [`connect`] to the wrapper that Diesel makes around the connection on the same thread.
    static HANDED_OVER: RefCell<Option<Patience>> = const { RefCell::new(None) };
}

/// Waits for the server, but not for ever.
pub(super) struct Patience {
    runtime: Arc<Runtime>,
    limit: Option<Duration>,
}

/// The panic payload of a wait that was given up; `Connector` makes an error of it.
pub(super) struct NoAnswer;

impl BlockOn for Patience {
    fn block_on<F: Future>(&self, work: F) -> F::Output {
        let Some(limit) = self.limit else {
            return self.runtime.block_on(work);
        };
        match self.runtime.block_on(async { tokio::time::timeout(limit, work).await }) {
            Ok(output) => output,
            // Diesel leaves no other way out of a wait. No hook runs: nothing is wrong with this program.
            Err(_) => resume_unwind(Box::new(NoAnswer)),
        }
    }

    fn get_runtime() -> Self {
        HANDED_OVER.take().expect("connections are made by `connect` alone")
    }
}

/// An open connection and the runtime that it lives on.
pub(super) struct Session {
    /// For queries; there until this is dropped.
    connection: Option<MysqlConnection>,
    runtime: Arc<Runtime>,
    packet_bytes: u64,
}

impl Session {
    /// The largest packet that the server takes; it closes the connection when a larger one comes.
    pub(super) const fn packet_bytes(&self) -> u64 {
        self.packet_bytes
    }

    pub(super) fn connection(&mut self) -> &mut MysqlConnection {
        self.connection.as_mut().expect("it is taken on drop only")
    }
}

impl Drop for Session {
    /// Says goodbye, so that the server does not count an aborted client.
    fn drop(&mut self) {
        let runtime = Arc::clone(&self.runtime);
        {
            let _inside = runtime.enter();
            self.connection = None;
        }
        // The client says it in a task of its own.
        let tasks = runtime.metrics();
        runtime.block_on(async {
            let gone = async {
                while tasks.num_alive_tasks() > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, gone).await;
        });
    }
}

/// Opens a connection; `patient` ones wait for an answer as long as it takes.
///
/// # Errors
/// [`StoreError::Misconfigured`] if a person must act, else [`StoreError::Unavailable`]. No text holds the password.
pub(super) fn connect(url: &str, patient: bool) -> Result<Session, StoreError> {
    let opts = options(url)?;
    let mut tries = 1;
    loop {
        match open(&opts, patient) {
            // It let us in and then broke off, as a server does that is just stopping or has just started.
            Err(Opening::Lost(_)) if tries < TRIES_MAX => tries += 1,
            Err(Opening::Lost(error) | Opening::Refused(error)) => return Err(error),
            Ok(session) => return Ok(session),
        }
    }
}

/// Why there is no connection.
enum Opening {
    /// It could not be opened.
    Refused(StoreError),
    /// It was open, and broke before it could be used.
    Lost(StoreError),
}

fn open(opts: &Opts, patient: bool) -> Result<Session, Opening> {
    let place = format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Opening::Refused(StoreError::Unavailable(format!("no connection could be prepared: {error}")))
    })?;
    let opened = runtime.block_on(async {
        tokio::time::timeout(CONNECT_TIMEOUT, async {
            let connection = Conn::new(opts.clone()).await;
            let connection = connection.map_err(|error| Opening::Refused(connect_error(&error, opts, &place)))?;
            AsyncMysqlConnection::try_from(connection)
                .await
                .map_err(|error| Opening::Lost(StoreError::Unavailable(format!("{place}: {error}"))))
        })
        .await
    });
    let silent = |_| {
        Opening::Refused(StoreError::Unavailable(format!(
            "the database at {place} does not answer within {CONNECT_TIMEOUT:?}; check that it runs and that store.url is right"
        )))
    };
    let connection = opened.map_err(silent)??;
    let runtime = Arc::new(runtime);
    let limit = (!patient).then_some(ANSWER_TIMEOUT);
    HANDED_OVER.set(Some(Patience { runtime: Arc::clone(&runtime), limit }));
    let mut session = Session { connection: Some(connection.into()), runtime, packet_bytes: 0 };
    session.packet_bytes = prepare(session.connection()).map_err(|error| match error {
        StoreError::Misconfigured(_) => Opening::Refused(error),
        other => Opening::Lost(other),
    })?;
    Ok(session)
}

/// Sets the session and answers the largest packet that the server takes.
fn prepare(connection: &mut MysqlConnection) -> Result<u64, StoreError> {
    #[derive(QueryableByName)]
    struct Packet {
        #[diesel(sql_type = Unsigned<BigInt>)]
        bytes: u64,
    }
    diesel::connection::SimpleConnection::batch_execute(connection, SESSION)?;
    let packet: Packet = diesel::sql_query("SELECT @@max_allowed_packet AS bytes").get_result(connection)?;
    if packet.bytes < PACKET_BYTES_MIN {
        return Err(StoreError::Misconfigured(format!(
            "store.url: the database takes packets of at most {} bytes; set its max_allowed_packet to at least \
             {PACKET_BYTES_MIN}, better 16777216 or more",
            packet.bytes
        )));
    }
    Ok(packet.bytes)
}

/// The client's options for a URL.
fn options(url: &str) -> Result<Opts, StoreError> {
    let wrong = |why: String| {
        StoreError::Misconfigured(format!(
            "store.url: {why}. It must be mysql://user:password@host:port/db; write special characters of user and \
             password as in any URL, such as %40 for @"
        ))
    };
    let mut url = reqwest::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
    let (authorities, others): (Vec<_>, Vec<_>) = url
        .query_pairs()
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .partition(|(key, _)| key == CA_PARAMETER);
    url.set_query(None);
    if !others.is_empty() {
        url.query_pairs_mut().extend_pairs(others);
    }
    let opts = Opts::from_url(url.as_str()).map_err(|error| wrong(error.to_string()))?;
    let mut tls = opts.ssl_opts().cloned();
    if let Some((_, file)) = authorities.last() {
        let file = PathBuf::from(file);
        if !file.is_file() {
            return Err(wrong(format!("{CA_PARAMETER}: there is no file {}", file.display())));
        }
        tls = Some(tls.unwrap_or_default().with_root_certs(vec![file.into()]));
    }
    let keepalive_ms: u32 = 30_000;
    let keepalive = opts.tcp_keepalive().unwrap_or(keepalive_ms);
    Ok(OptsBuilder::from_opts(opts)
        .ssl_opts(tls)
        .tcp_keepalive(Some(keepalive))
        // Diesel keeps the prepared statements, and counts rows that were found rather than those that were changed.
        .stmt_cache_size(0)
        .client_found_rows(true)
        // Never aside to a socket that nobody named.
        .prefer_socket(false)
        .into())
}

/// What a person can do about a connection that is refused.
fn connect_error(error: &Error, opts: &Opts, place: &str) -> StoreError {
    let user = opts.user().unwrap_or_default();
    let database = opts.db_name().unwrap_or_default();
    let misconfigured = |text: String| StoreError::Misconfigured(format!("store.url: {text}"));
    match error {
        Error::Server(server) => match server.code {
            1045 | 1698 => {
                misconfigured(format!("the database at {place} does not let user {user:?} in: check user and password"))
            }
            1049 => misconfigured(format!(
                "there is no database {database:?} at {place}: create it (CREATE DATABASE {database} CHARACTER SET utf8mb4) or \
                 correct the name"
            )),
            1044 => misconfigured(format!(
                "user {user:?} has no rights on database {database:?} at {place}: GRANT ALL ON {database}.* TO {user}"
            )),
            1130 => misconfigured(format!(
                "the database at {place} takes no connections from this machine for any user: create the user for this host"
            )),
            1820 | 1862 => {
                misconfigured(format!("the password of user {user:?} at {place} has expired: set a new one"))
            }
            _ => StoreError::Unavailable(format!(
                "the database at {place} refuses: {} ({})",
                server.message, server.code
            )),
        },
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            misconfigured(format!("the database at {place} has no TLS: set it up there, or leave require_ssl out"))
        }
        Error::Driver(DriverError::UnknownAuthPlugin { name }) => misconfigured(format!(
            "user {user:?} logs in at {place} by {name}, which this client does not know: use caching_sha2_password or \
             mysql_native_password"
        )),
        Error::Io(IoError::Tls(error)) => misconfigured(format!("TLS to the database at {place}: {error}")),
        Error::Io(IoError::Io(error))
            if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<rustls::Error>) =>
        {
            misconfigured(format!(
                "the certificate of the database at {place} is not accepted: {error}. Name its authority with \
                 {CA_PARAMETER}=FILE, and the server by the name in its certificate"
            ))
        }
        other => StoreError::Unavailable(format!(
            "the database at {place} cannot be reached: {other}; check that it runs and that store.url is right"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        match options(url) {
            Err(StoreError::Misconfigured(text)) => text,
            other => panic!("{:?}", other.map(drop)),
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named_without_its_password() {
        for (url, word) in [
            ("mysql://anna:gehe1m@db:port/shop", "port"),
            ("mysql://anna:gehe1m@db/shop?colour=blue", "colour"),
            ("mysql://anna:gehe1m@db/shop?require_ssl=perhaps", "require_ssl"),
            ("mysql://anna:gehe1m@db/shop?ssl_ca=/none/such.pem", "/none/such.pem"),
        ] {
            let text = refusal(url);
            assert!(text.contains(word) && text.starts_with("store.url") && !text.contains("gehe1m"), "{text}");
        }
    }

    #[test]
    fn a_named_authority_asks_for_tls() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let plain = options("mysql://anna:p%40ss@db/shop").unwrap();
        assert!(plain.ssl_opts().is_none());
        assert_eq!((plain.pass(), plain.tcp_port(), plain.prefer_socket()), (Some("p@ss"), 3306, false));
        let url =
            format!("mysql://anna@db/shop?verify_identity=false&require_ssl=true&ssl_ca={}", file.path().display());
        let tls = options(&url).unwrap();
        assert_eq!(tls.ssl_opts().unwrap().root_certs().len(), 1);
        assert!(tls.ssl_opts().unwrap().skip_domain_validation());
    }
}
