//! The values of requests about accounts. A value of one of these types is valid.

use ring::digest::SHA256;
use serde::Deserialize;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};
use uuid::Uuid;

use super::email::{Email, KnownEmail, email_key};
use super::hashing::{NewPassword, Password};
use super::issuer::RefreshToken;
use crate::auth::Mode;
use crate::contract::{Account, User, UserRole, now};
use crate::error::Error;
use crate::middleware::{Fields, Limit, LineError, Query, line, line_schema};

/// What a user is called: 1 to 64 characters on one line, without white space around them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Username(String);

impl ToSchema for Username {}

impl PartialSchema for Username {
    fn schema() -> RefOr<Schema> {
        line_schema("What the user is called: 1 to 64 characters on one line", 64, "Neo").into()
    }
}

impl TryFrom<String> for Username {
    type Error = LineError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        line(&text, 64).map(|name| Self(name.to_owned()))
    }
}

/// A request to register.
#[derive(Debug, ToSchema)]
pub(super) struct NewUser {
    username: Username,
    email: Email,
    #[schema(value_type = NewPassword, required = false)]
    pub(super) password: Option<NewPassword>,
}

impl NewUser {
    /// Reads the request. Users cannot set their own rights. A password is required where `mode` asks for tokens.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields, mode: Mode) -> Result<Self, Error> {
        let username = fields.required("username");
        let email = fields.required("email");
        let password = match mode {
            Mode::Open => fields.optional("password"),
            Mode::Enforced => fields.required("password"),
        };
        fields.finish(username.zip(email).map(|(username, email)| Self {
            username,
            email,
            password,
        }))
    }

    /// A user without a password, from an operator's words.
    ///
    /// # Errors
    /// The name of the value that is not valid, and the rule that it breaks.
    pub(super) fn parse(username: String, email: String) -> Result<Self, (&'static str, String)> {
        let username = username.try_into();
        let email = email.try_into();
        Ok(Self {
            username: username.map_err(|rule: LineError| ("user name", rule.to_string()))?,
            email: email.map_err(|rule: &str| ("e-mail address", rule.to_owned()))?,
            password: None,
        })
    }

    /// The words that the password must not contain; see [`about`].
    pub(super) fn about(&self) -> Vec<String> {
        about(&self.username.0, &self.email.0)
    }

    /// A new user with these values.
    pub(super) fn into_user(self) -> User {
        User {
            id: Uuid::now_v7(),
            username: self.username.0,
            email: self.email.0,
            created_at: now(),
        }
    }
}

/// A request to log in.
#[derive(ToSchema)]
pub(super) struct Login {
    /// What was sent as an e-mail address.
    #[schema(example = "neo@matrix.com")]
    pub(super) email: String,
    pub(super) password: Password,
}

impl Login {
    /// The address, if an account may have it.
    pub(super) fn address(&self) -> Option<String> {
        self.email.parse::<KnownEmail>().ok().map(|email| email.0)
    }

    /// Reads the request. An invalid address is not an error here: it simply belongs to no account.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or not text.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Error> {
        let email = fields.required::<String>("email");
        let password = fields.required("password");
        let login = email.zip(password);
        fields.finish(login.map(|(email, password)| Self { email: email.trim().into(), password }))
    }
}

/// A request that presents a refresh token.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Renewal {
    refresh_token: String,
}

impl Renewal {
    /// Reads the request; `None` for a malformed token, which is treated like an unknown one.
    ///
    /// # Errors
    /// 422 when the field is missing or not text.
    pub(super) fn read(mut fields: Fields) -> Result<Option<RefreshToken>, Error> {
        let token = fields.required("refreshToken");
        let renewal = fields.finish(token.map(|refresh_token| Self { refresh_token }))?;
        Ok(RefreshToken::parse(&renewal.refresh_token))
    }
}

/// A change of a profile.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfilePatch {
    #[schema(value_type = Username, required = false)]
    username: Option<Username>,
    #[schema(value_type = Email, required = false)]
    email: Option<Email>,
    /// Required to change the address of an account that has a password.
    #[schema(value_type = Password, required = false)]
    current_password: Option<Password>,
}

impl ProfilePatch {
    /// Reads a JSON merge patch (RFC 7396). It refuses fields that users cannot change.
    ///
    /// # Errors
    /// 422 with one entry per invalid field.
    pub fn read(mut fields: Fields) -> Result<Self, Error> {
        let patch = Self {
            username: fields.optional("username"),
            email: fields.optional("email"),
            current_password: fields.optional("currentPassword"),
        };
        fields.finish(Some(patch))
    }

    /// The changes to `user`, and the password that was sent.
    pub(super) fn differing(self, user: &User) -> (Edits, Option<Password>) {
        let username = self.username.map(|name| name.0).filter(|name| *name != user.username);
        let email = self.email.map(|email| email.0).filter(|email| *email != user.email);
        (Edits { username, email }, self.current_password)
    }
}

/// The new values of a profile.
#[derive(Debug)]
pub(super) struct Edits {
    pub(super) username: Option<String>,
    pub(super) email: Option<String>,
}

impl Edits {
    /// What the audit log says about the changes to `user`; `None` where nothing changes. It has only the digest of the old
    /// address, by which the entry can be found from the address.
    pub(super) fn audit_detail(&self, user: &User) -> Option<String> {
        let name = self.username.as_ref().map(|_| "username".to_owned());
        let email = self.email.as_ref().map(|_| {
            let digest = ring::digest::digest(&SHA256, email_key(&user.email).as_bytes());
            format!("email, before sha256:{}", hex::encode(digest))
        });
        let changes = name.into_iter().chain(email).collect::<Vec<_>>();
        (!changes.is_empty()).then(|| changes.join(", "))
    }
}

/// A request to erase the caller's account.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Erasure {
    /// Required of accounts that have a password.
    #[schema(value_type = Password, required = false)]
    pub(super) current_password: Option<Password>,
}

impl Erasure {
    /// Reads the request.
    ///
    /// # Errors
    /// 422 when the password is not text.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Error> {
        let current_password = fields.optional("currentPassword");
        fields.finish(Some(Self { current_password }))
    }
}

/// A request to change the password.
#[derive(ToSchema)]
pub(super) struct PasswordChange {
    #[schema(rename = "currentPassword")]
    pub(super) current: Password,
    #[schema(rename = "newPassword")]
    pub(super) new: NewPassword,
}

impl PasswordChange {
    /// Reads the request.
    ///
    /// # Errors
    /// 422 with one entry per field that is missing or invalid.
    pub(super) fn read(mut fields: Fields) -> Result<Self, Error> {
        let current = fields.required("currentPassword");
        let new = fields.required("newPassword");
        fields.finish(current.zip(new).map(|(current, new)| Self { current, new }))
    }
}

/// A change of an account's rights, by an admin.
#[derive(ToSchema)]
pub struct RightsPatch {
    #[schema(value_type = Vec<UserRole>, required = false, min_items = 1)]
    pub(super) roles: Option<Vec<UserRole>>,
    #[schema(value_type = bool, required = false)]
    pub(super) disabled: Option<bool>,
}

impl RightsPatch {
    /// Reads a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// 422 with one entry per invalid field.
    pub fn read(mut fields: Fields) -> Result<Self, Error> {
        let roles = fields.optional::<Roles>("roles").map(|roles| roles.0);
        let disabled = fields.optional("disabled");
        fields.finish(Some(Self { roles, disabled }))
    }
}

/// At least one role, sorted and without duplicates.
#[derive(Deserialize)]
#[serde(try_from = "Vec<UserRole>")]
struct Roles(Vec<UserRole>);

impl TryFrom<Vec<UserRole>> for Roles {
    type Error = &'static str;

    fn try_from(mut roles: Vec<UserRole>) -> Result<Self, Self::Error> {
        roles.sort_unstable();
        roles.dedup();
        if roles.is_empty() { Err("must name admin, customer, or both") } else { Ok(Self(roles)) }
    }
}

/// The parameters of [`AccountsRequest`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters for the OpenAPI document")]
pub(super) struct AccountsQuery {
    /// How many a page has.
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u8>,
    /// From the `Link` header of the page before.
    cursor: Option<Uuid>,
    /// Only the account with this address, in any mix of cases.
    email: Option<Email>,
    /// Only accounts with this role.
    role: Option<UserRole>,
    /// Only those that are disabled, or that are not.
    disabled: Option<bool>,
}

/// Which accounts are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// Only accounts with a greater id.
    pub(super) after: Option<Uuid>,
    /// Only the account with this address.
    pub(super) email: Option<String>,
    /// Only accounts with this role.
    pub(super) role: Option<UserRole>,
    /// Only accounts that are disabled, or that are not.
    pub(super) disabled: Option<bool>,
}

/// Which accounts are listed, and how many.
pub(super) struct AccountsRequest {
    filter: Filter,
    limit: Limit,
}

impl AccountsRequest {
    /// Reads the parameters `email`, `role`, `disabled`, `limit` and `cursor`.
    ///
    /// # Errors
    /// 422 with one entry per invalid parameter.
    pub(super) fn read(mut query: Query) -> Result<Self, Error> {
        let filter = Filter {
            after: query.optional("cursor"),
            email: query.optional::<KnownEmail>("email").map(|email| email.0),
            role: query.optional("role"),
            disabled: query.optional("disabled"),
        };
        let limit = query.optional("limit").unwrap_or_default();
        query.finish(Self { filter, limit })
    }

    /// The filter, and one more than the page's size, which tells whether another page follows.
    pub(super) fn filter(&self) -> (Filter, usize) {
        (self.filter.clone(), self.limit.get() + 1)
    }

    /// Cuts `accounts` to the page; also returns the target of the next page if there is one.
    pub(super) fn cut(self, mut accounts: Vec<Account>) -> (Vec<Account>, Option<String>) {
        let more = accounts.len() > self.limit.get();
        accounts.truncate(self.limit.get());
        let last = accounts.last().filter(|_| more).map(|account| account.user.id);
        (accounts, last.map(|last| self.target_behind(last)))
    }

    fn target_behind(self, last: Uuid) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &self.limit.get().to_string());
        query.append_pair("cursor", &last.to_string());
        let Filter { after: _, email, role, disabled } = self.filter;
        let role = role.map(|role| role.to_string());
        let disabled = disabled.map(|disabled| disabled.to_string());
        for (name, value) in [("email", email), ("role", role), ("disabled", disabled)] {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        format!("/auth/users?{}", query.finish())
    }
}

/// The text that is stored for `roles`.
pub(super) fn roles_to_text(roles: &[UserRole]) -> String {
    roles.iter().map(UserRole::to_string).collect::<Vec<_>>().join(",")
}

/// The roles in `text`, as [`roles_to_text`] writes them; `None` when it is anything else.
pub(super) fn roles_from_text(text: &str) -> Option<Vec<UserRole>> {
    text.split(',').map(|role| role.parse().ok()).collect()
}

/// Words that make a user's password easy to guess: the name, the address, and the address's parts.
pub(super) fn about(username: &str, email: &str) -> Vec<String> {
    let parts = email.split(['@', '.']);
    [username, email].into_iter().chain(parts).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::allows;

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
    fn the_document_says_the_same_of_names_and_addresses() {
        let long = format!("{}@{}.{}", "a".repeat(64), "b".repeat(63), "c.".repeat(62));
        let (fits, too_long) = (format!("{long}c"), format!("{long}cc"));
        for text in [
            "",
            "   ",
            "  Neo ",
            "Neo",
            "a\nb",
            "\u{0}",
            "\tNeo\n",
            "\u{a0}",
            "neo@matrix.com",
            "neo",
            "neo@",
            "@matrix.com",
            "a b@c.d",
            "a@b@c",
            "a@-b.c",
            " Neo+Anderson@Matrix.co.uk ",
            &fits,
            &too_long,
            &format!("{}@b.c", "a".repeat(65)),
            &"ö".repeat(64),
            &"ö".repeat(65),
            &format!(" {}", "ö".repeat(64)),
            &format!("{fits}\u{2003}"),
        ] {
            let taken = Username::try_from(text.to_owned()).is_ok();
            assert_eq!(allows::<Username>(text), taken, "a user's name: {text:?}");
            let taken = Email::try_from(text.to_owned()).is_ok();
            assert_eq!(allows::<Email>(text), taken, "an address: {text:?}");
        }
        assert!(allows::<Email>(&fits));
    }

    #[test]
    fn what_changes_of_a_profile_is_told_without_the_address() {
        let user = User {
            id: Uuid::nil(),
            username: "Neo".into(),
            email: "Neo@Matrix.com".into(),
            created_at: now(),
        };
        let patch = |username: &str, email: &str| ProfilePatch {
            username: Some(username.to_owned().try_into().unwrap()),
            email: Some(email.to_owned().try_into().unwrap()),
            current_password: None,
        };
        let told = |patch: ProfilePatch| patch.differing(&user).0.audit_detail(&user);
        assert_eq!(told(patch("Neo", "Neo@Matrix.com")), None);
        assert_eq!(told(patch("Thomas", "Neo@Matrix.com")).unwrap(), "username");
        // Of neo@matrix.com.
        let digest = "8fd43d37dfee46bab7a9577ec01032384bc1e9ed0edbb5931db761391ca22ae9";
        let both = told(patch("Thomas", "thomas@matrix.com")).unwrap();
        assert_eq!(both, format!("username, email, before sha256:{digest}"));
    }
}
