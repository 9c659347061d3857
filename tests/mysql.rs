//! The product on a real MySQL server that dies, comes back, kills connections, and is shared by several processes. Without
//! `TILLSTREAM_TEST_MYSQL` these tests say that they are skipped; those that restart the server need the one that
//! `scripts/services` started, with the same `SERVICES_DIR`.
#![expect(clippy::await_holding_lock, reason = "tests take turns, and each has a runtime of its own")]

#[path = "mysql/away.rs"]
mod away;
#[path = "mysql/commands.rs"]
mod commands;
#[path = "mysql/control.rs"]
mod control;
mod oracle;
#[path = "pipeline/process.rs"]
mod process;
#[path = "pipeline/shop.rs"]
mod shop;
mod support;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test of this file at a time: some take the server away.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
