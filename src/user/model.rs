//! What an account may look like. A value of one of these types is valid.

use serde::Deserialize;
use uuid::Uuid;

use crate::contract::{User, now};
use crate::edge::Fields;
use crate::error::Error;

/// What a user is called: 1 to 64 characters on one line, without white space around them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Username(String);

impl TryFrom<String> for Username {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let name = text.trim();
        match name.chars().count() {
            0 => Err("must not be empty"),
            65.. => Err("must have at most 64 characters"),
            _ if name.chars().any(char::is_control) => Err("must not have control characters"),
            _ => Ok(Self(name.to_owned())),
        }
    }
}

/// An e-mail address as browsers accept it (HTML, section 4.10.5.1.5), of at most 254 characters.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Email(String);

impl TryFrom<String> for Email {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let address = text.trim();
        if address.len() > 254 || garde::rules::email::parse_email(address).is_err() {
            return Err("must be an e-mail address");
        }
        Ok(Self(address.to_owned()))
    }
}

/// A request to register.
#[derive(Debug)]
pub(super) struct NewUser {
    username: Username,
    email: Email,
}

impl NewUser {
    /// Reads the request.
    ///
    /// # Errors
    /// 422 with one entry a field that is missing or not valid.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Error> {
        let username = fields.required("username");
        let email = fields.required("email");
        fields.finish(username.zip(email).map(|(username, email)| Self { username, email }))
    }

    /// The account that comes of it, now.
    pub(super) fn into_user(self) -> User {
        User {
            id: Uuid::now_v7(),
            username: self.username.0,
            email: self.email.0,
            created_at: now(),
        }
    }
}

/// What two spellings of one e-mail address have in common.
pub(super) fn email_key(email: &str) -> String {
    email.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_64_characters() {
        let name = |text: &str| Username::try_from(text.to_owned()).map(|name| name.0);
        assert_eq!(name("  Neo "), Ok("Neo".to_owned()));
        assert!(name(&"ö".repeat(64)).is_ok());
        for bad in ["", "   ", "a\nb", "\u{0}", &"ö".repeat(65)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_address_has_two_sides() {
        let email = |text: &str| Email::try_from(text.to_owned()).is_ok();
        assert!(email("neo@matrix.com"));
        assert!(email("Neo+Anderson@Matrix.co.uk"));
        for bad in
            ["", "neo", "neo@", "@matrix.com", "a b@c.d", "a@b@c", "a@-b.c", &"a".repeat(255)]
        {
            assert!(!email(bad), "{bad:?}");
        }
    }
}
