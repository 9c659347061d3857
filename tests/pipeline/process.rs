//! The built binary on the directory of a [`Shop`]: started, asked, stopped in good order, killed.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shop::Shop;
use crate::support::site::binary;

/// A directory in which the log of each process is kept.
const LOGS: &str = "TILLSTREAM_TEST_LOGS";

/// `tillstream serve`; dropping it is `kill -9`.
pub(crate) struct Process {
    child: Child,
    url: String,
}

/// The command with the configuration of this shop and nothing of whoever runs the tests.
pub(crate) fn command(shop: &Shop) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().to_ascii_uppercase().starts_with("TILLSTREAM__") {
            command.env_remove(name);
        }
    }
    command
        .arg("serve")
        .current_dir(shop.path(""))
        .env("TILLSTREAM__BUS__PATH", &shop.config.bus.path)
        .env("TILLSTREAM__BUS__PARTITIONS", shop.config.bus.partitions.to_string())
        .env("TILLSTREAM__STORE__URL", shop.database().url())
        .env("TILLSTREAM__HTTP__BIND", "127.0.0.1:0")
        .env("TILLSTREAM__PLUGINS__FILE", &shop.config.plugins.file)
        .env("TILLSTREAM__PROCESSOR__SHARDS", shop.config.processor.shards.to_string());
    if let Some(url) = &shop.config.customers.url {
        command.env("TILLSTREAM__CUSTOMERS__URL", url.reveal());
    }
    if let Some(url) = &shop.config.orders.url {
        command.env("TILLSTREAM__ORDERS__URL", url.reveal());
    }
    command
}

/// Runs to the end and returns what was said.
pub(crate) fn run(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("the process starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

impl Process {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(shop: &Shop) -> Self {
        Self::spawn(&mut command(shop))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the process starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a first line");
        if line.is_empty() {
            let mut said = String::new();
            child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
            panic!("it does not start: {said}");
        }
        // What it logs is read, so that it never waits for a reader, and forgotten unless somebody wants to know.
        let mut log = child.stderr.take().expect("piped");
        let mut kept: Box<dyn Write + Send> = match std::env::var_os(LOGS) {
            Some(directory) => {
                let path = PathBuf::from(directory).join(format!("{}.log", child.id()));
                Box::new(File::create(path).expect("the directory for logs is there"))
            }
            None => Box::new(std::io::sink()),
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut kept));
        Self { child, url: line.trim().to_owned() }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Its number in the system.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn post(&self, events: &[Value]) {
        let (status, body) = self.try_post(events).await;
        assert_eq!(status, 202, "{body}");
    }

    /// Sends events and returns status and body of the answer.
    pub(crate) async fn try_post(&self, events: &[Value]) -> (u16, Value) {
        let (status, _, body) = self.post_and_retry_after(events).await;
        (status, body)
    }

    /// Sends events and returns status, Retry-After and body of the answer.
    pub(crate) async fn post_and_retry_after(&self, events: &[Value]) -> (u16, Option<u64>, Value) {
        let request = reqwest::Client::new().post(format!("{}/api/events", self.url));
        let request = request.header("content-type", "application/cloudevents-batch+json");
        answer(request.body(Value::Array(events.to_vec()).to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, _, body) = self.get_and_retry_after(path).await;
        (status, body)
    }

    /// Returns status, Retry-After and body.
    pub(crate) async fn get_and_retry_after(&self, path: &str) -> (u16, Option<u64>, Value) {
        answer(reqwest::Client::new().get(format!("{}{path}", self.url))).await
    }

    /// Resident memory in bytes.
    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
        line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
    }

    /// Changes a resource and returns status and body of the answer.
    pub(crate) async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        let request = reqwest::Client::new().patch(format!("{}{path}", self.url));
        let sent = request.header("content-type", "application/merge-patch+json").body(body.to_string()).send().await;
        let answer = sent.expect("an answer");
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default())
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill is there").success());
    }

    /// Sends a signal by its name and waits for the end.
    pub(crate) fn stop_by(mut self, signal: &str) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(signal);
        (self.child.wait().expect("it ends"), begun.elapsed())
    }
}

/// Status, Retry-After and body of the answer; null where that is no JSON.
async fn answer(request: reqwest::RequestBuilder) -> (u16, Option<u64>, Value) {
    let answer = request.send().await.expect("an answer");
    let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    let status = answer.status().as_u16();
    (status, retry_after, serde_json::from_str(&answer.text().await.expect("a body")).unwrap_or_default())
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if the process has already ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
