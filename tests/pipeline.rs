//! The whole pipeline with real parts: the embedded bus, a SQLite store, all actors, HTTP where people come in. What bad
//! input, crashes, switches, restarts and lost neighbours do to it.

#[path = "pipeline/crashes.rs"]
mod crashes;
mod oracle;
#[path = "pipeline/shop.rs"]
mod shop;
mod support;
#[path = "pipeline/switches.rs"]
mod switches;
