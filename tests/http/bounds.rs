//! What a stranger can send is bounded, and so is what the answer costs: batches, websockets and their frames.

use std::time::Duration;

use serde_json::json;
use tillstream::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http_client::{Client, login};

const BATCH: &str = "application/cloudevents-batch+json";
/// Far longer than any of these answers takes.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_millions_of_items_is_refused_with_a_short_answer() {
    let client = Client::start().await;
    let body = format!("[{}1]", "1,".repeat(3_999_999));
    let answer = client.post("/api/events", BATCH, &body).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.text.contains("more than 10000 events") && answer.bytes.len() < 1000, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_refused_events_the_first_are_listed_the_others_counted_and_the_valid_ones_taken() {
    let client = Client::start().await;
    let long = "x".repeat(200_000);
    let mut items: Vec<_> = (0..300).map(|_| json!(1)).collect();
    items.insert(0, json!({"specversion": "1.0", "id": 7, "source": long}));
    items.push(login("e1", "T1"));
    let answer = client.post("/api/events", BATCH, &json!(items).to_string()).await;
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(1)));
    assert_eq!(answer.body["rejected"].as_array().unwrap().len(), 100);
    assert_eq!(answer.body["rejectedUnlisted"], 201);
    assert!(answer.bytes.len() < 100_000, "{} bytes", answer.bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_events_of_a_batch_is_configured() {
    let mut config = Config::default();
    config.http.batch_items_max = 2;
    let client = Client::start_with(config, 0).await;
    let batch = |count| json!((0..count).map(|n| login(&format!("e{n}"), "T1")).collect::<Vec<_>>()).to_string();
    assert_eq!(client.post("/api/events", BATCH, &batch(3)).await.status, 413);
    assert_eq!(client.get("/api/events").await.body["items"], json!([]), "nothing of it was taken");
    assert_eq!(client.post("/api/events", BATCH, &batch(2)).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_events_ends_before_its_limit_and_the_next_one_goes_on() {
    let client = Client::start().await;
    for n in 0..40 {
        let mut event = login(&format!("e{n}"), &format!("T{}", n % 3));
        event["data"]["note"] = json!("x".repeat(240_000));
        assert_eq!(client.post_event(&event).await.status, 202);
    }
    let (mut seen, mut path) = (std::collections::BTreeSet::new(), "/api/events?limit=1000".to_owned());
    loop {
        let page = client.get(&path).await;
        assert!(page.bytes.len() < 5_000_000, "{} bytes", page.bytes.len());
        for event in page.body["items"].as_array().unwrap() {
            assert!(seen.insert(event["id"].as_str().unwrap().to_owned()), "twice: {}", event["id"]);
        }
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/api/events?limit=1000&cursor={next}");
    }
    assert_eq!(seen.len(), 40);
}

/// A websocket as bytes.
async fn raw(client: &Client) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", client.port())).await.expect("the server goes on");
    let request = "GET /ws/feed HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("the server goes on");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.expect("the server goes on"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
    socket
}

/// The code with which the server closes the websocket; what comes before is passed over.
async fn close_code(socket: &mut TcpStream) -> u16 {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let (first, length) = (
                socket.read_u8().await.expect("the server goes on"),
                socket.read_u8().await.expect("the server goes on"),
            );
            let length = match length {
                126 => usize::from(socket.read_u16().await.expect("the server goes on")),
                127 => {
                    usize::try_from(socket.read_u64().await.expect("the server goes on")).expect("the server goes on")
                }
                short => usize::from(short),
            };
            let mut payload = vec![0; length];
            socket.read_exact(&mut payload).await.expect("the server goes on");
            if first == 0x88 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    })
    .await
    .expect("it is closed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_announces_too_much_ends_the_connection_before_its_bytes_come() {
    let client = Client::start().await;
    for opcode in [0x81, 0x82, 0x89, 0x01] {
        let mut socket = raw(&client).await;
        let mut head = vec![opcode, 0xff];
        head.extend_from_slice(&(1_u64 << 40).to_be_bytes());
        socket.write_all(&head).await.unwrap();
        assert_eq!(close_code(&mut socket).await, 1009);
    }
    let mut socket = raw(&client).await;
    socket.write_all(&[0x82, 0xfe, 0x10, 0x01]).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1009, "4097 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_many_frames_is_bounded_as_one_of_one_frame_is() {
    let client = Client::start().await;
    let mut socket = raw(&client).await;
    for part in 0..5 {
        let opcode = if part == 0 { 0x02 } else { 0x00 };
        let mut frame = vec![opcode, 0xfe, 0x04, 0x00, 0, 0, 0, 0];
        frame.extend_from_slice(&[0; 1024]);
        socket.write_all(&frame).await.unwrap();
    }
    assert_eq!(close_code(&mut socket).await, 1009);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_the_protocol_ends_the_connection_and_a_good_bye_is_answered() {
    let client = Client::start().await;
    let mut unmasked = raw(&client).await;
    unmasked.write_all(&[0x81, 0x01, b'x']).await.unwrap();
    assert_eq!(close_code(&mut unmasked).await, 1002);
    let mut leaving = raw(&client).await;
    leaving.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await.unwrap();
    assert_eq!(close_code(&mut leaving).await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_feed_have_a_number_and_a_place_that_gets_free_is_taken_again() {
    let mut config = Config::default();
    config.feed.clients_max = 2;
    let client = Client::start_with(config, 0).await;
    let (_first, second) = (raw(&client).await, raw(&client).await);
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "MDEyMzQ1Njc4OWFiY2RlZg=="),
    ];
    let refused = client.send("GET", "/ws/feed", &headers, "").await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("feed.clientsMax") && refused.header("retry-after").is_some(), "{}", refused.text);
    drop(second);
    while client.send("GET", "/ws/feed", &headers, "").await.status == 503 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
