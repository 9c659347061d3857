//! What clients were told, a line of JSON for each order: for comparing with what is in the store and at the third party.

use std::io::{self, Write};

use serde_json::json;

use super::Order;
use super::client::{Outcome, Posted};

/// Where the lines go.
pub struct OrderLog(Box<dyn Write + Send>);

impl std::fmt::Debug for OrderLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OrderLog")
    }
}

impl OrderLog {
    /// Writes lines there.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Box::new(out))
    }

    /// `status` is `accepted`, `replayed`, `refused`, or `unknown` for an order that was given up.
    pub(super) fn write(&mut self, order: &Order, posted: Option<&Posted>) -> io::Result<()> {
        let attempts = posted.map(|posted| posted.attempts);
        let line = match posted.map(|posted| &posted.outcome) {
            Some(Outcome::Accepted { id, replayed }) => {
                let status = if *replayed { "replayed" } else { "accepted" };
                json!({"key": order.key, "id": id, "status": status, "attempts": attempts})
            }
            Some(Outcome::Refused { status, reason }) => json!({
                "key": order.key, "id": null, "status": "refused", "attempts": attempts, "httpStatus": status, "reason": reason
            }),
            None => json!({"key": order.key, "id": null, "status": "unknown"}),
        };
        writeln!(self.0, "{line}")
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
