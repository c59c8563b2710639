//! Pages of long lists.

use std::str::FromStr;

/// The size of a page: 1 to 100, by default 20.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit(u8);

impl Limit {
    /// The number.
    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(20)
    }
}

impl FromStr for Limit {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(limit @ 1..=100) => Ok(Self(limit)),
            _ => Err("must be a whole number from 1 to 100"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_1_to_100() {
        assert!("1".parse::<Limit>().is_ok() && "100".parse::<Limit>().is_ok());
        for bad in ["", "0", "101", "-1", "1.5", "ten", "1e1", "99999999999999999999"] {
            assert!(bad.parse::<Limit>().is_err(), "{bad}");
        }
    }
}
