//! The Date header (RFC 9110, section 6.6.1), formatted once per second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HttpDate;

thread_local! {
    static LAST: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Calls `take` with the current time in the format of `Date`.
pub fn with_now<T>(take: impl FnOnce(&[u8]) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    LAST.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            let time = HttpDate::from(UNIX_EPOCH + Duration::from_secs(now));
            (*second, *text) = (now, time.to_string());
        }
        take(text.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_an_http_date() {
        let text = with_now(|now| String::from_utf8_lossy(now).into_owned());
        let time = SystemTime::from(text.parse::<HttpDate>().unwrap());
        assert!(time.elapsed().unwrap() < Duration::from_secs(5), "{text}");
        assert_eq!(text.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
    }
}
