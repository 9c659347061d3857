//! `docs/operations.md` against the alerts: each leads to its own paragraph, and there is no other.

use super::{alerts, read};

const HEADING: &str = "## What to do for each alert\n";

#[test]
fn every_alert_has_its_paragraph_and_leads_there() {
    let page = read("docs/operations.md");
    let (_, section) = page.split_once(HEADING).expect("the heading is there");
    let section = section.split("\n## ").next().expect("a split has a first part");
    let paragraphs: Vec<&str> = section.split("\n### ").skip(1).collect();
    let mut described: Vec<&str> = paragraphs.iter().filter_map(|text| text.lines().next()).collect();
    let alerts = alerts();
    let mut names: Vec<&str> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    for (alert, name) in alerts.iter().zip(&names) {
        let anchor = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], anchor.as_str(), "{name}");
    }
    for paragraph in &paragraphs {
        assert!(paragraph.len() > 80, "what is to be done is not said: {paragraph}");
    }
    described.sort_unstable();
    names.sort_unstable();
    assert_eq!(described, names);
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_it_means() {
    for alert in alerts() {
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}");
        for text in ["summary", "description"] {
            assert!(alert["annotations"][text].as_str().is_some_and(|text| text.len() > 10), "{alert}");
        }
    }
}
