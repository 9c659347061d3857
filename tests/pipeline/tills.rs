//! Tills that post orders, as long as it takes.
#![allow(dead_code, reason = "shared by tests that each use a part of it")]

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tillstream::bus::Record;

pub(crate) fn order(terminal: &str, total: i64) -> Value {
    json!({"storeId": "S001", "terminalId": terminal, "currency": "EUR", "total": total,
        "items": [{"productId": "P1", "quantity": 1, "unitPrice": total}]})
}

/// Posts an order and returns status and id.
pub(crate) async fn post(
    client: &reqwest::Client,
    url: &str,
    key: &str,
    order: &Value,
) -> reqwest::Result<(u16, Option<String>)> {
    let request = client.post(format!("{url}/api/orders")).header("content-type", "application/json");
    let key = HeaderValue::from_str(&format!("\"{key}\"")).expect("a key of ASCII characters");
    let response = request.header("idempotency-key", key).body(order.to_string()).send().await?;
    let status = response.status().as_u16();
    let body: Value = serde_json::from_str(&response.text().await?).unwrap_or_default();
    Ok((status, body["id"].as_str().map(ToOwned::to_owned)))
}

/// The keys of records: of orders, their ids.
pub(crate) fn keys(records: &[Record]) -> Vec<String> {
    let key = |record: &Record| String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
    records.iter().map(key).collect()
}

/// Tills that post orders one after the other and try each again under its key until they are told that it is there.
pub(crate) async fn tills(
    url: tokio::sync::watch::Receiver<String>,
    tills: usize,
    each: usize,
) -> BTreeMap<String, String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().expect("a client");
    let work = (0..tills).map(|till| {
        let (client, url) = (client.clone(), url.clone());
        async move {
            let mut told = Vec::new();
            for number in 0..each {
                let key = format!("till-{till}-{number}");
                let order = order(&format!("T{till}"), 100 + i64::try_from(number).expect("small"));
                loop {
                    let address = url.borrow().clone();
                    match post(&client, &address, &key, &order).await {
                        Ok((201, Some(id))) => break told.push((key, id)),
                        Ok((409 | 503, _)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                        other => panic!("{other:?}"),
                    }
                }
            }
            told
        }
    });
    futures_util::future::join_all(work).await.into_iter().flatten().collect()
}
