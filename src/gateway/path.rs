//! Canonical paths: routes are chosen by them and upstreams get them, so that no other spelling bypasses a rule.

use std::borrow::Cow;

/// `path` in canonical form (RFC 3986, section 6.2.2): unneeded percent-encoding is decoded, and repeated slashes become
/// one. `None` for a path that upstreams might read differently: with a segment of one or two dots, or of parameters only,
/// or with an encoded slash, backslash or NUL.
pub fn canonical(path: &str) -> Option<Cow<'_, str>> {
    spell(path, false)
}

/// The same, but keeping encoded slashes. The path must also be canonical for readers that decode them; see
/// [`with_slashes`].
pub fn canonical_with_encoded(path: &str) -> Option<Cow<'_, str>> {
    spell(path, true).filter(|spelling| canonical(&with_slashes(spelling)).is_some())
}

/// Whether `path` is a path in the form in which requests are matched to routes.
pub(super) fn is_plain(path: &str) -> bool {
    let same = canonical(path).is_some_and(|spelling| without_parameters(&spelling) == path);
    path.starts_with('/') && same
}

/// The problem of a setting whose path is not [plain](is_plain).
pub(super) fn not_plain(path: &str) -> String {
    format!("{path:?} is not a path in canonical form, such as /reviews")
}

/// Whether `byte` may be in a path (RFC 3986, section 3.3) that is joined with others, which excludes parameters.
pub(super) fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@%".contains(&byte)
}

/// Whether `path` is `prefix`, or below it.
pub(super) fn is_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether `path` has an encoded slash.
pub(super) fn has_encoded(path: &str) -> bool {
    path.as_bytes().windows(3).any(|letters| letters.eq_ignore_ascii_case(b"%2f"))
}

/// `path` with its encoded slashes decoded.
pub fn with_slashes(path: &str) -> String {
    let path = path.replace("%2f", "/").replace("%2F", "/");
    let mut plain = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !plain.ends_with('/') {
            plain.push(letter);
        }
    }
    plain
}

fn spell(path: &str, keeps_slashes: bool) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    // A dot within a segment, as in the name of a file, is like any letter.
    let is_strange = |pair: &[u8]| matches!(pair, b"//" | b"/." | b".." | b"./");
    let is_plain = !bytes.iter().any(|byte| b"%\\;".contains(byte));
    if is_plain && path != "." && !bytes.windows(2).any(is_strange) {
        return Some(path.into());
    }
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\\' => return None,
            '/' if plain.ends_with('/') => {}
            '%' => {
                let digits = rest.get(..2)?;
                rest = &rest[2..];
                match u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))? {
                    b'/' if keeps_slashes => {
                        plain.push('%');
                        plain.push_str(digits);
                    }
                    b'/' | b'\\' | 0 => return None,
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                        plain.push(byte.into());
                    }
                    _ => {
                        plain.push('%');
                        plain.push_str(&digits.to_ascii_uppercase());
                    }
                }
            }
            letter => plain.push(letter),
        }
    }
    let strange = |segment| match name(segment) {
        "" => !segment.is_empty(),
        name => matches!(name, "." | ".."),
    };
    if plain.split('/').any(strange) {
        return None;
    }
    Some(if plain == path { path.into() } else { plain.into() })
}

/// `path` without the parameters of its segments (section 3.3), which some upstreams ignore.
pub fn without_parameters(path: &str) -> Cow<'_, str> {
    match path.contains(';') {
        true => path.split('/').map(name).collect::<Vec<_>>().join("/").into(),
        false => path.into(),
    }
}

fn name(segment: &str) -> &str {
    segment.split(';').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (path, spelling) in [
            ("/", "/"),
            ("/auth/login", "/auth/login"),
            ("/auth/%6cogin", "/auth/login"),
            ("/%61dmin/x", "/admin/x"),
            ("//admin///x/", "/admin/x/"),
            ("/a%20b/%c3%a9%2B", "/a%20b/%C3%A9%2B"),
            ("/a;b/..c/d.", "/a;b/..c/d."),
            ("/a%2ejs", "/a.js"),
        ] {
            assert_eq!(canonical(path).as_deref(), Some(spelling), "{path}");
        }
    }

    #[test]
    fn what_may_be_read_as_another_path_is_none() {
        for path in [
            "/products/../auth",
            "/products/%2e%2E/auth",
            "/./products",
            "/..",
            "/up/..%2fadmin",
            "/up/..%5Cadmin",
            "/up/..;/admin",
            "/up/.;x/admin",
            "/up/;/admin",
            "/up/;x/admin",
            "/up\\admin",
            "/a%00b",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%+1",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }

    #[test]
    fn slashes_by_percent_stay_where_nobody_reads_another_path() {
        for (path, spelling) in [
            ("/up/@scope%2fname", "/up/@scope%2fname"),
            ("/up//a%2Fb%7e/", "/up/a%2Fb~/"),
            ("/up/%2f/x", "/up/%2f/x"),
            ("/up/a%252fb", "/up/a%252fb"),
        ] {
            assert_eq!(canonical_with_encoded(path).as_deref(), Some(spelling), "{path}");
        }
        for path in [
            "/up/..%2fadmin",
            "/up/a%2f..%2f..%2fadmin",
            "/up/a%2F%2e%2e",
            "/up/x%2f..;y/admin",
            "/up/a%2f;x/b",
            "/up/a%2f.",
            "/up/a%5c..%5cadmin",
            "/up/a%2f%00",
        ] {
            assert_eq!(canonical_with_encoded(path), None, "{path}");
        }
        assert!(has_encoded("/a%2fb") && has_encoded("/a%2Fb") && !has_encoded("/a%252fb"));
        assert_eq!(with_slashes("/up%2F%2fadmin//x"), "/up/admin/x");
    }

    #[test]
    fn parameters_do_not_count() {
        for (path, plain) in [("/a;b=c/d;e", "/a/d"), ("/a/d", "/a/d")] {
            assert_eq!(without_parameters(path), plain);
        }
    }
}
