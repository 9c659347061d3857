//! Every figure that `/metrics` may show: its name, its kind, and what it means.
//!
//! The names are what dashboards, alerts and `docs/operations.md` rely on; a test holds the three together.

/// How a figure moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Grows only, from 0 at the start of the process.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// Its name in Prometheus' text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family of figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it means, in one line.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Histogram, help }
}

/// All of them, by name.
pub const FAMILIES: &[Family] = &[
    gauge("process_open_fds", "Open file descriptors."),
    gauge("process_max_fds", "File descriptors that the process may open."),
    gauge("process_resident_memory_bytes", "Resident memory."),
    counter("process_cpu_seconds_total", "Processor time, user and system."),
    gauge("process_start_time_seconds", "When the process started, in seconds since 1970."),
    counter("tillstream_actor_restarts_total", "Times that a long-lived actor was started again."),
    gauge("tillstream_alerts_new", "Fraud alerts that nobody has looked at."),
    gauge("tillstream_bus_partitions", "Partitions of pos.events on the bus, whoever owns them."),
    gauge("tillstream_bus_surplus_partitions", "Partitions of pos.events beyond bus.partitions, which nobody reads."),
    gauge("tillstream_bus_surplus_records", "Records on partitions of pos.events that nobody reads."),
    gauge("tillstream_build_info", "Always 1; the labels name version, bus, store and roles."),
    histogram(
        "tillstream_commit_duration_seconds",
        "Time of one transaction of a batch, attempts while the store is away included.",
    ),
    counter("tillstream_commits_total", "Transactions that were committed."),
    gauge("tillstream_dead_letters_open", "Dead letters on which nobody has decided."),
    counter("tillstream_dead_letters_total", "Dead letters written."),
    counter("tillstream_derived_events_total", "Events that plugins published."),
    gauge("tillstream_disk_bytes", "Size of the disk that holds the embedded log (bus) or the SQLite store (store)."),
    gauge("tillstream_disk_free_bytes", "Bytes of that disk that are free."),
    gauge("tillstream_dispatcher_breaker_open", "1 while calls to a remote system are paused since too many failed."),
    counter(
        "tillstream_dispatcher_calls_total",
        "HTTP calls of plugins by outcome: answered, failed, retried, cached.",
    ),
    counter("tillstream_duplicates_total", "Events that had been there before and were dropped."),
    counter(
        "tillstream_events_read_again_total",
        "Events that other scopes needed when they were no longer in memory, read and parsed a second time.",
    ),
    counter("tillstream_events_total", "Distinct valid events of terminals that were applied."),
    gauge("tillstream_feed_clients", "Who follows the live feed."),
    counter(
        "tillstream_feed_dropped_total",
        "Items that clients of the live feed missed because they read too slowly.",
    ),
    counter("tillstream_feed_items_total", "Items that were put into the live feed."),
    gauge(
        "tillstream_file_bytes",
        "Size of the embedded log (bus) and of the SQLite store (store), their write-ahead logs included.",
    ),
    gauge("tillstream_http_calls_waiting", "Calls of plugins to remote systems that are waiting or at work."),
    counter(
        "tillstream_http_bodies_refused_total",
        "Bodies of requests that were too large, too slow, or not what their coding says.",
    ),
    counter("tillstream_http_connections_cut_off_total", "Connections that were cut off since they only took up room."),
    histogram("tillstream_http_request_duration_seconds", "Time to answer a request."),
    counter("tillstream_http_requests_total", "Requests that were answered, by method, route and status."),
    gauge("tillstream_orders", "Orders by status: pending, success, failed."),
    counter(
        "tillstream_logins_refused_total",
        "Tokens that were wrong, or not looked at since too many came before them.",
    ),
    gauge("tillstream_orders_oldest_pending_seconds", "For how long the oldest pending order has waited."),
    gauge("tillstream_orders_parked", "Orders that the bus refuses."),
    gauge("tillstream_order_attempts_in_flight", "Requests to the third party for orders that are under way."),
    counter("tillstream_order_attempts_total", "Requests to the third party for orders by outcome: taken, failed."),
    counter("tillstream_orders_accepted_total", "Orders that this process accepted."),
    gauge("tillstream_orders_breaker_open", "1 while the third party for orders counts as away."),
    counter("tillstream_orders_consumed_total", "Orders that were read from the bus."),
    counter("tillstream_orders_ended_total", "Orders that came to their end, by status: success, failed."),
    counter("tillstream_orders_published_total", "Orders that were put on the bus."),
    counter("tillstream_orders_replayed_total", "Requests for orders that were answered from an earlier answer."),
    gauge("tillstream_orders_unpublished", "Orders that are accepted and not on the bus yet."),
    gauge("tillstream_outbox_oldest_seconds", "For how long, at least, the oldest record of the outbox has waited."),
    gauge("tillstream_outbox_records", "Records that are committed and wait to be put on the bus."),
    gauge(
        "tillstream_parked",
        "Rows, partitions and tables that are set aside so that the others go on, by part, and in all.",
    ),
    gauge("tillstream_part_ready", "1 if this part of the process can work: bus, store, and each role but the API."),
    gauge(
        "tillstream_partition_clock_seconds",
        "Clock of an owned partition, in seconds since 1970: the time that plugins know.",
    ),
    gauge("tillstream_partition_lag", "Records of an owned partition that are on the bus and not committed."),
    gauge("tillstream_partition_next_offset", "First offset of an owned partition that is not committed."),
    counter(
        "tillstream_plugin_condition_failures_total",
        "Conditions that gave neither true nor false, by reason: over_budget, too_large, failed.",
    ),
    counter("tillstream_plugin_consumed_total", "Events that a plugin was given."),
    counter("tillstream_plugin_effects_total", "Effects that a plugin asked for."),
    counter("tillstream_plugin_errors_total", "Events on which a plugin panicked."),
    counter(
        "tillstream_plugin_skipped_total",
        "Events that a plugin wants and that were not eligible, or came while it was off.",
    ),
    gauge("tillstream_plugin_active", "1 if the plugin is switched on."),
    gauge("tillstream_plugin_faulty", "1 if the plugin is switched on and cannot run: its settings are wrong."),
    gauge("tillstream_processes", "Living processes with a role, as this process knows."),
    gauge("tillstream_ready", "1 if the process can do its work, as /health/ready says."),
    gauge("tillstream_relay_parked_lanes", "Lanes of the outbox whose next record the bus refuses."),
    counter("tillstream_relay_records_total", "Records that the relay put on the bus."),
    counter("tillstream_sequence_gaps_total", "Jumps in a terminal's sequence."),
    counter(
        "tillstream_stage_seconds_total",
        "Time that batches have spent in a stage, waiting included, summed over all shards.",
    ),
    counter("tillstream_store_removed_total", "Rows removed from the store since they had been kept long enough."),
    gauge(
        "tillstream_terminal_clocks_wrong",
        "Terminals whose last event was more than a minute ahead of the bus, or five minutes behind the clock of their partition.",
    ),
    gauge("tillstream_uptime_seconds", "Since the process started."),
    gauge(
        "tillstream_wal_bytes",
        "Size of the write-ahead log of the embedded log (bus) and of the SQLite store (store).",
    ),
];

/// The family of that name.
#[must_use]
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_prometheus_and_stand_once() {
        for (index, family) in FAMILIES.iter().enumerate() {
            assert!(family.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", family.name);
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{}", family.name);
            assert!(FAMILIES[..index].iter().all(|other| other.name != family.name), "{} twice", family.name);
        }
    }
}
