//! CORS: what browsers allow scripts of other origins (Fetch standard, section 3.2).
//!
//! CORS does not stop requests, only scripts from reading responses: access still depends on the token. The middleware adds
//! the headers, so that errors have them too, and answers preflights before any guard or handler.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, HeaderValue, ORIGIN,
};

use super::headers::vary;
use crate::error::{Error, Kind};

/// What scripts of other origins may do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The origins as browsers write them, or with `*.` for any name below a host; `None` for any origin.
    pub origins: Option<Vec<HeaderValue>>,
    /// The methods.
    pub methods: Vec<Method>,
    /// The request headers.
    pub headers: Vec<HeaderName>,
    /// The response headers.
    pub expose: Vec<HeaderName>,
    /// Whether browsers send cookies and certificates; never with any origin.
    pub credentials: bool,
    /// How long browsers cache a preflight, in whole seconds.
    pub max_age: Duration,
}

/// [`Options`] as headers.
#[derive(Clone, Debug)]
pub struct Policy {
    origins: Option<Vec<Allowed>>,
    on_preflight: Vec<(HeaderName, HeaderValue)>,
    on_answer: Vec<(HeaderName, HeaderValue)>,
}

/// Origins that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    /// This one.
    One(HeaderValue),
    /// Hosts one or more labels below a name: the text before the labels, and the text after them.
    Below(Vec<u8>, Vec<u8>),
}

impl Allowed {
    fn new(origin: &HeaderValue) -> Self {
        let text = origin.as_bytes();
        match text.iter().position(|byte| *byte == b'*') {
            Some(at) => Self::Below(text[..at].to_owned(), text[at + 1..].to_owned()),
            None => Self::One(origin.clone()),
        }
    }

    fn takes(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::One(allowed) => allowed == origin,
            Self::Below(before, behind) => {
                let labels = origin.as_bytes().strip_prefix(before.as_slice());
                let labels = labels.and_then(|labels| labels.strip_suffix(behind.as_slice()));
                labels.is_some_and(|labels| labels.split(|byte| *byte == b'.').all(is_label))
            }
        }
    }
}

/// Whether `text` is a label of a host's name, as browsers write it.
fn is_label(text: &[u8]) -> bool {
    let of_label =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
    !text.is_empty() && text.iter().all(of_label)
}

/// The value of Access-Control-Allow-Origin.
pub(super) type Grant = Option<HeaderValue>;

/// Whether the request is a preflight.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl Policy {
    /// A policy that allows `options`.
    pub fn new(options: &Options) -> Self {
        let methods = list(options.methods.iter().map(Method::as_str));
        let headers = list(options.headers.iter().map(HeaderName::as_str));
        let expose = list(options.expose.iter().map(HeaderName::as_str));
        let credentials = options.credentials.then(|| HeaderValue::from_static("true"));
        let credentials = credentials.map(|value| (ACCESS_CONTROL_ALLOW_CREDENTIALS, value));
        let allowed = [
            methods.map(|methods| (ACCESS_CONTROL_ALLOW_METHODS, methods)),
            headers.map(|headers| (ACCESS_CONTROL_ALLOW_HEADERS, headers)),
            Some((ACCESS_CONTROL_MAX_AGE, HeaderValue::from(options.max_age.as_secs()))),
        ];
        let exposed = expose.map(|expose| (ACCESS_CONTROL_EXPOSE_HEADERS, expose));
        Self {
            origins: options.origins.as_ref().map(|all| all.iter().map(Allowed::new).collect()),
            on_preflight: allowed.into_iter().flatten().collect(),
            on_answer: [exposed, credentials].into_iter().flatten().collect(),
        }
    }

    /// The origin that may read the response to a request with `headers`; `None` without an allowed origin.
    pub(super) fn grant(&self, headers: &HeaderMap) -> Grant {
        let origin = headers.get(ORIGIN)?;
        match &self.origins {
            None => Some(HeaderValue::from_static("*")),
            Some(named) => {
                let is_allowed = named.iter().any(|allowed| allowed.takes(origin));
                is_allowed.then(|| origin.clone())
            }
        }
    }

    /// The response to a preflight: the policy, which the browser enforces.
    ///
    /// # Errors
    /// 403 for an origin that is not allowed.
    pub(super) fn preflight(&self, grant: &Grant) -> Result<HttpResponse, Error> {
        if grant.is_none() {
            return Err(Error::new(
                Kind::Forbidden,
                "scripts of this origin may not call this shop",
            ));
        }
        let mut response = HttpResponse::NoContent();
        for (name, value) in &self.on_preflight {
            response.insert_header((name.clone(), value.clone()));
        }
        Ok(response.finish())
    }

    /// Sets the CORS headers of a response. It overrides the handler's own.
    pub(super) fn write(&self, grant: &Grant, headers: &mut HeaderMap) {
        if self.origins.is_some() {
            // Also without an origin, because a cache must not give that response to one.
            vary(headers, "origin");
        }
        headers.remove(ACCESS_CONTROL_ALLOW_ORIGIN);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
        let Some(origin) = grant else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        for (name, value) in &self.on_answer {
            headers.insert(name.clone(), value.clone());
        }
    }
}

/// The names, separated by commas; `None` without names.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let names = names.collect::<Vec<_>>().join(", ");
    // Names of methods and headers are valid header values.
    HeaderValue::from_str(&names).ok().filter(|names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::VARY;

    use super::*;

    fn policy(origins: Option<&'static str>, credentials: bool) -> Policy {
        Policy::new(&Options {
            origins: origins.map(|origin| vec![HeaderValue::from_static(origin)]),
            methods: vec![Method::GET, Method::PUT],
            headers: vec![HeaderName::from_static("if-match")],
            expose: Vec::new(),
            credentials,
            max_age: Duration::from_secs(600),
        })
    }

    fn from(origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, HeaderValue::from_static(origin));
        headers
    }

    #[test]
    fn an_origin_is_allowed_only_letter_by_letter() {
        let named = policy(Some("https://shop.example"), true);
        assert_eq!(named.grant(&from("https://shop.example")).unwrap(), "https://shop.example");
        for other in [
            "https://shop.example.evil.example",
            "https://evil-shop.example",
            "http://shop.example",
            "https://shop.example:8443",
            "null",
            "",
            "*",
        ] {
            assert_eq!(named.grant(&from(other)), None, "{other}");
        }
        assert_eq!(named.grant(&HeaderMap::new()), None);
        assert_eq!(policy(None, false).grant(&from("null")).unwrap(), "*");
    }

    #[test]
    fn a_star_is_for_names_below_a_host_and_nothing_else() {
        let below = policy(Some("https://*.shop.example:8443"), true);
        for good in ["https://a.shop.example:8443", "https://a-1.b_2.shop.example:8443"] {
            assert_eq!(below.grant(&from(good)).unwrap(), good);
        }
        for bad in [
            "https://shop.example:8443",
            "https://.shop.example:8443",
            "https://a..shop.example:8443",
            "https://a.shop.example",
            "https://a.shop.example:8443.evil.example",
            "https://ashop.example:8443",
            "http://a.shop.example:8443",
            "https://evil.example/.shop.example:8443",
            "https://evil.example:1.shop.example:8443",
            "https://u@a.shop.example:8443",
            "https://*.shop.example:8443",
            "null",
        ] {
            assert_eq!(below.grant(&from(bad)), None, "{bad}");
        }
    }

    #[test]
    fn an_answer_for_one_origin_is_not_for_every_cache() {
        let named = policy(Some("https://shop.example"), true);
        for asked in [HeaderMap::new(), from("https://shop.example"), from("https://other.example")]
        {
            let mut headers = HeaderMap::new();
            named.write(&named.grant(&asked), &mut headers);
            assert_eq!(headers.get(VARY).unwrap(), "origin");
        }
        let mut headers = HeaderMap::new();
        let any = policy(None, false);
        any.write(&any.grant(&from("https://x.example")), &mut headers);
        assert!(
            !headers.contains_key(VARY) && !headers.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS)
        );
    }

    #[test]
    fn what_an_upstream_allows_does_not_count() {
        let named = policy(Some("https://shop.example"), false);
        let mut headers = HeaderMap::new();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        named.write(&None, &mut headers);
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn a_preflight_tells_what_is_allowed() {
        let named = policy(Some("https://shop.example"), true);
        let answer = named.preflight(&named.grant(&from("https://shop.example"))).unwrap();
        let header = |name| answer.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(answer.status(), 204);
        assert_eq!(header(ACCESS_CONTROL_ALLOW_METHODS), "GET, PUT");
        assert_eq!(header(ACCESS_CONTROL_ALLOW_HEADERS), "if-match");
        assert_eq!(header(ACCESS_CONTROL_MAX_AGE), "600");
        assert_eq!(named.preflight(&None).unwrap_err().kind(), Kind::Forbidden);
    }
}
