//! Ways to spoil a valid event so that it no longer is one.

use memchr::memmem;

use super::random::Random;

/// A spoiled copy: never a valid event, never with a line break.
pub(super) fn corrupt(event: &[u8], random: &mut Random) -> Vec<u8> {
    match random.below(7) {
        0 => truncated(event, random),
        1 => replaced(event, b"\"time\":\"", b"\"time\":[\""),
        2 => not_utf8(event, random),
        3 => without_type(event),
        4 => replaced(event, b"\"sequence\":", b"\"sequence\":-"),
        5 => replaced(event, b"\"employeeId\":\"", b"\"employeeId\":\"\",\"was\":\""),
        _ => out_of_range(event),
    }
}

fn truncated(event: &[u8], random: &mut Random) -> Vec<u8> {
    event[..=random.index(event.len() - 2)].to_vec()
}

fn not_utf8(event: &[u8], random: &mut Random) -> Vec<u8> {
    let mut copy = event.to_vec();
    copy[random.index(event.len())] = 0xff;
    copy
}

fn without_type(event: &[u8]) -> Vec<u8> {
    replaced(event, b"\"type\":", b"\"kind\":")
}

fn out_of_range(event: &[u8]) -> Vec<u8> {
    for key in [&b"\"unitPrice\":"[..], b"\"amount\":", b"\"total\":", b"\"minimumAge\":"] {
        if memmem::find(event, key).is_some() {
            return replaced(event, key, &[key, b"99999999999999"].concat());
        }
    }
    replaced(event, b"\"sequence\":", b"\"sequence\":99999999999999999999")
}

fn replaced(event: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let at = memmem::find(event, what).expect("every event of the rig has this key");
    [&event[..at], with, &event[at + what.len()..]].concat()
}
