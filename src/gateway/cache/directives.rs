//! The Cache-Control header of a request or a response (RFC 9111, section 5.2; RFC 5861).

use std::time::Duration;

use actix_web::http::header::CACHE_CONTROL;

use crate::peer::Headers;

/// More seconds than this mean for ever (RFC 9111, section 1.2.2).
const FOR_EVER: u64 = 1 << 31;

/// The directives that this cache knows. One that names fields, such as `private="x-user"`, applies to the whole response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: bool,
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    pub(super) max_stale: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

impl Directives {
    /// The directives in `headers`. An unreadable line counts as `no-store`.
    pub(super) fn from_headers(headers: &Headers) -> Self {
        let mut directives = Self::default();
        for line in headers.get_all(CACHE_CONTROL) {
            match line.to_str() {
                Ok(line) if line.matches('"').count() % 2 == 0 => directives.read(line),
                _ => directives.no_store = true,
            }
        }
        directives
    }

    fn read(&mut self, line: &str) {
        let mut quoted = false;
        let items = line.split(|letter| {
            quoted ^= letter == '"';
            letter == ',' && !quoted
        });
        for item in items {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "no-store" => self.no_store = true,
                "no-cache" => self.no_cache = true,
                "private" => self.private = true,
                "public" => self.public = true,
                "must-revalidate" => self.must_revalidate = true,
                "proxy-revalidate" => self.proxy_revalidate = true,
                "only-if-cached" => self.only_if_cached = true,
                "max-age" => shorten(&mut self.max_age, value),
                "s-maxage" => shorten(&mut self.s_maxage, value),
                "min-fresh" => shorten(&mut self.min_fresh, value),
                "max-stale" if value.is_empty() => self.max_stale = Some(Duration::MAX),
                "max-stale" => shorten(&mut self.max_stale, value),
                "stale-while-revalidate" => shorten(&mut self.stale_while_revalidate, value),
                "stale-if-error" => shorten(&mut self.stale_if_error, value),
                _ => {}
            }
        }
    }
}

/// Sets `time` to `value` in seconds, unless it is shorter already. An invalid number counts as 0.
fn shorten(time: &mut Option<Duration>, value: &str) {
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that do not fit a u64 are a very long time.
    let seconds = if digits { value.parse().unwrap_or(FOR_EVER).min(FOR_EVER) } else { 0 };
    let value = Duration::from_secs(seconds);
    *time = Some(time.map_or(value, |before| before.min(value)));
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Directives {
        let mut headers = Headers::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        Directives::from_headers(&headers)
    }

    #[test]
    fn directives_are_read_in_any_dress() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let some = read(&["Public , MAX-AGE=60,,s-maxage=\"5\"", "x=\"a, no-store\", max-stale"]);
        assert_eq!(
            some,
            Directives {
                public: true,
                max_age: seconds(60),
                s_maxage: seconds(5),
                max_stale: Some(Duration::MAX),
                ..Directives::default()
            }
        );
        assert!(read(&["private=\"a, b\", no-cache=c"]).private);
        assert!(read(&["private=\"a, b\", no-cache=c"]).no_cache);
    }

    #[test]
    fn what_makes_no_sense_is_not_kept_long() {
        assert_eq!(read(&["max-age=60, max-age=5"]).max_age, Some(Duration::from_secs(5)));
        for bad in
            ["max-age", "max-age=", "max-age=soon", "max-age=-1", "max-age=+5", "max-age=1.5"]
        {
            assert_eq!(read(&[bad]).max_age, Some(Duration::ZERO), "{bad}");
        }
        let endless = read(&["max-age=99999999999999999999999"]).max_age;
        assert_eq!(endless, Some(Duration::from_secs(FOR_EVER)));
        assert!(read(&["max-age=60, x=\"y"]).no_store);
        assert!(read(&["max-age=60, é"]).no_store);
    }
}
