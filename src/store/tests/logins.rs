//! Sessions of people: every process knows them, they end, and no secret stands in the store.

use std::time::Duration;

use super::*;
use crate::store::{Expiring, LOGINS_OF_TOKEN_MAX, NewLogin};

fn new_login(id: &str, token: &str) -> NewLogin {
    NewLogin {
        id: id.to_owned(),
        secret: [7; 32],
        token_name: token.to_owned(),
        token_digest: [9; 32],
        address: "192.0.2.1".to_owned(),
        agent: "a browser".to_owned(),
        lasts: Duration::from_hours(1),
    }
}

#[tokio::test]
async fn a_session_is_there_until_somebody_ends_it() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        store.begin_login(new_login("s1", "ann")).await.unwrap();
        store.begin_login(new_login("s1", "ann")).await.unwrap();
        let login = store.login("s1").await.unwrap().unwrap();
        assert_eq!((login.token_name.as_str(), login.secret.as_slice()), ("ann", [7; 32].as_slice()));
        assert_eq!(login.ends_at.millis_since(login.created_at), 3_600_000);
        store.login_seen("s1").await.unwrap();
        assert!(store.end_login("s1", "eve").await.unwrap());
        assert!(!store.end_login("s1", "eve").await.unwrap());
        assert_eq!(store.login("s1").await.unwrap(), None);
        let audit = store.audit(None, 10).await.unwrap().items;
        let told: Vec<_> = audit.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str())).collect();
        assert_eq!(told, [("eve", "session.end"), ("ann", "session.begin")]);
    }
}

#[tokio::test]
async fn lists_page_by_token_and_the_oldest_of_too_many_ends() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        store.begin_login(new_login("other", "bob")).await.unwrap();
        for number in 0..=LOGINS_OF_TOKEN_MAX {
            store.begin_login(new_login(&format!("s{number:03}"), "ann")).await.unwrap();
        }
        let mut ids = std::collections::BTreeSet::new();
        let mut cursor = None;
        loop {
            let page = store.logins(Some("ann"), cursor.as_deref(), 40).await.unwrap();
            ids.extend(page.items.into_iter().map(|login| login.id));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(ids.len(), LOGINS_OF_TOKEN_MAX);
        assert_eq!(store.logins(None, None, 1000).await.unwrap().items.len(), LOGINS_OF_TOKEN_MAX + 1);
    }
}

#[tokio::test]
async fn sessions_that_have_ended_are_removed() {
    for fixture in fixtures().await {
        let store = &fixture.store;
        store.begin_login(new_login("s1", "ann")).await.unwrap();
        let ends_at = store.login("s1").await.unwrap().unwrap().ends_at;
        assert_eq!(store.expire(Expiring::Logins, ends_at).await.unwrap(), 0);
        assert_eq!(store.expire(Expiring::Logins, ends_at.plus_millis(1)).await.unwrap(), 1);
        assert_eq!(store.login("s1").await.unwrap(), None);
    }
}
