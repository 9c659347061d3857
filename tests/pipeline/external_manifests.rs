//! Manifests of plugins in other languages: taken, refused, replaced, taken away.

use bytes::Bytes;
use serde_json::{Value, json};
use tillstream::bus::{NewRecord, Topic};

use crate::external::{NAME, announce, input_ids, manifest, on_topic, plugin, switched_on};
use crate::shop::{Shop, drawer, until};

#[actix::test]
async fn a_manifest_that_holds_appears_switched_off_and_a_broken_one_is_refused_visibly() {
    let shop = Shop::new();
    let open = shop.open().await;
    announce(&open, &json!({})).await;
    announce(&open, &json!({"name": "fraud-detection"})).await;
    announce(&open, &json!({"name": "broken", "eventTypes": ["pos.drawer.open"]})).await;
    until("all are read", async || plugin(&open, "broken").await.is_some() && plugin(&open, NAME).await.is_some())
        .await;
    let known = plugin(&open, NAME).await.expect("known");
    assert_eq!((&known["kind"], &known["active"], &known["revision"]), (&json!("external"), &json!(false), &json!(1)));
    assert_eq!((&known["version"], &known["whileOff"]), (&json!("1.0.0"), &json!("wait")));
    assert_eq!(known["settings"], json!({"threshold": 4}));
    assert_eq!(known["schema"]["settings"], manifest(&json!({}))["settingsSchema"]);
    let refused = plugin(&open, "broken").await.expect("shown");
    assert!(refused["refused"].as_str().expect("why").starts_with("eventTypes[0]: "), "{refused}");
    let builtin = plugin(&open, "fraud-detection").await.expect("known");
    assert_eq!((&builtin["kind"], builtin.get("refused")), (&json!("builtin"), None));
    until("both are dead letters", async || {
        let (_, letters) = open.call("GET", "/api/deadletters?reason=manifest_refused", None).await;
        letters["items"].as_array().expect("a list").len() == 2
    })
    .await;
    let (_, letters) = open.call("GET", "/api/deadletters?reason=manifest_refused", None).await;
    let mut fields: Vec<_> =
        letters["items"].as_array().expect("a list").iter().map(|one| one["field"].clone()).collect();
    fields.sort_by_key(ToString::to_string);
    assert_eq!(fields, [json!("eventTypes[0]"), json!("name")]);
    // It can be corrected.
    announce(&open, &json!({"name": "broken"})).await;
    until("it holds", async || plugin(&open, "broken").await.is_some_and(|one| one.get("refused").is_none())).await;
    let told = open.records(Topic::Plugins).await;
    let told: Vec<Value> = told.iter().map(|one| serde_json::from_slice(&one.value).expect("JSON")).collect();
    let first = told.iter().find(|one| one["data"]["name"] == NAME).expect("told");
    assert_eq!((&first["data"]["revision"], &first["data"]["active"]), (&json!(1), &json!(false)));
    assert_eq!((&first["data"]["whileOff"], &first["data"]["skipBefore"]), (&json!("wait"), &json!(0)));
    open.stop().await;
}

#[actix::test]
async fn a_new_manifest_keeps_the_settings_that_still_hold_and_switches_the_plugin_off_otherwise() {
    let shop = Shop::new();
    let open = shop.open().await;
    switched_on(&open, &json!({})).await;
    open.change(NAME, json!({"settings": {"threshold": 7}})).await;
    announce(&open, &json!({"version": "1.1.0"})).await;
    until("it is replaced", async || plugin(&open, NAME).await.is_some_and(|one| one["version"] == "1.1.0")).await;
    let kept = plugin(&open, NAME).await.expect("known");
    assert_eq!(
        (&kept["active"], &kept["revision"], &kept["settings"]["threshold"]),
        (&json!(true), &json!(3), &json!(7))
    );
    let schema = json!({"type": "object", "properties": {"limit": {"type": "integer"}}, "required": ["limit"]});
    announce(&open, &json!({"version": "2.0.0", "settingsSchema": schema, "defaultSettings": {"limit": 1}})).await;
    until("it is replaced", async || plugin(&open, NAME).await.is_some_and(|one| one["version"] == "2.0.0")).await;
    let off = plugin(&open, NAME).await.expect("known");
    assert_eq!((&off["active"], &off["revision"]), (&json!(false), &json!(4)));
    assert!(off["fault"].as_str().expect("why").contains("settings.limit: is missing"), "{off}");
    let (status, problem) = open.call("PATCH", &format!("/api/plugins/{NAME}"), Some(json!({"active": true}))).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("settings.limit")), "{problem}");
    let settings = json!({"active": true, "settings": {"limit": 3, "threshold": null}});
    let (status, plugin) = open.call("PATCH", &format!("/api/plugins/{NAME}"), Some(settings)).await;
    assert_eq!((status, &plugin["active"], plugin.get("fault")), (200, &json!(true), None), "{plugin}");
    let (_, history) = open.call("GET", &format!("/api/plugins/{NAME}/history"), None).await;
    let reasons: Vec<_> =
        history["items"].as_array().expect("a list").iter().filter_map(|one| one["reason"].as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("switched off")), "{history}");
    open.stop().await;
}

#[actix::test]
async fn one_that_was_taken_away_comes_back_with_the_next_revision_and_without_what_lay_there() {
    let shop = Shop::new();
    let open = shop.open().await;
    let take_away = async || {
        let tombstone = NewRecord { value: Bytes::new(), ..on_topic(Topic::Manifests, NAME, "", &[]) };
        open.append_raw(tombstone).await;
    };
    switched_on(&open, &json!({})).await;
    open.change(NAME, json!({"settings": {"threshold": 7}})).await;
    take_away().await;
    announce(&open, &json!({"version": "1.1.0"})).await;
    until("the next manifest is taken", async || {
        plugin(&open, NAME).await.is_some_and(|one| one["version"] == "1.1.0")
    })
    .await;
    let stays = plugin(&open, NAME).await.expect("known");
    assert_eq!((&stays["active"], &stays["revision"]), (&json!(true), &json!(3)), "while it is on it stays");
    open.change(NAME, json!({"active": false})).await;
    take_away().await;
    until("it is gone", async || plugin(&open, NAME).await.is_none()).await;
    announce(&open, &json!({})).await;
    until("it is back", async || plugin(&open, NAME).await.is_some()).await;
    let back = plugin(&open, NAME).await.expect("known");
    assert_eq!((&back["active"], &back["revision"]), (&json!(false), &json!(5)), "who heard of revision 4 must obey");
    assert_eq!(back["settings"], json!({"threshold": 4}));
    open.change(NAME, json!({"active": true})).await;
    open.append(&[drawer("T1", 1, 0)]).await;
    open.settled().await;
    assert_eq!(input_ids(&open).await, ["T1-1"]);
    let told = open.records(Topic::Plugins).await.pop().expect("told");
    let told: Value = serde_json::from_slice(&told.value).expect("JSON");
    assert_eq!((&told["data"]["revision"], &told["data"]["skipBefore"]), (&json!(6), &json!(5)));
    open.stop().await;
}

/// Definitions that each refer twice to the next one: 2^40 steps for whoever follows them.
fn doubling(keyword: &str) -> Value {
    let next = |number: usize| json!({"$ref": format!("#/$defs/d{number}")});
    let mut definitions: serde_json::Map<String, Value> =
        (0..40).map(|number| (format!("d{number}"), json!({keyword: [next(number + 1), next(number + 1)]}))).collect();
    definitions.insert("d40".to_owned(), json!({"type": "integer"}));
    json!({"type": "object", "properties": {"a": next(0)}, "$defs": definitions})
}

#[actix::test]
async fn a_manifest_that_would_take_for_ever_is_refused_and_named_and_the_next_one_is_read() {
    let shop = Shop::on_a_file();
    let open = shop.open().await;
    for (name, schema) in [("all", doubling("allOf")), ("any", doubling("anyOf"))] {
        announce(&open, &json!({"name": name, "settingsSchema": schema, "defaultSettings": {"a": 1}})).await;
    }
    announce(&open, &json!({})).await;
    until("the next one is known", async || plugin(&open, NAME).await.is_some()).await;
    for name in ["all", "any"] {
        let refused = plugin(&open, name).await.expect("shown");
        assert!(refused["refused"].as_str().expect("why").starts_with("settingsSchema: "), "{refused}");
    }
    let (_, letters) = open.call("GET", "/api/deadletters?reason=manifest_refused", None).await;
    assert_eq!(letters["items"].as_array().expect("a list").len(), 2, "{letters}");
    // What else is done goes on, the process ends when it is told, and reads the same topic again.
    open.append(&[drawer("T1", 1, 0)]).await;
    open.settled().await;
    open.stop().await;
    let open = shop.open().await;
    until("it is ready", async || open.call("GET", "/health/ready", None).await.0 == 200).await;
    assert!(plugin(&open, "all").await.expect("shown")["refused"].is_string());
    announce(&open, &json!({"version": "1.0.1"})).await;
    until("it is replaced", async || plugin(&open, NAME).await.is_some_and(|one| one["version"] == "1.0.1")).await;
    open.stop().await;
}

#[actix::test]
async fn settings_that_would_take_for_ever_to_check_are_refused() {
    let shop = Shop::new();
    let open = shop.open().await;
    // The schema is small, and so is what it begins with; the settings make it expensive.
    let entry = json!({"anyOf": (0..200).map(|number| json!({"properties": {"k": {"const": number}}, "required": ["k"]}))
        .collect::<Vec<_>>()});
    let schema = json!({"type": "object", "properties": {"list": {"type": "array", "items": entry}}});
    announce(&open, &json!({"settingsSchema": schema, "defaultSettings": {"list": [{"k": 1}]}})).await;
    until("it is taken", async || plugin(&open, NAME).await.is_some()).await;
    let many = json!({"settings": {"list": vec![json!({"k": 199}); 5_000]}});
    let (status, problem) = open.call("PATCH", &format!("/api/plugins/{NAME}"), Some(many)).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("settings")), "{problem}");
    assert!(problem["errors"][0]["message"].as_str().expect("why").contains("takes too long"), "{problem}");
    let few = json!({"settings": {"list": [{"k": 199}]}});
    let (status, _) = open.call("PATCH", &format!("/api/plugins/{NAME}"), Some(few)).await;
    assert_eq!(status, 200);
    open.stop().await;
}
