//! Rows of an order's history.

use super::{Settled, Settlement, TimelineKind};
use crate::store::schema::order_timeline;

#[derive(diesel::Insertable)]
#[diesel(table_name = order_timeline, treat_none_as_default_value = false)]
pub(super) struct NewTimelineRow<'a> {
    pub(super) order_id: &'a str,
    pub(super) at: i64,
    pub(super) kind: &'a str,
    pub(super) attempt: Option<i32>,
    pub(super) status: Option<i32>,
    pub(super) duration_ms: Option<i64>,
    pub(super) message: Option<&'a str>,
}

impl Settled {
    pub(super) fn attempts(&self) -> u32 {
        self.claimed.order.attempts + u32::from(self.attempt.is_some())
    }

    pub(super) fn timeline_row(&self) -> Option<NewTimelineRow<'_>> {
        let attempt = self.attempt?;
        let message = match &self.settlement {
            Settlement::Retry { error, .. } | Settlement::Failed { error, .. } => Some(error.as_str()),
            _ => None,
        };
        Some(NewTimelineRow {
            order_id: &self.claimed.order.id,
            at: attempt.at.as_millis(),
            kind: TimelineKind::Attempt.as_str(),
            attempt: i32::try_from(self.attempts()).ok(),
            status: attempt.status.map(i32::from),
            duration_ms: i64::try_from(attempt.duration_ms).ok(),
            message,
        })
    }
}
