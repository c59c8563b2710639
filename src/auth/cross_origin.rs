//! Refuses requests that pages of other origins make a browser send (cross-site request forgery), by the rules of
//! `CrossOriginProtection` in Go's `net/http`.
//!
//! Browsers say where a request comes from in `Sec-Fetch-Site` (W3C Fetch Metadata), and older ones in `Origin`; pages can
//! change neither. A request without both is not a browser's, and nothing is sent with it that its sender does not have.

use actix_web::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};

use crate::error::{Error, Kind};
use crate::peer::forwarded;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

const DETAIL: &str =
    "a page of another origin has sent this request; only pages of this host may use its sessions";

/// Checks that a request with `headers` is from a page of the host that it is for, or from no page at all. What proxies say
/// about the host counts: no page can send their headers, and the gateway takes them from no strangers.
///
/// # Errors
/// 403 for pages of other origins.
pub(super) fn check(headers: &HeaderMap) -> Result<(), Error> {
    let is_same = match headers.contains_key(SEC_FETCH_SITE) {
        true => headers.get_all(SEC_FETCH_SITE).all(is_own_site),
        false => headers.get_all(ORIGIN).all(|origin| is_of_host(origin, headers)),
    };
    if is_same { Ok(()) } else { Err(Error::new(Kind::Forbidden, DETAIL)) }
}

/// Whether `Sec-Fetch-Site` names this origin, or the user: an address that was typed or a bookmark.
fn is_own_site(site: &HeaderValue) -> bool {
    matches!(site.as_bytes(), b"same-origin" | b"none")
}

/// Whether `origin` has the host of a request with `headers`. The scheme is not compared: it is not known behind proxies.
fn is_of_host(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    // `null` is the origin of sandboxed pages and of files.
    let Some((scheme, wanted)) = origin else { return false };
    // Origins do not name the port of their scheme; some proxies do.
    let port: &[u8] = if scheme == "https" { b":443" } else { b":80" };
    let hosts = headers.get_all(HOST).map(HeaderValue::as_bytes).chain(forwarded::hosts(headers));
    hosts
        .map(|host| host.strip_suffix(port).unwrap_or(host))
        .any(|host| !host.is_empty() && host.eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(lines: &[(&'static str, &'static str)]) -> Result<(), Kind> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("shop.example"));
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        check(&headers).map_err(|error| error.kind())
    }

    #[test]
    fn the_browser_says_whose_page_it_is() {
        for site in ["same-origin", "none"] {
            assert_eq!(checked(&[("sec-fetch-site", site)]), Ok(()), "{site}");
            // The host may have been rewritten on the way.
            let both = [("sec-fetch-site", site), ("origin", "https://other.example")];
            assert_eq!(checked(&both), Ok(()), "{site}");
        }
        for site in ["cross-site", "same-site", "", "Same-Origin", "same-origin, cross-site"] {
            assert_eq!(checked(&[("sec-fetch-site", site)]), Err(Kind::Forbidden), "{site}");
            let both = [("sec-fetch-site", site), ("origin", "https://shop.example")];
            assert_eq!(checked(&both), Err(Kind::Forbidden), "{site}");
        }
        let twice = [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")];
        assert_eq!(checked(&twice), Err(Kind::Forbidden));
    }

    #[test]
    fn an_older_browser_names_the_origin_of_the_page() {
        for origin in ["https://shop.example", "http://shop.example", "https://SHOP.example"] {
            assert_eq!(checked(&[("origin", origin)]), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "",
            "shop.example",
            "https://",
            "https://other.example",
            "https://shop.example.other.example",
            "https://www.shop.example",
            "https://shop.example:8443",
            "https://shop.example/",
            "https://neo@shop.example",
        ] {
            assert_eq!(checked(&[("origin", origin)]), Err(Kind::Forbidden), "{origin}");
        }
        let twice = [("origin", "https://shop.example"), ("origin", "https://other.example")];
        assert_eq!(checked(&twice), Err(Kind::Forbidden));
    }

    #[test]
    fn behind_a_proxy_the_host_is_the_one_that_it_was_asked_for() {
        let origin = ("origin", "https://www.example");
        for said in [
            ("x-forwarded-host", "www.example"),
            ("x-forwarded-host", "www.example:443, inner.example"),
            ("forwarded", "for=192.0.2.7;host=\"www.example\""),
        ] {
            assert_eq!(checked(&[origin, said]), Ok(()), "{said:?}");
        }
        for said in [("x-forwarded-host", "www.example:80"), ("forwarded", "for=www.example")] {
            assert_eq!(checked(&[origin, said]), Err(Kind::Forbidden), "{said:?}");
        }
    }

    #[test]
    fn what_is_no_browser_passes() {
        assert_eq!(checked(&[]), Ok(()));
        assert_eq!(checked(&[("referer", "https://other.example/")]), Ok(()));
    }
}
