//! Prometheus' text format (version 0.0.4) for figures that are read when they are asked for.
//!
//! They are written as they stand, rather than copied into a registry: what is no longer there (a partition that another
//! process owns now) is not shown any more, and times can be fractions of a second.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::catalogue::{self, Family};

/// Samples, by family.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    families: BTreeMap<&'static str, (&'static Family, String)>,
}

impl Exposition {
    /// Adds a sample. A name that is not in the catalogue is a mistake that tests find.
    pub(super) fn add(&mut self, name: &'static str, labels: &[(&str, &str)], value: f64) {
        let Some(family) = catalogue::family(name) else {
            debug_assert!(false, "{name} is not in the catalogue");
            return;
        };
        let (_, text) = self.families.entry(family.name).or_insert_with(|| (family, String::new()));
        text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let _ = write!(text, "{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }

    /// Adds a count.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating-point numbers")]
    pub(super) fn count(&mut self, name: &'static str, labels: &[(&str, &str)], value: u64) {
        self.add(name, labels, value as f64);
    }

    /// Adds a figure that may be negative.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floating-point numbers")]
    pub(super) fn number(&mut self, name: &'static str, labels: &[(&str, &str)], value: i64) {
        self.add(name, labels, value as f64);
    }

    /// Adds 1 or 0.
    pub(super) fn flag(&mut self, name: &'static str, labels: &[(&str, &str)], value: bool) {
        self.add(name, labels, f64::from(u8::from(value)));
    }

    /// All families with what they mean.
    pub(super) fn into_text(self) -> String {
        let mut text = String::new();
        for (name, (family, samples)) in self.families {
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {}\n{samples}", family.help, family.kind.as_str());
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together_with_escaped_labels() {
        let mut exposition = Exposition::default();
        exposition.count("tillstream_actor_restarts_total", &[("actor", "a \"b\"\\\n")], 2);
        exposition.add("tillstream_uptime_seconds", &[], 1.5);
        exposition.count("tillstream_actor_restarts_total", &[("actor", "relay")], 3);
        let expected = r#"# HELP tillstream_actor_restarts_total Times that a long-lived actor was started again.
# TYPE tillstream_actor_restarts_total counter
tillstream_actor_restarts_total{actor="a \"b\"\\\n"} 2
tillstream_actor_restarts_total{actor="relay"} 3

# HELP tillstream_uptime_seconds Since the process started.
# TYPE tillstream_uptime_seconds gauge
tillstream_uptime_seconds 1.5

"#;
        assert_eq!(exposition.into_text(), expected);
    }
}
