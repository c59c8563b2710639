//! When a certificate ends (RFC 5280, section 4.1.2.5).

use chrono::NaiveDateTime;
use rustls::pki_types::CertificateDer;

/// The tags of DER that are looked at (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The earliest end of `certificates`, in seconds since 1970; `None` if none of them can be read.
pub(super) fn earliest_end(certificates: &[CertificateDer<'_>]) -> Option<i64> {
    certificates.iter().filter_map(|certificate| end(certificate)).min()
}

fn end(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = expect(SEQUENCE, certificate)?;
    let (fields, _) = expect(SEQUENCE, certificate)?;
    let fields = expect(VERSION, fields).map_or(fields, |(_, rest)| rest);
    // The serial number, the algorithm and the issuer come before.
    let before_validity = (0..3).try_fold(fields, |fields, _| Some(element(fields)?.2))?;
    let (validity, _) = expect(SEQUENCE, before_validity)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    let time = std::str::from_utf8(time).ok()?;
    let time = match tag {
        UTC_TIME if time.get(..2)? < "50" => format!("20{time}"),
        UTC_TIME => format!("19{time}"),
        GENERALIZED_TIME => time.to_owned(),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&time, "%Y%m%d%H%M%SZ").ok()?;
    Some(time.and_utc().timestamp())
}

/// The content of the first element of `bytes`, which has `tag`, and what follows.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    element(bytes).filter(|(found, ..)| *found == tag).map(|(_, content, rest)| (content, rest))
}

/// The tag and the content of the first element of `bytes`, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        0..0x80 => (length.into(), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked((length & 0x7f).into())?;
            let length = digits.iter().try_fold(0_usize, |length, digit| {
                length.checked_mul(256)?.checked_add(usize::from(*digit))
            });
            (length?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(year: i32) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(["shop".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 2, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().into()
    }

    fn first_of_february(year: i32) -> i64 {
        let day = chrono::NaiveDate::from_ymd_opt(year, 2, 1).unwrap();
        day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp()
    }

    #[test]
    fn the_end_is_read_in_both_forms_and_the_earliest_of_a_chain_counts() {
        let ends = [2030, 2049, 2050, 2100].map(certificate);
        for (at, year) in [2030, 2049, 2050, 2100].into_iter().enumerate() {
            assert_eq!(earliest_end(&ends[at..]), Some(first_of_february(year)));
        }
        assert_eq!(earliest_end(&[]), None);
    }

    #[test]
    fn what_is_cut_off_has_no_end() {
        let whole = certificate(2030).to_vec();
        let ends = (0..whole.len()).filter(|length| end(&whole[..*length]).is_some());
        assert_eq!(ends.count(), 0);
    }
}
