//! Every door of the server: the whole table of routes with every method, every role and odd spellings of each path.
#![expect(clippy::unwrap_used, reason = "a test whose server does not answer has failed")]

use std::collections::BTreeSet;

use tillstream::config::{Config, Role, Secret, TokenConfig, TokenRole};
use tillstream::http::{Needs, RouteRule, new_token, routes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_client::Client;

const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"];
/// How a request is refused: not understood, no identity, no right, nothing there, not with this method.
const REFUSED: [u16; 6] = [400, 401, 403, 404, 405, 501];

/// Somebody who asks, with what they may do.
struct Caller {
    name: &'static str,
    role: Option<TokenRole>,
    authorization: String,
}

impl Caller {
    fn may(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Role(role) => self.role.is_some_and(|own| own >= role),
        }
    }
}

/// Somebody of each role and somebody without a token, and the server that knows them.
async fn guarded(roles: Vec<Role>) -> (Client, Vec<Caller>) {
    let mut config = Config::default();
    let mut callers = vec![Caller { name: "nobody", role: None, authorization: String::new() }];
    for role in TokenRole::ALL {
        let (token, hash) = new_token();
        config.http.tokens.push(TokenConfig { name: role.as_str().to_owned(), role, hash: Secret::new(hash) });
        let authorization = format!("Authorization: Bearer {token}\r\n");
        callers.push(Caller { name: role.as_str(), role: Some(role), authorization });
    }
    (Client::start_as(config, 0, roles).await, callers)
}

/// Sends requests on one connection and answers their statuses in order.
async fn statuses(port: u16, requests: &[String]) -> Vec<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut from, mut to) = stream.split();
    let write = async {
        // A server that refuses may close before it has taken everything.
        let _ = to.write_all(requests.concat().as_bytes()).await;
    };
    let read = async {
        let (mut answers, mut seen) = (Vec::new(), Vec::new());
        // Not to the end: a server may hold a connection open for a while after its last answer.
        while seen.len() < requests.len() && from.read_buf(&mut answers).await.is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&answers);
            let begins = text.split("HTTP/1.1 ").skip(1);
            seen = begins.filter_map(|answer| answer.get(..3)?.parse().ok()).collect();
        }
        seen
    };
    tokio::join!(write, read).1
}

fn request(method: &str, target: &str, caller: &Caller, is_last: bool) -> String {
    let connection = if is_last { "Connection: close\r\n" } else { "" };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{}{connection}\r\n", caller.authorization)
}

/// What each target answers.
async fn answers(port: u16, method: &str, targets: &[String], caller: &Caller) -> Vec<u16> {
    if method == "CONNECT" {
        // What follows such a request on its connection is no request.
        let mut all = Vec::new();
        for target in targets {
            all.extend(statuses(port, &[request(method, target, caller, true)]).await);
        }
        return all;
    }
    let requests = targets.iter().enumerate();
    let requests = requests.map(|(index, target)| request(method, target, caller, index + 1 == targets.len()));
    statuses(port, &requests.collect::<Vec<_>>()).await
}

fn percent(text: &str, encode: impl Fn(usize, char) -> bool) -> String {
    let encode_one = |(index, letter): (usize, char)| {
        if encode(index, letter) { format!("%{:02x}", u32::from(letter)) } else { letter.to_string() }
    };
    text.chars().enumerate().map(encode_one).collect()
}

/// Other spellings of a path, some of which a router may take for it.
fn spellings(path: &str) -> Vec<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric();
    let after_first_slash = &path[1..];
    let swapped = |from: char, to: &str| format!("/{}", after_first_slash.replace(from, to));
    let encoded = percent(path, |_, letter| is_letter(letter));
    let mut all = vec![
        percent(path, |index, _| index == 1),
        percent(path, |index, letter| is_letter(letter) && index % 2 == 0),
        encoded.to_uppercase().replace("%2F", "/"),
        percent(path, |index, letter| index > 0 && letter == '/'),
        percent(path, |_, letter| letter == '.' || letter == '-'),
        encoded.replace('%', "%25"),
        path.to_uppercase(),
        path.replace("api", "Api").replace("ws", "WS").replace("metrics", "Metrics"),
        format!("/{path}"),
        format!("//{path}"),
        swapped('/', "//"),
        format!("{path}/"),
        format!("{path}//"),
        format!("{path}/."),
        format!("{path}/x/.."),
        format!("{path}/%2e"),
        format!("/.{path}"),
        format!("/x/..{path}"),
        format!("/x/%2e%2e{path}"),
        format!("/static/..{path}"),
        format!("/static/%2e%2e{path}"),
        format!("/static/..%2f{after_first_slash}"),
        format!("/health/live/..{path}"),
        format!("/api/session/..{path}"),
        swapped('/', "/./"),
        swapped('/', ";a=b/"),
        format!("{path};a=b"),
        format!("{path}%3ba=b"),
        swapped('/', "%5c"),
        format!("{path}%00"),
        format!("{path}%20"),
        format!("{path}%23"),
        format!("{path}%3f"),
        format!("{path}.json"),
        format!("{path}?/health/live"),
        format!("http://localhost{path}"),
        format!("http://localhost{}", percent(path, |index, _| index == 1)),
        format!("https://localhost//{after_first_slash}"),
    ];
    all.retain(|spelling| spelling != path);
    all
}

/// A path of a pattern: something stands for what varies.
fn example(pattern: &str) -> String {
    pattern.replace("{id}", "d1").replace("{name}", "age-verification").replace("{path:.*}", "app.js")
}

/// Walks the table of a server's routes.
async fn walk(roles: Vec<Role>) {
    let is_api = roles.contains(&Role::Api);
    let (client, callers) = guarded(roles).await;
    let rules = routes(is_api);
    let patterns: BTreeSet<_> = rules.iter().map(|rule| rule.pattern.as_str()).collect();
    for pattern in patterns {
        let declared: Vec<_> = rules.iter().filter(|rule| rule.pattern == pattern).collect();
        let easiest = declared.iter().map(|rule| rule.needs).min().unwrap();
        let plain = example(pattern);
        let mut targets = vec![plain.clone()];
        targets.extend(spellings(&plain));
        for method in METHODS {
            let asked = if method == "HEAD" { "GET" } else { method };
            let rule = declared.iter().find(|rule| rule.method == asked);
            let needs = rule.map_or(easiest, |rule| rule.needs);
            for caller in &callers {
                let got = answers(client.port(), method, &targets, caller).await;
                assert_eq!(got.len(), targets.len(), "{method} {plain} as {}: {got:?}", caller.name);
                let in_words = |index: usize| format!("{method} {} as {}: {}", targets[index], caller.name, got[index]);
                if !caller.may(needs) {
                    let refusal = if caller.role.is_none() { 401 } else { 403 };
                    assert_eq!(got[0], refusal, "{}", in_words(0));
                    for (index, status) in got.iter().enumerate() {
                        assert!(REFUSED.contains(status), "{}", in_words(index));
                    }
                } else if (method, pattern) == ("HEAD", "/ws/feed") {
                    assert_eq!(got[0], 405, "a websocket begins with GET: {}", in_words(0));
                } else if rule.is_some() {
                    assert!(![401, 403, 405].contains(&got[0]), "{}", in_words(0));
                } else {
                    assert_eq!(got[0], 405, "{}", in_words(0));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_path_opens_what_its_plain_one_does_not() {
    walk(Role::ALL.to_vec()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_api_has_the_same_locks_on_its_few_doors() {
    walk(vec![Role::Relay]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_opens_under_no_spelling_without_a_token() {
    let (client, callers) = guarded(Role::ALL.to_vec()).await;
    let mut targets = vec!["/ws/feed".to_owned()];
    targets.extend(spellings("/ws/feed"));
    for caller in &callers {
        for (index, target) in targets.iter().enumerate() {
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: localhost\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
                caller.authorization
            );
            let mut stream = TcpStream::connect(("127.0.0.1", client.port())).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut begin = [0; 12];
            stream.read_exact(&mut begin).await.unwrap();
            let opened = &begin == b"HTTP/1.1 101";
            assert!(!opened || caller.role.is_some(), "{target}");
            assert!(opened || index > 0 || caller.role.is_none(), "a {} follows the feed", caller.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_where_nothing_is_tells_nobody_anything() {
    let (client, callers) = guarded(Role::ALL.to_vec()).await;
    let targets =
        ["/api", "/api/", "/api/nothing", "/ws", "/ws/other", "/metrics/x", "/static", "*", "/..", "/%2e%2e/etc"];
    let targets = targets.map(ToOwned::to_owned);
    for method in METHODS {
        for caller in &callers {
            let got = answers(client.port(), method, &targets, caller).await;
            for (target, status) in targets.iter().zip(got) {
                assert!([400, 404].contains(&status), "{method} {target} as {}: {status}", caller.name);
            }
        }
    }
}

/// The table of routes as the page on security has it.
fn table_of_routes() -> String {
    let mut rules = routes(true);
    rules.sort_by(|a, b| (&a.pattern, a.method.as_str()).cmp(&(&b.pattern, b.method.as_str())));
    let line = |rule: &RouteRule| {
        let needs = match rule.needs {
            Needs::Nothing => "nobody".to_owned(),
            Needs::Role(role) => format!("`{}`", role.as_str()),
        };
        format!("| `{} {}` | {needs} |\n", rule.method, rule.pattern)
    };
    format!("\n| call | role |\n|---|---|\n{}", rules.iter().map(line).collect::<String>())
}

#[test]
fn the_page_on_security_has_the_table_of_the_router() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("the_page_on_security -->\n").unwrap();
    let (held, after) = rest.split_once("\n<!-- end of routes -->").unwrap();
    let table = table_of_routes();
    if std::env::var_os("UPDATE").is_some() {
        let page = format!("{before}the_page_on_security -->\n{table}\n<!-- end of routes -->{after}");
        std::fs::write(path, page).unwrap();
    } else {
        assert_eq!(held, table, "UPDATE=1 writes it");
    }
}
