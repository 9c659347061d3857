//! With tokens configured: a token becomes a session, and its role decides.

use serde_json::json;
use tillstream::config::{Config, Secret, TokenConfig, TokenRole};
use tillstream::http::new_token;

use crate::http_client::{Client, login};

/// A server that knows two tokens, and these.
async fn guarded() -> (Client, String, String) {
    let ((viewer, viewer_hash), (operator, operator_hash)) = (new_token(), new_token());
    let mut config = Config::default();
    let token = |name: &str, role, hash| TokenConfig { name: name.to_owned(), role, hash: Secret::new(hash) };
    config.http.tokens.push(token("ann", TokenRole::Viewer, viewer_hash));
    config.http.tokens.push(token("ops", TokenRole::Operator, operator_hash));
    (Client::start_with(config, 0).await, viewer, operator)
}

/// Logs in; the status, and the cookie as it is set.
pub(crate) async fn log_in(client: &Client, token: &str) -> (u16, Option<String>) {
    let answer = client.post("/api/session", "application/json", &json!({"token": token}).to_string()).await;
    let cookie = answer.header("set-cookie").map(ToOwned::to_owned);
    (answer.status, cookie)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_exchanged_for_a_cookie_that_scripts_cannot_read() {
    let (client, _, operator) = guarded().await;
    let refused = client.get("/api/plugins").await;
    assert_eq!((refused.status, refused.content_type.as_str()), (401, "application/problem+json"));
    assert!(refused.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    assert_eq!(log_in(&client, "wrong").await.0, 401);

    let (status, cookie) = log_in(&client, &operator).await;
    let cookie = cookie.unwrap();
    assert_eq!(status, 200);
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    assert!(!cookie.contains(&operator), "the token itself does not stand in the cookie as it is");
    let cookie = cookie.split(';').next().unwrap();
    let headers = [("cookie", cookie)];
    assert_eq!(client.send("GET", "/api/plugins", &headers, "").await.status, 200);
    let session = client.send("GET", "/api/session", &headers, "").await.body;
    assert_eq!(session, json!({"loginRequired": true, "name": "ops", "role": "operator"}));

    let out = client.send("DELETE", "/api/session", &headers, "").await;
    assert_eq!(out.status, 204);
    assert!(out.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_reads_and_an_operator_also_writes() {
    let (client, viewer, operator) = guarded().await;
    let send = async |token: &str, method: &str, path: &str, body: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        client.send(method, path, &headers, body).await.status
    };
    let event = login("e1", "T1").to_string();
    assert_eq!(send(&viewer, "GET", "/api/alerts", "").await, 200);
    assert_eq!(send(&viewer, "POST", "/api/events", &event).await, 403);
    assert_eq!(send(&operator, "POST", "/api/events", &event).await, 202);
    assert_eq!(send(&operator, "PUT", "/api/stores", r#"{"stores":{}}"#).await, 403, "stores are an admin's");
    assert_eq!(send("", "GET", "/health/ready", "").await, 200, "probes need no token");
    let socket = client.send("GET", "/ws/feed", &[], "").await;
    assert_eq!(socket.status, 401, "nor does the feed go to anybody");
}
