//! Tills that order: the lines of simulated baskets become orders, posted to `POST /api/orders` by clients that try again
//! under the same `Idempotency-Key` until they know what became of theirs.
//!
//! [`Orders`] makes them, reproducibly; [`post_orders`] sends them at a pace and says what came of it.

mod client;
mod generator;
mod log;
mod poster;
#[cfg(test)]
mod tests;

pub use client::{Client, Outcome, orders_url};
pub use generator::{Order, Orders};
pub use log::OrderLog;
pub use poster::{Plan, Summary, post_orders};
