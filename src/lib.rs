//! Tillstream: a point-of-sale event processor.

pub mod actors;
pub mod app;
pub mod bus;
pub mod cli;
pub mod config;
pub mod control;
pub mod delivery;
pub mod effect;
pub mod event;
pub mod feed;
pub mod http;
pub mod pipeline;
pub mod plugins;
pub mod rig;
pub mod status;
pub mod store;
pub mod stores;
pub mod time;
