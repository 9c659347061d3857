//! A server that `scripts/services` started, so that a test may take it away.

use std::io::Write;
use std::process::Command;

/// The server; it is there again once this is dropped, since other tests need it.
pub(crate) struct Service {
    name: &'static str,
}

impl Service {
    /// `kafka` or `mariadb`, as `scripts/services` calls it. `None`, and it is said, if somebody else started it.
    pub(crate) fn of_the_scripts(name: &'static str, what: &str) -> Option<Self> {
        if std::env::var_os("SERVICES_DIR").is_some() {
            return Some(Self { name });
        }
        let _ = writeln!(std::io::stderr(), "skipped: {what}: SERVICES_DIR is not set, so nothing may be restarted");
        None
    }

    /// Ends it at once, without a chance to put anything in order.
    pub(crate) fn kill(&self) {
        self.run("kill");
    }

    /// Starts it, unless it runs, and waits until it answers.
    pub(crate) fn start(&self) {
        self.run("up");
    }

    fn run(&self, command: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services");
        let command = format!("{}-{command}", self.name);
        let status = Command::new(script).arg(&command).status().expect("the script starts");
        assert!(status.success(), "scripts/services {command}: {status}");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.start();
    }
}
