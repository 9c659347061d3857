//! What a stranger can make the server spend before it knows who asks: little, and for a short time.
#![expect(clippy::unwrap_used, reason = "a test whose server does not answer has failed")]

use std::io::Write;
use std::time::Duration;

use argon2::PasswordHasher;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use tillstream::config::{Config, Secret, TokenConfig, TokenRole};
use tillstream::http::new_token;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::log_in;
use crate::http_client::Client;

const TIMES: u32 = 600;

/// A server that knows one operator, and the token.
async fn guarded(change: impl FnOnce(&mut Config)) -> (Client, String) {
    let (token, hash) = new_token();
    let mut config = Config::default();
    config.http.tokens.push(TokenConfig { name: "ops".to_owned(), role: TokenRole::Operator, hash: Secret::new(hash) });
    change(&mut config);
    (Client::start_with(config, 0).await, token)
}

/// Connections that have sent this, and the last word of the server on each: its status, 0 if it just closed.
async fn last_words(client: &Client, count: usize, send: &str, drip: Option<&str>) -> Vec<u16> {
    let one = async || {
        let stream = TcpStream::connect(("127.0.0.1", client.port())).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        to.write_all(send.as_bytes()).await.unwrap();
        let dripping = async {
            while let Some(drip) = drip {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if to.write_all(drip.as_bytes()).await.is_err() {
                    break;
                }
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        let read = async {
            let _ = from.read_to_end(&mut answer).await;
        };
        // The server ends it: this waits for as long as that takes.
        tokio::select! {
            () = read => {}
            () = dripping => {}
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        text.rsplit("HTTP/1.1 ").next().and_then(|last| last.get(..3)?.parse().ok()).unwrap_or(0)
    };
    join_all((0..count).map(|_| one())).await
}

fn head(method: &str, path: &str, more: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_never_end_are_given_up_on_every_route_whoever_sends_them() {
    let (client, token) = guarded(|config| config.http.body_time = Duration::from_secs(1)).await;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let sized = "Content-Length: 1000\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let anybody = head("POST", "/api/session", sized) + "{";
    assert_eq!(last_words(&client, 100, &anybody, None).await, [408; 100]);
    assert_eq!(last_words(&client, 20, &anybody, Some(" ")).await, [408; 20], "a trickle is no body in time");
    let anybody = head("POST", "/api/session", chunked) + "1\r\n{\r\n";
    assert_eq!(last_words(&client, 20, &anybody, Some("1\r\n \r\n")).await, [408; 20]);
    for path in ["/api/events", "/api/orders", "/api/deadletters/discard"] {
        let known = head("POST", path, &format!("{bearer}{sized}")) + "{";
        assert_eq!(last_words(&client, 5, &known, Some(" ")).await, [408; 5], "{path}");
    }
    let known = head("PUT", "/api/stores", &format!("{bearer}{chunked}")) + "1\r\n{\r\n";
    assert_eq!(last_words(&client, 5, &known, Some("1\r\n \r\n")).await, [403; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_answered_does_not_hold_its_connection() {
    let (client, _) = guarded(|config| config.http.body_time = Duration::from_secs(1)).await;
    for (method, path, status) in
        [("POST", "/api/events", 401), ("GET", "/health/live", 200), ("POST", "/nothing", 404)]
    {
        for (length, begin, drip) in
            [("Content-Length: 1000000\r\n", "{", " "), ("Transfer-Encoding: chunked\r\n", "1\r\n{\r\n", "1\r\n \r\n")]
        {
            let request = head(method, path, length) + begin;
            assert_eq!(last_words(&client, 10, &request, Some(drip)).await, [status; 10], "{method} {path} {length}");
        }
    }
    let second_head = head("GET", "/health/live", "") + "GET /health/live HTTP/1.1\r\nHost: localhost\r\n";
    assert_eq!(last_words(&client, 10, &second_head, Some("X-A: b\r\n")).await, [200; 10]);
    let text = client.send("GET", "/health/live", &[], "").await;
    assert_eq!(text.status, 200);
}

fn bomb(bytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![b' '; bytes]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_bytes_of_gzip_do_not_become_many_and_none_before_the_login() {
    let (client, token) = guarded(|_| {}).await;
    let bytes = bomb(64 << 20);
    let http = reqwest::Client::new();
    let post = async |path: &str, token: Option<&str>| {
        let url = format!("http://127.0.0.1:{}{path}", client.port());
        let request = http.post(url).header("content-type", "application/json").header("content-encoding", "gzip");
        let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.body(bytes.clone()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(post("/api/events", None).await, 401);
    for path in ["/api/session", "/api/events", "/api/orders", "/api/deadletters/replay"] {
        assert_eq!(post(path, Some(&token)).await, 413, "{path}");
    }
    let event = crate::http_client::login("e1", "T1").to_string();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(event.as_bytes()).unwrap();
    let url = format!("http://127.0.0.1:{}/api/events", client.port());
    let request = http.post(url).bearer_auth(&token).header("content-encoding", "gzip");
    let request = request.header("content-type", "application/cloudevents+json").body(encoder.finish().unwrap());
    assert_eq!(request.send().await.unwrap().status(), 202, "what fits is taken");
    let headers = [("content-encoding", "br"), ("content-type", "application/json")];
    assert_eq!(client.send("POST", "/api/session", &headers, "x").await.status, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_are_limited_counted_and_written_down_and_the_right_one_is_not_locked_out() {
    let (client, token) = guarded(|config| config.http.login_attempts_per_minute = 5).await;
    let mut statuses = Vec::new();
    for number in 0..8 {
        statuses.push(log_in(&client, &format!("guess-{number}")).await.0);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    let wrong = [("authorization", "Bearer guess-9")];
    let refused = client.send("GET", "/api/plugins", &wrong, "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() > 0);
    let bearer = format!("Bearer {token}");
    let right = [("authorization", bearer.as_str())];
    assert_eq!(client.send("GET", "/api/plugins", &right, "").await.status, 200);
    for _ in 0..TIMES {
        let audit = client.send("GET", "/api/audit", &right, "").await;
        assert!(!audit.text.contains("guess-"), "no token is written down");
        let failed = audit.body["items"].as_array().unwrap().iter().find(|entry| entry["action"] == "login.failed");
        if let Some(failed) = failed {
            assert_eq!(failed["subject"], "127.0.0.1");
            let metrics = client.send("GET", "/metrics", &right, "").await.text;
            assert!(metrics.contains("tillstream_logins_refused_total{reason=\"limited\"}"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no failed login in the audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_verified_away_from_the_threads_that_answer() {
    // Far more work than an answer to a probe, in whatever way this was built.
    let params = argon2::Params::new(8 * 1024, 150, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = argon.hash_password(b"correct horse").unwrap().to_string();
    let (client, _) = guarded(|config| {
        let (name, role) = ("ann".to_owned(), TokenRole::Admin);
        config.http.tokens.push(TokenConfig { name, role, hash: Secret::new(hash) });
    })
    .await;
    let mut guessing = Vec::new();
    for number in 0..4 {
        let mut stream = TcpStream::connect(("127.0.0.1", client.port())).await.unwrap();
        let guess = head("GET", "/api/plugins", &format!("Authorization: Bearer guess-{number}\r\n"));
        stream.write_all(guess.as_bytes()).await.unwrap();
        guessing.push(stream);
    }
    for _ in 0..10 {
        assert_eq!(client.get("/health/live").await.status, 200);
    }
    let mut begin = [0; 1];
    let last = guessing.pop().unwrap();
    assert!(last.try_read(&mut begin).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}
