//! `tillstream tail` as a person runs it, while its server goes and comes back.
#![expect(clippy::unwrap_used, reason = "a test whose command does not start or print has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tillstream::config::Config;
use tokio::sync::mpsc;

use crate::http_client::Client;
use crate::log_line;

const PATIENCE: Duration = Duration::from_secs(30);

struct Tail {
    process: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Tail {
    fn start(port: u16) -> Self {
        let url = format!("http://127.0.0.1:{port}");
        let mut process = Command::new(env!("CARGO_BIN_EXE_tillstream"))
            .args(["tail", "--json", "--since", "0", "--url", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::unbounded_channel();
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    /// The message of the next log line that it prints.
    async fn message(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await.unwrap().unwrap();
        let item: Value = serde_json::from_str(&line).unwrap();
        item["event"]["message"].clone()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_with_the_server_that_comes_after_and_misses_nothing_of_it() {
    let first = Client::start().await;
    let port = first.port();
    first.feed.publish(vec![log_line("one")]);
    let mut tail = Tail::start(port);
    assert_eq!(tail.message().await, "one");
    first.stop().await;
    drop(first);

    let second = Client::start_with(Config::default(), port).await;
    // Whatever the new server had before the connection was made again is shown as well.
    second.feed.publish(vec![log_line("two"), log_line("three")]);
    assert_eq!(tail.message().await, "two");
    assert_eq!(tail.message().await, "three");
    second.stop().await;
}
