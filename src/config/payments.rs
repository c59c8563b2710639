//! The settings of money: its currency, and who takes payments.

use std::fmt;

use actix_web::http::Uri;
use serde::Deserialize;

use super::ValueError;
use super::layers::value_error;

/// A currency, by its code of ISO 4217, with two decimals or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency([u8; 3]);

/// The codes in use (ISO 4217, list one), without those of funds, metals and tests, by their decimals.
const TWO_DECIMALS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF \
    CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS \
    INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD \
    NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP \
    SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";
const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";

fn lists(codes: &str, code: &str) -> bool {
    codes.split_whitespace().any(|known| known == code)
}

impl Currency {
    /// Its code.
    pub fn code(&self) -> &str {
        // Its constructor takes known codes alone.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimals its amounts have: 2 or 0.
    pub fn decimals(self) -> u32 {
        if lists(NO_DECIMALS, self.code()) { 0 } else { 2 }
    }

    /// Whether it has an amount of `hundredths`: a whole one, if it has no decimals.
    pub fn has(self, hundredths: i64) -> bool {
        hundredths % 100 == 0 || self.decimals() != 0
    }
}

impl TryFrom<String> for Currency {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if lists(THREE_DECIMALS, &text) {
            return Err(value_error!("{text} has three decimals; prices have at most two"));
        }
        let is_known = lists(TWO_DECIMALS, &text) || lists(NO_DECIMALS, &text);
        let code = text.as_bytes().try_into().ok().filter(|_| is_known);
        code.map(Self).ok_or_else(|| "must be a code of ISO 4217, such as EUR".into())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Who takes payments; the scheme picks the provider.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum PaymentsUrl {
    /// `sandbox://`: nobody; the order role plays a provider.
    Sandbox,
    /// `https://…`, or `http://…` for a stand-in: the base of Stripe's API, without a slash at the end.
    Stripe(String),
}

impl PaymentsUrl {
    /// What metrics, traces and pages call the provider.
    pub fn provider(&self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Stripe(_) => "stripe",
        }
    }
}

impl TryFrom<String> for PaymentsUrl {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        const WANTED: &str = "sandbox:// or https://api.stripe.com";
        if text == "sandbox://" {
            return Ok(Self::Sandbox);
        }
        let base = text.trim_end_matches('/');
        let parsed = base.parse::<Uri>().ok().filter(|uri| {
            let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
            is_http && uri.host().is_some() && !base.contains(['@', '?', '#'])
        });
        match parsed {
            Some(_) => Ok(Self::Stripe(base.to_owned())),
            None => Err(value_error!("not the URL of a payment provider; use {WANTED}")),
        }
    }
}

/// The key by which Stripe knows the shop, for its script in a browser; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublishableKey(String);

impl PublishableKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PublishableKey {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        if text.starts_with("sk_") || text.starts_with("rk_") {
            return Err("this is a secret key, which browsers must not see; use the one that begins with pk_".into());
        }
        let is_key = |key: &str| {
            key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && key.len() <= 255
        };
        let is_valid = text.is_empty() || text.strip_prefix("pk_").is_some_and(is_key);
        is_valid
            .then_some(Self(text))
            .ok_or_else(|| "not a publishable key of Stripe's, pk_…".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publishable_key_is_no_secret() {
        let parse = |text: &str| PublishableKey::try_from(text.to_owned());
        assert_eq!(parse("").unwrap().as_str(), "");
        assert_eq!(parse("pk_test_51Abc").unwrap().as_str(), "pk_test_51Abc");
        for bad in ["sk_test_51Abc", "rk_live_1", "51Abc", "pk_\"><script>", "pk test"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let error = parse("sk_test_51Abc").unwrap_err().to_string();
        assert!(!error.contains("51Abc"), "{error}");
    }

    #[test]
    fn a_currency_has_two_decimals_or_none() {
        let decimals =
            |code: &str| Currency::try_from(code.to_owned()).map(Currency::decimals).ok();
        assert_eq!(
            (decimals("EUR"), decimals("USD"), decimals("JPY")),
            (Some(2), Some(2), Some(0))
        );
        for bad in ["", "eur", "EURO", "KWD", "BHD", "XXX", "XAU", "€"] {
            assert_eq!(decimals(bad), None, "{bad}");
        }
    }

    #[test]
    fn payments_are_taken_by_the_sandbox_or_by_stripe() {
        let parse = |text: &str| PaymentsUrl::try_from(text.to_owned());
        assert_eq!(parse("sandbox://").unwrap(), PaymentsUrl::Sandbox);
        let stripe = PaymentsUrl::Stripe("https://api.stripe.com".into());
        assert_eq!(parse("https://api.stripe.com/").unwrap(), stripe);
        for bad in ["", "stripe", "sandbox", "sandbox://x", "ftp://x", "https://key@x", "https://"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
