//! The binary in several processes of one installation, over a real Kafka and a real MySQL server.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tillstream::app::open_bus;
use tillstream::bus::{NewRecord, Record, Topic};
use tillstream::config::{BusKind, Config};

use crate::process::Process;
use crate::shop::records;
use crate::support::database::Database;
use crate::support::derived::Derived;
use crate::support::results;
use crate::support::site::{Stream, binary};

/// The brokers, as `host:port`; `scripts/services up` prints it.
const BROKERS: &str = "TILLSTREAM_TEST_KAFKA";
/// The default of `bus.partitions`.
pub(crate) const PARTITIONS: u32 = 8;
pub(crate) const PATIENCE: Duration = Duration::from_mins(4);

/// Processes of one installation on Kafka and MySQL.
pub(crate) struct Chain {
    directory: TempDir,
    pub(crate) database: Database,
    brokers: String,
    name: String,
    /// What its processes are configured with besides.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Chain {
    pub(crate) fn new(what: &str) -> Option<Self> {
        let brokers = std::env::var(BROKERS).ok();
        let Some(brokers) = brokers else {
            say(&format!("skipped: {what}: {BROKERS} names no broker (scripts/services up)"));
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = Database::on_server(what)?;
        let directory = TempDir::new().expect("a temporary directory");
        let name = format!("chain-{:016x}", rand::random::<u64>());
        Some(Self { directory, database, brokers, name, environment: Vec::new() })
    }

    /// Its consumer group; with a dot behind it, the prefix of its topics.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn at_home<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_ascii_uppercase().starts_with("TILLSTREAM__") {
                command.env_remove(name);
            }
        }
        command
            .current_dir(self.directory.path())
            .env("TILLSTREAM__BUS__KIND", "kafka")
            .env("TILLSTREAM__BUS__BROKERS", &self.brokers)
            .env("TILLSTREAM__BUS__GROUP", &self.name)
            .env("TILLSTREAM__BUS__TOPICPREFIX", format!("{}.", self.name))
            .env("TILLSTREAM__STORE__URL", self.database.url())
            .env("TILLSTREAM__HTTP__BIND", "127.0.0.1:0")
            // As short as brokers allow: half of what tests wait for is that a killed process is noticed.
            .env("TILLSTREAM__BUS__KAFKA__SESSION_TIMEOUT_MS", "6000")
            .env("TILLSTREAM__PROCESSOR__SHARDS", "2")
            // Small batches: there is enough left for the next disturbance.
            .env("TILLSTREAM__PROCESSOR__BATCHEVENTSMAX", "100")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
    }

    /// The program with the configuration of this installation.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments);
        self.at_home(&mut command);
        command
    }

    fn serve(&self, arguments: &[&str]) -> Command {
        self.command(&[&["serve"], arguments].concat())
    }

    /// A process with these roles, separated by commas.
    pub(crate) fn start(&self, roles: &str) -> Process {
        Process::spawn(&mut self.serve(&["--role", roles]))
    }

    pub(crate) fn fill(&self, stream: Stream) {
        let mut rig = stream.rig("bus");
        let status = self.at_home(&mut rig).status().expect("the rig starts");
        assert!(status.success(), "the rig ends with {status}");
    }

    /// Waits until so many records have been applied.
    pub(crate) async fn reaches(&self, records: i64) {
        let begun = Instant::now();
        while results::progress(&self.database) < records {
            assert!(begun.elapsed() < PATIENCE, "nothing goes on at {}", results::progress(&self.database));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// One process with all roles finishes what is left.
    pub(crate) fn finish(&self) {
        let output = self.serve(&["--until-caught-up"]).stderr(Stdio::inherit()).output().expect("it starts");
        assert!(output.status.success(), "serve --until-caught-up ends with {}", output.status);
    }

    fn bus_config(&self) -> Config {
        let mut config = Config::default();
        config.bus.kind = BusKind::Kafka;
        config.bus.brokers.clone_from(&self.brokers);
        config.bus.group.clone_from(&self.name);
        config.bus.topic_prefix = format!("{}.", self.name);
        config
    }

    /// All records of a topic, as somebody reads them who sees what is committed.
    pub(crate) async fn records(&self, topic: Topic) -> Vec<Record> {
        let bus = open_bus(&self.bus_config()).await.expect("the brokers answer");
        records(&*bus, topic).await
    }

    /// Appends records as somebody does who is no part of the product.
    pub(crate) async fn append(&self, records: Vec<NewRecord>) {
        let bus = open_bus(&self.bus_config()).await.expect("the brokers answer");
        bus.append(records).await.expect("the brokers take them");
    }

    /// What plugins published.
    pub(crate) fn derived(&self) -> Derived {
        let config = self.bus_config();
        Derived::opened_by(PARTITIONS, || async move { open_bus(&config).await.expect("the brokers answer") })
    }
}

/// Not `eprintln`, which the test harness keeps for itself while tests pass.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

pub(crate) async fn until(what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < limit, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}
