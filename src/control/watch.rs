//! Settings that another process has changed: noticed by the message on `pos.plugins`, or by looking at the store, whichever
//! comes first.
//!
//! Shards do not depend on it: a commit with settings that are no longer the current ones is refused. But what waits for
//! events, and what people are shown, must not lag behind either.

use std::sync::Arc;
use std::time::Duration;

use super::Control;
use crate::bus::{Bus, Topic, follow};

/// How often the store is asked whether the settings have moved; the relay may be away, and with it the messages.
const LOOK: Duration = Duration::from_millis(400);

impl Control {
    /// Follows what other processes change until the future is dropped.
    pub async fn watch(&self, bus: Arc<dyn Bus>) {
        let mut messages = follow(bus, vec![Topic::Plugins]);
        let (mut failing, mut unreadable) = (false, false);
        loop {
            tokio::select! {
                message = messages.next() => if message.is_err() {
                    // The store tells as well.
                    tokio::time::sleep(LOOK).await;
                },
                () = tokio::time::sleep(LOOK) => {}
            }
            let moved = match self.store.settings_epoch().await {
                Ok(epoch) => epoch != self.snapshot().epoch(),
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "changes of settings by other processes cannot be seen now");
                    }
                    continue;
                }
            };
            failing = false;
            if !moved {
                continue;
            }
            match self.refresh().await {
                Ok(()) => unreadable = false,
                Err(error) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::error!(%error, "the new settings cannot be read: nothing is decided until they can");
                    }
                }
            }
        }
    }
}
