//! Query parameters, read strictly: a name that the resource does not know is refused rather than ignored, since a
//! filter that is silently left out shows other people's data.

use std::str::FromStr;

use actix_web::{HttpRequest, web};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, Type};
use utoipa::openapi::{Object, OneOf, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Problem;
use crate::event::ID_BYTES_MAX;
use crate::time::Timestamp;

pub(super) const LIMIT_DEFAULT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1000;
/// Values of one list parameter.
const LIST_MAX: usize = 100;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

/// A place in time as people give it: an instant, or a business day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    At(Timestamp),
    Day(jiff::civil::Date),
}

/// A day begins this long before its midnight in UTC somewhere on earth,
const DAY_BEGINS_EARLIER_SECONDS: i64 = 14 * 3600;
/// and at most so long after it: far in the west, in a shop whose business day begins late.
const DAY_BEGINS_LATER_SECONDS: i64 = 36 * 3600;

impl When {
    /// True if it is later than `to` for every store, wherever on earth it is.
    fn is_after(self, to: Self) -> bool {
        let midnight = |day: jiff::civil::Date| {
            let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
            Some(Timestamp::from_millis(midnight.timestamp().as_millisecond()))
        };
        match (self, to) {
            (Self::At(from), Self::At(to)) => from > to,
            (Self::Day(from), Self::Day(to)) => from > to,
            (Self::At(from), Self::Day(to)) => {
                midnight(to).is_some_and(|to| from > to.plus_seconds(DAY_BEGINS_LATER_SECONDS))
            }
            (Self::Day(from), Self::At(to)) => {
                midnight(from).is_some_and(|from| from.plus_seconds(-DAY_BEGINS_EARLIER_SECONDS) > to)
            }
        }
    }
}

/// Describes a [`When`].
pub(super) struct WhenText;

impl PartialSchema for WhenText {
    fn schema() -> RefOr<Schema> {
        let text = |format| Object::builder().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)));
        OneOf::builder().item(text(KnownFormat::DateTime)).item(text(KnownFormat::Date)).into()
    }
}

impl ToSchema for WhenText {}

impl Params {
    /// Reads the query of `request`, which may hold the parameters in `known` only. Empty values count as absent.
    pub(super) fn read(request: &HttpRequest, known: &[&str]) -> Result<Self, Problem> {
        let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
            .map_err(|_| Problem::bad_request("The query is not valid percent-encoded UTF-8."))?
            .into_inner();
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                let names = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Problem::parameter(name, format!("is not known here; known are: {names}")));
            }
        }
        let params = Self(pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect());
        params.check_span(known)?;
        Ok(params)
    }

    /// Where a span of time can be asked for, its end must not be before its beginning: an empty list would look like an
    /// answer.
    fn check_span(&self, known: &[&str]) -> Result<(), Problem> {
        if !(known.contains(&"from") && known.contains(&"to")) {
            return Ok(());
        }
        // What is no time at all is refused by who asks for it.
        match (self.when("from"), self.when("to")) {
            (Ok(Some(from)), Ok(Some(to))) if from.is_after(to) => {
                Err(Problem::parameter("from", "is after to; exchange the two, or leave one of them out"))
            }
            _ => Ok(()),
        }
    }

    /// The only value of a parameter.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::parameter(name, "may be given once only"));
        }
        match first {
            Some(value) if value.len() > ID_BYTES_MAX || value.contains('\0') => {
                Err(Problem::parameter(name, format!("must be a text of at most {ID_BYTES_MAX} bytes")))
            }
            other => Ok(other.cloned()),
        }
    }

    /// All values of a parameter that may be repeated, or hold several with commas between.
    pub(super) fn list(&self, name: &str) -> Result<Vec<String>, Problem> {
        let values = self.0.iter().filter(|(key, _)| key == name).flat_map(|(_, value)| value.split(','));
        let values: Vec<_> = values.map(str::trim).filter(|value| !value.is_empty()).map(ToOwned::to_owned).collect();
        if values.len() > LIST_MAX {
            return Err(Problem::parameter(name, format!("may have {LIST_MAX} values at most")));
        }
        Ok(values)
    }

    /// A parameter that `read` understands; otherwise the fault says what it must be.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        must: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let value = self.text(name)?;
        value.map(|value| read(&value).ok_or_else(|| Problem::parameter(name, must))).transpose()
    }

    /// As [`Params::parsed`] for each value of a list.
    pub(super) fn parsed_list<T>(
        &self,
        name: &str,
        must: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, Problem> {
        let values = self.list(name)?;
        values.iter().map(|value| read(value).ok_or_else(|| Problem::parameter(name, must))).collect()
    }

    pub(super) fn number<T: FromStr>(&self, name: &str, must: &str) -> Result<Option<T>, Problem> {
        self.parsed(name, must, |text| text.parse().ok())
    }

    /// `from` or `to`: RFC 3339, or a date, which means a business day.
    pub(super) fn when(&self, name: &str) -> Result<Option<When>, Problem> {
        let must = "must be an RFC 3339 time such as 2026-01-05T06:00:00Z (a + in it written as %2B) or a date such as 2026-01-05";
        self.parsed(name, must, |text| match Timestamp::parse(text) {
            Ok(time) => Some(When::At(time)),
            Err(_) if text.len() == 10 => text.parse().ok().map(When::Day),
            Err(_) => None,
        })
    }

    /// How many items at most.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let must = format!("must be a whole number from 1 to {LIMIT_MAX}");
        let read = |text: &str| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        Ok(self.parsed("limit", &must, read)?.unwrap_or(LIMIT_DEFAULT))
    }

    /// A value of any length, such as a cursor that the store reads.
    pub(super) fn long_text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Where the last page ended.
    pub(super) fn cursor<T: DeserializeOwned>(&self) -> Result<Option<T>, Problem> {
        let Some(text) = self.long_text("cursor") else {
            return Ok(None);
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        match bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(Problem::parameter("cursor", "must be the next of an earlier answer, unchanged")),
        }
    }
}

/// A cursor as clients see it: opaque.
pub(super) fn encode_cursor<T: Serialize>(cursor: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(cursor).expect("a cursor is made of texts and numbers"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        let request = TestRequest::with_uri(&format!("/api/x?{query}")).to_http_request();
        Params::read(&request, &["type", "from", "to", "limit", "cursor", "terminal"])
    }

    #[test]
    fn an_unknown_parameter_is_refused_by_name() {
        assert!(params("terminl=T1").unwrap_err().to_string().contains("terminl is not known here"));
    }

    #[test]
    fn lists_may_be_repeated_or_have_commas() {
        assert_eq!(params("type=a,b&type=c&type=").unwrap().list("type").unwrap(), ["a", "b", "c"]);
        assert!(params("terminal=a&terminal=b").unwrap().text("terminal").is_err());
    }

    #[test]
    fn limits_are_from_one_to_a_thousand() {
        let limit = |query: &str| params(query).unwrap().limit().ok();
        assert_eq!(limit(""), Some(100));
        assert_eq!(limit("limit=1000"), Some(1000));
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=x"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_time_is_an_instant_or_a_business_day() {
        let when = |query: &str| params(query).unwrap().when("from").ok().flatten();
        assert_eq!(when("from=2026-01-05"), Some(When::Day(jiff::civil::date(2026, 1, 5))));
        let at = Timestamp::parse("2026-01-05T06:00:00Z").unwrap();
        assert_eq!(when("from=2026-01-05T06:00:00Z"), Some(When::At(at)));
        assert_eq!(when("from=yesterday"), None);
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_refused_and_says_which_parameter() {
        let refused = |query: &str| params(query).err().map(|problem| problem.to_string());
        for wrong in [
            "from=2026-01-06&to=2026-01-05",
            "from=2026-01-05T06:00:00.001Z&to=2026-01-05T06:00:00Z",
            "from=2026-01-05T06:00:00Z&to=2026-01-05T07:00:00%2B02:00",
            "from=2026-01-06&to=2026-01-05T09:59:59Z",
            "from=2026-01-07T00:00:00Z&to=2026-01-05",
        ] {
            assert!(
                refused(wrong).is_some_and(|text| text.contains("from is after to")),
                "{wrong}: {:?}",
                refused(wrong)
            );
        }
        for right in [
            "from=2026-01-05&to=2026-01-05",
            "from=2026-01-05T06:00:00Z&to=2026-01-05T08:00:00%2B02:00",
            "from=2026-01-05T23:00:00Z&to=2026-01-05",
            "from=2026-01-06&to=2026-01-05T23:00:00Z",
            "from=2026-01-06&to=",
            "to=2026-01-05",
        ] {
            assert_eq!(refused(right), None, "{right}");
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let cursor = encode_cursor(&(7, "x"));
        let read = params(&format!("cursor={cursor}")).unwrap().cursor::<(i32, String)>().unwrap();
        assert_eq!(read, Some((7, "x".to_owned())));
        assert!(params("cursor=garbage").unwrap().cursor::<(i32, String)>().is_err());
    }
}
