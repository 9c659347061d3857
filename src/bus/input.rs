//! Names of the input topics of plugins in other languages: one for each plugin, known only when its manifest is accepted.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

const BEFORE: &str = "pos.plugins.";
const AFTER: &str = ".input";
/// Longest and shortest name of a plugin in another language.
const NAME_BYTES: std::ops::RangeInclusive<usize> = 2..=40;

/// The topic from which a plugin in another language reads: `pos.plugins.NAME.input`.
///
/// As small as a reference and as easily copied: the names that a process meets are kept until it ends. They are few,
/// since only the name of a valid manifest, or what was stored for one, becomes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InputTopic(&'static str);

impl InputTopic {
    /// The topic of this plugin; `None` if no plugin can have this name.
    #[must_use]
    pub fn of(plugin: &str) -> Option<Self> {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_name = NAME_BYTES.contains(&plugin.len())
            && plugin.starts_with(|first: char| first.is_ascii_lowercase())
            && plugin.bytes().all(letters);
        is_name.then(|| Self(keep(format!("{BEFORE}{plugin}{AFTER}"))))
    }

    /// The topic of that name, without prefix.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::of(name.strip_prefix(BEFORE)?.strip_suffix(AFTER)?)
    }

    /// The topic's name, without prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// The plugin's name.
    #[must_use]
    pub fn plugin(self) -> &'static str {
        &self.0[BEFORE.len()..self.0.len() - AFTER.len()]
    }
}

/// The same text, kept until the process ends; each text once.
pub(super) fn keep(text: String) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = kept.get(text.as_str()) {
        return known;
    }
    let text: &'static str = Box::leak(text.into_boxed_str());
    kept.insert(text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Topic;

    #[test]
    fn a_topic_and_its_plugin_name_each_other() {
        let topic = InputTopic::of("till-anomaly").unwrap();
        assert_eq!((topic.name(), topic.plugin()), ("pos.plugins.till-anomaly.input", "till-anomaly"));
        assert_eq!(Topic::from_name("pos.plugins.till-anomaly.input"), Some(Topic::Input(topic)));
        assert!(std::ptr::eq(InputTopic::of("till-anomaly").unwrap().name(), topic.name()), "kept once");
    }

    #[test]
    fn what_no_plugin_can_be_called_is_no_topic() {
        let long = "a".repeat(41);
        for name in ["", "a", "Till", "1-till", "till_anomaly", "till.anomaly", long.as_str()] {
            assert_eq!(InputTopic::of(name), None, "{name}");
        }
        assert_eq!(Topic::from_name("pos.plugins.manifests.input"), InputTopic::of("manifests").map(Topic::Input));
        assert_eq!(Topic::from_name("pos.plugins.till-anomaly.state"), None);
    }
}
