//! The dispatcher on the real store and against the stub of the customer system.

use std::sync::Mutex as StdMutex;

use diesel::Connection;
use diesel::connection::SimpleConnection;
use serde_json::json;

use super::*;
use crate::delivery::breaker::FAILURES_TO_OPEN;
use crate::delivery::stub_customers::{Behaviour, StubCustomers};
use crate::event::{Event, EventData, Scope};
use crate::store::Commit;

/// Ids that the stub knows, and one that it does not.
const KNOWN: &str = "C0001";
const TERMINAL: &str = "/stores/S001/terminals/T0007";

struct Scene {
    directory: tempfile::TempDir,
    store: Store,
    stub: StubCustomers,
    notices: Arc<StdMutex<Vec<HttpNotice>>>,
}

impl Scene {
    async fn new(behaviour: Behaviour) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("store.db").display())).await.unwrap();
        let stub = StubCustomers::start(0, behaviour).unwrap();
        Self { directory, store, stub, notices: Arc::default() }
    }

    fn dispatcher(&self, url: Option<&str>) -> Arc<Dispatcher> {
        let notices = Arc::clone(&self.notices);
        let endpoints = Endpoints { customers: url.map(|url| RemoteUrl::parse(url).unwrap()) };
        let (wake, relay) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let listener = move |notice| notices.lock().unwrap().push(notice);
        Dispatcher::new(self.store.clone(), endpoints, wake, relay, None, listener)
    }

    async fn ask(&self, effects: Vec<HttpEffect>) {
        let commit = Commit { settings_epoch: 1, http: effects, ..Commit::default() };
        self.store.commit(Arc::new(commit)).await.unwrap();
    }

    fn notice_count(&self) -> usize {
        self.notices.lock().unwrap().len()
    }

    async fn wait_for_notices(&self, count: usize) {
        while self.notice_count() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Completes once no call waits and `count` notices have come. A write that a dead dispatcher left behind ends a call
    /// without a notice: then a moment without calls is enough.
    async fn wait_for_end(&self, count: usize) {
        let mut calm = 0;
        while self.notice_count() < count && calm < 50 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            calm = if self.store.http_depth().await.unwrap() == 0 { calm + 1 } else { 0 };
        }
    }

    /// Lets a dispatcher work until every call that waits has ended.
    async fn dispatch(&self, url: Option<&str>) -> Arc<Dispatcher> {
        let dispatcher = self.dispatcher(url);
        let waiting = usize::try_from(self.store.http_depth().await.unwrap()).unwrap();
        let ended = self.wait_for_end(self.notice_count() + waiting);
        tokio::select! {
            () = dispatcher.run() => unreachable!(),
            () = ended => {}
        }
        assert!(dispatcher.is_idle().await.unwrap());
        dispatcher
    }

    /// The answers in the outbox.
    async fn replies(&self) -> Vec<Event> {
        let rows = self.store.outbox_after("dispatch", i64::MIN, 10_000).await.unwrap();
        rows.into_iter().flat_map(|row| row.records).map(|record| Event::parse(&record.value).unwrap()).collect()
    }

    async fn outcomes(&self) -> Vec<ReplyOutcome> {
        self.replies().await.into_iter().map(|event| outcome(&event)).collect()
    }
}

fn outcome(event: &Event) -> ReplyOutcome {
    match &event.data {
        EventData::Reply(reply) => reply.outcome.clone(),
        other => panic!("{other:?}"),
    }
}

fn failed(error: &str) -> ReplyOutcome {
    ReplyOutcome::Failed { error: error.to_owned() }
}

fn look_up(number: usize, customer: &str) -> HttpEffect {
    HttpEffect {
        id: format!("effect-{number}"),
        plugin: "customer-lookup".to_owned(),
        scope: Scope::Terminal,
        entity: "T0007".to_owned(),
        terminal: TERMINAL.to_owned(),
        causation_id: format!("{TERMINAL}#cause-{number}"),
        at: Timestamp::parse("2026-01-05T06:00:00Z").unwrap(),
        request: HttpRequest {
            service: Service::Customers,
            path: customer.to_owned(),
            token: format!("token-{number}"),
            timeout_ms: 5_000,
            attempts: 3,
            cache_seconds: 60,
            keep: vec!["firstName".to_owned(), "points".to_owned()],
        },
    }
}

#[tokio::test]
async fn only_the_kept_keys_of_an_answer_come_back_to_the_plugin_that_asked() {
    let scene = Scene::new(Behaviour::default()).await;
    scene.ask(vec![look_up(1, KNOWN)]).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    let replies = scene.replies().await;
    let [event] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!(event.id.as_str(), "effect-1-reply");
    assert_eq!(event.source.as_str(), "/plugins/customer-lookup");
    assert_eq!(event.subject.as_deref(), Some(TERMINAL));
    assert_eq!(event.key(), "T0007");
    assert_eq!(event.causation_id.as_deref(), Some("/stores/S001/terminals/T0007#cause-1"));
    assert_eq!(event.time.to_string(), "2026-01-05T06:00:00.000Z");
    let EventData::Reply(reply) = &event.data else { panic!("{event:?}") };
    assert_eq!((reply.entity.as_str(), reply.token.as_str()), ("T0007", "token-1"));
    let ReplyOutcome::Answered { status: 200, body } = &reply.outcome else { panic!("{reply:?}") };
    assert_eq!(body.keys().collect::<Vec<_>>(), ["firstName", "points"]);
    let notice = scene.notices.lock().unwrap().pop().unwrap();
    assert_eq!((notice.status, notice.attempts, notice.cached), (Some(200), 1, false));
}

#[tokio::test]
async fn a_customer_that_is_not_known_is_an_answer() {
    let scene = Scene::new(Behaviour::default()).await;
    scene.ask((0..200).map(|number| look_up(number, &format!("C{number:04}"))).collect()).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    let outcomes = scene.outcomes().await;
    assert_eq!(outcomes.len(), 200);
    let unknown = ReplyOutcome::Answered { status: 404, body: serde_json::Map::new() };
    assert!(outcomes.contains(&unknown));
    assert!(outcomes.iter().all(|outcome| matches!(outcome, ReplyOutcome::Answered { status: 200 | 404, .. })));
}

#[tokio::test]
async fn without_an_address_a_call_fails_at_once() {
    let scene = Scene::new(Behaviour::default()).await;
    scene.ask(vec![look_up(1, KNOWN)]).await;
    scene.dispatch(None).await;
    assert_eq!(scene.outcomes().await, [failed("not_configured")]);
}

#[tokio::test]
async fn a_failing_system_is_asked_as_often_as_the_settings_allow() {
    let scene = Scene::new(Behaviour { fail: 1.0, ..Behaviour::default() }).await;
    scene.ask(vec![look_up(1, KNOWN)]).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    assert_eq!(scene.outcomes().await, [failed("status_500")]);
    assert_eq!(scene.stub.received().len(), 3);
    assert_eq!(scene.notices.lock().unwrap()[0].attempts, 3);
}

#[tokio::test]
async fn a_system_that_recovers_between_two_attempts_is_an_answer() {
    let scene = Scene::new(Behaviour { fail: 1.0, ..Behaviour::default() }).await;
    scene.ask(vec![look_up(1, KNOWN)]).await;
    let recovery = async {
        while scene.stub.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        scene.stub.set_behaviour(Behaviour::default());
    };
    let url = scene.stub.url();
    let (dispatcher, ()) = tokio::join!(scene.dispatch(Some(&url)), recovery);
    assert!(matches!(scene.outcomes().await[..], [ReplyOutcome::Answered { status: 200, .. }]));
    assert!(dispatcher.figures().retried >= 1);
}

#[tokio::test]
async fn an_answer_that_is_no_customer_is_not_asked_for_again() {
    let scene = Scene::new(Behaviour { garbage: 1.0, ..Behaviour::default() }).await;
    scene.ask((0..20).map(|number| look_up(number, &format!("C{number:04}"))).collect()).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    assert_eq!(scene.outcomes().await, vec![failed("invalid_answer"); 20]);
    assert_eq!(scene.stub.received().len(), 20);
}

#[tokio::test]
async fn a_system_that_is_down_or_silent_is_told_apart() {
    let scene = Scene::new(Behaviour { hang: 1.0, ..Behaviour::default() }).await;
    let mut silent = look_up(1, KNOWN);
    silent.request.timeout_ms = 100;
    silent.request.attempts = 2;
    scene.ask(vec![silent]).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    scene.ask(vec![look_up(2, KNOWN)]).await;
    scene.dispatch(Some(&format!("http://user:secret@127.0.0.1:{port}"))).await;
    assert_eq!(scene.outcomes().await, [failed("timeout"), failed("unreachable")]);
}

#[tokio::test]
async fn those_who_ask_the_same_share_one_call_and_its_answer() {
    let scene = Scene::new(Behaviour { latency_ms: 50, ..Behaviour::default() }).await;
    scene.ask((0..20).map(|number| look_up(number, KNOWN)).collect()).await;
    let dispatcher = scene.dispatch(Some(&scene.stub.url())).await;
    assert_eq!(scene.outcomes().await.len(), 20);
    assert_eq!(scene.stub.received().len(), 1);
    assert_eq!(dispatcher.figures().cached, 19);

    let mut never_reused = look_up(100, KNOWN);
    never_reused.request.cache_seconds = 0;
    let again = HttpEffect { id: "effect-101".to_owned(), ..never_reused.clone() };
    scene.ask(vec![never_reused, again]).await;
    scene.dispatch(Some(&scene.stub.url())).await;
    assert_eq!(scene.stub.received().len(), 3);
}

#[tokio::test]
async fn slow_answers_are_waited_for_side_by_side() {
    let scene = Scene::new(Behaviour { latency_ms: 300, ..Behaviour::default() }).await;
    scene.ask((0..60).map(|number| look_up(number, &format!("C{number:04}"))).collect()).await;
    let begun = Instant::now();
    scene.dispatch(Some(&scene.stub.url())).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "one after the other would take 18 s, not {:?}", begun.elapsed());
    assert_eq!(scene.outcomes().await.len(), 60);
}

#[tokio::test]
async fn a_system_that_keeps_failing_is_left_alone_and_calls_end_at_once() {
    let scene = Scene::new(Behaviour { fail: 1.0, ..Behaviour::default() }).await;
    let impatient = |number: usize| {
        let mut effect = look_up(number, &format!("C{number:04}"));
        effect.request.attempts = 1;
        effect
    };
    scene.ask((0..usize::try_from(FAILURES_TO_OPEN).unwrap()).map(impatient).collect()).await;
    let dispatcher = scene.dispatcher(Some(&scene.stub.url()));
    let running = tokio::spawn({
        let dispatcher = Arc::clone(&dispatcher);
        async move { dispatcher.run().await }
    });
    scene.wait_for_notices(10).await;
    assert_eq!(dispatcher.figures().breakers, [("customers", "open")]);
    scene.ask((10..30).map(impatient).collect()).await;
    dispatcher.wake.notify_one();
    scene.wait_for_notices(30).await;
    running.abort();
    let outcomes = scene.outcomes().await;
    assert!(outcomes[..10].iter().all(|outcome| *outcome == failed("status_500")));
    let open = outcomes.iter().filter(|outcome| **outcome == failed("circuit_open")).count();
    assert!(open >= 18, "only a probe or two may go through: {outcomes:?}");
    assert!(scene.stub.received().len() <= 12);
}

#[tokio::test]
async fn a_dispatcher_that_dies_again_and_again_answers_each_call_once() {
    let scene = Scene::new(Behaviour { latency_ms: 5, fail: 0.2, ..Behaviour::default() }).await;
    scene.ask((0..100).map(|number| look_up(number, &format!("C{number:04}"))).collect()).await;
    for round in 0..10 {
        let dispatcher = scene.dispatcher(Some(&scene.stub.url()));
        let _ = tokio::time::timeout(Duration::from_millis(5 + round), dispatcher.run()).await;
    }
    scene.dispatch(Some(&scene.stub.url())).await;
    let mut ids: Vec<_> = scene.replies().await.into_iter().map(|event| event.id.as_str().to_owned()).collect();
    assert_eq!(ids.len(), 100);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn what_no_event_may_hold_is_masked_whichever_key_it_hides_under() {
    let effect = look_up(1, KNOWN);
    let answer = json!({"favourites": [{"dateOfBirth": "1990-01-01"}], "note": "pays with 4111 1111 1111 1111"});
    let body = answer.as_object().unwrap().clone();
    let (records, outcome) = reply::records(&effect, ReplyOutcome::Answered { status: 200, body });
    assert!(matches!(outcome, ReplyOutcome::Answered { status: 200, .. }));
    let text = String::from_utf8(records[0].value.to_vec()).unwrap();
    assert!(text.contains("pays with") && !text.contains("1990") && !text.contains("4111"), "{text}");

    let numbers = json!({"dateOfBirth": 19_900_101});
    let body = numbers.as_object().unwrap().clone();
    let (records, outcome) = reply::records(&effect, ReplyOutcome::Answered { status: 200, body });
    assert_eq!(outcome, failed("invalid_answer"));
    assert_eq!(records.len(), 1);
}

#[tokio::test]
async fn a_call_that_cannot_be_read_is_named_and_the_others_are_made() {
    let scene = Scene::new(Behaviour::default()).await;
    scene.ask((0..4).map(|number| look_up(number, KNOWN)).collect()).await;
    let path = scene.directory.path().join("store.db").display().to_string();
    let mut database = diesel::SqliteConnection::establish(&path).unwrap();
    // The one that comes first.
    database.batch_execute("UPDATE http_calls SET effect = '{' WHERE id = 'effect-0'").unwrap();
    let url = scene.stub.url();
    let dispatcher = scene.dispatcher(Some(&url));
    tokio::select! {
        () = dispatcher.run() => unreachable!(),
        () = scene.wait_for_notices(3) => {}
    }
    let figures = dispatcher.figures();
    assert_eq!((figures.error, figures.parked.len(), figures.parked[0].name.as_str()), (None, 1, "effect-0"));
    assert_eq!(scene.store.http_depth().await.unwrap(), 1, "nothing is lost");
    let due = scene.store.http_due(Timestamp::now(), 10).await.unwrap();
    assert!(due.unreadable.is_empty(), "it rests, so it takes no place from others");
}
