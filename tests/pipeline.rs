//! The whole pipeline with real parts: the embedded bus, a SQLite store, all actors, HTTP where people come in. What bad
//! input, crashes, switches, restarts and lost neighbours do to it.

#[path = "pipeline/bad_input.rs"]
mod bad_input;
#[path = "pipeline/budgets.rs"]
mod budgets;
#[path = "pipeline/chain.rs"]
mod chain;
#[path = "pipeline/clients.rs"]
mod clients;
#[path = "pipeline/crashes.rs"]
mod crashes;
#[path = "pipeline/customers.rs"]
mod customers;
#[path = "pipeline/dead_letters.rs"]
mod dead_letters;
#[path = "pipeline/disk_full.rs"]
mod disk_full;
#[path = "pipeline/duplicates.rs"]
mod duplicates;
#[path = "pipeline/external.rs"]
mod external;
#[path = "pipeline/external_manifests.rs"]
mod external_manifests;
#[path = "pipeline/external_vectors.rs"]
mod external_vectors;
#[path = "pipeline/files.rs"]
mod files;
mod oracle;
#[path = "pipeline/order_handover.rs"]
mod order_handover;
#[path = "pipeline/order_restore.rs"]
mod order_restore;
#[path = "pipeline/order_storm.rs"]
mod order_storm;
#[path = "pipeline/orders.rs"]
mod orders;
#[path = "pipeline/process.rs"]
mod process;
#[path = "pipeline/processes.rs"]
mod processes;
#[path = "pipeline/refused.rs"]
mod refused;
#[path = "pipeline/roles.rs"]
mod roles;
#[path = "pipeline/shop.rs"]
mod shop;
#[path = "pipeline/standing.rs"]
mod standing;
#[path = "pipeline/starting.rs"]
mod starting;
mod support;
#[path = "pipeline/switches.rs"]
mod switches;
#[path = "pipeline/tills.rs"]
mod tills;
#[path = "pipeline/time.rs"]
mod time;
