//! Tillstream: a point-of-sale event processor.
//!
//! Tills emit events; plugins act on them; a manager switches plugins on and off and changes their settings, and the
//! very next event obeys. Nothing is lost and nothing is done twice.
//!
//! # The journey of one event
//!
//! A till sends an [event], a CloudEvents 1.0 object, to the [HTTP server](http), or a program writes it onto the [bus] by itself. The bus
//! is a durable, partitioned log: an event's partition follows from its terminal's id, so the events of one till keep
//! their order. The sender hears "accepted" once the event is on disk.
//!
//! [`actors::ingress`] reads the partitions and hands batches to shards, a fixed number in flight for each: that number
//! is the backpressure, and no mailbox grows. A [shard](actors::shard) is one thread with its own actors. It parses each
//! record once; what is no valid event becomes a dead letter, whole and with the field at fault, and the batch goes on.
//! [`pipeline::duplicates`] drops what was there before. [`pipeline::source`] moves the partition's clock, which is the
//! only time that plugins know: it comes from the events and from ticks on the log, never from this machine.
//!
//! Events of one till are in order already. An employee or a card turns up at many tills, on partitions that are read at
//! different speeds; so each partition tells the others in [chunks](pipeline::chunk) what it has and how far its clock
//! is, and [`pipeline::merge`] releases events in the order of time, once no earlier one can come. The result is a
//! function of the log alone: however many shards, however fast, however often killed.
//!
//! Each plugin has an [actor](actors::plugin) in each shard. It asks whether the plugin is switched on, wants this type, and
//! finds the event [eligible](plugins::eligibility), and sends the work of the whole batch to the [entity](actors::entity)
//! concerned: one terminal, employee, customer or card. There the [plugin](plugins::Plugin) decides, a pure function of
//! state, settings and event, and says what it wants as [effects](effect): an event, a record, an HTTP call, a line in the
//! log, a timer. A panic costs one dead letter and nothing else.
//!
//! Then comes the one moment that counts. The [store] takes everything that the batch changed in **one transaction**: offsets,
//! duplicate windows, states, records, outbox, dead letters. It refuses if another owner has taken the partition, or if the
//! settings have moved on; the shard then drops what it has in memory and begins again from the last commit, which is also
//! all that happens after a crash. Applied again, a batch gives the same ids and rows, since decisions have no other input.
//!
//! Only after the commit does anything leave. The [feed] shows it to websockets and `tail`. The [relay](delivery::relay)
//! carries the outbox to the bus, each row once, where published events begin the journey anew. The
//! [dispatcher](delivery::dispatcher) makes the HTTP calls, and their answers come back as events too.
//!
//! A switch is flipped in [`control`]: checked, written with its audit entry, put before the shards, then answered. A batch that
//! was under way with the old settings cannot commit any more, so what is appended after the answer meets the new ones.
//!
//! `docs/architecture.md` tells the same at more length, with what happens on each failure; `docs/decisions` says why.
//!
//! # Where things are
//!
//! | module | |
//! |---|---|
//! | [`event`], [`effect`], [`time`], [`stores`] | the words: events, what plugins ask for, timestamps, shops with their hours |
//! | [`bus`], [`store`] | the two seams to what is durable, each with one suite of tests for all its implementations |
//! | [`sqlite`] | what the two SQLite files share: small write-ahead logs, files that are still there |
//! | [`pipeline`] | duplicates, clocks, order across tills: plain data, no I/O |
//! | [`plugins`] | the five decisions, eligibility, the defaults of `plugins.yaml` |
//! | [`actors`], [`control`] | batches, commits and restarts; switches and settings |
//! | [`orders`] | orders of tills, accepted once under a key |
//! | [`delivery`], [`feed`] | what leaves after the commit |
//! | [`http`], [`status`] | API, admin, live feed, metrics; what the process knows of itself |
//! | [`processes`] | who else shares the work |
//! | [`app`], [`config`], [`cli`] | wiring and shutdown order, configuration, commands |
//! | [`rig`] | tills at work: for demonstrations, load and tests |

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
pub mod orders;
pub mod pipeline;
pub mod plugins;
pub mod processes;
pub mod rig;
pub mod sqlite;
pub mod status;
pub mod store;
pub mod stores;
pub mod time;
