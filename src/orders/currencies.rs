//! The currencies that an order may be in: the active codes of ISO 4217 (list one of January 2026, without test codes and precious metals).
//!
//! Events may be in any currency, since a log outlives currencies; an order is about money that is paid now.

/// Active codes, sorted.
const CODES: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BHD BIF BMD BND BOB BOV BRL BSD BTN BWP \
    BYN BZD CAD CDF CHE CHF CHW CLF CLP CNY COP COU CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL \
    GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT \
    LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB \
    PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS \
    TMT TND TOP TRY TTD TWD TZS UAH UGX USD USN UYI UYU UYW UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG";

/// True for a code in use.
#[must_use]
pub fn is_active(code: &str) -> bool {
    code.len() == 3 && CODES.split(' ').any(|known| known == code)
}

/// Codes that shops still meet in old data, with what came after them.
const WITHDRAWN: [(&str, &str); 12] = [
    ("ANG", "XCG since 2025-03-31"),
    ("BGN", "EUR since 2026-01-01"),
    ("BYR", "BYN since 2016-07-01"),
    ("CUC", "CUP since 2021-01-01"),
    ("EEK", "EUR since 2011-01-01"),
    ("HRK", "EUR since 2023-01-01"),
    ("LTL", "EUR since 2015-01-01"),
    ("LVL", "EUR since 2014-01-01"),
    ("MRO", "MRU since 2018-01-01"),
    ("SLL", "SLE since 2024-04-01"),
    ("STD", "STN since 2018-01-01"),
    ("ZWL", "ZWG since 2024-09-01"),
];

/// Why an order cannot be in this currency, and what to send instead.
#[must_use]
pub fn refusal(code: &str) -> String {
    match WITHDRAWN.iter().find(|(withdrawn, _)| *withdrawn == code) {
        Some((_, successor)) => format!("{code} is withdrawn; it was replaced by {successor}"),
        None => "is not an ISO 4217 code in use, such as EUR".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_in_use_are_known_and_others_are_not() {
        assert!(["EUR", "USD", "JPY", "ZAR", "AED"].into_iter().all(is_active));
        assert!(["XCG", "ZWG", "SLE", "VED", "MRU", "STN"].into_iter().all(is_active));
        for (withdrawn, successor) in WITHDRAWN {
            assert!(!is_active(withdrawn) && is_active(&successor[..3]), "{withdrawn}");
        }
        assert!(refusal("BGN").contains("EUR") && !refusal("ABC").contains("withdrawn"));
        assert!(["XXX", "ABC", "eur", "EU", "", "EUR USD", " EU"].into_iter().all(|code| !is_active(code)));
    }
}
