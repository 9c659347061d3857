use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::Event;

fn valid() -> Value {
    json!({"storeId": "S001", "terminalId": "T0001", "employeeId": "E7", "currency": "EUR",
        "items": [{"productId": "P1", "quantity": 2, "unitPrice": 150}, {"productId": "P2", "quantity": 0.333, "unitPrice": 199}],
        "tax": 20, "discount": 5, "total": 381})
}

fn parse(order: &Value) -> Result<OrderRequest, OrderError> {
    OrderRequest::parse(order.to_string().as_bytes())
}

fn wrong_fields(change: impl Fn(&mut Value)) -> Vec<String> {
    let mut order = valid();
    change(&mut order);
    match parse(&order) {
        Err(OrderError::Invalid(errors)) => errors.into_iter().map(|error| error.field).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_wrong_field_is_named() {
    assert_eq!(wrong_fields(|order| order["total"] = json!(380 + 5)), ["total"]);
    assert_eq!(wrong_fields(|order| order["currency"] = json!("EUX")), ["currency"]);
    assert_eq!(wrong_fields(|order| order["items"] = json!([])), ["items"]);
    assert_eq!(wrong_fields(|order| order["items"][1]["quantity"] = json!(0.3333)), ["items[1].quantity"]);
    assert_eq!(wrong_fields(|order| order["items"][0]["quantity"] = json!(0)), ["items[0].quantity"]);
    assert_eq!(wrong_fields(|order| order["items"][0]["unitPrice"] = json!(-1)), ["items[0].unitPrice"]);
    assert_eq!(wrong_fields(|order| order["terminalId"] = json!("T/1")), ["terminalId"]);
    assert_eq!(wrong_fields(|order| order["customerId"] = json!("4111 1111 1111 1111")), ["customerId"]);
    let several = wrong_fields(|order| {
        order["storeId"] = json!("");
        order["totl"] = json!(1);
        order.as_object_mut().unwrap().remove("total");
    });
    assert_eq!(several.len(), 3, "{several:?}");
    assert!(matches!(OrderRequest::parse(b"{"), Err(OrderError::NotJson(_))));
    assert!(matches!(OrderRequest::parse(br#"{"storeId":"a","storeId":"b"}"#), Err(OrderError::Invalid(_))));
}

#[test]
fn barcodes_and_loyalty_numbers_can_be_ordered_though_their_check_digit_is_that_of_a_card() {
    let with = |field: &str, value: &str| {
        let mut order = valid();
        match field {
            "customerId" => order["customerId"] = json!(value),
            field => order["items"][0][field] = json!(value),
        }
        parse(&order).map(|_| ())
    };
    for code in ["5449000000996", "3175680011480", "00012345600012", "9780306406157", "96385074", "4111111111111111"] {
        assert_eq!(with("productId", code), Ok(()), "{code}");
    }
    for loyalty in ["9000000000000001", "9826300000000007", "5449000000996"] {
        assert_eq!(with("customerId", loyalty), Ok(()), "{loyalty}");
    }
    for text in ["Gift card 5449000000996", "6 x 0.33 l"] {
        assert_eq!(with("description", text), Ok(()), "{text}");
    }
    for text in ["paid with 4111-1111-1111-1111", "378282246310005"] {
        assert!(with("description", text).is_err(), "{text}");
    }
}

#[test]
fn a_line_that_is_no_whole_number_of_cents_may_be_rounded_either_way() {
    let with_total = |total: i64| {
        let mut order = valid();
        // 2 x 150 + 66.267 + 20 - 5 = 381.267
        order["total"] = json!(total);
        parse(&order).is_ok()
    };
    assert!(with_total(381));
    assert!(!with_total(382) && !with_total(380));
}

#[test]
fn the_same_order_written_otherwise_is_the_same() {
    let one = OrderRequest::parse(
        br#"{"storeId":"S","terminalId":"T","currency":"EUR","items":[{"productId":"P","quantity":1.50,"unitPrice":100}],"total":150}"#,
    );
    let other = OrderRequest::parse(
        br#"{ "total": 150, "tax": null, "items": [{"unitPrice":100, "quantity": 1.5, "productId":"\u0050"}], "currency":"EUR", "terminalId":"T","storeId":"S"}"#,
    );
    let (one, other) = (one.unwrap().document(), other.unwrap().document());
    assert_eq!(one, other);
    assert_eq!(fingerprint(&one), fingerprint(&other));
    assert_ne!(fingerprint(&one), fingerprint(&one.replace("150", "151")));
}

#[test]
fn ids_begin_with_their_time() {
    let at = Timestamp::parse("2026-11-22T02:00:00Z").unwrap();
    let (id, next) = (new_id(at), new_id(at.plus_millis(1)));
    assert!(id < next && lowest_id(at) < id && id < lowest_id(at.plus_millis(1)));
    assert_eq!((id.len(), &id[14..15]), (36, "7"));
}

#[test]
fn the_event_and_both_bodies_hold_the_whole_order() {
    let at = Timestamp::parse("2026-11-22T02:00:00Z").unwrap();
    let document = parse(&valid()).unwrap().document();
    let created = OrderEvent { kind: EventType::OrderCreated, id: "0192", at, store_id: "S001", terminal_id: "T0001" };
    let event = Event::parse(&created.to_bytes(&document, accepted("0192", at))).unwrap();
    assert_eq!((event.store_id(), event.terminal_id()), (Some("S001"), Some("T0001")));
    assert_eq!((event.data.employee_id().map(Id::as_str), event.data.amount()), (Some("E7"), Some(381)));
    let raw: Value = serde_json::from_slice(&event.raw).unwrap();
    assert_eq!(raw["data"]["status"], "PENDING");
    let body: Value = serde_json::from_str(&delivery_body(&document, "0192", at)).unwrap();
    assert_eq!((&body["id"], &body["items"]), (&json!("0192"), &raw["data"]["items"]));
    assert_eq!(body["createdAt"], "2026-11-22T02:00:00.000Z");
}

proptest! {
    #[test]
    fn an_order_whose_total_adds_up_is_accepted_and_reads_back(
        lines in proptest::collection::vec((1_i64..50_000, 0_i64..100_000), 1..20),
        tax in proptest::option::of(0_i64..1000),
    ) {
        let items: Vec<_> = lines.iter().map(|&(thousandths, price)| OrderLine {
            product_id: Id::new("P").unwrap(),
            quantity: Quantity::from_thousandths(thousandths).unwrap(),
            unit_price: Amount::new(price).unwrap(),
            amount: None,
            description: None,
        }).collect();
        let total: i64 = items.iter().map(|line| line.quantity.times(line.unit_price)).sum::<i64>() + tax.unwrap_or(0);
        let order = OrderRequest {
            store_id: Id::new("S").unwrap(),
            terminal_id: Id::new("T").unwrap(),
            employee_id: None,
            customer_id: None,
            currency: Currency::EUR,
            items,
            tax: tax.and_then(Amount::new),
            discount: None,
            total: Amount::new(total).unwrap(),
        };
        let document = order.document();
        let read = OrderRequest::parse(document.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&order));
        prop_assert_eq!(read.unwrap().document(), document);
    }

    #[test]
    fn no_body_makes_the_reader_fall_over(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = OrderRequest::parse(&body);
    }
}
