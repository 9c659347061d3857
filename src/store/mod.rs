//! The store: the relational database. Only this folder (and the embedded bus) knows Diesel.
//!
//! One text of queries serves SQLite and MySQL. All database work runs on the store's own threads; callers await.

pub mod model;
