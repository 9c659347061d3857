//! Sessions of people: they end, everywhere and at once, and a cookie alone does not prove where a change comes from.
#![expect(clippy::unwrap_used, reason = "a test whose server does not answer has failed")]

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::json;
use tillstream::config::{Config, Secret, TokenConfig, TokenRole};
use tillstream::http::new_token;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::access::log_in;
use crate::http_client::{Answer, Client};

const TIMES: u32 = 600;

fn token(name: &str, role: TokenRole) -> (String, TokenConfig) {
    let (token, hash) = new_token();
    (token, TokenConfig { name: name.to_owned(), role, hash: Secret::new(hash) })
}

fn knowing(tokens: &[&TokenConfig]) -> Config {
    let mut config = Config::default();
    config.http.tokens = tokens.iter().map(|token| (*token).clone()).collect();
    config
}

/// A new session's cookie, as a browser sends it.
async fn session(client: &Client, token: &str) -> String {
    let (status, cookie) = log_in(client, token).await;
    assert_eq!(status, 200);
    cookie.unwrap().split(';').next().unwrap().to_owned()
}

async fn get(client: &Client, path: &str, cookie: &str) -> Answer {
    client.send("GET", path, &[("cookie", cookie)], "").await
}

async fn is_in(client: &Client, cookie: &str) -> bool {
    get(client, "/api/plugins", cookie).await.status == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logout_ends_the_session_for_every_process_and_the_old_cookie_is_worth_nothing() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let one = Client::start_with(knowing(&[&ops]), 0).await;
    let other = one.beside(knowing(&[&ops]));
    let cookie = session(&one, &secret).await;
    let second = session(&one, &secret).await;
    assert!(is_in(&one, &cookie).await && is_in(&other, &cookie).await);
    assert!(!cookie.contains(&secret));

    assert_eq!(other.send("DELETE", "/api/session", &[("cookie", cookie.as_str())], "").await.status, 204);
    assert!(!is_in(&one, &cookie).await && !is_in(&other, &cookie).await);
    assert!(is_in(&one, &second).await, "another session goes on");
    let refused = get(&one, "/api/plugins", &cookie).await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("set-cookie").unwrap().contains("Max-Age=0"), "the browser forgets it");
    let two = format!("{second}; tillstream_session=AAAA");
    assert!(!is_in(&one, &two).await, "of two cookies nobody knows which one is ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_or_changing_a_token_ends_its_sessions_and_a_new_role_counts_at_once() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let (_, ann) = token("ann", TokenRole::Admin);
    let client = Client::start_with(knowing(&[&ops, &ann]), 0).await;
    let cookie = session(&client, &secret).await;
    assert!(!is_in(&client.beside(knowing(&[&ann])), &cookie).await);
    let changed = TokenConfig { hash: token("ops", TokenRole::Operator).1.hash, ..ops.clone() };
    assert!(!is_in(&client.beside(knowing(&[&changed])), &cookie).await);
    let renamed = TokenConfig { name: "others".to_owned(), ..ops.clone() };
    assert!(!is_in(&client.beside(knowing(&[&renamed])), &cookie).await);
    let demoted = client.beside(knowing(&[&TokenConfig { role: TokenRole::Viewer, ..ops.clone() }]));
    assert_eq!(get(&demoted, "/api/session", &cookie).await.body["role"], "viewer");
    let change = [("cookie", cookie.as_str()), ("x-tillstream-admin", "1")];
    assert_eq!(demoted.send("POST", "/api/deadletters/none/replay", &change, "").await.status, 403);
    assert!(is_in(&client, &cookie).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_revoked_ones_own_and_by_an_admin_everybodys() {
    let (viewer, vera) = token("vera", TokenRole::Viewer);
    let (admin, adam) = token("adam", TokenRole::Admin);
    let client = Client::start_with(knowing(&[&vera, &adam]), 0).await;
    let (one, two) = (session(&client, &viewer).await, session(&client, &viewer).await);
    let admins = session(&client, &admin).await;
    let own = get(&client, "/api/sessions", &one).await.body;
    let own = own["items"].as_array().unwrap();
    assert_eq!(own.len(), 2);
    assert!(own.iter().all(|session| session["name"] == "vera" && session["role"] == "viewer"));
    let all = get(&client, "/api/sessions", &admins).await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 3);
    for cookie in [&one, &two, &admins] {
        let value = cookie.split_once('=').unwrap().1;
        assert!(!all.text.contains(value.split_once('.').unwrap().1), "no list holds a secret");
    }

    let id = |list: &[serde_json::Value], current: bool| {
        list.iter().find(|session| session["current"] == current).unwrap()["id"].as_str().unwrap().to_owned()
    };
    let delete = async |cookie: &str, id: &str| {
        let headers = [("cookie", cookie), ("sec-fetch-site", "same-origin")];
        client.send("DELETE", &format!("/api/sessions/{id}"), &headers, "").await.status
    };
    let of_admin = id(all.body["items"].as_array().unwrap(), true);
    assert_eq!(delete(&one, &of_admin).await, 404, "not a viewer's to end");
    assert_eq!(delete(&one, &id(own, false)).await, 204);
    assert!(!is_in(&client, &two).await && is_in(&client, &one).await);
    assert_eq!(delete(&admins, &id(own, true)).await, 204);
    assert!(!is_in(&client, &one).await && is_in(&client, &admins).await);
    let audit = get(&client, "/api/audit", &admins).await.body;
    assert_eq!((&audit["items"][0]["action"], &audit["items"][0]["actor"]), (&json!("session.end"), &json!("adam")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_is_not_used_and_after_its_time_however_much_it_is() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let mut brief = knowing(&[&ops]);
    brief.http.session_lasts = Duration::from_secs(2);
    let client = Client::start_with(brief, 0).await;
    let used = session(&client, &secret).await;
    assert!(is_in(&client, &used).await);
    let mut idle = knowing(&[&ops]);
    idle.http.session_idle = Duration::ZERO;
    assert!(!is_in(&client.beside(idle), &used).await, "it was not used for long enough");
    for _ in 0..TIMES {
        if !is_in(&client, &used).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the session has not ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_with_a_cookie_needs_a_sign_that_it_comes_from_our_own_page() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let mut config = knowing(&[&ops]);
    config.http.allowed_hosts.push("a".to_owned());
    let client = Client::start_with(config, 0).await;
    let cookie = session(&client, &secret).await;
    let own = format!("http://a:{}", client.port());
    let host = format!("a:{}", client.port());
    // Without a body, as a form or a script of another page could send it.
    let post = async |headers: &[(&str, &str)]| {
        let all: Vec<_> = headers.iter().copied().chain([("host", host.as_str())]).collect();
        client.send("POST", "/api/deadletters/none/replay", &all, "").await.status
    };
    let with_cookie = ("cookie", cookie.as_str());
    assert_eq!(post(&[with_cookie]).await, 403);
    for foreign in ["http://a:9999", "https://a:9999", "http://evil.example", "null"] {
        assert_eq!(post(&[with_cookie, ("origin", foreign)]).await, 403, "{foreign}");
    }
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(post(&[with_cookie, ("sec-fetch-site", site)]).await, 403, "{site}");
    }
    for sign in [("origin", own.as_str()), ("sec-fetch-site", "same-origin"), ("x-tillstream-admin", "1")] {
        assert_eq!(post(&[with_cookie, sign]).await, 404, "{sign:?}");
    }
    let bearer = format!("Bearer {secret}");
    assert_eq!(post(&[("authorization", &bearer)]).await, 404, "a program sends no sign");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_of_a_session_ends_with_it() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let client = Client::start_with(knowing(&[&ops]), 0).await;
    let cookie = session(&client, &secret).await;
    let mut request = format!("ws://127.0.0.1:{}/ws/feed", client.port()).into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap().is_text());
    client.send("DELETE", "/api/session", &[("cookie", cookie.as_str())], "").await;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_close() {
            return;
        }
    }
    panic!("the feed broke off without a word");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cookie_is_for_tls_only_where_the_login_was_or_it_is_configured() {
    let (secret, ops) = token("ops", TokenRole::Operator);
    let mut config = knowing(&[&ops]);
    config.http.allowed_hosts.push("till.example".to_owned());
    let client = Client::start_with(config.clone(), 0).await;
    assert!(!log_in(&client, &secret).await.1.unwrap().contains("Secure"));
    let headers = [("content-type", "application/json"), ("origin", "https://till.example")];
    let body = json!({"token": secret}).to_string();
    let answer = client.send("POST", "/api/session", &headers, &body).await;
    assert!(answer.header("set-cookie").unwrap().ends_with("; Secure"));
    config.http.secure_cookies = true;
    assert!(log_in(&client.beside(config), &secret).await.1.unwrap().ends_with("; Secure"));
}
