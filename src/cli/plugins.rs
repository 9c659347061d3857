//! `tillstream plugins`: the switches, from a shell.

use std::io::Write;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::server_args::ServerArgs;
use super::usage;
use crate::config::RemoteUrl;

/// Lists plugins, switches them on and off, changes their settings
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  tillstream plugins\n  tillstream plugins off purchase-recommender\n  \
tillstream plugins set employee-time-tracker idleSeconds=1800\n  \
tillstream plugins set fraud-detection 'rules[0].limit=5' eligibility.stores='[\"S001\"]'")]
pub struct PluginsArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Shows all plugins (the default)
    List,
    /// Switches a plugin on
    On {
        /// The plugin
        name: String,
    },
    /// Switches a plugin off
    Off {
        /// The plugin
        name: String,
    },
    /// Changes settings; a path that begins with `eligibility.` changes eligibility
    Set {
        /// The plugin
        name: String,
        /// PATH=VALUE such as idleSeconds=1800 or rules[0].limit=5; the value is JSON, or else a text
        #[arg(required = true, value_name = "PATH=VALUE")]
        changes: Vec<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// If the server refuses or is not there.
pub fn run(args: &PluginsArgs) -> anyhow::Result<()> {
    super::server_args::install_tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.action {
            None | Some(Action::List) => list(&args.server).await,
            Some(Action::On { name }) => switch(&args.server, name, true).await,
            Some(Action::Off { name }) => switch(&args.server, name, false).await,
            Some(Action::Set { name, changes }) => set(&args.server, name, changes).await,
        }
    })
}

async fn call(
    server: &ServerArgs,
    method: Method,
    name: &str,
    patch: Option<(&Value, Option<i64>)>,
) -> anyhow::Result<Value> {
    let mut url = server.endpoint("/api/plugins")?;
    if !name.is_empty() {
        let below = RemoteUrl::parse(url.as_str()).ok().and_then(|plugins| plugins.item(name));
        url = below.ok_or_else(|| usage(format!("{name:?} is no plugin's name; `tillstream plugins` lists them")))?;
    }
    let mut request = reqwest::Client::new().request(method, url);
    if let Some(token) = &server.token {
        request = request.bearer_auth(token);
    }
    if let Some((patch, revision)) = patch {
        request = request.header("content-type", "application/merge-patch+json").body(patch.to_string());
        if let Some(revision) = revision {
            request = request.header("if-match", format!("\"{revision}\""));
        }
    }
    let response = request
        .send()
        .await
        .with_context(|| format!("no answer from {}; is tillstream running there?", server.shown()))?;
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    if status.is_success() {
        return Ok(body);
    }
    let mut lines = vec![body["detail"].as_str().unwrap_or(status.as_str()).to_owned()];
    // A single field is what the first line says already.
    for error in body["errors"].as_array().filter(|errors| errors.len() > 1).into_iter().flatten() {
        let text = |key: &str| error[key].as_str().unwrap_or_default();
        lines.push(format!("  {}: {}", text("field"), text("message")));
    }
    bail!("{}", lines.join("\n"))
}

async fn list(server: &ServerArgs) -> anyhow::Result<()> {
    let answer = call(server, Method::GET, "", None).await?;
    let mut lines = vec![format!(
        "{:<24} {:<4} {:>8} {:>12} {:>8} {:>7}",
        "NAME", "ON", "REVISION", "CONSUMED", "EFFECTS", "ERRORS"
    )];
    for plugin in answer["items"].as_array().into_iter().flatten() {
        lines.push(row(plugin));
    }
    print(&lines.join("\n"))
}

fn row(plugin: &Value) -> String {
    let stats = &plugin["stats"];
    let on = if plugin["active"] == true { "on" } else { "off" };
    let name = plugin["name"].as_str().unwrap_or_default();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    format!(
        "{name:<24} {on:<4} {:>8} {:>12} {:>8} {:>7}",
        number(&plugin["revision"]),
        number(&stats["consumed"]),
        number(&stats["effects"]),
        number(&stats["errors"])
    )
}

async fn switch(server: &ServerArgs, name: &str, active: bool) -> anyhow::Result<()> {
    let plugin = call(server, Method::PATCH, name, Some((&json!({"active": active}), None))).await?;
    print(&row(&plugin))
}

async fn set(server: &ServerArgs, name: &str, changes: &[String]) -> anyhow::Result<()> {
    let plugin = call(server, Method::GET, name, None).await?;
    let mut patch = Map::new();
    for change in changes {
        let (path, value) = change.split_once('=').ok_or_else(|| usage(format!("{change} is not PATH=VALUE")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        let path = match path.split_once('.').map_or(path, |(first, _)| first) {
            "settings" | "eligibility" => path.to_owned(),
            _ => format!("settings.{path}"),
        };
        put(&mut patch, &plugin, &path, value)?;
    }
    let revision = plugin["revision"].as_i64();
    let changed = call(server, Method::PATCH, name, Some((&Value::Object(patch), revision))).await?;
    print(&row(&changed))
}

/// Puts a value into a merge patch. A merge patch replaces lists as a whole, so a path into a list sends the whole list with
/// the one place changed.
fn put(patch: &mut Map<String, Value>, current: &Value, path: &str, value: Value) -> anyhow::Result<()> {
    let (key, rest) = match path.find(['.', '[']) {
        Some(end) => (&path[..end], &path[end..]),
        None => (path, ""),
    };
    if key.is_empty() {
        return Err(usage(format!("{path} is not a path such as rules[0].limit")));
    }
    let current = current.get(key).unwrap_or(&Value::Null);
    if let Some(rest) = rest.strip_prefix('.') {
        let inner = patch.entry(key).or_insert_with(|| json!({}));
        let inner = inner.as_object_mut().ok_or_else(|| usage(format!("{key} is set twice")))?;
        return put(inner, current, rest, value);
    }
    if rest.is_empty() {
        patch.insert(key.to_owned(), value);
        return Ok(());
    }
    let list = patch.entry(key).or_insert_with(|| current.clone());
    replace(list, key, rest, value)
}

/// Replaces a place inside a value: `[0].limit`.
fn replace(target: &mut Value, name: &str, path: &str, value: Value) -> anyhow::Result<()> {
    if path.is_empty() {
        *target = value;
        return Ok(());
    }
    if let Some(rest) = path.strip_prefix('[') {
        let (index, rest) = rest.split_once(']').ok_or_else(|| usage(format!("{name}{path}: ] is missing")))?;
        let items = target.as_array_mut().ok_or_else(|| usage(format!("{name} is not a list")))?;
        let count = items.len();
        let item = index.parse::<usize>().ok().and_then(|index| items.get_mut(index));
        let item = item.ok_or_else(|| usage(format!("{name} has {count} items, there is no [{index}]")))?;
        return replace(item, &format!("{name}[{index}]"), rest, value);
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[']).unwrap_or(path.len());
    let (key, rest) = path.split_at(end);
    let object = target.as_object_mut().ok_or_else(|| usage(format!("{name} is not an object")))?;
    let inner = object.entry(key).or_insert(Value::Null);
    if !rest.is_empty() && inner.is_null() {
        *inner = json!({});
    }
    replace(inner, &format!("{name}.{key}"), rest, value)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(path: &str, value: Value) -> anyhow::Result<Value> {
        let current = json!({"settings": {"rules": [{"id": "a", "limit": 1}, {"id": "b", "limit": 2}]}});
        let mut patch = Map::new();
        put(&mut patch, &current, path, value)?;
        Ok(Value::Object(patch))
    }

    #[test]
    fn the_server_may_be_named_before_and_behind_the_action() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            plugins: PluginsArgs,
        }
        for line in [["p", "--url", "http://x", "off", "a"], ["p", "off", "a", "--url", "http://x"]] {
            let read = <Line as clap::Parser>::try_parse_from(line).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(read.plugins.server.url, "http://x");
        }
    }

    #[test]
    fn a_path_into_an_object_patches_just_that() {
        assert_eq!(patch("settings.idleSeconds", json!(5)).unwrap(), json!({"settings": {"idleSeconds": 5}}));
    }

    #[test]
    fn a_path_into_a_list_sends_the_whole_list() {
        let expected = json!({"settings": {"rules": [{"id": "a", "limit": 1}, {"id": "b", "limit": 9}]}});
        assert_eq!(patch("settings.rules[1].limit", json!(9)).unwrap(), expected);
        assert!(patch("settings.rules[7].limit", json!(9)).unwrap_err().to_string().contains("has 2 items"));
    }
}
