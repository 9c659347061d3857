//! Failed logins: counted, logged and written to the audit log, together for each address, so that whoever floods the
//! server with wrong tokens does not flood the store as well. The token itself is never kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;

use super::attempts::Network;
use super::tokens::Refusal;
use crate::store::Store;

pub(super) const REFUSED: &str = "tillstream_logins_refused_total";
/// Addresses that are told apart in one report; the others are one line together.
const ADDRESSES_MAX: usize = 8;
/// Reports come this often, and less often the longer it goes on.
const FIRST_REPORT: Duration = Duration::from_secs(1);
const LAST_REPORT: Duration = Duration::from_mins(1);

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    /// Tokens that were looked at and are wrong.
    wrong: u64,
    /// Tokens that were not looked at: too many before them.
    unread: u64,
}

/// What has failed since the last report.
#[derive(Debug, Default)]
pub(super) struct Failures {
    of: Mutex<BTreeMap<Option<Network>, Counts>>,
}

impl Failures {
    pub(super) fn add(&self, network: Network, refusal: Refusal) {
        let reason = match refusal {
            Refusal::Wrong => "wrong",
            Refusal::Limited(_) => "limited",
            Refusal::Busy => "busy",
        };
        counter!(REFUSED, "reason" => reason).increment(1);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let is_told_apart = of.contains_key(&Some(network)) || of.len() < ADDRESSES_MAX;
        let counts = of.entry(is_told_apart.then_some(network)).or_default();
        match refusal {
            Refusal::Wrong => counts.wrong += 1,
            Refusal::Limited(_) | Refusal::Busy => counts.unread += 1,
        }
    }

    /// Reports for as long as the server lives.
    pub(super) async fn report(&self, store: &Store) {
        let mut pause = FIRST_REPORT;
        loop {
            tokio::time::sleep(pause).await;
            let failed = std::mem::take(&mut *self.of.lock().unwrap_or_else(PoisonError::into_inner));
            pause = if failed.is_empty() { FIRST_REPORT } else { (pause * 2).min(LAST_REPORT) };
            for (network, Counts { wrong, unread }) in failed {
                let address = network.map_or_else(|| "other addresses".to_owned(), |network| network.to_string());
                tracing::warn!(
                    %address,
                    wrong,
                    unread,
                    "logins failed: wrong tokens were presented; if nobody mistyped, look at who sends them"
                );
                if let Err(error) = store.logins_failed(&address, wrong, unread).await {
                    tracing::warn!(%error, "failed logins could not be written to the audit log");
                }
            }
        }
    }
}
