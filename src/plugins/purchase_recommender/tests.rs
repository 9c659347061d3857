use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::effect::Effect;
use crate::plugins::testing::{Run, at, event, published, records, wrong_fields};

struct Till {
    run: Run<PurchaseRecommender>,
    line: u32,
}

impl Till {
    fn new(settings: Value) -> Self {
        Self { run: Run::new(Scope::Terminal, "T0001", settings), line: 0 }
    }

    fn send(&mut self, kind: EventType, mut data: Value) -> Vec<Effect> {
        self.line += 1;
        data["employeeId"] = "E7".into();
        data["line"] = self.line.into();
        let time = at("09:00:00").plus_seconds(i64::from(self.line));
        self.run.apply(&event("S001/T0001", kind, time, &data))
    }

    /// Answers what was recommended.
    fn add(&mut self, basket: &str, product: &str, category: &str) -> Vec<String> {
        let data = json!({"basketId": basket, "productId": product, "category": category, "quantity": 1,
            "unitPrice": 100, "currency": "EUR"});
        recommended(&self.send(EventType::ItemAdded, data))
    }

    /// Answers the records that an item leads to which was scanned so many seconds before the last event.
    fn add_earlier(&mut self, basket: &str, product: &str, seconds: i64) -> Vec<Effect> {
        let data = json!({"basketId": basket, "employeeId": "E7", "line": 99, "productId": product, "category": "alcohol",
            "quantity": 1, "unitPrice": 100, "currency": "EUR"});
        let time = at("09:00:00").plus_seconds(i64::from(self.line) - seconds);
        self.run.apply(&event("S001/T0001", EventType::ItemAdded, time, &data))
    }

    fn total(&mut self, basket: &str, total: i64) {
        let data =
            json!({"basketId": basket, "itemCount": 1, "subtotal": total, "tax": 0, "total": total, "currency": "EUR"});
        self.send(EventType::SubtotalFinalized, data);
    }

    fn void(&mut self, basket: &str, product: &str) {
        let data =
            json!({"basketId": basket, "productId": product, "quantity": 1, "unitPrice": 100, "currency": "EUR"});
        assert!(self.send(EventType::ItemVoided, data).is_empty());
    }

    /// Answers what was recommended and whether it was taken.
    fn pay(&mut self, basket: &str) -> Vec<(String, bool)> {
        let data = json!({"basketId": basket, "paymentId": "p", "method": "cash", "amount": 1, "currency": "EUR"});
        take_up(&self.send(EventType::PaymentCompleted, data))
    }

    fn cancel(&mut self, basket: &str) -> Vec<(String, bool)> {
        take_up(&self.send(EventType::BasketCancelled, json!({"basketId": basket})))
    }
}

fn recommended(effects: &[Effect]) -> Vec<String> {
    published(effects)
        .iter()
        .flat_map(|data| match data {
            EventData::RecommendationMade(data) => data.recommended.iter().map(|made| made.product_id.to_string()),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn take_up(effects: &[Effect]) -> Vec<(String, bool)> {
    records(effects)
        .into_iter()
        .map(|record| match record {
            Record::Recommendation(record) => (record.recommended.clone(), record.taken_up),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn wine_and_cheese() -> Till {
    Till::new(json!({"maximum": 2, "pairings": [
        {"products": ["wine"], "recommend": ["glass", "brie"], "reason": "goes with wine"},
        {"categories": ["alcohol"], "recommend": ["brie", "crisps", "nuts"], "reason": "a snack"},
    ]}))
}

#[test]
fn pairings_of_product_and_category_are_joined_in_the_order_of_the_settings() {
    let mut till = wine_and_cheese();
    assert_eq!(till.add("b1", "wine", "alcohol"), ["glass", "brie"]);
    assert_eq!(till.add("b1", "beer", "alcohol"), ["crisps", "nuts"]);
    assert_eq!(till.add("b1", "gin", "alcohol"), [""; 0]);
    assert_eq!(till.add("b1", "bread", "bakery"), [""; 0]);
}

#[test]
fn what_is_in_the_basket_was_voided_or_is_given_back_is_not_recommended() {
    let mut till = wine_and_cheese();
    till.add("b1", "brie", "dairy");
    assert_eq!(till.add("b1", "beer", "alcohol"), ["crisps", "nuts"]);
    till.void("b1", "brie");
    assert_eq!(till.add("b1", "beer", "alcohol"), [""; 0], "the customer did not want it");
    let back = json!({"basketId": "b2", "productId": "glass", "category": "household", "quantity": 1, "unitPrice": 100,
        "currency": "EUR"});
    assert!(till.send(EventType::ItemReturned, back).is_empty());
    assert_eq!(till.add("b2", "wine", "alcohol"), ["brie", "crisps"]);
}

#[test]
fn what_is_taken_up_after_a_part_payment_counts() {
    for with_total in [true, false] {
        let mut till = wine_and_cheese();
        till.add("b1", "wine", "alcohol");
        if with_total {
            till.total("b1", 100);
            assert_eq!(till.pay("b1"), [], "one cent of a hundred");
            till.add("b9", "bread", "bakery");
        } else {
            assert_eq!(till.pay("b1").len(), 2, "it may have been the last payment");
        }
        assert_eq!(till.add("b1", "glass", "household"), [""; 0]);
        assert_eq!(till.pay("b1"), [("glass".to_owned(), true), ("brie".to_owned(), false)]);
    }
}

#[test]
fn states_of_the_version_before_are_understood() {
    #[derive(Serialize)]
    struct Old {
        b: Vec<OldBasket>,
        e: Option<&'static str>,
    }
    #[derive(Serialize)]
    struct OldBasket {
        i: &'static str,
        p: BTreeMap<&'static str, i64>,
        r: Vec<()>,
    }
    let old = Old { b: vec![OldBasket { i: "b1", p: BTreeMap::from([("wine", 1500)]), r: Vec::new() }], e: Some("b0") };
    let state: State = rmp_serde::from_slice(&rmp_serde::to_vec_named(&old).unwrap()).unwrap();
    assert_eq!(state.baskets[0].products.values().collect::<Vec<_>>(), [&15_000]);
    assert_eq!(state.ended_id.as_deref(), Some("b0"));
}

#[test]
fn take_up_is_what_is_in_the_basket_at_its_end() {
    let mut till = wine_and_cheese();
    till.add("b1", "wine", "alcohol");
    till.add("b1", "glass", "household");
    till.add("b1", "brie", "dairy");
    till.void("b1", "brie");
    assert_eq!(till.pay("b1"), [("glass".to_owned(), true), ("brie".to_owned(), false)]);
    assert_eq!(till.pay("b1"), []);
}

#[test]
fn a_cancelled_basket_counts_as_well_and_baskets_do_not_mix() {
    let mut till = wine_and_cheese();
    till.add("b1", "wine", "alcohol");
    assert_eq!(till.add("b2", "wine", "alcohol"), ["glass", "brie"]);
    till.add("b1", "glass", "household");
    assert_eq!(till.cancel("b1"), [("glass".to_owned(), true), ("brie".to_owned(), false)]);
    assert_eq!(till.cancel("b2"), [("glass".to_owned(), false), ("brie".to_owned(), false)]);
}

#[test]
fn an_item_that_its_payment_has_overtaken_prompts_nothing() {
    let mut till = wine_and_cheese();
    till.add("b1", "wine", "alcohol");
    till.pay("b1");
    assert_eq!(take_up(&till.add_earlier("b1", "brie", 1)), [("brie".to_owned(), true)]);
    assert!(till.add_earlier("b1", "gin", 0).is_empty());
    till.void("b9", "wine");
    assert_eq!(till.add("b2", "wine", "alcohol"), ["glass", "brie"]);
}

#[test]
fn the_basket_that_was_left_alone_longest_ends_when_a_ninth_begins() {
    let mut till = wine_and_cheese();
    for basket in 1..=8 {
        till.add(&format!("b{basket}"), "wine", "alcohol");
    }
    till.void("b1", "wine");
    let data = json!({"basketId": "b9", "productId": "wine", "category": "alcohol", "quantity": 1,
        "unitPrice": 100, "currency": "EUR"});
    let effects = till.send(EventType::ItemAdded, data);
    let ended: Vec<_> = records(&effects)
        .into_iter()
        .map(|record| match record {
            Record::Recommendation(record) => record.basket_id.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ended, ["b2", "b2"]);
    assert_eq!(recommended(&effects), ["glass", "brie"]);
}

#[test]
fn wrong_settings_name_their_fields() {
    let wrong = wrong_fields::<PurchaseRecommender>;
    assert_eq!(wrong(json!({})), [""; 0]);
    assert_eq!(
        wrong(json!({"maximum": 0, "pairings": [{"recommend": ["a"]}, {"products": ["a", ""], "recommend": []}]})),
        ["maximum", "pairings[0].products", "pairings[1].recommend", "pairings[1].products[1]"]
    );
    assert!(serde_json::from_value::<Settings>(json!({"pairings": [{"product": "a"}]})).is_err());
}

proptest! {
    #[test]
    fn a_basket_is_never_offered_what_it_holds_nor_the_same_thing_twice(
        steps in prop::collection::vec((0..4_u8, 0..8_u8, 0..8_u8), 1..120),
    ) {
        let pairings: Vec<_> = (0..8_u8)
            .map(|of| json!({"products": [format!("p{of}")], "recommend": [format!("p{}", of ^ 1), format!("p{}", (of + 3) % 8)]}))
            .collect();
        let mut till = Till::new(json!({"pairings": pairings}));
        let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut offered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut sales = [0; 8];
        for (step, basket, product) in steps {
            let sale = &mut sales[usize::from(basket)];
            let (name, product) = (format!("b{basket}-{sale}"), format!("p{product}"));
            if step > 0 {
                let made = till.add(&name, &product, "c");
                let held = held.entry(name.clone()).or_default();
                held.insert(product);
                for product in made {
                    prop_assert!(!held.contains(&product));
                    prop_assert!(offered.entry(name.clone()).or_default().insert(product));
                }
            } else {
                *sale += 1;
                let held = held.remove(&name).unwrap_or_default();
                let expected = offered.remove(&name).unwrap_or_default();
                let outcome = till.pay(&name);
                prop_assert_eq!(outcome.len(), expected.len());
                for (product, taken_up) in outcome {
                    prop_assert_eq!(taken_up, held.contains(&product));
                    prop_assert!(expected.contains(&product));
                }
            }
            prop_assert!(till.run.stored_bytes() < 8_000);
        }
    }
}
