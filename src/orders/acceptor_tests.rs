//! The acceptor on a real store, against a model that knows which key stands for which order.

use std::collections::HashMap;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::store::OrderFilter;

const KEEP: Duration = Duration::from_hours(24);

struct Scene {
    _directory: tempfile::TempDir,
    store: Store,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        Self { _directory: directory, store }
    }

    /// An acceptor as a process has it that has just started: it knows nothing but what is stored.
    fn acceptor(&self) -> Arc<Acceptor> {
        Acceptor::new(self.store.clone(), OrderSignals::default(), KEEP)
    }

    async fn orders(&self) -> usize {
        self.store.orders(OrderFilter::default(), None, 1000).await.unwrap().items.len()
    }
}

fn order(total: u8) -> OrderRequest {
    let body = format!(
        r#"{{"storeId":"S","terminalId":"T","currency":"EUR","items":[{{"productId":"P","quantity":1,"unitPrice":{total}}}],"total":{total}}}"#
    );
    OrderRequest::parse(body.as_bytes()).unwrap()
}

/// A request by its caller, key and order.
type Request = (u8, u8, u8);

/// What the model knows of a key: the order that it stands for, and what was answered.
type Model = HashMap<(u8, u8), (u8, String, String)>;

/// Requests of one moment: all are under way at once.
async fn at_once(acceptor: &Arc<Acceptor>, requests: &[Request]) -> Vec<Result<Accepted, AcceptError>> {
    let accept = requests.iter().map(|&(caller, key, total)| async move {
        acceptor.accept(&format!("till-{caller}"), &format!("key-{key}"), &order(total)).await
    });
    join_all(accept).await
}

fn check(
    model: &mut Model,
    requests: &[Request],
    answers: &[Result<Accepted, AcceptError>],
) -> Result<(), TestCaseError> {
    for (&(caller, key, total), answer) in requests.iter().zip(answers) {
        if let Ok(Accepted::New { order_id, answer }) = answer {
            let stands_for = (total, order_id.clone(), answer.clone());
            prop_assert!(model.insert((caller, key), stands_for).is_none(), "a second order under one key");
        }
    }
    for (index, (&(caller, key, total), answer)) in requests.iter().zip(answers).enumerate() {
        let known = model.get(&(caller, key));
        match answer {
            Ok(Accepted::New { .. }) => {}
            Ok(Accepted::Replayed { order_id, status, answer }) => {
                prop_assert_eq!(known, Some(&(total, order_id.clone(), answer.clone())));
                prop_assert_eq!(*status, 201);
            }
            Err(AcceptError::OtherOrder) => prop_assert!(known.is_some_and(|(first, ..)| *first != total)),
            Err(AcceptError::Running) => {
                let others = requests.iter().enumerate().filter(|(other, _)| *other != index);
                prop_assert!(others.into_iter().any(|(_, other)| (other.0, other.1) == (caller, key)));
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_key_of_a_caller_stands_for_its_first_order_whatever_comes_and_whoever_restarts(
        moments in prop::collection::vec((prop::collection::vec((0_u8..2, 0_u8..4, 1_u8..4), 1..12), any::<bool>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let scene = Scene::new().await;
            let (mut acceptor, mut model) = (scene.acceptor(), Model::new());
            for (requests, restart) in moments {
                let answers = at_once(&acceptor, &requests).await;
                check(&mut model, &requests, &answers)?;
                prop_assert_eq!(scene.orders().await, model.len());
                if restart {
                    acceptor = scene.acceptor();
                }
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn many_that_wait_are_written_together() {
    let scene = Scene::new().await;
    let acceptor = scene.acceptor();
    let requests: Vec<Request> = (0..200).map(|key| (0, key, 1)).collect();
    let answers = at_once(&acceptor, &requests).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Accepted::New { .. }))));
    assert!(acceptor.figures.groups.get() < 20, "{} transactions", acceptor.figures.groups.get());
    assert_eq!(acceptor.figures.accepted.get(), 200);
}

#[tokio::test]
async fn a_caller_that_goes_away_gets_the_answer_when_it_asks_again() {
    let scene = Scene::new().await;
    let acceptor = scene.acceptor();
    let first = order(1);
    let hurried = tokio::time::timeout(Duration::ZERO, acceptor.accept("till", "key", &first)).await;
    assert!(hurried.is_err(), "it did not wait");
    let answer = loop {
        match acceptor.accept("till", "key", &first).await {
            Err(AcceptError::Running) => tokio::task::yield_now().await,
            other => break other.unwrap(),
        }
    };
    assert!(matches!(answer, Accepted::Replayed { .. }), "{answer:?}");
    assert_eq!(scene.orders().await, 1);
}

#[tokio::test]
async fn without_the_store_nothing_is_accepted_and_the_key_is_free_again() {
    let scene = Scene::new().await;
    let acceptor = scene.acceptor();
    scene.store.close().await;
    for _ in 0..2 {
        let answer = acceptor.accept("till", "key", &order(1)).await;
        assert!(matches!(answer, Err(AcceptError::Unavailable(_))), "{answer:?}");
    }
}
