//! Sinks against a real server and a real bus.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use bytes::Bytes;

use super::*;
use crate::bus::embedded::EmbeddedBus;
use crate::bus::{Bus as _, Topic, TopicPartition};
use crate::event::Event;
use crate::rig::pump::{Speed, Totals, pump};
use crate::rig::{Limit, Options, Rig};

fn noisy() -> Options {
    Options { limit: Limit::Events(1200), duplicates: 0.05, corrupt: 0.01, anomalies: 0.05, ..Options::default() }
}

/// What the scenario sends: valid messages, corrupt ones.
fn expected() -> (Vec<Bytes>, Vec<Bytes>) {
    let (corrupt, valid): (Vec<_>, Vec<_>) =
        Rig::new(noisy()).partition(|message| message.kind == crate::rig::MessageKind::Corrupt);
    let bytes = |messages: Vec<RigMessage>| messages.into_iter().map(|message| message.bytes).collect();
    (bytes(valid), bytes(corrupt))
}

/// Sends the scenario; the totals and the lines of the labels file.
async fn send(sink: &mut Sink) -> (Totals, Vec<String>) {
    let mut labels = Vec::new();
    let stop = Arc::new(AtomicBool::new(false));
    let totals = pump(Rig::new(noisy()), Speed::Unlimited, sink, Some(&mut labels), stop, |_| {}).await.unwrap();
    (totals, String::from_utf8(labels).unwrap().lines().map(str::to_owned).collect())
}

#[derive(Default)]
struct Received {
    requests: usize,
    refused: Vec<Bytes>,
    valid: Vec<Bytes>,
    corrupt: Vec<Bytes>,
}

/// Answers every other request as if it were busy, and keeps what it took.
async fn events(request: HttpRequest, body: Bytes, received: web::Data<Mutex<Received>>) -> HttpResponse {
    let mut received = received.lock().unwrap();
    received.requests += 1;
    match received.requests % 4 {
        1 => {
            received.refused.push(body);
            return HttpResponse::ServiceUnavailable().insert_header(("retry-after", "0")).finish();
        }
        3 => {
            received.refused.push(body);
            return HttpResponse::TooManyRequests().insert_header(("retry-after", "0")).finish();
        }
        _ => {}
    }
    if let Some(before) = received.refused.pop() {
        assert_eq!(before, body, "the same bytes again");
    }
    if request.headers().get("content-type").unwrap() == "application/cloudevents+json" {
        assert!(Event::parse(&body).is_err());
        received.corrupt.push(body);
        return HttpResponse::UnprocessableEntity().finish();
    }
    let batch: Vec<&serde_json::value::RawValue> = serde_json::from_slice(&body).unwrap();
    received.valid.extend(batch.iter().map(|event| Bytes::copy_from_slice(event.get().as_bytes())));
    HttpResponse::Accepted().json(serde_json::json!({"accepted": batch.len(), "rejected": []}))
}

#[actix_web::test]
async fn a_busy_server_gets_the_same_bytes_until_it_has_everything_in_order() {
    let received = web::Data::new(Mutex::new(Received::default()));
    let data = received.clone();
    let server = HttpServer::new(move || {
        let limit = web::PayloadConfig::new(4 << 20);
        App::new().app_data(data.clone()).app_data(limit).route("/api/events", web::post().to(events))
    });
    let server = server.workers(1).bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let mut sink = Sink::Http(HttpSink::new(events_url(&url).unwrap(), None).unwrap());
    let (totals, _) = send(&mut sink).await;
    handle.stop(false).await;

    let (valid, corrupt) = expected();
    let received = received.lock().unwrap();
    assert!(received.refused.is_empty() && received.requests > 2 * corrupt.len());
    assert!(received.valid == valid, "{} of {} valid messages", received.valid.len(), valid.len());
    assert_eq!(received.corrupt, corrupt);
    assert_eq!(totals.events + totals.duplicates, u64::try_from(valid.len()).unwrap());
}

#[tokio::test]
async fn the_bus_gets_every_message_keyed_by_its_terminal_and_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let bus = EmbeddedBus::open(directory.path().join("bus.db"), 4).unwrap();
    let mut sink = Sink::Bus(BusSink::new(Arc::clone(&bus) as Arc<dyn crate::bus::Bus>));
    let (totals, labels) = send(&mut sink).await;
    assert_eq!(totals.events, 1200);
    assert_eq!(totals.labels, u64::try_from(labels.len()).unwrap());
    assert!(labels.iter().all(|label| label.starts_with("{\"kind\":") && label.contains("\"eventIds\":[\"/stores/")));

    let mut found: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
    for partition in 0..4 {
        let (mut offset, mut at_end) = (0, false);
        while !at_end {
            let fetched = bus.read(TopicPartition::new(Topic::Events, partition), offset, 1 << 20).await.unwrap();
            for record in fetched.records {
                found.entry(record.key.unwrap()).or_default().push(record.value);
            }
            (offset, at_end) = (fetched.next_offset, fetched.at_end);
        }
    }
    let mut sent: BTreeMap<Bytes, Vec<Bytes>> = BTreeMap::new();
    for message in Rig::new(noisy()) {
        sent.entry(Bytes::copy_from_slice(message.key.as_bytes())).or_default().push(message.bytes);
    }
    assert!(found == sent);
}

#[test]
fn an_address_may_name_the_server_or_the_resource() {
    let url = |text| events_url(text).map(String::from);
    assert_eq!(url("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080/api/events");
    assert_eq!(url("http://till.example/shop/").unwrap(), "http://till.example/shop/api/events");
    assert_eq!(url("http://till.example/api/events").unwrap(), "http://till.example/api/events");
    assert!(url("ftp://till.example").is_err());
}
