//! Clients of the live feed that do not read: what they cost the process.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::process::{Process, command};
use crate::shop::{Shop, drawer, until};

const CLIENTS: usize = 20;
const EVENTS: u64 = 100;
const EVENT_BYTES: usize = 200_000;
/// The limit of the test. A client used to hold 32 messages of 256 KB.
const GROWTH_MAX: u64 = 48 << 20;

/// A client that has room for little and takes nothing.
async fn silent(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let mut stream = socket.connect(address).await.expect("the server listens");
    let request = "GET /ws/feed HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    assert_eq!(stream.read_u8().await.expect("an answer"), b'H');
    stream
}

async fn post_large(process: &Process, round: u64) {
    for number in 0..EVENTS {
        let mut event = drawer("T1", round * EVENTS + number + 1, 0);
        event["data"]["note"] = json!("x".repeat(EVENT_BYTES));
        process.post(&[event]).await;
    }
    let wanted = (round + 1) * EVENTS;
    until("they are in the feed", async || {
        let (_, system): (u16, Value) = process.get("/api/system").await;
        system["totals"]["events"].as_u64() == Some(wanted)
    })
    .await;
}

#[actix::test]
async fn clients_that_never_read_cost_little() {
    let shop = Shop::on_a_file();
    let process = Process::spawn(command(&shop).env("TILLSTREAM__FEED__CAPACITY", "50"));
    // What the process keeps anyway is there before anybody is connected.
    post_large(&process, 0).await;
    post_large(&process, 1).await;
    let before = process.rss_bytes();
    let address = process.url().trim_start_matches("http://").parse().expect("an address");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(silent(address).await);
    }
    post_large(&process, 2).await;
    let grown = process.rss_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "{CLIENTS} clients that do not read cost {grown} bytes");
    assert_eq!(process.get("/health/ready").await.0, 200);
    drop(clients);
}
