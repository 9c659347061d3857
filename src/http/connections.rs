//! Connections that only take up room: a head or a body that never ends, an answer that nobody reads.
//!
//! The time for the first head of a connection and the time between requests are bounded by actix; the body of a request that
//! a handler reads is bounded in `body`. What is left is everything outside of handlers: later heads that trickle, bodies of
//! requests that were refused, answers that are not taken. A connection that spends too long there is cut off.

use std::any::Any;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_web::body::BodySize;
use actix_web::dev::Extensions;
use actix_web::http::StatusCode;
use metrics::counter;

const CUT_OFF: &str = "tillstream_http_connections_cut_off_total";
/// After an answer that is large or of unknown size, a connection may be outside of a handler so many times longer: taking
/// it over a slow line is work.
const TAKING_FACTOR: u32 = 4;
/// After a refusal it may be so no longer than this: what else the client sends is of no use.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// Answers up to so many bytes fit into a socket's buffer.
const SMALL_ANSWER_BYTES: u64 = 64 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
enum Patience {
    Usual,
    AfterRefusal,
    WhileTaking,
}

impl Patience {
    fn time(self, usual: Duration) -> Duration {
        match self {
            Self::Usual => usual,
            Self::AfterRefusal => usual.min(REFUSED_MAX),
            Self::WhileTaking => usual * TAKING_FACTOR,
        }
    }
}

#[derive(Debug)]
struct Phase {
    /// Requests that handlers work on.
    at_work: u32,
    /// Since when there are none.
    outside_since: Instant,
    /// For how long that may be.
    patience: Patience,
    /// A websocket, which has times of its own.
    is_upgraded: bool,
}

#[derive(Debug)]
struct Shared {
    phase: Mutex<Phase>,
    /// A second handle to the socket, by which it can be shut. Dropped with the connection: as long as one is there, the
    /// socket is open.
    socket: TcpStream,
}

impl Shared {
    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of one connection; dropped with it.
#[derive(Debug)]
pub(super) struct Connection(Arc<Shared>);

impl Connection {
    /// A handler works on a request from now on.
    pub(super) fn at_work(&self) -> AtWork {
        self.0.phase().at_work += 1;
        AtWork(Arc::clone(&self.0))
    }
}

/// Held while a handler works on a request.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Shared>);

impl AtWork {
    /// The handler has answered.
    pub(super) fn answered(self, status: StatusCode, size: BodySize) {
        let is_refusal = status.is_client_error() || status.is_server_error();
        let patience = match size {
            _ if is_refusal => Patience::AfterRefusal,
            BodySize::None => Patience::Usual,
            BodySize::Sized(bytes) if bytes <= SMALL_ANSWER_BYTES => Patience::Usual,
            BodySize::Sized(_) | BodySize::Stream => Patience::WhileTaking,
        };
        let mut phase = self.0.phase();
        phase.is_upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
        phase.patience = patience;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut phase = self.0.phase();
        phase.at_work -= 1;
        phase.outside_since = Instant::now();
    }
}

/// The open connections of a server.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(Arc<Mutex<Vec<Weak<Shared>>>>);

impl Connections {
    /// Notes a new connection.
    pub(super) fn opened(&self, stream: &dyn Any, data: &mut Extensions) {
        let Some(stream) = stream.downcast_ref::<actix_web::rt::net::TcpStream>() else { return };
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else { return };
        let phase = Phase { at_work: 0, outside_since: Instant::now(), patience: Patience::Usual, is_upgraded: false };
        let shared = Arc::new(Shared { phase: Mutex::new(phase), socket: socket.into() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&shared));
        data.insert(Connection(shared));
    }

    /// Cuts off those that are outside of a handler for longer than this, for as long as the server lives.
    pub(super) async fn cut_off_idle(self, outside_max: Duration) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look(Instant::now(), outside_max);
        }
    }

    fn look(&self, now: Instant, outside_max: Duration) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|connection| {
            // Without it, the connection is closed.
            let Some(connection) = connection.upgrade() else { return false };
            let phase = connection.phase();
            let outside = now.saturating_duration_since(phase.outside_since);
            if phase.at_work > 0 || phase.is_upgraded || outside <= phase.patience.time(outside_max) {
                return true;
            }
            counter!(CUT_OFF).increment(1);
            // An error says that it is closed already.
            let _ = connection.socket.shutdown(Shutdown::Both);
            false
        });
    }
}
