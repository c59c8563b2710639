//! What a client requires of a cache: how fresh a response must be, and which one it has already.

use actix_web::http::header::{
    ETAG, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use actix_web::http::{Method, StatusCode};

use super::directives::Directives;
use super::freshness::date;
use crate::peer::{Body, Headers, Request};

/// Headers of requests that only the origin can answer (RFC 9111, section 4.3.2; RFC 9110, section 14).
const FOR_ORIGIN: [HeaderName; 4] = [RANGE, IF_RANGE, IF_MATCH, IF_UNMODIFIED_SINCE];

/// The part of a request that concerns a cache.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) is_head: bool,
    pub(super) directives: Directives,
    if_none_match: Vec<HeaderValue>,
    if_modified_since: Option<HeaderValue>,
}

impl Client {
    pub(super) fn from_request(request: &Request) -> Self {
        let headers = &request.headers;
        Self {
            is_head: request.method == Method::HEAD,
            directives: Directives::from_headers(headers),
            if_none_match: headers.get_all(IF_NONE_MATCH).cloned().collect(),
            if_modified_since: headers.get(IF_MODIFIED_SINCE).cloned(),
        }
    }

    /// Whether the cache must neither answer it nor store its response.
    pub(super) fn bypasses(&self, request: &Request) -> bool {
        self.directives.no_store
            || !matches!(request.body, Body::None)
            || FOR_ORIGIN.iter().any(|name| request.headers.contains_key(name))
    }

    /// Whether it accepts no stored response.
    pub(super) fn wants_new(&self) -> bool {
        let max_age = self.directives.max_age;
        self.directives.no_cache || max_age.is_some_and(|max_age| max_age.is_zero())
    }

    /// Whether it has the response with `status` and `headers` already (RFC 9110, section 13.2.2).
    pub(super) fn knows(&self, status: StatusCode, headers: &Headers) -> bool {
        if status != StatusCode::OK {
            return false;
        }
        if !self.if_none_match.is_empty() {
            let etag = headers.get(ETAG).map(|etag| strong(etag.as_bytes()));
            let lines = self.if_none_match.iter().map(HeaderValue::as_bytes);
            let mut tags = lines.flat_map(|line| line.split(|byte| *byte == b','));
            return tags.any(|tag| tag.trim_ascii() == b"*" || Some(strong(tag)) == etag);
        }
        let Some(since) = &self.if_modified_since else { return false };
        // Usually the texts are the same; they need not be dates then.
        headers.get(LAST_MODIFIED) == Some(since) || {
            let mut said = Headers::new();
            said.insert(LAST_MODIFIED, since.clone());
            let (modified, since) = (date(headers, LAST_MODIFIED), date(&said, LAST_MODIFIED));
            modified.is_some() && modified <= since
        }
    }
}

/// Removes the client's conditions from `headers`: the cache needs the whole response.
pub(super) fn remove_conditions(headers: &mut Headers) {
    headers.remove(IF_NONE_MATCH);
    headers.remove(IF_MODIFIED_SINCE);
}

/// A tag for weak comparison.
pub(super) fn strong(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knows(
        asked: &[(HeaderName, &'static str)],
        answered: &[(HeaderName, &'static str)],
    ) -> bool {
        let mut request = Request::new(Method::GET, "/".parse().unwrap());
        for (name, value) in asked {
            request.headers.append(name.clone(), HeaderValue::from_static(value));
        }
        let mut headers = Headers::new();
        for (name, value) in answered {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        Client::from_request(&request).knows(StatusCode::OK, &headers)
    }

    #[test]
    fn a_tag_is_known_by_weak_comparison() {
        for tags in ["\"7\"", "W/\"7\"", "\"6\" , \"7\"", "*"] {
            for etag in ["\"7\"", "W/\"7\""] {
                assert!(knows(&[(IF_NONE_MATCH, tags)], &[(ETAG, etag)]), "{tags} {etag}");
            }
        }
        for tags in ["\"6\"", "7", "\"77\"", ""] {
            assert!(!knows(&[(IF_NONE_MATCH, tags)], &[(ETAG, "\"7\"")]), "{tags}");
        }
        assert!(!knows(&[(IF_NONE_MATCH, "\"7\"")], &[]));
    }

    #[test]
    fn a_time_counts_only_without_a_tag() {
        let (before, then, after) = (
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:38 GMT",
        );
        let answer = [(LAST_MODIFIED, then), (ETAG, "\"7\"")];
        assert!(knows(&[(IF_MODIFIED_SINCE, then)], &answer));
        assert!(knows(&[(IF_MODIFIED_SINCE, after)], &answer));
        assert!(!knows(&[(IF_MODIFIED_SINCE, before)], &answer));
        assert!(!knows(&[(IF_MODIFIED_SINCE, "lately")], &answer));
        assert!(!knows(&[(IF_MODIFIED_SINCE, then)], &[]));
        assert!(!knows(&[(IF_MODIFIED_SINCE, then), (IF_NONE_MATCH, "\"6\"")], &answer));
    }
}
