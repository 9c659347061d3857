//! The project's configuration, alerts and dashboard in the real Prometheus, which scrapes a real demo.
//!
//! `scripts/test` installs Debian's `prometheus` and sets `TILLSTREAM_TEST_PROMETHEUS`; without it these tests say that
//! they are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tillstream::http::metrics::catalogue::FAMILIES;

use super::{alerts, dashboard, file, items, yaml};

const RULES: &str = "docker/prometheus/alerts.yml";
const RULE_TESTS: &str = "docker/prometheus/alerts.test.yml";
/// For data to be there. Rates need two scrapes, a second apart.
const PATIENCE: Duration = Duration::from_mins(1);

#[expect(clippy::print_stderr, reason = "whoever runs the tests should know what was not tested")]
fn wanted() -> bool {
    let wanted = std::env::var_os("TILLSTREAM_TEST_PROMETHEUS").is_some();
    if !wanted {
        eprintln!("skipped: install Debian's prometheus and set TILLSTREAM_TEST_PROMETHEUS=1");
    }
    wanted
}

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only if it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn promtool(arguments: &[&Path]) {
    let output = Command::new("promtool").args(arguments).output().expect("promtool is installed");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn every_alert_fires_when_it_should_and_not_else() {
    let tests = yaml(RULE_TESTS);
    let mut seen: BTreeMap<String, BTreeSet<bool>> = BTreeMap::new();
    for test in items(&tests["tests"]).flat_map(|test| items(&test["alert_rule_test"])) {
        let fires = items(&test["exp_alerts"]).next().is_some();
        seen.entry(test["alertname"].as_str().expect("a name").to_owned()).or_default().insert(fires);
    }
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("a name");
        assert_eq!(
            seen.get(name).map(BTreeSet::len),
            Some(2),
            "{name} needs a test that it fires, and one that it does not"
        );
    }
    if wanted() {
        promtool(&[Path::new("check"), Path::new("rules"), &file(RULES)]);
        promtool(&[Path::new("test"), Path::new("rules"), &file(RULE_TESTS)]);
    }
}

/// The project's own configuration, except where targets are found, how often they are asked, and with which token.
fn configure(directory: &Path, target: &str, own: &str) -> Value {
    let mut config = yaml("docker/prometheus/prometheus.yml");
    let token = directory.join("token");
    std::fs::write(&token, "not needed on loopback").expect("a file");
    config["global"]["scrape_interval"] = json!("1s");
    config["global"]["evaluation_interval"] = json!("1s");
    config["rule_files"] = json!([file(RULES)]);
    for job in config["scrape_configs"].as_array_mut().expect("jobs") {
        let target = if job["job_name"] == "tillstream" { target } else { own };
        let job = job.as_object_mut().expect("a job");
        if job.remove("dns_sd_configs").is_some() {
            job["authorization"]["credentials_file"] = json!(token);
            job.remove("relabel_configs");
        }
        job.insert("static_configs".to_owned(), json!([{"targets": [target]}]));
    }
    config
}

struct Prometheus {
    address: String,
    client: reqwest::Client,
    demo: String,
    _processes: [Running; 2],
    _directory: TempDir,
}

impl Prometheus {
    fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut demo = Command::new(env!("CARGO_BIN_EXE_tillstream"));
        let demo = demo.args(["demo", "--port", "0", "--rate", "50", "--data"]).arg(directory.path().join("data"));
        let mut demo = Running(demo.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the demo starts"));
        let mut url = String::new();
        let out = demo.0.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut url).expect("the first line");
        let target = url.trim().strip_prefix("http://").expect("an address").to_owned();

        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let config = directory.path().join("prometheus.yml");
        // JSON is YAML.
        std::fs::write(&config, configure(directory.path(), &target, &address).to_string()).expect("a file");
        promtool(&[Path::new("check"), Path::new("config"), &config]);
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", config.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", directory.path().join("prometheus").display()));
        prometheus.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
        let prometheus = Running(prometheus.spawn().expect("prometheus is installed"));
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            address,
            client: reqwest::Client::new(),
            demo: target,
            _processes: [prometheus, demo],
            _directory: directory,
        }
    }

    /// `data` of an answer of its API; null while it does not answer.
    async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&format!("http://{}/api/v1/{path}", self.address)).expect("an address");
        url.query_pairs_mut().extend_pairs(query);
        let Ok(answer) = self.client.get(url).send().await else { return Value::Null };
        let body: Value = answer.json().await.unwrap_or_default();
        assert_ne!(body["status"], "error", "{path} {query:?}: {body}");
        body["data"].clone()
    }

    /// The result of a query is neither empty nor made of what is no number.
    async fn has_data(&self, expression: &str) -> bool {
        let data = self.ask("query", &[("query", expression)]).await;
        let mut samples = items(&data["result"]).filter_map(|sample| match data["resultType"].as_str() {
            Some("scalar") => None,
            _ => sample["value"][1].as_str(),
        });
        samples.any(|value| value != "NaN")
    }

    /// Waits until the query has a result; all that must hold is named when time is up.
    async fn await_data(&self, what: &str, expression: &str, until: Instant) {
        while !self.has_data(expression).await {
            assert!(Instant::now() < until, "{what}: no data for {expression}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// A metric in an expression, with the labels that it is asked for.
struct Selector {
    metric: String,
    matchers: Vec<Matcher>,
}

struct Matcher {
    label: String,
    /// Not a pattern.
    exact: bool,
    value: String,
}

/// The selectors of an expression.
fn selectors(expression: &str) -> Vec<Selector> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(is_name) {
        let word = &rest[start..];
        let end = word.find(|c| !is_name(c)).unwrap_or(word.len());
        let (name, after) = word.split_at(end);
        rest = after;
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        if name != "up" && !FAMILIES.iter().any(|family| family.name == base) {
            assert!(!name.starts_with("tillstream_"), "{name} is no metric");
            continue;
        }
        let matchers = after.strip_prefix('{').and_then(|after| after.split_once('}')).map_or("", |(inside, _)| inside);
        let matchers = matchers.split(',').filter(|matcher| !matcher.is_empty()).map(|matcher| {
            let (label, value) = matcher.split_once('=').expect("a matcher");
            let exact = value.starts_with('"');
            Matcher { label: label.trim().to_owned(), exact, value: value.trim_matches(['~', '"']).to_owned() }
        });
        found.push(Selector { metric: name.to_owned(), matchers: matchers.collect() });
    }
    found
}

#[tokio::test]
async fn every_panel_shows_data_and_every_alert_looks_at_what_is_there() {
    if !wanted() {
        return;
    }
    let prometheus = Prometheus::start();
    let until = Instant::now() + PATIENCE;
    for query in dashboard::queries() {
        prometheus.await_data(&query.panel, &query.expression, until).await;
    }
    let rules = prometheus.ask("rules", &[("type", "alert")]).await;
    let loaded: Vec<&Value> = items(&rules["groups"]).flat_map(|group| items(&group["rules"])).collect();
    assert_eq!(loaded.len(), alerts().len());
    for rule in loaded {
        let (name, expression) = (rule["name"].as_str().expect("a name"), rule["query"].as_str().expect("a query"));
        assert_eq!(rule["health"], "ok", "{name}: {rule}");
        let selectors = selectors(expression);
        assert!(!selectors.is_empty(), "{name} looks at nothing");
        for Selector { metric, matchers } in selectors {
            prometheus.await_data(name, &metric, until).await;
            for Matcher { label, exact, value } in matchers {
                // What a pattern stands for (5xx) need not have happened, but its label must be there.
                let matcher = if exact { format!("{label}=\"{value}\"") } else { format!("{label}!=\"\"") };
                prometheus.await_data(name, &format!("{metric}{{{matcher}}}"), until).await;
            }
        }
    }
    let alerting = prometheus.ask("alerts", &[]).await;
    let firing: Vec<&Value> = items(&alerting["alerts"]).filter(|alert| alert["state"] == "firing").collect();
    assert!(firing.is_empty(), "a healthy demo alerts: {firing:?}");
    every_family_is_exported(&prometheus).await;
}

/// What the page of operations describes is what a running demo shows, no more and no less.
async fn every_family_is_exported(prometheus: &Prometheus) {
    let answer = prometheus.client.get(format!("http://{}/metrics", prometheus.demo)).send().await.expect("an answer");
    let text = answer.text().await.expect("a text");
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).filter_map(|line| line.split(' ').next());
    let exported: BTreeSet<&str> = types.collect();
    let known: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(exported, known);
}
