//! Members of plugins in other languages, as their heartbeats tell: for people to look at, nothing depends on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::bus::{Bus, Topic, follow};

/// Who has not been heard of for so long counts as gone,
const ALIVE: Duration = Duration::from_secs(15);
/// and is forgotten later.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Members that are remembered of one plugin, and plugins whose members are.
const MEMBERS_MAX: usize = 64;
const PLUGINS_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 500;
/// No plugin has a longer name.
const NAME_BYTES_MAX: usize = 64;
/// Between two attempts to read them while the bus is away.
const PAUSE: Duration = Duration::from_secs(1);

/// What one member said last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Heartbeat {
    /// Its name among the members.
    pub member: String,
    /// The plugin's version that it runs.
    pub version: String,
    /// `running`, `off` or `failing`.
    pub state: String,
    /// Revision of the settings that it uses.
    #[serde(default)]
    pub revision: i64,
    /// Records of its partitions that it has not processed.
    #[serde(default)]
    pub lag: i64,
    /// Records that it has processed since it started.
    #[serde(default)]
    pub processed: i64,
    /// Events that it could not handle since it started.
    #[serde(default)]
    pub errors: i64,
    /// The last of these errors.
    #[serde(default)]
    pub last_error: Option<String>,
    /// When it said so, by its own clock.
    #[serde(default)]
    pub at: Option<String>,
}

/// A member as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What it said last.
    #[serde(flatten)]
    pub heartbeat: Heartbeat,
    /// True if that was less than 15 s ago.
    pub alive: bool,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    #[serde(flatten)]
    heartbeat: Heartbeat,
}

type Seen = BTreeMap<String, (Instant, Heartbeat)>;

/// Who was heard of.
#[derive(Debug, Default)]
pub struct Members(Mutex<BTreeMap<String, Seen>>);

impl Members {
    /// The members of a plugin, those that are alive first.
    #[must_use]
    pub fn of(&self, plugin: &str) -> Vec<Member> {
        self.of_at(plugin, Instant::now())
    }

    fn of_at(&self, plugin: &str, now: Instant) -> Vec<Member> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut members: Vec<_> = all
            .get(plugin)
            .into_iter()
            .flat_map(BTreeMap::values)
            .map(|(seen, heartbeat)| Member {
                heartbeat: heartbeat.clone(),
                alive: now.saturating_duration_since(*seen) < ALIVE,
            })
            .collect();
        members.sort_by_key(|member| !member.alive);
        members
    }

    /// Takes in a heartbeat as it stands on the bus; what is none is left alone.
    pub fn hear(&self, value: &[u8]) {
        let Ok(Named { name, mut heartbeat }) = serde_json::from_slice::<Named>(value) else {
            tracing::debug!("a record of pos.plugins.heartbeats is no heartbeat");
            return;
        };
        if name.len() > NAME_BYTES_MAX {
            return;
        }
        if let Some(at) = &mut heartbeat.at {
            at.truncate(at.floor_char_boundary(TEXT_BYTES_MAX));
        }
        for text in [&mut heartbeat.member, &mut heartbeat.version, &mut heartbeat.state] {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        if let Some(error) = &mut heartbeat.last_error {
            error.truncate(error.floor_char_boundary(TEXT_BYTES_MAX));
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for seen in all.values_mut() {
            seen.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        all.retain(|_, seen| !seen.is_empty());
        if !all.contains_key(&name) && all.len() >= PLUGINS_MAX {
            return;
        }
        let seen = all.entry(name).or_default();
        if seen.len() < MEMBERS_MAX || seen.contains_key(&heartbeat.member) {
            seen.insert(heartbeat.member.clone(), (Instant::now(), heartbeat));
        }
    }

    /// Listens until the future is dropped.
    pub async fn listen(&self, bus: Arc<dyn Bus>) {
        let mut messages = follow(bus, vec![Topic::Heartbeats]);
        loop {
            match messages.next().await {
                Ok(records) => records.iter().for_each(|(_, record)| self.hear(&record.value)),
                Err(error) => {
                    tracing::debug!(%error, "heartbeats cannot be read now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn heartbeat(name: &str, member: &str, with: &serde_json::Value) -> Vec<u8> {
        let mut value = json!({"name": name, "member": member, "version": "1.0.0", "state": "running", "revision": 3,
            "lag": 7, "processed": 9, "errors": 0, "lastError": null, "at": "2026-11-22T10:00:00.000Z"});
        value.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        value.to_string().into_bytes()
    }

    #[test]
    fn each_member_is_shown_with_what_it_said_last() {
        let members = Members::default();
        members.hear(&heartbeat("till-anomaly", "a", &json!({})));
        members.hear(&heartbeat("till-anomaly", "b", &json!({})));
        members.hear(&heartbeat("till-anomaly", "a", &json!({"state": "failing", "lastError": "x".repeat(1000)})));
        members.hear(b"{\"name\": \"till-anomaly\"}");
        members.hear(b"no JSON");
        let seen = members.of("till-anomaly");
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].heartbeat.state.as_str(), seen[0].alive), ("failing", true));
        assert_eq!(seen[0].heartbeat.last_error.as_ref().map(String::len), Some(TEXT_BYTES_MAX));
        assert_eq!(members.of("other"), []);
    }

    #[test]
    fn who_falls_silent_is_gone_after_three_missed_heartbeats_and_stands_behind_those_that_live() {
        let members = Members::default();
        members.hear(&heartbeat("till-anomaly", "a", &json!({})));
        let alive = |seconds| {
            let seen = members.of_at("till-anomaly", Instant::now() + Duration::from_secs(seconds));
            seen.into_iter().map(|member| member.alive).collect::<Vec<_>>()
        };
        assert_eq!((alive(0), alive(14), alive(16)), (vec![true], vec![true], vec![false]));
        let later = Instant::now() + Duration::from_secs(10);
        let late: Named = serde_json::from_slice(&heartbeat("till-anomaly", "b", &json!({}))).unwrap();
        members.0.lock().unwrap().get_mut("till-anomaly").unwrap().insert("b".to_owned(), (later, late.heartbeat));
        let seen = members.of_at("till-anomaly", Instant::now() + Duration::from_secs(16));
        let seen: Vec<_> = seen.iter().map(|member| (member.heartbeat.member.as_str(), member.alive)).collect();
        assert_eq!(seen, [("b", true), ("a", false)]);
    }

    #[test]
    fn who_floods_the_topic_does_not_fill_the_memory() {
        let members = Members::default();
        for number in 0..1000 {
            members.hear(&heartbeat("till-anomaly", &number.to_string(), &json!({})));
            members.hear(&heartbeat(&number.to_string(), "a", &json!({})));
        }
        assert_eq!(members.of("till-anomaly").len(), MEMBERS_MAX);
        assert_eq!(members.0.lock().unwrap().len(), PLUGINS_MAX);
    }
}
