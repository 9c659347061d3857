//! Regular expressions of JSON Schemas (ECMA 262, without look-around) that say what the parser takes, as far as they can.
//!
//! `format` only annotates in JSON Schema 2020-12, so a date is a pattern as well.

/// An id from outside: no control character, nothing that nobody sees, and not only blanks.
pub(super) const ID: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\ufffe\\uffff]*[^\\s\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\ufffe\\uffff][^\\u0000-\\u001f\\u007f-\\u009f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\ufffe\\uffff]*$";
/// The source of a terminal.
pub(super) const TERMINAL_SOURCE: &str = "^/stores/[^/\\u0000-\\u001f\\u007f]+/terminals/[^/\\u0000-\\u001f\\u007f]+$";
/// The source of a plugin.
pub(super) const PLUGIN_SOURCE: &str = "^/plugins/[^\\u0000-\\u001f\\u007f]+$";
/// A media type of JSON.
pub(super) const JSON_MEDIA_TYPE: &str = "[jJ][sS][oO][nN]";

/// Years from 0000, and those of them with a 29 February.
const ALL_YEARS: (&str, &str) = ("[0-9]{4}", "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)");
/// Years from 1970, and those of them with a 29 February.
const YEARS_OF_EVENTS: (&str, &str) = (
    "(19[7-9][0-9]|[2-9][0-9]{3})",
    "(19(7[26]|8[048]|9[26])|[2-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[3579][26])00)",
);

/// A day of the calendar in these years.
fn day_of((years, leap_years): (&str, &str)) -> String {
    format!(
        "({years}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|{leap_years}-02-29)"
    )
}

/// A date such as `2026-01-05`.
pub(super) fn date() -> String {
    format!("^{}$", day_of(ALL_YEARS))
}

/// An RFC 3339 date-time from 1970 on.
pub(super) fn date_time() -> String {
    let day = day_of(YEARS_OF_EVENTS);
    let time = "([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]+)?";
    format!("^{day}[Tt ]{time}([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$")
}

/// The decimal digits of a number from 1 to `max`, after any zeros.
pub(super) fn decimal_up_to(max: u64) -> String {
    let digits = max.to_string();
    let mut forms = vec![digits.clone()];
    if digits.len() > 1 {
        forms.push(format!("[1-9][0-9]{{0,{}}}", digits.len() - 2));
    }
    for (index, digit) in digits.bytes().enumerate() {
        let lowest = if index == 0 { b'1' } else { b'0' };
        if digit > lowest {
            let (before, rest) = (&digits[..index], digits.len() - index - 1);
            forms.push(format!("{before}[{}-{}][0-9]{{{rest}}}", char::from(lowest), char::from(digit - 1)));
        }
    }
    format!("^0*({})$", forms.join("|"))
}
