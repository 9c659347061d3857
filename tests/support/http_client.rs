//! A server with everything real behind it, and a client that talks to it.
#![expect(clippy::unwrap_used, reason = "a test whose server does not answer has failed")]

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tillstream::bus::embedded::EmbeddedBus;
use tillstream::config::{Config, Role};
use tillstream::control::Control;
use tillstream::delivery::Delivery;
use tillstream::feed::Feed;
use tillstream::http::{AppState, Running, serve};
use tillstream::orders::OrderSignals;
use tillstream::plugins::defaults::Defaults;
use tillstream::processes::{Identity, Processes};
use tillstream::status::Status;
use tillstream::store::Store;
use tokio_tungstenite::tungstenite::Message;

pub(crate) struct Client {
    http: reqwest::Client,
    server: Running,
    pub(crate) store: Store,
    pub(crate) control: Arc<Control>,
    pub(crate) feed: Feed,
    pub(crate) state: AppState,
    directory: Arc<tempfile::TempDir>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) etag: Option<String>,
    pub(crate) text: String,
    pub(crate) bytes: bytes::Bytes,
    /// Null if it is not JSON.
    pub(crate) body: Value,
    headers: reqwest::header::HeaderMap,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Client {
    pub(crate) async fn start() -> Self {
        Self::start_with(Config::default(), 0).await
    }

    /// With these settings, on this port of loopback; 0 takes a free one.
    pub(crate) async fn start_with(config: Config, port: u16) -> Self {
        Self::start_as(config, port, Role::ALL.to_vec()).await
    }

    /// As a process with these roles.
    pub(crate) async fn start_as(config: Config, port: u16, roles: Vec<Role>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let directory = tempfile::tempdir().unwrap();
        let bus = EmbeddedBus::open(directory.path().join("bus.db"), 4).unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        let feed = Feed::new(1000);
        let status = Arc::new(Status::new(roles));
        let control =
            Control::start(store.clone(), feed.clone(), Arc::clone(&status), &Defaults::built_in()).await.unwrap();
        let config = Arc::new(config);
        let (kept_store, kept_control) = (store.clone(), Arc::clone(&control));
        let orders = OrderSignals::default();
        let identity = Identity::new();
        let processes = Processes::new(identity, store.clone(), Arc::clone(&status), Delivery::default(), false);
        let state = AppState { config, bus, store, control, feed: feed.clone(), status, orders, processes };
        let server = serve(state.clone(), SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        Self {
            state,
            http: reqwest::Client::new(),
            server,
            store: kept_store,
            control: kept_control,
            feed,
            directory: Arc::new(directory),
        }
    }

    /// Another server over the same store, as another process is.
    pub(crate) fn beside(&self, config: Config) -> Self {
        let state = AppState { config: Arc::new(config), ..self.state.clone() };
        Self {
            http: reqwest::Client::new(),
            server: serve(state.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap(),
            store: self.store.clone(),
            control: Arc::clone(&self.control),
            feed: self.feed.clone(),
            state,
            directory: Arc::clone(&self.directory),
        }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let url = format!("http://{}{path}", self.server.address());
        let mut request = self.http.request(method.parse().unwrap(), url).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, content_type, etag) =
            (response.status().as_u16(), header("content-type").unwrap_or_default(), header("etag"));
        let headers = response.headers().clone();
        let bytes = response.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Answer { status, content_type, etag, text, bytes, body, headers }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", content_type)], body).await
    }

    pub(crate) async fn post_event(&self, event: &Value) -> Answer {
        self.post("/api/events", "application/cloudevents+json", &event.to_string()).await
    }

    pub(crate) async fn feed(&self, query: &str) -> Socket {
        let url = format!("ws://{}/ws/feed?{query}", self.server.address());
        Socket(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.address().port()
    }

    pub(crate) async fn stop(&self) {
        self.server.stop().await;
    }
}

pub(crate) struct Socket(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

impl Socket {
    /// The next message; pings aside.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.0.next().await.unwrap().unwrap() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// True once the server has closed it in good order.
    pub(crate) async fn closed(&mut self) -> bool {
        while let Some(Ok(message)) = self.0.next().await {
            if message.is_close() {
                return true;
            }
        }
        false
    }
}

pub(crate) fn login(id: &str, terminal: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": format!("/stores/S1/terminals/{terminal}"),
        "type": "pos.employee.logged_in", "time": "2026-01-05T06:00:00Z", "data": {"employeeId": "E1"},
    })
}
