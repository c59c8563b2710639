//! The headers of a message that is passed on.

use std::slice;

use actix_web::http::header::{HeaderName, HeaderValue};

/// Header lines, in order.
///
/// A message has about a dozen, and is built, read and written once: a linear search costs less than hashing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl Headers {
    /// The spare capacity for what is added to a message on its way.
    pub const SPARE: usize = 8;

    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// No headers, with capacity for this number of lines.
    pub fn with_capacity(lines: usize) -> Self {
        Self(Vec::with_capacity(lines))
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no lines.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines.
    pub fn iter(&self) -> slice::Iter<'_, (HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// The first value of `name`.
    pub fn get<N>(&self, name: N) -> Option<&HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        self.get_all(name).next()
    }

    /// The values of `name`.
    pub fn get_all<N>(&self, name: N) -> impl Iterator<Item = &HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        let lines = self.0.iter().filter(move |(said, _)| *said == name);
        lines.map(|(_, value)| value)
    }

    /// Whether there is a line of `name`.
    pub fn contains_key<N>(&self, name: N) -> bool
    where
        HeaderName: PartialEq<N>,
    {
        self.get(name).is_some()
    }

    /// Appends a line.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// Replaces all lines of `name` by one of `value`.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.append(name, value);
    }

    /// Removes the lines of `name`.
    pub fn remove<N>(&mut self, name: N)
    where
        HeaderName: PartialEq<N>,
    {
        self.retain(|said| *said != name);
    }

    /// Removes the lines whose names do not `stay`.
    pub fn retain(&mut self, stay: impl Fn(&HeaderName) -> bool) {
        // In most cases there are no such lines.
        if let Some(first) = self.0.iter().position(|(name, _)| !stay(name)) {
            self.0.remove(first);
            self.0.retain(|(name, _)| stay(name));
        }
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = &'a (HeaderName, HeaderValue);
    type IntoIter = slice::Iter<'a, (HeaderName, HeaderValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Headers {
    type Item = (HeaderName, HeaderValue);
    type IntoIter = std::vec::IntoIter<(HeaderName, HeaderValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Headers {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: T) -> Self {
        Self(lines.into_iter().collect())
    }
}

/// Whether a header is hop-by-hop (RFC 9110, section 7.6.1). Connection is too, but is not among these.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Expect is, because the server that received the request has answered it already.
    matches!(
        name.as_str(),
        "expect"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_order_and_a_name_may_have_several() {
        let line = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let said = [line("via", "a"), line("accept", "*/*"), line("via", "b")];
        let mut headers = Headers::from_iter(said);
        let values = |headers: &Headers| {
            headers.iter().map(|(_, value)| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let via = HeaderName::from_static("via");
        assert_eq!(headers.get(&via).unwrap(), "a");
        assert_eq!(headers.get_all(&via).count(), 2);
        headers.append(via.clone(), HeaderValue::from_static("c"));
        assert_eq!(values(&headers), ["a", "*/*", "b", "c"]);
        headers.insert(via.clone(), HeaderValue::from_static("d"));
        assert_eq!(values(&headers), ["*/*", "d"]);
        headers.remove(&via);
        assert!(!headers.contains_key(&via));
        headers.retain(|_| false);
        assert!(headers.is_empty());
    }
}
