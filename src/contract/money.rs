//! An amount of money: whole minor units in memory, a number with at most two decimals in JSON.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::ToSchema;

/// The largest amount, in minor units: 10^12 of the currency, which a double represents to the cent.
const MAX: i64 = 100_000_000_000_000;

/// An amount in the shop's currency, with at most two decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(
    value_type = f64,
    minimum = 0,
    maximum = 1000000000000_f64,
    multiple_of = 0.01,
    example = 49.99
)]
pub struct Money(i64);

/// Why a number is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// It is below zero.
    #[error("must not be negative")]
    Negative,
    /// It is above 10^12 of the currency.
    #[error("must not be larger than 1000000000000")]
    TooLarge,
    /// It is no decimal number.
    #[error("must be a number, such as 49.99")]
    NotANumber,
    /// It has fractions of a minor unit.
    #[error("must have at most two decimals")]
    TooPrecise,
}

impl Money {
    /// The largest amount.
    pub const MAX: Self = Self(MAX);

    /// An amount of `minor` units, as in 499900 for 4999.00.
    ///
    /// # Errors
    /// When the amount is negative or larger than 10^12 of the currency.
    pub fn from_minor(minor: i64) -> Result<Self, MoneyError> {
        match minor {
            0..=MAX => Ok(Self(minor)),
            ..0 => Err(MoneyError::Negative),
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// The amount in minor units.
    pub fn minor(self) -> i64 {
        self.0
    }

    /// The amount `number`. It must be the double nearest to an amount, which is what a JSON parser reads from the
    /// amount's decimal text.
    fn from_number(number: f64) -> Result<Self, MoneyError> {
        if !(0.0..=MAX as f64 / 100.0).contains(&number) {
            return Self::from_minor(if number < 0.0 { -1 } else { i64::MAX });
        }
        let minor = (number * 100.0).round();
        if minor / 100.0 != number {
            return Err(MoneyError::TooPrecise);
        }
        Self::from_minor(minor as i64)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / 100, self.0 % 100) {
            (whole, 0) => write!(f, "{whole}"),
            (whole, part) => write!(f, "{whole}.{part:02}"),
        }
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let is_decimal =
            text.bytes().all(|sign| sign.is_ascii_digit() || matches!(sign, b'.' | b'-'));
        let number = text.parse().ok().filter(|_| is_decimal);
        Self::from_number(number.ok_or(MoneyError::NotANumber)?)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 100 == 0 {
            serializer.serialize_i64(self.0 / 100)
        } else {
            serializer.serialize_f64(self.0 as f64 / 100.0)
        }
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_number(f64::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use utoipa::PartialSchema as _;

    fn parse(text: &str) -> Result<i64, String> {
        serde_json::from_str::<Money>(text).map(Money::minor).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_of_at_most_two_decimals_are_amounts() {
        for (text, minor) in
            [("5000", 500_000), ("49.99", 4999), ("0", 0), ("5e3", 500_000), ("0.1", 10)]
        {
            assert_eq!(parse(text), Ok(minor), "{text}");
        }
        for bad in ["0.001", "-1", "-0.01", "1000000000000.01", "1e300", "\"5\"", "null", "true"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_document_says_the_same() {
        let schema = serde_json::to_value(Money::schema()).unwrap();
        let [least, most, step] = ["minimum", "maximum", "multipleOf"]
            .map(|word| (schema[word].as_f64().unwrap() * 100.0) as i64);
        assert_eq!((least, most, step), (0, MAX, 1));
    }

    proptest! {
        #[test]
        fn every_amount_survives_json(minor in 0..=MAX) {
            let money = Money::from_minor(minor).unwrap();
            let text = serde_json::to_string(&money).unwrap();
            prop_assert_eq!(serde_json::from_str::<Money>(&text).unwrap(), money);
            let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            prop_assert!(decimals <= 2, "{}", text);
            prop_assert_eq!(money.to_string().parse(), Ok(money));
        }
    }
}
