//! Starting and stopping the server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::thread;

use actix_web::dev::ServerHandle;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{App, HttpServer, web};
use tokio::sync::{Semaphore, watch};

use super::access::Access;
use super::connections::Connections;
use super::large::LARGE_BODIES_MAX;
use super::{AppState, Local, api, envelope, metrics, probes};
use crate::config::Role;
use crate::orders::acceptor::Acceptor;

/// Threads that answer requests. Handlers wait for the bus and the store most of the time.
const WORKERS: usize = 2;
/// How long a client may take nothing of what waits for it.
const UNREAD_TIMEOUT_MS: u32 = 30_000;
/// How long requests that are under way may take once the server is told to stop.
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 5;

/// The server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else listens there.
    #[error(
        "{address} is taken by another program, perhaps another tillstream; stop it, or choose another port with \
         --port or http.bind"
    )]
    PortTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}; check http.bind")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The server's thread could not be started.
    #[error("cannot start the HTTP server: {0}")]
    Start(io::Error),
}

/// A server that answers. Dropping it leaves it running.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    handle: ServerHandle,
    stopping: watch::Sender<bool>,
}

impl Running {
    /// Where it listens; with port 0 in the configuration, the port that the system chose.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, says good-bye to websockets, and waits for the requests that are under way.
    pub async fn stop(&self) {
        self.stopping.send_replace(true);
        self.handle.stop(true).await;
    }
}

/// Starts the server on a thread of its own.
///
/// # Errors
/// If the address cannot be listened on.
pub fn serve(state: AppState, bind: SocketAddr) -> Result<Running, ServeError> {
    let listener = TcpListener::bind(bind).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortTaken { address: bind },
        _ => ServeError::Bind { address: bind, source },
    })?;
    let address = listener.local_addr().map_err(|source| ServeError::Bind { address: bind, source })?;
    give_up_those_who_take_nothing(&listener);
    let (stopping, stopping_seen) = watch::channel(false);
    let (keep_keys, body_time) = (state.config.orders.keep_keys, state.config.http.body_time);
    let access = Arc::new(Access::new(&state.config.http, state.store.clone()));
    let local = web::Data::new(Local {
        orders: Acceptor::new(state.store.clone(), state.orders.clone(), keep_keys),
        access: Arc::clone(&access),
        is_api: state.status.roles().contains(&Role::Api),
        stopping: stopping_seen,
        metrics: metrics::Memory::default(),
        feed_places: Arc::new(Semaphore::new(state.config.feed.clients_max)),
        large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
        batches: Arc::new(Semaphore::new(WORKERS)),
    });
    let state = web::Data::from(Arc::new(state));
    let (started, has_started) = mpsc::channel();
    thread::Builder::new()
        .name("http".to_owned())
        .spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                actix_web::rt::spawn(metrics::keep_up());
                actix_web::rt::spawn(access.report_failures());
                let connections = Connections::default();
                actix_web::rt::spawn(connections.clone().cut_off_idle(body_time));
                let server = HttpServer::new(move || app(state.clone(), local.clone()))
                    .on_connect(move |stream, data| connections.opened(stream, data))
                    .workers(WORKERS)
                    .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
                    .disable_signals()
                    // The kernel would keep what is written back until the client has acknowledged what it got before, which clients
                    // put off: 20 ms and more of a feed's latency.
                    .tcp_nodelay(true)
                    .listen(listener);
                match server {
                    Ok(server) => {
                        let server = server.run();
                        let _ = started.send(Ok(server.handle()));
                        if let Err(error) = server.await {
                            tracing::error!(%error, "the HTTP server ended");
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            });
        })
        .map_err(ServeError::Start)?;
    let handle = has_started.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")));
    Ok(Running { address, handle: handle.map_err(ServeError::Start)?, stopping })
}

/// Connections inherit it: one whose client takes nothing of what it was sent for so long is ended by the kernel, together
/// with what waits for it.
fn give_up_those_who_take_nothing(listener: &TcpListener) {
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(listener, UNREAD_TIMEOUT_MS) {
        tracing::warn!(%error, "clients that read nothing of their answers keep their connections");
    }
}

fn app(
    state: web::Data<AppState>,
    local: web::Data<Local>,
) -> App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<impl actix_web::body::MessageBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    let is_api = local.is_api;
    App::new()
        .app_data(state)
        .app_data(local)
        .configure(move |config| if is_api { api() } else { probes() }.configure(config))
        .default_service(web::to(envelope::no_route))
        .wrap(Compress::default())
        .wrap(from_fn(envelope::guard))
        .wrap(from_fn(envelope::wrap))
}
