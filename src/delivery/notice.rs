//! How an HTTP call ended, for the live feed.

use bytes::Bytes;
use serde::Serialize;

use crate::event::Source;
use crate::feed::{FeedBody, FeedItem, FeedKind};
use crate::time::Timestamp;

/// An HTTP call that has ended. Holds nothing of the answer's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpNotice {
    /// The remote system: `customers` or `orders`.
    pub service: &'static str,
    /// Id of the effect.
    pub id: String,
    /// The plugin that asked.
    pub plugin: String,
    /// Source of the terminal that it is about.
    pub terminal: String,
    /// When its cause happened.
    pub at: Timestamp,
    /// What was asked for.
    pub path: String,
    /// Status of the answer, if there was a useful one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// True if the answer was one that another call had got.
    pub cached: bool,
    /// How long the last attempt took.
    pub duration_ms: u64,
}

impl From<HttpNotice> for FeedItem {
    fn from(notice: HttpNotice) -> Self {
        let terminal = Source::new(&notice.terminal).ok();
        let json = serde_json::to_vec(&notice).expect("a notice is made of strings and numbers");
        Self {
            kind: FeedKind::Http,
            at: Timestamp::now(),
            body: FeedBody::Json {
                type_name: format!("http.{}", notice.service).into(),
                terminal: terminal.as_ref().and_then(Source::terminal_id).map(Into::into),
                plugin: Some(notice.plugin.as_str().into()),
                json: Bytes::from(json),
            },
        }
    }
}
