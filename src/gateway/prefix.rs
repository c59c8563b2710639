//! The path prefix under which a proxy in front serves the shop, as with `location /shop/ { proxy_pass http://gateway/; }`.
//! Links in headers get it, and paths of cookies.

use std::convert::Infallible;
use std::future::{Ready, ready};

use actix_web::cookie::Cookie;
use actix_web::dev::Payload;
use actix_web::http::header::{
    CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LINK, LOCATION, SET_COOKIE,
};
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};

use super::path::{is_of_path, is_plain};
use crate::config::Networks;
use crate::http1::lines::words;
use crate::middleware::Input;
use crate::peer::Headers;

/// The prefix that the proxy has removed from the path.
pub(super) const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The longest prefix that is accepted, in bytes, of all proxies together.
const LIMIT: usize = 256;

/// The prefix in `headers`, as in `/shop`. Each of several proxies removes its own, and adds it behind those before it, as
/// in `/shop, /v1`. `None` unless each is a canonical path, so that a link cannot lead elsewhere.
pub(super) fn prefix(headers: &HeaderMap) -> Option<String> {
    let mut whole = String::new();
    let lines = headers.get_all(&FORWARDED_PREFIX);
    for said in lines.flat_map(|line| words(line.as_bytes())).filter(|said| !said.is_empty()) {
        let said = str::from_utf8(said).ok().filter(|said| is_plain(said))?;
        if !said.bytes().all(is_of_path) || whole.len() + said.len() > LIMIT {
            return None;
        }
        whole.push_str(said.trim_end_matches('/'));
    }
    Some(whole).filter(|whole| !whole.is_empty())
}

/// The path below which a trusted proxy serves the shop to the client, if there is one.
pub(super) struct Below(pub(super) Option<String>);

impl FromRequest for Below {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let trusted = request.app_data::<Data<Networks>>();
        ready(Ok(trusted.map_or(Self(None), |trusted| Self::of(request, trusted))))
    }
}

impl Below {
    /// That of `request`, if one of the `trusted` proxies has sent it.
    pub(super) fn of(request: &HttpRequest, trusted: &Networks) -> Self {
        let is_trusted = request.peer_addr().is_some_and(|peer| trusted.contain(peer.ip()));
        Self(is_trusted.then(|| prefix(request.headers())).flatten())
    }
}

impl Input for Below {}

/// Rewrites the links and the paths of cookies in `headers` that are paths of this host with `outside`.
pub(super) fn lead(headers: &mut Headers, outside: impl Fn(&str) -> String) {
    for name in [LOCATION, CONTENT_LOCATION, LINK, SET_COOKIE] {
        if !headers.contains_key(&name) {
            continue;
        }
        let lines = headers.get_all(&name).cloned().collect::<Vec<_>>();
        headers.remove(&name);
        for line in lines {
            let led = line.to_str().ok().map(|text| match &name {
                name if *name == LINK => links(text, &outside),
                name if *name == SET_COOKIE => cookie(text, &outside),
                _ => link(text, &outside),
            });
            let led = led.and_then(|text| HeaderValue::try_from(text).ok());
            headers.append(name.clone(), led.unwrap_or(line));
        }
    }
}

/// `target`, rewritten if it is an absolute path, and not a URL or a relative path.
fn link(target: &str, outside: impl Fn(&str) -> String) -> String {
    match target.starts_with('/') && !target.starts_with("//") {
        true => outside(target),
        false => target.to_owned(),
    }
}

/// Rewrites the path of a Set-Cookie header, if it has one.
fn cookie(text: &str, outside: impl Fn(&str) -> String) -> String {
    let Ok(mut cookie) = Cookie::parse(text) else { return text.to_owned() };
    let Some(path) = cookie.path().map(|path| link(path, outside)) else { return text.to_owned() };
    cookie.set_path(path);
    cookie.to_string()
}

/// Rewrites a Link header (RFC 8288, section 3), which has its targets in angle brackets.
fn links(text: &str, outside: impl Fn(&str) -> String) -> String {
    let (mut led, mut rest) = (String::with_capacity(text.len() + 64), text);
    let (mut is_quoted, mut is_escaped) = (false, false);
    while let Some(letter) = rest.chars().next() {
        let end = rest.find('>').filter(|_| letter == '<' && !is_quoted);
        if let Some(end) = end {
            led.push('<');
            led.push_str(&link(&rest[1..end], &outside));
            rest = &rest[end..];
            continue;
        }
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        led.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    led
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_PREFIX, HeaderValue::from_str(line).unwrap());
        }
        prefix(&headers)
    }

    #[test]
    fn a_prefix_is_a_plain_path() {
        for (text, prefix) in
            [("/shop", "/shop"), (" /shop/ ", "/shop"), ("/a/b-c_1.x~/%20", "/a/b-c_1.x~/%20")]
        {
            assert_eq!(said(&[text]).as_deref(), Some(prefix), "{text}");
        }
        for bad in [
            "",
            "/",
            "//",
            "//evil.example",
            "/shop//",
            "/shop//x",
            "shop",
            "https://evil.example",
            "/..",
            "/shop/../x",
            "/shop/%2e%2e",
            "/a%2f%2fb",
            "/\\evil.example",
            "/shop?x",
            "/shop#x",
            "/shop>; rel=\"x\"",
            "/a, //b",
            "/a, b",
            "/a, /..",
            "/a;b",
            "/shöp",
            &format!("/{}", "x".repeat(256)),
        ] {
            assert_eq!(said(&[bad]), None, "{bad}");
        }
        assert_eq!(said(&[]), None);
    }

    #[test]
    fn proxies_behind_one_another_add_their_prefixes() {
        for lines in [&["/a/, /b"][..], &["/a", "/b"], &["/a,", "", "/, /b/"]] {
            assert_eq!(said(lines).as_deref(), Some("/a/b"), "{lines:?}");
        }
        for bad in [&["/a", "//evil.example"][..], &["/a, https://evil.example"]] {
            assert_eq!(said(bad), None, "{bad:?}");
        }
        let long = format!("/{}", "x".repeat(128));
        assert_eq!(said(&[&long, &long]), None);
    }

    #[test]
    fn links_to_this_host_are_led_and_no_others() {
        let mut headers = Headers::new();
        for (name, value) in [
            (LOCATION, "/products/1"),
            (CONTENT_LOCATION, "//other.example/x"),
            (LINK, "</a?b=,<>; rel=\"next\"; title=\"</no>\\\"</no>\", <https://x.example/>"),
            (LINK, "<c>; rel=prev,</d>;x"),
            (SET_COOKIE, "a=b.c; HttpOnly; SameSite=Strict; Secure; Path=/auth; Max-Age=9"),
            (SET_COOKIE, "d=; Max-Age=0"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        lead(&mut headers, |path| format!("/shop{path}"));
        let values = headers.iter().map(|(_, value)| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            values,
            [
                "/shop/products/1",
                "//other.example/x",
                "</shop/a?b=,<>; rel=\"next\"; title=\"</no>\\\"</no>\", <https://x.example/>",
                "<c>; rel=prev,</shop/d>;x",
                "a=b.c; HttpOnly; SameSite=Strict; Secure; Path=/shop/auth; Max-Age=9",
                "d=; Max-Age=0",
            ]
        );
    }
}
