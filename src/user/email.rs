//! E-mail addresses: which ones are valid, and which spellings are the same address.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization as _;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::middleware::{is_invisible, text_schema};

/// The longest address, the longest part before its `@`, and the longest label of a domain, in octets (RFC 5321,
/// section 4.5.3.1, with the erratum 1690 of RFC 3696; RFC 1034, section 3.1).
const LONGEST: usize = 254;
const LONGEST_LOCAL: usize = 64;
const LONGEST_LABEL: usize = 63;

/// [`Email`] as an ECMA-262 pattern. It leaves out address literals in brackets, and the rules of IDNA for domains beyond
/// ASCII, which no pattern can express.
const ADDRESS: &str = concat!(
    r"(?:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    // With something beyond ASCII before or after the @.
    r#"|[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]*[^\u0000-\u00A0\u2000-\u200F\u2028-\u202F\u205F-\u206F\uFEFF]"#,
    r#"[^\u0000-\u0020"(),:;<>@\u005B-\u005D\u007F-\u00A0\u2000-\u200F\u2028-\u202F\u205F-\u206F\uFEFF]*@[^\u0000-\u002C\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00A0]+"#,
    r"|[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]*[^\u0000-\u00A0][^\u0000-\u002C\u002F\u003A-\u0040\u005B-\u0060\u007B-\u00A0]*)",
);

/// An e-mail address of at most 254 octets: in ASCII as browsers accept it (HTML, section 4.10.5.1.5) or with an address
/// literal in brackets (RFC 5321, section 4.1.3); beyond ASCII as in RFC 6531, with a domain by IDNA (UTS #46).
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Email(pub(super) String);

impl ToSchema for Email {}

impl PartialSchema for Email {
    fn schema() -> RefOr<Schema> {
        let words = "An e-mail address, as browsers accept it or as RFC 6531 has it";
        text_schema(words, ADDRESS, LONGEST, "neo@matrix.com").into()
    }
}

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text.trim();
        // The OpenAPI document limits the length before trimming.
        let fits = text.chars().count() <= LONGEST && address.len() <= LONGEST;
        match parse(address) {
            Some(_) if fits => Ok(Self(address.to_owned())),
            _ => Err("must be an e-mail address"),
        }
    }
}

/// An address that an account may have: an [`Email`], or one that earlier versions accepted.
pub(super) struct KnownEmail(pub(super) String);

impl FromStr for KnownEmail {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text.trim();
        let email = Email::try_from(text.to_owned()).map(|email| Self(email.0));
        email.or_else(|problem| match is_of_before(address) {
            true => Ok(Self(address.to_owned())),
            false => Err(problem),
        })
    }
}

/// The same text for every spelling of an address: it ignores case, Unicode composition, and whether the domain is in
/// Unicode or in punycode, and how an address literal is written. In ASCII it is the address in lower case.
pub(super) fn email_key(email: &str) -> String {
    match parse(email) {
        Some((local, domain)) => {
            let local = local.to_lowercase().nfc().collect::<String>();
            format!("{local}@{}", domain.to_lowercase())
        }
        None => email.to_lowercase(),
    }
}

/// The part before the `@`, and the domain in ASCII or the plainest literal; `None` for an invalid address.
fn parse(address: &str) -> Option<(&str, Cow<'_, str>)> {
    let (local, domain) = address.split_once('@')?;
    let domain = match in_brackets(domain) {
        Some(literal) => plainest(literal)?.into(),
        None => to_ascii(domain)?,
    };
    let fits = local.len() + 1 + domain.len() <= LONGEST;
    (is_local(local) && fits).then_some((local, domain))
}

fn is_local(local: &str) -> bool {
    !local.is_empty() && local.len() <= LONGEST_LOCAL && local.chars().all(of_local)
}

/// Whether a local part may have `letter`: by HTML in ASCII, and by RFC 6531 if it is visible.
fn of_local(letter: char) -> bool {
    match letter.is_ascii() {
        true => letter.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(letter),
        false => !letter.is_whitespace() && !letter.is_control() && !is_invisible(letter),
    }
}

fn to_ascii(domain: &str) -> Option<Cow<'_, str>> {
    let (denied, hyphens) = (AsciiDenyList::STD3, Hyphens::CheckFirstLast);
    Uts46::new().to_ascii(domain.as_bytes(), denied, hyphens, DnsLength::Verify).ok()
}

fn is_domain(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let ends_well = !label.starts_with('-') && !label.ends_with('-');
        (1..=LONGEST_LABEL).contains(&label.len()) && ends_well && label.bytes().all(inside)
    })
}

/// `[192.0.2.1]` or `[IPv6:2001:db8::1]`, whose inside is given, as RFC 5952 writes it.
fn plainest(literal: &str) -> Option<String> {
    match literal.split_at_checked(5) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("ipv6:") => {
            Some(format!("[IPv6:{}]", address.parse::<Ipv6Addr>().ok()?))
        }
        _ => Some(format!("[{}]", literal.parse::<Ipv4Addr>().ok()?)),
    }
}

/// Whether earlier versions accepted `address`, which is in ASCII: they took an address literal without the tag `IPv6:`,
/// and a domain that looks like punycode but is not.
fn is_of_before(address: &str) -> bool {
    let parts = address.split_once('@').filter(|_| address.len() <= LONGEST && address.is_ascii());
    parts.is_some_and(|(local, domain)| {
        let is_machine = in_brackets(domain).is_some_and(|inner| inner.parse::<IpAddr>().is_ok());
        is_local(local) && (is_machine || is_domain(domain))
    })
}

fn in_brackets(domain: &str) -> Option<&str> {
    domain.strip_prefix('[')?.strip_suffix(']')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::allows;
    use proptest::prelude::*;

    fn is_email(text: &str) -> bool {
        Email::try_from(text.to_owned()).is_ok()
    }

    #[test]
    fn an_address_has_two_sides() {
        for good in [
            "neo@matrix.com",
            "Neo+Anderson@Matrix.co.uk",
            "neo@[192.0.2.1]",
            "neo@[IPv6:2001:db8::1]",
            "neo@[ipv6:::ffff:192.0.2.1]",
            "neo@xn--mnchen-3ya.de",
        ] {
            assert!(is_email(good), "{good}");
        }
        for bad in [
            "",
            "neo",
            "neo@",
            "@matrix.com",
            "a b@c.d",
            "a@b@c",
            "a@-b.c",
            "a@b..c",
            "a@b.",
            &"a".repeat(255),
            "neo@[2001:db8::1]",
            "neo@[IPv6:192.0.2.1]",
            "neo@[IPv6:2001:db8::1",
            "neo@IPv6:2001:db8::1",
            "neo@[]",
            "neo@[::1%eth0]",
            "neo@[192.0.2.256]",
            "neo@xn--a.example",
            "neo@mail.xn--a.example",
            "neo@XN--A.example",
            "neo@xn--.example",
            &format!("neo@{}.com", "a".repeat(64)),
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }

    #[test]
    fn an_address_may_be_in_any_script() {
        for good in [
            "用户@例子.广告",
            "अजय@डाटा.भारत",
            "квіточка@пошта.укр",
            "χρήστης@παράδειγμα.ελ",
            "Dörte@Sörensen.example.com",
            "коля@пример.рф",
            "josé@example.com",
            "neo@münchen.de",
            "neo@نامه\u{200c}ای.com",
            "דוא@דוגמה.קום",
        ] {
            assert!(is_email(good), "{good}");
            assert!(allows::<Email>(good), "the document: {good}");
        }
        let long = format!("{}@a.de", "ö".repeat(33));
        for bad in [
            "ö",
            "@ö.de",
            "ö@",
            "ne\u{200b}o@matrix.com",
            "ne\u{a0}o@matrix.com",
            "neo\u{202e}@matrix.com",
            "ne\u{2028}o@matrix.com",
            "neo@mün_chen.de",
            "neo@-münchen.de",
            "neo@münchen..de",
            "neo@mün chen.de",
            "neo@mün\u{202e}chen.de",
            "neo@[münchen]",
            "nö@[2001:db8::1]",
            &long,
        ] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }

    #[test]
    fn one_address_has_one_key_in_every_spelling() {
        for (one, other) in [
            ("Neo@Matrix.com", "neo@matrix.com"),
            ("neo@münchen.de", "neo@xn--mnchen-3ya.de"),
            ("NEO@MÜNCHEN.DE", "neo@XN--MNCHEN-3YA.de"),
            ("neo@mu\u{308}nchen.de", "neo@münchen.de"),
            ("neo@例子。广告", "neo@例子.广告"),
            ("neo@ｍatrix.com", "neo@matrix.com"),
            ("Jose\u{301}@example.com", "JOSÉ@example.com"),
            ("neo@faß.de", "neo@xn--fa-hia.de"),
            ("neo@[IPv6:2001:db8::1]", "Neo@[ipv6:2001:0DB8:0:0::1]"),
            ("neo@[IPv6:::ffff:192.0.2.1]", "neo@[IPv6:::ffff:c000:201]"),
            ("josé@[IPv6:2001:db8::1]", "JOSÉ@[IPv6:2001:db8:0::1]"),
        ] {
            assert_eq!(email_key(one), email_key(other), "{one} {other}");
        }
        for (one, other) in [("neo@faß.de", "neo@fass.de"), ("jose@x.de", "josé@x.de")] {
            assert_ne!(email_key(one), email_key(other), "{one} {other}");
        }
    }

    #[test]
    fn an_address_of_before_is_known_on() {
        let known = |text: &str| text.parse::<KnownEmail>().ok().map(|email| email.0);
        let bare = "neo@[2001:db8::1]".to_owned();
        assert_eq!(known(" neo@[2001:db8::1] "), Some(bare));
        assert_eq!(known("neo@münchen.de"), Some("neo@münchen.de".to_owned()));
        assert_eq!(known("neo@xn--a.example"), Some("neo@xn--a.example".to_owned()));
        for bad in [
            "",
            "neo",
            "@xn--a.example",
            "ne\0o@[2001:db8::1]",
            "nö@[2001:db8::1]",
            "neo@matrix\0.com",
        ] {
            assert_eq!(known(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_documented(text in r"[a-zöß.@ -]{0,3}[a-zäæ-]{0,3}@[a-zü例.-]{0,9}(\.de)?") {
            prop_assert!(!is_email(&text) || allows::<Email>(&text), "{:?}", text);
        }

        #[test]
        fn a_key_in_ascii_is_the_address_in_lower_case(text in r"[A-Za-z.+]{1,5}@(xn--)?[A-Za-z0-9-]{1,9}\.[a-z]{2}") {
            prop_assert_eq!(email_key(&text), text.to_lowercase());
        }
    }
}
