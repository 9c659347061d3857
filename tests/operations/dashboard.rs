//! `docker/grafana`: the dashboard is whole, and provisioned the way that Grafana finds it.

use serde_json::Value;

use super::{alerts, items, read, yaml};
use tillstream::http::metrics::catalogue::{FAMILIES, Family};

/// A query of a panel, with Grafana's variables filled in as for a short span and all processes.
pub(crate) struct Query {
    pub(crate) panel: String,
    pub(crate) expression: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("docker/grafana/dashboards/tillstream.json")).expect("JSON")
}

/// Every query of every panel.
pub(crate) fn queries() -> Vec<Query> {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    for panel in items(&dashboard["panels"]) {
        for target in items(&panel["targets"]) {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".+");
            assert!(!expression.contains('$'), "an unknown variable in {expression}");
            queries.push(Query { panel: panel["title"].as_str().expect("a title").to_owned(), expression });
        }
    }
    queries
}

#[test]
fn panels_have_ids_titles_and_meanings_and_do_not_lie_on_each_other() {
    let dashboard = dashboard();
    let panels: Vec<&Value> = items(&dashboard["panels"]).collect();
    assert!(panels.len() > 20);
    let number = |panel: &Value, key: &str| panel["gridPos"][key].as_i64().expect("a place");
    for (index, panel) in panels.iter().enumerate() {
        let title = panel["title"].as_str().expect("a title");
        assert!(panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| text.len() > 5), "{title}");
        for other in &panels[..index] {
            assert_ne!(other["id"], panel["id"], "{title}");
            let apart = |at: &str, size: &str| {
                number(panel, at) >= number(other, at) + number(other, size)
                    || number(other, at) >= number(panel, at) + number(panel, size)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{title} lies on {}", other["title"]);
        }
    }
}

#[test]
fn grafana_finds_the_data_source_and_the_dashboard() {
    let source = yaml("docker/grafana/provisioning/datasources/prometheus.yml");
    let source = &source["datasources"][0];
    let dashboard = dashboard();
    let variable = items(&dashboard["templating"]["list"]).find(|variable| variable["name"] == "datasource");
    assert_eq!(variable.expect("the variable")["current"]["value"], source["uid"]);
    let compose = yaml("docker/docker-compose.yml");
    let grafana = &compose["services"]["grafana"];
    let provider = yaml("docker/grafana/provisioning/dashboards/tillstream.yml");
    let folder = provider["providers"][0]["options"]["path"].as_str().expect("a path");
    let mounted =
        |target: &str| super::texts(&grafana["volumes"]).iter().any(|mount| mount.contains(&format!(":{target}:")));
    assert!(mounted(folder) && mounted("/etc/grafana/provisioning"));
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().expect("a path");
    assert_eq!(home, format!("{folder}/tillstream.json"));
    assert_eq!(source["url"], "http://prometheus:9090");
}

/// What no panel shows, with the reason.
const NOT_SHOWN: [(&str, &str); 3] = [
    ("process_max_fds", "an alert compares open files with it"),
    ("process_start_time_seconds", "a line that stands still; restarts show in the panels of each process"),
    ("tillstream_uptime_seconds", "as that one"),
];

#[test]
fn every_figure_is_on_the_dashboard_unless_there_is_a_reason() {
    let queries: Vec<String> = queries().into_iter().map(|query| query.expression).collect();
    let names = |text: &str, name: &str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let bare =
            |word: &str| ["_bucket", "_count", "_sum"].iter().find_map(|end| word.strip_suffix(end)) == Some(name);
        text.split(|c: char| !is_name(c)).any(|word| word == name || bare(word))
    };
    for Family { name, .. } in FAMILIES {
        let shown = queries.iter().any(|query| names(query, name));
        let excused = NOT_SHOWN.iter().any(|(other, _)| other == name);
        assert!(shown != excused, "{name}: shown {shown}, excused {excused}");
    }
    let watched = |name: &str| alerts().iter().any(|alert| names(alert["expr"].as_str().expect("a query"), name));
    assert!(watched("process_max_fds"));
}
