//! What operators are given, held against the program: the containers, the secrets that are made for them, Prometheus with its
//! alerts, Grafana's dashboard, and the page that says what to do.

#[path = "operations/compose.rs"]
mod compose;
#[path = "operations/dashboard.rs"]
mod dashboard;
#[path = "operations/guarantees.rs"]
mod guarantees;
#[path = "operations/image.rs"]
mod image;
#[path = "operations/prometheus.rs"]
mod prometheus;
#[path = "operations/runbook.rs"]
mod runbook;
#[path = "operations/setup.rs"]
mod setup;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file, anchors and merge keys resolved.
fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The items of a list; none if it is absent.
fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list.
fn texts(value: &Value) -> Vec<String> {
    items(value).map(|item| item.as_str().expect("a text").to_owned()).collect()
}

/// All alerts of all groups.
fn alerts() -> Vec<Value> {
    let rules = yaml("docker/prometheus/alerts.yml");
    items(&rules["groups"]).flat_map(|group| items(&group["rules"])).cloned().collect()
}
