//! The semantics of CEL for what is offered here, one vector a line, after the specification and its conformance suite.

use super::functions::Signature;
use super::tests::eval;

/// Each is true.
const TRUE: &[&str] = &[
    // Literals and arithmetic: no implicit conversion, whole division towards zero, the sign of the remainder is the left one's.
    "1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 / 2 == 3 && -7 / 2 == -3 && 7 % 4 == 3 && -7 % 4 == -3",
    "1u + 2u == 3u && 7u / 2u == 3u && 7u % 4u == 3u && 5u - 2u == 3u && 2u * 3u == 6u",
    "1.5 + 1.5 == 3.0 && 1.0 / 4.0 == 0.25 && 1.0 / 0.0 > 1e308 && 2.5 * 2.0 == 5.0 && 1.5 - 2.0 == -0.5",
    "0x1F == 31 && 0xFFu == 255u && -9223372036854775808 < 0 && 18446744073709551615u > 1u && 1e3 == 1000.0",
    "-(-5) == 5 && -(1.5) == -1.5 && !false && !!true",
    r#"'a' + "b" == 'ab' && '\u00e9' == 'é' && r'\n' == '\\n' && '''a'b''' == "a'b""#,
    "[1, 2] + [3] == [1, 2, 3] && [] + [] == [] && [1] + ['a'] == [1, 'a']",
    // Equality and order across numbers, exact beyond 2^53; other types are unequal without an error.
    "1 == 1u && 1u == 1.0 && 1 == 1.0 && 1 != 1.5 && 9007199254740993 != 9007199254740992.0",
    "1 < 1.5 && 1u < 2 && -1 < 0u && 2.5 > 2u && 9007199254740993 > 9007199254740992.0 && 1 <= 1.0 && 1u >= 1",
    "9223372036854775807 < 9223372036854775808u && 9223372036854775807 < 9.3e18 && -1.5 < -1 && -1 > -1.5",
    "1 != '1' && null != 0 && null == null && 'a' != true && [] != {} && timestamp(0) != duration('0s')",
    "[1, 1u, 1.0] == [1.0, 1, 1u] && {'a': 1} == {'a': 1.0} && {'a': 1, 'b': 2} == {'b': 2, 'a': 1}",
    "[1] != [1, 2] && {'a': 1} != {'a': 2} && {'a': 1} != {'b': 1} && [[1], {'k': [2]}] == [[1], {'k': [2]}]",
    "'a' < 'b' && 'a' < 'aa' && 'Z' < 'a' && 'é' > 'z' && false < true && 'b' >= 'a' && 'a' <= 'a'",
    "!(double('NaN') == double('NaN')) && double('NaN') != 1.0 && !(double('NaN') < 1.0) && !(1 >= double('NaN'))",
    // && and || decide in either order, whatever the other side does.
    "(1 / 0 == 1 || true) && (true || 1 / 0 == 1) && !(1 / 0 == 1 && false) && !(false && 1 / 0 == 1)",
    "(event.data.nothing == 1 || event.amount == 5000) && !(event.data.nothing == 1 && event.amount == 1)",
    "(1 == 1 ? true : 1 / 0 == 1) && (false ? 1 / 0 == 1 : true)",
    // Keys and places.
    "has(event.data.voucher) && !has(event.data.nothing) && has(event.data.voucher.codes) && has({'a': null}.a) && has(event.amount)",
    "[1, 2, 3][0] == 1 && [1, 2, 3][2u] == 3 && [1, 2, 3][1.0] == 2 && {'a': 1}['a'] == 1 && {'a': {'b': 2}}.a.b == 2",
    "{1: 'one'}[1] == 'one' && {1u: 'one'}[1] == 'one' && {1: 'one'}[1.0] == 'one' && {true: 1}[true] == 1",
    "event.data['voucher'].codes[1] == 'B' && event.data.voucher['codes'][0] == 'A'",
    "1 in [1, 2] && 1.0 in [1] && !(3 in [1, 2]) && 'a' in ['a'] && [1] in [[1]] && null in [null] && !('x' in [])",
    "'a' in {'a': 1} && !('b' in {'a': 1}) && 1 in {1: 2} && 1.0 in {1: 2} && 'voucher' in event.data && !(1 in event.data)",
    // Macros: all and exists decide as && and || do; the others need every item.
    "[1, 2].all(x, x > 0) && ![1, 2].all(x, x > 1) && [].all(x, false) && [1, 2].exists(x, x == 2) && ![].exists(x, true)",
    "[1, 0].exists(x, 1 / x == 1) && [0, 1].exists(x, 1 / x == 1) && ![0, 2].all(x, 1 / x == 1)",
    "[1, 2, 2].exists_one(x, x == 1) && ![1, 2, 2].exists_one(x, x == 2) && [1].existsOne(x, x == 1)",
    "[1, 2, 3].filter(x, x > 1) == [2, 3] && [1, 2].map(x, x * 2) == [2, 4] && [1, 2, 3].map(x, x > 1, x * 2) == [4, 6]",
    "{'a': 1, 'b': 2}.all(key, key in ['a', 'b']) && {'a': 1}.map(k, k) == ['a'] && event.data.voucher.exists(k, k == 'codes')",
    "[1, 2].exists(x, [2, 3].exists(y, x == y)) && [[1], [2]].all(x, x.all(x, x > 0)) && [1].map(x, [2].map(y, x + y)) == [[3]]",
    "[1].exists(type, type == 1) && [[1]].all(list, list == [1]) && ['a'].map(string, string + 'b') == ['ab']",
    "event.data.voucher.codes.map(c, c + '!').filter(c, c.startsWith('A')) == ['A!']",
    // Functions on texts: size counts code points, no case folding.
    "size('héé') == 3 && 'abc'.size() == 3 && size([1, 2]) == 2 && [1].size() == 1 && size({'a': 1}) == 1 && size('💥') == 1",
    "'abc'.contains('b') && !'abc'.contains('B') && 'abc'.contains('') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc')",
    "'TacoCät'.lowerAscii() == 'tacocät' && 'TacoCät'.upperAscii() == 'TACOCäT' && 'ÄB'.lowerAscii() == 'Äb'",
    // Conversions.
    "int('-5') == -5 && int(5u) == 5 && int(-5.9) == -5 && int(timestamp('1970-01-01T00:01:00Z')) == 60 && int(3) == 3",
    "int(timestamp('1969-12-31T23:59:58.5Z')) == -2 && int(true ? 1.9 : 0.0) == 1",
    "uint(5) == 5u && uint('7') == 7u && uint(5.9) == 5u && double(5) == 5.0 && double('1.5') == 1.5 && double(2u) == 2.0",
    "string(5) == '5' && string(1.5) == '1.5' && string(true) == 'true' && string(7u) == '7' && string('a') == 'a'",
    "bool('true') && !bool('false') && bool('1') && bool(true) && dyn(1) == 1",
    "type(1) == int && type(1u) == uint && type(1.0) == double && type('') == string && type(true) == bool && type(null) == null_type",
    "type([]) == list && type({}) == map && type(type(1)) == type && type(event.amount) == int && type(1) != type(1u)",
    // Timestamps and durations; parts are in UTC and count from 0, but for getDate.
    "timestamp('2026-01-05T05:30:00+02:00') == timestamp('2026-01-05T03:30:00Z') && timestamp(0) == timestamp('1970-01-01T00:00:00Z')",
    "timestamp('2026-01-05T05:30:00Z') - timestamp('2026-01-05T04:00:00Z') == duration('1h30m')",
    "timestamp('2026-01-05T05:30:00Z') + duration('90s') == timestamp('2026-01-05T05:31:30Z') && duration('1s') + timestamp(0) == timestamp(1)",
    "timestamp(60) - duration('1m') == timestamp(0) && duration('1h') - duration('1m') == duration('59m') && duration('1m') < duration('61s')",
    "duration('1.5s') == duration('1500ms') && duration('-1m') == duration('-60s') && duration('1h1m1s1ms1us1ns') > duration('0')",
    "string(duration('90m')) == '5400s' && string(duration('-1.5s')) == '-1.5s' && string(timestamp('2026-01-05T07:30:00+02:00')) == '2026-01-05T05:30:00Z'",
    "timestamp('2026-02-03T04:05:06.789Z').getFullYear() == 2026 && timestamp('2026-02-03T04:05:06Z').getMonth() == 1",
    "timestamp('2026-02-03T04:05:06Z').getDayOfYear() == 33 && timestamp('2026-02-03T04:05:06Z').getDayOfMonth() == 2",
    "timestamp('2026-02-03T04:05:06Z').getDate() == 3 && timestamp('2026-02-01T04:05:06Z').getDayOfWeek() == 0",
    "timestamp('2026-02-03T04:05:06.789Z').getHours() == 4 && timestamp('2026-02-03T04:05:06.789Z').getMinutes() == 5",
    "timestamp('2026-02-03T04:05:06.789Z').getSeconds() == 6 && timestamp('2026-02-03T04:05:06.789Z').getMilliseconds() == 789",
    "timestamp('2026-02-03T04:05:06Z').getHours('Europe/Berlin') == 5 && timestamp('2026-02-03T04:05:06Z').getHours('-05:30') == 22",
    "timestamp('2026-02-03T04:05:06Z').getMinutes('+05:30') == 35 && timestamp('2026-02-03T04:05:06Z').getDate('-05:00') == 2",
    "duration('3h').getHours() == 3 && duration('90m').getHours() == 1 && duration('90m').getMinutes() == 90",
    "duration('1m').getSeconds() == 60 && duration('123.321456789s').getMilliseconds() == 321",
];

/// Each gives no answer.
const ERRORS: &[&str] = &[
    "int('0000000000000000000000000000000000000000000000000000000000000000000000001') == 1",
    "uint('0000000000000000000000000000000000000000000000000000000000000000000000001') == 1u",
    "9223372036854775807 + 1 > 0",
    "-9223372036854775808 - 1 < 0",
    "9223372036854775807 * 2 > 0",
    "0u - 1u > 0u",
    "18446744073709551615u + 1u > 0u",
    "1 + 1.0 == 2.0",
    "1 + 1u == 2",
    "'a' + 1 == 'a1'",
    "'a' * 2 == 'aa'",
    "1 < 'a'",
    "null < 1",
    "[1] < [2]",
    "5.0 % 2.0 == 1.0",
    "1u / 0u == 1u",
    "-(1u) == 1",
    "!1",
    "1 && true",
    "1 / 0 == 1 && true",
    "1 / 0 == 1 || false",
    "null ? true : false",
    "[1][1] == 1",
    "[1][-1] == 1",
    "[1][0.5] == 1",
    "[1]['0'] == 1",
    "{'a': 1}['b'] == 1",
    "{'a': 1}[null] == 1",
    "{'a': 1, 'a': 2}.a == 1",
    "{1: 1, 1u: 2}[1] == 1",
    "{1.5: 1}[1] == 1",
    "'a'[0] == 'a'",
    "event.amount.value == 1",
    "has(event.amount.value)",
    "1 in 'a'",
    "[1] in {'a': 1}",
    "'abc'.all(c, true)",
    "[0, 2].all(x, 2 / x == 1)",
    "[0].exists(x, 1 / x == 1)",
    "[0, 1].exists_one(x, 1 / x == 1)",
    "[1, 'a'].map(x, x + 1) == []",
    "[1].filter(x, x) == []",
    "size(1) == 1",
    "1.contains('a')",
    "'a'.contains(1)",
    "int('1.5') == 1",
    "int('9223372036854775808') == 1",
    "int(1e19) == 1",
    "int(double('NaN')) == 1",
    "uint(-1.0) == 1u",
    "double('x') == 1.0",
    "bool('yes')",
    "bool(1)",
    "string([1]) == ''",
    "string(null) == ''",
    "timestamp('2026-01-05') == timestamp(0)",
    "timestamp('2026-01-05T05:30Z') == timestamp(0)",
    "timestamp('2026-01-05T05:30:00') == timestamp(0)",
    "timestamp('2026-02-30T00:00:00Z') == timestamp(0)",
    "timestamp(253402300800) == timestamp(0)",
    "timestamp(0) + timestamp(0) == timestamp(0)",
    "timestamp('9999-12-31T23:59:59Z') + duration('1s') == timestamp(0)",
    "duration('1') == duration('1s')",
    "duration('1d') == duration('24h')",
    "duration('') == duration('0')",
    "duration('1s1') == duration('1s')",
    "duration('320000000000s') > duration('1s')",
    "duration('200000000000s') + duration('200000000000s') > duration('1s')",
    "timestamp(0).getHours('Mars/Olympus') == 0",
    "timestamp(0).getHours('25:00') == 0",
    "duration('1s').getMonth() == 0",
];

/// Each is refused when it is compiled, with a message that holds this.
const REFUSED: &[(&str, &str)] = &[
    ("lowerAscii('A') == 'a'", "is written TEXT.lowerAscii()"),
    ("'a'.lowerAscii(1) == 'a'", "is written TEXT.lowerAscii()"),
    ("'a'.int() == 1", "is written int(VALUE)"),
    ("int() == 1", "is written int(VALUE)"),
    ("size('a', 'b') == 1", "is written size(VALUE)"),
    ("contains('a', 'b')", "is written TEXT.contains(OTHER)"),
    ("'a'.startsWith()", "is written TEXT.startsWith(OTHER)"),
    ("timestamp(0).getHours('UTC', 1) == 1", "is written TIMESTAMP.getHours()"),
    ("getHours(timestamp(0)) == 1", "is written TIMESTAMP.getHours()"),
    ("'a'.matches('a')", "matches() cannot be used here"),
    ("'a'.replace('a', 'b') == 'b'", "replace() cannot be used here"),
    ("math.greatest(1, 2) == 2", "greatest() cannot be used here"),
    ("[1].all(1, true)", "begins with the name of a variable"),
    ("[1].all(event, true)", "cannot be the name of a variable"),
    ("[1].all(x)", "all() is written otherwise"),
    ("has(event)", "has() asks for a key"),
    ("has(event.data['a'])", "has() asks for a key"),
    ("has(event.nothing)", "event.nothing does not exist"),
    ("[1].all(x, y == 1)", "y is not known"),
    ("[1].all(x, true) && x == 1", "x is not known"),
    ("b'a' == b'a'", "bytes cannot be used here"),
    ("Event{} == 1", "objects cannot be made"),
    ("event.data.?a == 1", ""),
    ("event.data[?'a'] == 1", ""),
];

#[test]
fn what_is_offered_keeps_to_the_semantics_of_cel() {
    for text in TRUE {
        assert_eq!(eval(text), Ok(true), "{text}");
    }
    for text in ERRORS {
        assert!(eval(text).is_err(), "{text}: {:?}", eval(text));
    }
}

#[test]
fn what_does_not_work_is_refused_when_it_is_written() {
    for (text, expected) in REFUSED {
        let error = super::Expression::compile(text).expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn a_function_is_offered_only_if_it_works() {
    for Signature { name, .. } in &Signature::ALL {
        let call = format!("{name}(");
        assert!(TRUE.iter().any(|text| text.contains(&call)), "{name}() is offered and no vector evaluates it");
    }
}
