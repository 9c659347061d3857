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
    assert_eq!(wrong_fields(|order| order["items"][1]["quantity"] = json!(0.33333)), ["items[1].quantity"]);
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

/// What becomes of an order of one line of `price` with these fields besides.
fn priced(price: i64, with: &Value) -> Result<(), Vec<String>> {
    let mut order = json!({"storeId": "S", "terminalId": "T", "currency": "EUR",
        "items": [{"productId": "P", "quantity": 1, "unitPrice": price}]});
    order.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    match parse(&order) {
        Ok(_) => Ok(()),
        Err(OrderError::Invalid(errors)) => Err(errors.into_iter().map(|error| error.to_string()).collect()),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn tax_that_is_in_the_prices_is_not_added_again() {
    assert_eq!(priced(10_000, &json!({"tax": 909, "taxIncluded": true, "total": 10_000})), Ok(()));
    assert!(priced(10_000, &json!({"tax": 909, "taxIncluded": true, "total": 10_909})).is_err());
    assert_eq!(priced(10_000, &json!({"tax": 909, "total": 10_909})), Ok(()));
    assert_eq!(priced(10_000, &json!({"tax": 909, "taxIncluded": false, "total": 10_909})), Ok(()));
}

#[test]
fn cash_is_rounded_to_the_smallest_coin_either_way() {
    assert_eq!(priced(197, &json!({"rounding": -2, "total": 195})), Ok(()));
    assert_eq!(priced(198, &json!({"rounding": 2, "total": 200})), Ok(()));
    assert!(priced(198, &json!({"rounding": -2, "total": 200})).is_err());
    assert!(priced(198, &json!({"total": 200})).is_err());
}

#[test]
fn what_comes_back_is_taken_off_and_may_leave_money_for_the_customer() {
    let lines = |lines: &[(i64, bool)]| -> Value {
        let line = |(price, returned): &(i64, bool)| json!({"productId": "P", "quantity": 1, "unitPrice": price, "returned": returned});
        lines.iter().map(line).collect()
    };
    let order = |items: &[(i64, bool)], with: Value| {
        let mut whole = with;
        whole["items"] = lines(items);
        priced(0, &whole)
    };
    assert_eq!(order(&[(1000, false), (1000, true)], json!({"total": 0})), Ok(()), "an exchange");
    assert_eq!(order(&[(1500, false), (310, true)], json!({"total": 1190})), Ok(()), "a deposit");
    assert_eq!(order(&[(150, true)], json!({"total": 150, "direction": "refund"})), Ok(()), "a return");
    let refused = order(&[(150, true)], json!({"total": 0})).unwrap_err();
    assert!(refused[0].contains("with direction: refund the total is 150"), "{refused:?}");
    assert!(order(&[(150, true)], json!({"total": 150})).is_err());
    assert!(order(&[(150, false)], json!({"total": 150, "direction": "refund"})).is_err());
}

#[test]
fn withdrawn_currencies_are_refused_and_say_what_came_after_them() {
    for (code, accepted) in
        [("HRK", false), ("BGN", false), ("ZWL", false), ("XCG", true), ("JPY", true), ("OMR", true)]
    {
        assert_eq!(priced(100, &json!({"currency": code, "total": 100})).is_ok(), accepted, "{code}");
    }
    let refused = priced(100, &json!({"currency": "BGN", "total": 100})).unwrap_err();
    assert!(refused[0].contains("EUR since 2026-01-01"), "{refused:?}");
}

#[test]
fn an_order_without_the_newer_keys_is_written_as_it_was_before_there_were_any() {
    let order = json!({"storeId": "S", "terminalId": "T", "currency": "EUR", "total": 1,
        "items": [{"productId": "P", "quantity": 1, "unitPrice": 1}]});
    assert_eq!(
        parse(&order).unwrap().document(),
        r#"{"storeId":"S","terminalId":"T","currency":"EUR","items":[{"productId":"P","quantity":1,"unitPrice":1}],"total":1}"#
    );
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
            quantity: Quantity::from_parts(thousandths * 10).unwrap(),
            unit_price: Amount::new(price).unwrap(),
            amount: None,
            description: None,
            returned: false,
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
            tax_included: None,
            rounding: None,
            direction: None,
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
