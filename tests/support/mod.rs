//! What the tests against the oracle need: streams to run on, ways to run the system, and a look at what it left behind.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod adversary;
pub(crate) mod alone;
pub(crate) mod compare;
pub(crate) mod database;
pub(crate) mod derived;
pub(crate) mod proxy;
pub(crate) mod results;
pub(crate) mod services;
pub(crate) mod site;
