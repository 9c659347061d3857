//! `tillstream tail`: follows the live feed in a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::StreamExt;
use serde_json::Value;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

use super::server_args::ServerArgs;
use super::{stop_signal, usage};

const RECONNECT_FIRST: Duration = Duration::from_millis(250);
const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Follows the live feed in a terminal
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tillstream tail --type 'pos.basket.*' --type 'pos.payment.*' --terminal T0001")]
pub struct TailArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only these types: * stands for any text; may be repeated
    #[arg(long = "type", value_name = "GLOB")]
    types: Vec<String>,
    /// Only what is about this terminal
    #[arg(long, value_name = "T")]
    terminal: Option<String>,
    /// Only what this plugin published or wrote
    #[arg(long, value_name = "P")]
    plugin: Option<String>,
    /// Begin after this place of the feed
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// One JSON object per line, as it came
    #[arg(long)]
    json: bool,
}

/// The place up to which was printed.
#[derive(Debug, Default)]
struct Place {
    since: Option<u64>,
    feed_id: Option<String>,
}

enum End {
    /// The connection broke: connect again.
    Lost(String),
    /// Whoever reads our output has enough.
    OutputClosed,
}

/// Runs until Ctrl-C.
///
/// # Errors
/// If the server refuses, or cannot be reached the first time.
pub fn run(args: &TailArgs) -> anyhow::Result<()> {
    super::server_args::install_tls();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            ended = follow(args) => ended,
            () = stop_signal() => Ok(()),
        }
    })
}

async fn follow(args: &TailArgs) -> anyhow::Result<()> {
    let colour = !args.json && io::stdout().is_terminal();
    let mut place = Place { since: args.since, feed_id: None };
    let mut delay = RECONNECT_FIRST;
    let mut was_connected = false;
    loop {
        match session(args, &mut place, colour, &mut was_connected).await? {
            End::OutputClosed => return Ok(()),
            End::Lost(why) if !was_connected => bail!("{why}; is tillstream running at {}?", args.server.shown()),
            End::Lost(why) => {
                note(&format!("connection lost ({why}), trying again"));
                if place.since.is_some() {
                    delay = (delay * 2).min(RECONNECT_MAX);
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

async fn session(args: &TailArgs, place: &mut Place, colour: bool, was_connected: &mut bool) -> anyhow::Result<End> {
    let mut request = address(args, place)?.as_str().into_client_request().context("--url")?;
    if let Some(token) = &args.server.token {
        let value =
            format!("Bearer {token}").parse().map_err(|_| usage("--token holds characters that no token has"))?;
        request.headers_mut().insert("authorization", value);
    }
    let mut socket = match connect_async(request).await {
        Ok((socket, _)) => socket,
        Err(tungstenite::Error::Http(response)) if response.status().is_client_error() => {
            let body = response.body().as_deref().unwrap_or_default();
            let problem: Value = serde_json::from_slice(body).unwrap_or_default();
            bail!("the server refused: {}", problem["detail"].as_str().unwrap_or(response.status().as_str()));
        }
        Err(error) => return Ok(End::Lost(error.to_string())),
    };
    *was_connected = true;
    while let Some(message) = socket.next().await {
        let text = match message {
            Ok(Message::Text(text)) => text,
            Ok(Message::Close(_)) => return Ok(End::Lost("the server closed it".to_owned())),
            Ok(_) => continue,
            Err(error) => return Ok(End::Lost(error.to_string())),
        };
        let message: Value = serde_json::from_str(&text).context("the server sent something that is not JSON")?;
        if print(&message, args.json, colour, place).is_err() {
            return Ok(End::OutputClosed);
        }
    }
    Ok(End::Lost("the server went away".to_owned()))
}

fn address(args: &TailArgs, place: &Place) -> anyhow::Result<reqwest::Url> {
    let mut url = args.server.endpoint("/ws/feed")?;
    let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
    url.set_scheme(scheme).map_err(|()| usage("--url must be an http or https address"))?;
    {
        let mut query = url.query_pairs_mut();
        for pattern in &args.types {
            query.append_pair("type", pattern);
        }
        let since = place.since.map(|since| since.to_string());
        let others = [
            ("terminal", args.terminal.as_ref()),
            ("plugin", args.plugin.as_ref()),
            ("since", since.as_ref()),
            ("feedId", place.feed_id.as_ref()),
        ];
        for (name, value) in others {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
    }
    Ok(url)
}

fn print(message: &Value, json: bool, colour: bool, place: &mut Place) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match message["type"].as_str() {
        Some("hello") => {
            let id = message["feedId"].as_str().map(ToOwned::to_owned);
            // A place of the feed before means nothing in this one: what is there is all new.
            if place.feed_id.is_some() && place.feed_id != id {
                place.since = Some(0);
            }
            place.feed_id = id;
        }
        Some("gap") => note(&match message["dropped"].as_u64() {
            Some(0) | None => "some items were missed".to_owned(),
            Some(dropped) => format!("{dropped} items were missed"),
        }),
        Some("events") => {
            for item in message["items"].as_array().into_iter().flatten() {
                if json {
                    writeln!(out, "{item}")?;
                } else {
                    writeln!(out, "{}", line(item, colour))?;
                }
                place.since = item["seq"].as_u64().or(place.since);
            }
        }
        _ => {}
    }
    out.flush()
}

/// One item for people: time, kind, terminal, type, and what matters of the data.
fn line(item: &Value, colour: bool) -> String {
    let event = &item["event"];
    let text = |value: &Value| value.as_str().map(printable).unwrap_or_default();
    let kind = text(&item["kind"]);
    let at = text(event.get("time").unwrap_or(&item["at"]));
    let source = text(event.get("source").unwrap_or(&Value::Null));
    let about = event.get("subject").or_else(|| event.get("terminal")).map_or_else(|| source.clone(), &text);
    let terminal = about.rsplit('/').next().unwrap_or_default().to_owned();
    let name = event.get("type").map_or_else(|| kind.clone(), &text);
    let data = event.get("data").unwrap_or(event);
    let facts: Vec<_> = data
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| event.get("data").is_some() || !matches!(key.as_str(), "id" | "at" | "terminal"))
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some(format!("{key}={}", printable(text))),
            Value::Number(_) | Value::Bool(_) => Some(format!("{key}={value}")),
            Value::Array(items) => Some(format!("{key}[{}]", items.len())),
            Value::Null | Value::Object(_) => None,
        })
        .collect();
    let (on, off) = match (colour, kind.as_str()) {
        (false, _) => ("", ""),
        (true, "derived") => ("\x1b[32m", "\x1b[0m"),
        (true, "log") => ("\x1b[2m", "\x1b[0m"),
        (true, "http") => ("\x1b[36m", "\x1b[0m"),
        (true, "deadletter") => ("\x1b[31m", "\x1b[0m"),
        (true, "control") => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[1m", "\x1b[0m"),
    };
    format!("{at} {terminal:<8} {on}{name}{off} {}", facts.join(" "))
}

/// Control characters could do things to a terminal; events come from outside.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[expect(clippy::print_stderr, reason = "about the connection, not part of the output")]
fn note(text: &str) {
    eprintln!("-- {text}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line_with_what_matters() {
        let item = json!({"seq": 1, "kind": "event", "at": "2026-01-05T06:00:01.000Z", "event": {
            "time": "2026-01-05T06:00:00Z", "source": "/stores/S1/terminals/T7", "type": "pos.basket.item_added",
            "data": {"productId": "P1", "quantity": 2, "tags": [1, 2]}}});
        assert_eq!(
            line(&item, false),
            "2026-01-05T06:00:00Z T7       pos.basket.item_added productId=P1 quantity=2 tags[2]"
        );
        let call = json!({"seq": 2, "kind": "http", "at": "2026-01-05T06:00:02.000Z", "event": {
            "service": "customers", "id": "c1", "terminal": "/stores/S1/terminals/T7", "path": "C7", "status": 200}});
        assert_eq!(line(&call, false), "2026-01-05T06:00:02.000Z T7       http service=customers path=C7 status=200");
    }

    #[test]
    fn what_an_event_says_cannot_control_the_terminal() {
        let item = json!({"seq": 1, "kind": "log", "at": "x", "event": {"message": "\u{1b}[2Jboo"}});
        assert!(!line(&item, false).contains('\u{1b}'));
    }
}
