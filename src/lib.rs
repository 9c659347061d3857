//! Tillstream: a point-of-sale event processor.

pub mod effect;
pub mod event;
pub mod plugins;
pub mod stores;
pub mod time;
