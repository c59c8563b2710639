//! Which content coding a client prefers (RFC 9110, section 12.5.3).

use actix_web::http::header::{ACCEPT_ENCODING, ContentEncoding, HeaderMap};

/// Of `codings`, the one with the client's highest weight, and the last of those with equal weights; `None` if the client prefers
/// no coding, or takes none of these.
pub(in crate::gateway) fn negotiate<const N: usize>(
    headers: &HeaderMap,
    codings: &[ContentEncoding; N],
) -> Option<ContentEncoding> {
    let mut weights = [None; N];
    let (mut identity, mut others) = (None, None);
    let lines = headers.get_all(ACCEPT_ENCODING).filter_map(|line| line.to_str().ok());
    for item in lines.flat_map(|line| line.split(',')) {
        let (name, weight) = weighed(item);
        match codings.iter().position(|known| name.eq_ignore_ascii_case(known.as_str())) {
            Some(at) => weights[at] = Some(weight),
            None if name == "*" => others = Some(weight),
            None if name.eq_ignore_ascii_case("identity") => identity = Some(weight),
            None => {}
        }
    }
    let weights = weights.map(|weight| weight.or(others).unwrap_or(0.0));
    let best = weights.into_iter().fold(0.0, f32::max);
    let at = weights.iter().rposition(|weight| *weight == best)?;
    (best > 0.0 && best >= identity.unwrap_or(0.0)).then(|| codings[at])
}

/// A coding and its weight from 0 to 1; an invalid weight counts as 0.
fn weighed(item: &str) -> (&str, f32) {
    let (name, parameters) = item.split_once(';').unwrap_or((item, "q=1"));
    let (key, weight) = parameters.split_once('=').unwrap_or_default();
    let weight = weight.trim().parse().ok().filter(|weight| (0.0..=1.0).contains(weight));
    let weight = weight.filter(|_| key.trim().eq_ignore_ascii_case("q"));
    (name.trim(), weight.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::super::{LONG, SHORT};
    use super::*;

    fn chosen(accept: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_str(accept).unwrap());
        negotiate(&headers, &LONG).map_or("identity", ContentEncoding::as_str)
    }

    #[test]
    fn gzip_is_for_short_answers() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("zstd, gzip"));
        assert_eq!(negotiate(&headers, &SHORT), Some(ContentEncoding::Gzip));
        assert_eq!(negotiate(&headers, &LONG), Some(ContentEncoding::Zstd));
    }

    #[test]
    fn the_client_weighs_and_the_server_breaks_ties() {
        for (accept, coding) in [
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip", "gzip"),
            ("GZIP;Q=0.5", "gzip"),
            ("gzip;q=0.9, zstd;q=0.1", "gzip"),
            ("*", "zstd"),
            ("zstd;q=0, *", "gzip"),
            ("gzip;q=0, zstd;q=0, *", "identity"),
            ("gzip;q=0.5, identity", "identity"),
            ("gzip;q=0.5, identity;q=0.2", "gzip"),
            ("identity;q=0, gzip", "gzip"),
            ("gzip;q=0", "identity"),
            ("gzip;q=2", "identity"),
            ("gzip;q=nan, zstd;q=-1", "identity"),
            ("gzip;level=9", "identity"),
            ("br, deflate, compress", "identity"),
            ("", "identity"),
            (", ;, ;q=1", "identity"),
        ] {
            assert_eq!(chosen(accept), coding, "{accept:?}");
        }
    }
}
