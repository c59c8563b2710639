//! Paths in one spelling: routes are chosen by it, and upstreams get it, so that no rule is passed by with another.

use std::borrow::Cow;

/// `path` as all behind the gateway read it (RFC 3986, section 6.2.2): what is by percent without need is plain, and
/// slashes that stand together are one. Nothing where some of them might read another path: in a segment of a dot or
/// two, or of parameters alone, or with a slash, a backslash or a zero by percent.
pub(super) fn canonical(path: &str) -> Option<Cow<'_, str>> {
    let bytes = path.as_bytes();
    if !bytes.iter().any(|byte| b"%.\\;".contains(byte))
        && !bytes.windows(2).any(|pair| pair == b"//")
    {
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

/// `path` without the parameters of its segments (section 3.3), which some upstreams take off before they look.
pub(super) fn without_parameters(path: &str) -> Cow<'_, str> {
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
    fn parameters_do_not_count() {
        for (path, plain) in [("/a;b=c/d;e", "/a/d"), ("/a/d", "/a/d")] {
            assert_eq!(without_parameters(path), plain);
        }
    }
}
