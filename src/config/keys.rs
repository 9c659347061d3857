//! Every key that there is: its shape, its bounds, and the field that it sets.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{BusKind, Config, RemoteUrl, Secret, StoreUrl, TokenConfig, TokenRole};

/// What kind of value a key takes; environment and flags need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    Integer,
    Bool,
    List,
    Tokens,
}

const KEYS: &[(&str, Shape)] = &[
    ("bus.kind", Shape::Text),
    ("bus.path", Shape::Text),
    ("bus.brokers", Shape::Text),
    ("bus.group", Shape::Text),
    ("bus.partitions", Shape::Integer),
    ("bus.topicPrefix", Shape::Text),
    ("bus.replicationFactor", Shape::Integer),
    ("bus.appendTimeoutMs", Shape::Integer),
    ("bus.retentionHours", Shape::Integer),
    ("bus.retentionBytes", Shape::Integer),
    ("store.url", Shape::Text),
    ("store.migrate", Shape::Bool),
    ("store.galeraSingleWriter", Shape::Bool),
    ("store.writers", Shape::Integer),
    ("store.readers", Shape::Integer),
    ("store.keepOrdersDays", Shape::Integer),
    ("store.keepResultsDays", Shape::Integer),
    ("store.keepTimeSheetsDays", Shape::Integer),
    ("store.keepDeadLettersDays", Shape::Integer),
    ("store.keepAuditDays", Shape::Integer),
    ("http.bind", Shape::Text),
    ("http.tokens", Shape::Tokens),
    ("http.allowedHosts", Shape::List),
    ("http.sessionHours", Shape::Integer),
    ("http.sessionIdleMinutes", Shape::Integer),
    ("http.secureCookies", Shape::Bool),
    ("http.loginAttemptsPerMinute", Shape::Integer),
    ("http.bodySeconds", Shape::Integer),
    ("http.batchItemsMax", Shape::Integer),
    ("plugins.file", Shape::Text),
    ("customers.url", Shape::Text),
    ("orders.url", Shape::Text),
    ("orders.lookup", Shape::Bool),
    ("orders.keepKeysHours", Shape::Integer),
    ("processor.shards", Shape::Integer),
    ("processor.batchEventsMax", Shape::Integer),
    ("processor.entitiesMax", Shape::Integer),
    ("processor.forgetSourcesDays", Shape::Integer),
    ("feed.capacity", Shape::Integer),
    ("feed.clientsMax", Shape::Integer),
    ("health.standstillSeconds", Shape::Integer),
];
const KAFKA: &str = "bus.kafka.";

pub(super) fn shape(key: &str) -> Option<Shape> {
    KEYS.iter().find(|(name, _)| *name == key).map(|&(_, shape)| shape)
}

pub(super) fn in_any_case(key: &str) -> Option<&'static str> {
    KEYS.iter().map(|&(name, _)| name).find(|name| name.eq_ignore_ascii_case(key))
}

pub(super) fn is_section(path: &str) -> bool {
    path == "bus.kafka" || KEYS.iter().any(|(name, _)| name.split_once('.').is_some_and(|(section, _)| section == path))
}

/// Sets the field that `key` stands for, or says what is wrong.
pub(super) fn apply(config: &mut Config, key: &str, value: &Value) -> Result<(), String> {
    if let Some(name) = key.strip_prefix(KAFKA) {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return Err(format!("{key} must be a text, a number or true/false, as librdkafka takes it")),
        };
        config.bus.kafka.insert(name.to_owned(), Secret::new(text));
        return Ok(());
    }
    match key {
        "bus.kind" => {
            config.bus.kind = match text(key, value)? {
                "embedded" => BusKind::Embedded,
                "kafka" => BusKind::Kafka,
                other => return Err(format!("{key} must be \"embedded\" or \"kafka\", not \"{other}\"")),
            }
        }
        "bus.path" => config.bus.path = path(key, value)?,
        "bus.brokers" => text(key, value)?.clone_into(&mut config.bus.brokers),
        "bus.group" => text(key, value)?.clone_into(&mut config.bus.group),
        "bus.partitions" => config.bus.partitions = integer(key, value, 1, 1024)?,
        "bus.topicPrefix" => config.bus.topic_prefix = topic_prefix(key, value)?,
        "bus.replicationFactor" => config.bus.replication_factor = replication_factor(key, value)?,
        "bus.appendTimeoutMs" => config.bus.append_timeout_ms = integer(key, value, 1000, 300_000)?,
        "bus.retentionHours" => config.bus.retention_hours = integer(key, value, 0, 24 * 366 * 100)?,
        "bus.retentionBytes" => config.bus.retention_bytes = integer(key, value, 0, i64::MAX)?,
        "store.url" => config.store.url = store_url(key, value)?,
        "store.migrate" => config.store.migrate = yes_or_no(key, value)?,
        "store.galeraSingleWriter" => config.store.galera_single_writer = yes_or_no(key, value)?,
        "store.writers" => config.store.writers = integer(key, value, 1, 256)?,
        "store.readers" => config.store.readers = integer(key, value, 1, 256)?,
        "store.keepOrdersDays" => config.store.keep.orders = kept_for(key, value)?,
        "store.keepResultsDays" => config.store.keep.results = kept_for(key, value)?,
        "store.keepTimeSheetsDays" => config.store.keep.time_sheets = kept_for(key, value)?,
        "store.keepDeadLettersDays" => config.store.keep.dead_letters = kept_for(key, value)?,
        "store.keepAuditDays" => config.store.keep.audit = kept_for(key, value)?,
        "http.bind" => config.http.bind = bind(key, value)?,
        "http.tokens" => config.http.tokens = tokens(key, value)?,
        "http.allowedHosts" => config.http.allowed_hosts = allowed_hosts(key, value)?,
        "http.sessionHours" => config.http.session_lasts = Duration::from_hours(integer(key, value, 1, 24 * 90)?),
        "http.sessionIdleMinutes" => {
            config.http.session_idle = Duration::from_mins(integer(key, value, 1, 60 * 24 * 90)?);
        }
        "http.secureCookies" => config.http.secure_cookies = yes_or_no(key, value)?,
        "http.loginAttemptsPerMinute" => config.http.login_attempts_per_minute = integer(key, value, 1, 10_000)?,
        "http.bodySeconds" => config.http.body_time = Duration::from_secs(integer(key, value, 1, 3600)?),
        "http.batchItemsMax" => config.http.batch_items_max = integer(key, value, 1, 1_000_000)?,
        "plugins.file" => {
            config.plugins.file = path(key, value)?;
            config.plugins.file_is_explicit = true;
        }
        "customers.url" => config.customers.url = remote_url(key, value, "https://customers.example/api/customers")?,
        "orders.url" => config.orders.url = remote_url(key, value, "https://orders.example/api/orders")?,
        "orders.lookup" => config.orders.lookup = yes_or_no(key, value)?,
        "orders.keepKeysHours" => {
            config.orders.keep_keys = Duration::from_hours(integer(key, value, 1, 24 * 366)?);
        }
        "processor.shards" => config.processor.shards = integer(key, value, 1, 256)?,
        "processor.batchEventsMax" => config.processor.batch_events_max = integer(key, value, 1, 1_000_000)?,
        "processor.entitiesMax" => config.processor.entities_max = integer(key, value, 1, 100_000_000)?,
        "processor.forgetSourcesDays" => config.processor.forget_sources = kept_for(key, value)?,
        "health.standstillSeconds" => {
            config.health.standstill = Duration::from_secs(integer(key, value, 5, 86_400)?);
        }
        "feed.capacity" => config.feed.capacity = integer(key, value, 1, 10_000_000)?,
        "feed.clientsMax" => config.feed.clients_max = integer(key, value, 0, 1_000_000)?,
        _ => return Err(unknown(key)),
    }
    Ok(())
}

fn unknown(key: &str) -> String {
    let same_section: Vec<_> = match key.split_once('.') {
        Some((section, _)) if is_section(section) => {
            KEYS.iter().map(|&(name, _)| name).filter(|name| name.split('.').next() == Some(section)).collect()
        }
        _ => KEYS.iter().map(|&(name, _)| name).collect(),
    };
    let nearest = same_section
        .into_iter()
        .max_by(|a, b| similarity(a, key).total_cmp(&similarity(b, key)))
        .expect("every section has keys");
    if is_section(key) {
        return format!("{key} is a section, not a value; its keys are written below [{key}], such as {nearest}");
    }
    format!("{key} is not a known key; the nearest one is {nearest}")
}

fn similarity(known: &str, given: &str) -> f64 {
    strsim::jaro_winkler(&known.to_lowercase(), &given.to_lowercase())
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{key} must be a text in quotes, not {other}")),
    }
}

fn yes_or_no(key: &str, value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{key} must be true or false, not {value}"))
}

fn path(key: &str, value: &Value) -> Result<PathBuf, String> {
    match text(key, value)? {
        "" => Err(format!("{key} must name a file")),
        path => Ok(path.into()),
    }
}

fn integer<T: TryFrom<i64>>(key: &str, value: &Value, min: i64, max: i64) -> Result<T, String> {
    value
        .as_i64()
        .filter(|number| (min..=max).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("{key} must be a whole number from {min} to {max}, not {value}"))
}

/// Days; 0 stands for ever.
fn kept_for(key: &str, value: &Value) -> Result<Option<Duration>, String> {
    let count = integer(key, value, 0, 366 * 100)?;
    Ok((count > 0).then(|| super::days(count)))
}

fn replication_factor(key: &str, value: &Value) -> Result<i32, String> {
    let factor = integer(key, value, -1, 1000)?;
    if factor == 0 { Err(format!("{key} must be -1 (as the brokers say) or at least 1, not 0")) } else { Ok(factor) }
}

/// Kafka's rule for topic names, less the length that the names themselves need.
fn topic_prefix(key: &str, value: &Value) -> Result<String, String> {
    let prefix = text(key, value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if prefix.len() > 150 || !prefix.chars().all(allowed) {
        return Err(format!("{key} must be at most 150 letters, digits, dots, dashes and underscores"));
    }
    Ok(prefix.to_owned())
}

/// Never repeats the value: it may hold a password.
fn store_url(key: &str, value: &Value) -> Result<StoreUrl, String> {
    let url = text(key, value)?;
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(format!("{key} must name a file after sqlite:, such as sqlite:tillstream-data/store.db"));
        }
        return Ok(StoreUrl::Sqlite(path.into()));
    }
    let complete = |rest: &str| rest.split_once('/').is_some_and(|(host, db)| !host.is_empty() && !db.is_empty());
    match url.strip_prefix("mysql://") {
        Some(rest) if complete(rest) => Ok(StoreUrl::MySql(Secret::new(url))),
        _ => Err(format!("{key} must be sqlite:PATH or mysql://user:password@host:port/db")),
    }
}

fn bind(key: &str, value: &Value) -> Result<SocketAddr, String> {
    let bind = text(key, value)?;
    let named = bind.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    named.as_deref().unwrap_or(bind).parse().map_err(|_| {
        format!("{key} must be an address and a port such as 127.0.0.1:8080 or [::1]:8080, not \"{bind}\"")
    })
}

/// Never repeats the value: it may hold credentials.
fn remote_url(key: &str, value: &Value, example: &str) -> Result<Option<RemoteUrl>, String> {
    let url = text(key, value)?;
    if url.is_empty() {
        return Ok(None);
    }
    RemoteUrl::parse(url).map(Some).map_err(|error| format!("{key} {error}. Write an address such as {example}"))
}

fn allowed_hosts(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let wrong = || format!("{key} must be a list of host names such as [\"till.example\", \"till.example:8443\"]");
    let hosts = value.as_array().ok_or_else(wrong)?;
    hosts
        .iter()
        .map(|host| match host.as_str() {
            Some(host) if !host.is_empty() && !host.contains(['/', '*', ' ']) => Ok(host.to_lowercase()),
            _ => Err(wrong()),
        })
        .collect()
}

fn tokens(key: &str, value: &Value) -> Result<Vec<TokenConfig>, String> {
    let items = value.as_array().ok_or_else(|| {
        format!(
            "{key} must be a list of {{name, role, hash}}, in the environment as JSON; `tillstream token` makes them"
        )
    })?;
    let mut tokens: Vec<TokenConfig> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let token = token(item).map_err(|message| format!("{key}[{index}]{message}"))?;
        if tokens.iter().any(|known| known.name == token.name) {
            return Err(format!("{key}[{index}].name \"{}\" is there twice; names tell people apart", token.name));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn token(item: &Value) -> Result<TokenConfig, String> {
    let object = item.as_object().ok_or(" must be an object with name, role and hash")?;
    if let Some(extra) = object.keys().find(|name| !matches!(name.as_str(), "name" | "role" | "hash")) {
        return Err(format!(".{extra} is not a known key; an entry has name, role and hash"));
    }
    let part = |name: &str| {
        let text = object.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.ok_or_else(|| format!(".{name} is missing; an entry has name, role and hash"))
    };
    let name = part("name")?;
    if name.len() > 100 || name.chars().any(char::is_control) {
        return Err(".name must be at most 100 characters without control characters".to_owned());
    }
    let role =
        TokenRole::from_name(part("role")?).ok_or_else(|| ".role must be viewer, operator or admin".to_owned())?;
    let hash = part("hash")?;
    let is_sha256 = hash.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    });
    if !is_sha256 && argon2::password_hash::phc::PasswordHash::new(hash).is_err() {
        return Err(
            ".hash must be sha256:HEX or an Argon2 hash ($argon2id$...); `tillstream token` prints one".to_owned()
        );
    }
    Ok(TokenConfig { name: name.to_owned(), role, hash: Secret::new(hash) })
}
