//! A plain sequential oracle: what the whole system must produce from a stream of messages.
//!
//! It is written from the documents and shares no code with the system: no actors, no batches, no store, no bus. The
//! whole log is in memory, and every decision is made by looking at all of it in the one order that counts.

pub(crate) mod case;
pub(crate) mod event;
pub(crate) mod log;
pub(crate) mod windows;
