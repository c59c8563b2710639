//! Removes secrets from values: errors go to logs and tickets.

use std::borrow::Cow;

use secrecy::{ExposeSecret as _, SecretString};

/// Replaces a secret.
const HIDDEN: &str = "***";
/// The most characters of a value that an error quotes.
const QUOTED: usize = 100;
/// This many hexadecimal digits in a row count as a key.
const KEY_DIGITS: usize = 32;

/// `value` without passwords and keys. It need not be a valid URL: a list of hosts is not. Hides too much rather than too
/// little.
pub fn hide(value: &str) -> Cow<'_, str> {
    if is_key(value) {
        return HIDDEN.into();
    }
    let Some((scheme, rest)) = value.split_once("://") else {
        let is_user = value.split_once('@').is_some_and(|(user, _)| user.contains(':'));
        return if is_user { HIDDEN.into() } else { value.into() };
    };
    if !is_scheme(scheme) {
        return HIDDEN.into();
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let behind = path.to_lowercase();
    if path.contains('@') || ["password", "token"].iter().any(|word| behind.contains(word)) {
        return format!("{scheme}://{HIDDEN}").into();
    }
    match authority.rsplit_once('@') {
        Some((user, hosts)) => match user.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}@{hosts}{path}").into(),
            None => value.into(),
        },
        None if authority.split(',').all(has_port) => value.into(),
        // A user and a password without a host.
        None => format!("{scheme}://{HIDDEN}").into(),
    }
}

/// A driver's `text` without the password of its `url`.
pub fn hide_password(url: &SecretString, text: &str) -> String {
    let url = url.expose_secret();
    let user = url.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
    let password =
        user.and_then(|(user, _)| user.split_once(':')).map_or("", |(_, password)| password);
    let text = text.replace(url, &hide(url));
    if password.is_empty() { text } else { hide_word(&text, password) }
}

/// `text` without `word`, unless it is a part of a longer one: a short password is a part of many.
fn hide_word(text: &str, word: &str) -> String {
    let is_whole = |at: usize| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric)
    };
    let (mut told, mut end) = (String::new(), 0);
    for (at, _) in text.match_indices(word).filter(|(at, _)| is_whole(*at)) {
        told = told + &text[end..at] + HIDDEN;
        end = at + word.len();
    }
    told + &text[end..]
}

/// `text` without the secrets of `value`, which it may quote.
pub(super) fn without(value: &str, text: &str) -> String {
    let shown = gist(value);
    if value.is_empty() || shown == value {
        return text.to_owned();
    }
    let escaped = format!("{value:?}");
    let escaped = escaped.trim_matches('"');
    text.replace(value, &shown).replace(escaped, &shown)
}

/// `value` itself, or only its scheme if it has secrets, or options that may be secrets.
fn gist(value: &str) -> Cow<'_, str> {
    let options = value.contains("://") && value.contains(['?', '#']);
    if !options && hide(value) == value {
        return value.into();
    }
    match value.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        Some((scheme, _)) => format!("{scheme}://{HIDDEN}").into(),
        None => HIDDEN.into(),
    }
}

/// `text` in quotation marks, for an error.
pub(super) fn quote(text: &str) -> String {
    let shown = gist(text);
    match shown.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{:?}…", &shown[..end]),
        None => format!("{shown:?}"),
    }
}

/// `key`, unless it is not like one: it may be a value by mistake.
pub(super) fn key(key: &str) -> &str {
    let is_like_one = key.chars().all(is_of_key) && !is_key(key);
    if is_like_one { key } else { HIDDEN }
}

/// Whether keys of settings may have this character.
pub(super) fn is_of_key(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// Whether `text` can be the scheme of a URL.
pub(super) fn is_scheme(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    text.len() <= 20
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
}

/// Whether `value` has a key, or a password among options.
fn is_key(value: &str) -> bool {
    let digits = value.split(|c: char| !c.is_ascii_hexdigit());
    let mut words = digits.map(str::len);
    words.any(|digits| digits >= KEY_DIGITS)
        || value.contains("PRIVATE KEY")
        || (!value.contains("://") && value.to_lowercase().contains("password="))
}

/// Whether the text after the colon of `host`, if any, is a port.
fn has_port(host: &str) -> bool {
    let port = host.rsplit_once(':').map_or("", |(_, port)| port);
    host.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_hidden() {
        for (url, shown) in [
            ("postgres://shop:s3cret@db/shop", "postgres://shop:***@db/shop"),
            ("mongodb://u:s3cret@h1:27017,h2:27017/db", "mongodb://u:***@h1:27017,h2:27017/db"),
            ("redis://:s3cret@cache:6379/1", "redis://:***@cache:6379/1"),
            ("postgres://h/db?user=u&password=s3cret", "postgres://***"),
            ("postgres://u:s3/cr@et@h/db", "postgres://***"),
            ("postgres://u:s3@cret@h/db", "postgres://u:***@h/db"),
            ("postgres://u:s3cret", "postgres://***"),
            ("postgres://u:s3cret/db", "postgres://***"),
            ("host=db password=s3cret", "***"),
            ("user:s3cret@db://x", "***"),
            ("user:s3cret@db", "***"),
            ("http://u:s3cret@a:1, http://u:s3cret@b:2", "http://***"),
            ("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", "***"),
            ("-----BEGIN PRIVATE KEY-----\ns3cret", "***"),
        ] {
            assert_eq!(hide(url), shown);
        }
        for plain in [
            "127.0.0.1:8000",
            "postgres://shop@db/shop",
            "mongodb://h1:27017,h2:27017/db",
            "http://[::1]:3001",
            "http://10.0.0.1:80, http://10.0.0.2:80",
            "data/signing-keys",
        ] {
            assert_eq!(hide(plain), plain);
        }
    }

    #[test]
    fn what_an_error_quotes_of_a_secret_is_taken_out() {
        let url = "postgres://u:s3\"cret@h/db";
        let text = format!("`{url}` and {url:?} are no numbers");
        let told = without(url, &text);
        assert!(!told.contains("cret") && told.ends_with("are no numbers"), "{told}");
    }

    #[test]
    fn what_a_driver_says_is_told_without_the_password() {
        let url = SecretString::from("mongodb://shop:s3cret@db/shop".to_owned());
        let told = hide_password(&url, "mongodb://shop:s3cret@db/shop: \"s3cret\" is not a host");
        assert_eq!(told, "mongodb://shop:***@db/shop: \"***\" is not a host");
        let url = SecretString::from("mongodb://shop:a@db/shop".to_owned());
        let told = hide_password(&url, "a database has no host \"a\", and a: b, or a");
        assert_eq!(told, "*** database has no host \"***\", and ***: b, or ***");
    }

    #[test]
    fn a_value_in_the_place_of_a_key_is_not_told() {
        assert_eq!(key("user.pool_sise"), "user.pool_sise");
        for value in ["user.database_url:postgres://u:s3cret@h/db?x", "user.s3/cret", "s3 cret"] {
            assert_eq!(key(value), "***");
        }
        assert_eq!(key(&"a".repeat(64)), "***");
    }
}
