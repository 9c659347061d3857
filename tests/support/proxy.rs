//! `tests/kafka/proxy.py` beside a test: it forwards to the broker and disturbs what it is told to.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_mins(1);

/// A proxy before one broker; ends with the test.
pub(crate) struct Proxy {
    child: Child,
    commands: ChildStdin,
    news: mpsc::Receiver<String>,
    /// `host:port` for clients.
    pub(crate) address: String,
}

impl Proxy {
    /// Starts one before the broker at `host:port`.
    pub(crate) fn before(broker: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/proxy.py");
        let mut child = Command::new("python3")
            .args([script, broker])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let commands = child.stdin.take().expect("it is piped");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (tell, news) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let mut proxy = Self { child, commands, news, address: String::new() };
        let port = proxy.hears("listening ");
        proxy.address = format!("127.0.0.1:{port}");
        proxy
    }

    /// Gives a command and waits until it is carried out.
    pub(crate) fn does(&mut self, command: &str) {
        self.asks(command, &format!("done {command}"));
    }

    /// Gives a command and waits for news that begin so; returns the rest of that line.
    pub(crate) fn asks(&mut self, command: &str, beginning: &str) -> String {
        writeln!(self.commands, "{command}").expect("the proxy reads");
        self.hears(beginning)
    }

    /// Waits for news that begin so, and returns the rest of the line. Other news in between are passed over.
    pub(crate) fn hears(&mut self, beginning: &str) -> String {
        loop {
            let line = self.news.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("the proxy does not say {beginning:?}: {error}"));
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
