//! Timestamps and durations of CEL: the range of years 1 to 9999, durations of up to 10 000 years.

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};

use super::fault::{Fault, Problem};
use super::meter::Meter;
use super::value::Value;

/// Steps that looking up a time zone counts.
const ZONE_STEPS: usize = 50;
/// First and last second of the years 1 and 9999.
const SECONDS: (i64, i64) = (-62_135_596_800, 253_402_300_799);
/// Longest duration in seconds, either way.
const DURATION_SECONDS_MAX: i128 = 315_576_000_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;
/// Longest text of a duration.
const DURATION_TEXT_BYTES_MAX: usize = 200;

/// Longest text that is converted to a number or a time, in bytes.
const CONVERTED_BYTES_MAX: usize = 64;

/// A text that may stand for a number, a time or a zone. Longer ones do not, and reading them would cost their length.
pub(super) fn short(text: &str) -> Option<&str> {
    (text.len() <= CONVERTED_BYTES_MAX).then_some(text)
}

/// A part of a timestamp or of a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    DayOfYear,
    DayOfMonth,
    Date,
    DayOfWeek,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// `timestamp(x)`: from RFC 3339, or seconds since the Unix epoch.
pub(super) fn to_timestamp<'a>(value: &Value<'a>) -> Result<Value<'a>, Fault<'a>> {
    let at = match value {
        Value::Timestamp(_) => return Ok(value.clone()),
        Value::Int(seconds) => Timestamp::from_second(*seconds).ok(),
        Value::Text(text) => short(text.as_str()).and_then(parse_timestamp),
        _ => return Err(Problem::NoOverload("timestamp()", value.type_name(), None).into()),
    };
    let at = at.filter(|at| in_range(*at));
    at.map(Value::Timestamp).ok_or_else(|| Problem::NotConverted(value.type_name(), "timestamp").into())
}

fn in_range(at: Timestamp) -> bool {
    let seconds = at.as_duration();
    seconds >= SignedDuration::from_secs(SECONDS.0) && seconds < SignedDuration::from_secs(SECONDS.1 + 1)
}

/// RFC 3339 only: jiff reads more of ISO 8601 than that.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let is = |index: usize, wanted: &[u8]| bytes.get(index).is_some_and(|byte| wanted.contains(byte));
    let date_and_time = digits(0..4)
        && is(4, b"-")
        && digits(5..7)
        && is(7, b"-")
        && digits(8..10)
        && is(10, b"Tt ")
        && digits(11..13)
        && is(13, b":")
        && digits(14..16)
        && is(16, b":")
        && digits(17..19);
    let rest = bytes.get(19..).filter(|_| date_and_time)?;
    let zone = match rest.split_first() {
        Some((b'.', fraction)) => {
            let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=9).contains(&count) {
                return None;
            }
            &fraction[count..]
        }
        _ => rest,
    };
    let is_zone = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()),
        _ => false,
    };
    if is_zone { text.parse().ok() } else { None }
}

/// `duration(x)`: from a text such as `1h30m` or `-1.5s`.
pub(super) fn to_duration<'a>(value: &Value<'a>, meter: &mut Meter) -> Result<Value<'a>, Fault<'a>> {
    let duration = match value {
        Value::Duration(_) => return Ok(value.clone()),
        Value::Text(text) => {
            meter.look(text.as_str().len())?;
            parse_duration(text.as_str())
        }
        _ => return Err(Problem::NoOverload("duration()", value.type_name(), None).into()),
    };
    duration.map(Value::Duration).ok_or_else(|| Problem::NotConverted("string", "duration").into())
}

fn parse_duration(text: &str) -> Option<SignedDuration> {
    if text.len() > DURATION_TEXT_BYTES_MAX {
        return None;
    }
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos: i128 = 0;
    while nanos == 0 || !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) = unit(after)?;
        let mut part = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(unit)? };
        let mut scale = unit;
        for digit in fraction.bytes() {
            scale /= 10;
            part = part.checked_add(i128::from(digit - b'0') * scale)?;
        }
        nanos = nanos.checked_add(part)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    from_nanos(if negative { -nanos } else { nanos })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// Nanoseconds of the unit that the text begins with.
fn unit(text: &str) -> Option<(i128, &str)> {
    const UNITS: [(&str, i128); 7] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("µs", 1_000),
        ("ns", 1),
        ("h", 3600 * NANOS_PER_SECOND),
        ("m", 60 * NANOS_PER_SECOND),
        ("s", NANOS_PER_SECOND),
    ];
    UNITS.iter().find_map(|(name, nanos)| Some((*nanos, text.strip_prefix(name)?)))
}

fn from_nanos(nanos: i128) -> Option<SignedDuration> {
    if nanos.unsigned_abs() > DURATION_SECONDS_MAX.unsigned_abs() * NANOS_PER_SECOND.unsigned_abs() {
        return None;
    }
    let seconds = i64::try_from(nanos / NANOS_PER_SECOND).ok()?;
    let rest = i32::try_from(nanos % NANOS_PER_SECOND).ok()?;
    Some(SignedDuration::new(seconds, rest))
}

/// `string(x)` of a duration: seconds, such as `5400s` or `-1.5s`.
pub(super) fn duration_text(duration: SignedDuration) -> String {
    let sign = if duration.is_negative() { "-" } else { "" };
    let (seconds, nanos) = (duration.as_secs().unsigned_abs(), duration.subsec_nanos().unsigned_abs());
    if nanos == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{nanos:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// A timestamp moved by a duration.
pub(super) fn moved<'a>(at: Timestamp, by: SignedDuration, operator: &'static str) -> Result<Value<'a>, Fault<'a>> {
    let moved = at.checked_add(by).ok().filter(|at| in_range(*at));
    moved.map(Value::Timestamp).ok_or_else(|| Problem::Overflow(operator).into())
}

/// A duration from the outcome of an operator, if it is in range.
pub(super) fn checked<'a>(duration: Option<SignedDuration>, operator: &'static str) -> Result<Value<'a>, Fault<'a>> {
    let duration = duration.and_then(|duration| from_nanos(duration.as_nanos()));
    duration.map(Value::Duration).ok_or_else(|| Problem::Overflow(operator).into())
}

/// `x.getHours()` and the like. Of a timestamp in UTC or the named zone; of a duration, the whole of it in that unit, but for
/// milliseconds, which are those below the second.
pub(super) fn part<'a>(
    part: Part,
    value: &Value<'a>,
    zone: Option<&Value<'a>>,
    meter: &mut Meter,
) -> Result<Value<'a>, Fault<'a>> {
    let no_overload = |value: &Value<'a>| Problem::NoOverload("this part", value.type_name(), None).into();
    let number = match (value, zone) {
        (Value::Timestamp(at), None) => of_date(part, &at.to_zoned(TimeZone::UTC)),
        (Value::Timestamp(at), Some(Value::Text(zone))) => {
            meter.steps(ZONE_STEPS)?;
            let zone = short(zone.as_str()).and_then(time_zone).ok_or(Fault::Error(Problem::UnknownTimeZone))?;
            of_date(part, &at.to_zoned(zone))
        }
        (Value::Duration(duration), None) => match part {
            Part::Hours => duration.as_hours(),
            Part::Minutes => duration.as_mins(),
            Part::Seconds => duration.as_secs(),
            Part::Milliseconds => i64::from(duration.subsec_millis()),
            _ => return Err(no_overload(value)),
        },
        _ => return Err(no_overload(zone.unwrap_or(value))),
    };
    Ok(Value::Int(number))
}

fn of_date(part: Part, at: &Zoned) -> i64 {
    match part {
        Part::FullYear => at.year().into(),
        Part::Month => i64::from(at.month()) - 1,
        Part::DayOfYear => i64::from(at.day_of_year()) - 1,
        Part::DayOfMonth => i64::from(at.day()) - 1,
        Part::Date => at.day().into(),
        Part::DayOfWeek => at.weekday().to_sunday_zero_offset().into(),
        Part::Hours => at.hour().into(),
        Part::Minutes => at.minute().into(),
        Part::Seconds => at.second().into(),
        Part::Milliseconds => at.millisecond().into(),
    }
}

/// An IANA name, or an offset such as `+05:30`.
fn time_zone(name: &str) -> Option<TimeZone> {
    let Some((hours, minutes)) = name.split_once(':') else {
        return if name.is_empty() { Some(TimeZone::UTC) } else { TimeZone::get(name).ok() };
    };
    let (negative, hours) = match hours.strip_prefix('-') {
        Some(hours) => (true, hours),
        None => (false, hours.strip_prefix('+').unwrap_or(hours)),
    };
    let number = |text: &str, max: i32| {
        let fits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<i32>().ok().filter(|number| fits && *number <= max)
    };
    let seconds = number(hours, 23)? * 3600 + number(minutes, 59)? * 60;
    Some(Offset::from_seconds(if negative { -seconds } else { seconds }).ok()?.to_time_zone())
}
