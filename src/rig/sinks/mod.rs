//! Where the rig's messages go: standard output, the HTTP API, or the bus.
//!
//! A sink takes batches in order and returns when it has them for good. It never changes bytes and never drops a message: what can be
//! tried again is tried again until it arrives or the rig is told to stop.

mod bus;
mod http;
#[cfg(test)]
mod tests;

use std::io;

pub use bus::BusSink;
pub use http::{HttpSink, events_url};
pub(super) use http::{api_url, http_client};

use super::RigMessage;
use crate::bus::BusError;

/// A sink that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Nobody reads the output any more; not a failure of the rig.
    #[error("nobody reads the output any more")]
    Closed,
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// The server refused what it should take.
    #[error("{url} answered {status}: {answer}")]
    Refused {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        answer: String,
    },
    /// The request cannot be made at all.
    #[error("{0}")]
    Request(String),
    /// The bus will not take it.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// A place for messages.
#[derive(Debug)]
pub enum Sink {
    /// NDJSON on standard output.
    Stdout(io::BufWriter<io::Stdout>),
    /// `POST /api/events`.
    Http(HttpSink),
    /// The topic `pos.events`.
    Bus(BusSink),
}

impl Sink {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::Stdout(io::BufWriter::with_capacity(256 * 1024, io::stdout()))
    }

    /// Sends messages in order; returns when they have arrived.
    ///
    /// # Errors
    /// If trying again is useless.
    pub async fn send(&mut self, messages: Vec<RigMessage>) -> Result<(), SinkError> {
        match self {
            Self::Stdout(out) => write_lines(out, &messages).map_err(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => SinkError::Closed,
                _ => SinkError::Output(error),
            }),
            Self::Http(http) => http.send(&messages).await,
            Self::Bus(bus) => bus.send(messages).await,
        }
    }
}

fn write_lines(out: &mut impl io::Write, messages: &[RigMessage]) -> io::Result<()> {
    for message in messages {
        out.write_all(&message.bytes)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
