//! The accounts of a demo: an admin and two customers, with passwords that are new each time.

use std::io;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Failure;
use crate::config::User as Options;
use crate::contract::UserRole;
use crate::user::{self, CommandError};

/// The accounts: what to call them, user names, e-mail addresses, and rights.
const PEOPLE: [(&str, &str, &str, UserRole); 3] = [
    ("admin", "Admin", "admin@example.com", UserRole::Admin),
    ("customer", "First customer", "first@example.com", UserRole::Customer),
    ("customer", "Second customer", "second@example.com", UserRole::Customer),
];

/// An account, and how to log in to it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) what: &'static str,
    pub(super) email: &'static str,
    pub(super) password: String,
}

/// The accounts of a demo.
#[derive(Clone, Debug)]
pub(super) struct Accounts {
    all: Vec<Account>,
    /// The ids of customers who are new.
    pub(super) customers: Vec<Uuid>,
}

impl Accounts {
    /// Makes the accounts, or gives those that are there another password.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) async fn prepare(options: &Options) -> Result<Self, Failure> {
        let (mut all, mut customers) = (Vec::new(), Vec::new());
        for (what, username, email, role) in PEOPLE {
            let password = password();
            let account = (username.to_owned(), email.to_owned(), password.clone());
            match user::set_password(options, email, password.clone(), told).await {
                Err(CommandError::Unknown) => {
                    let id = user::create(options, account, role, told).await?;
                    let is_customer = role == UserRole::Customer;
                    customers.extend(Uuid::try_parse(&id).ok().filter(|_| is_customer));
                }
                outcome => outcome?,
            }
            all.push(Account { what, email, password });
        }
        Ok(Self { all, customers })
    }

    /// All of them, the admin first.
    pub(super) fn all(&self) -> &[Account] {
        &self.all
    }
}

/// Where the orders of the customer with this number go, and how to reach them.
pub(super) fn details(customer: usize) -> (Value, Value) {
    let (_, username, email, _) = PEOPLE[1 + customer % (PEOPLE.len() - 1)];
    let ship_to = json!({
        "name": username,
        "street": format!("{} Example Street", 12 + 30 * customer),
        "postcode": "00000",
        "city": "Example City",
    });
    (ship_to, json!({ "email": email }))
}

/// The password is told once the shop is ready.
fn told() -> io::Result<()> {
    Ok(())
}

/// The letters of passwords, easy to read and to type; of each kind a power of two.
const CONSONANTS: &[u8; 16] = b"bcdfghjklmnprstv";
const VOWELS: &[u8; 4] = b"aeio";
/// How many syllables a password has, of 6 random bits each, and how many of them make a word.
const SYLLABLES: usize = 10;
const TOGETHER: usize = 2;

/// A password of 60 random bits, as in `kito-bade-runi-lavo-hemo`.
fn password() -> String {
    let random = Uuid::new_v4().into_bytes();
    // The bytes in the middle have the version and the variant.
    let mut random = random[..6].iter().chain(&random[10..]).copied();
    let mut text = String::new();
    for number in 0..SYLLABLES {
        if number > 0 && number % TOGETHER == 0 {
            text.push('-');
        }
        let byte = usize::from(random.next().unwrap_or_default());
        text.push(CONSONANTS[byte % CONSONANTS.len()].into());
        text.push(VOWELS[byte / CONSONANTS.len() % VOWELS.len()].into());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_five_short_words_and_never_the_same() {
        let (one, other) = (password(), password());
        assert_ne!(one, other);
        assert_eq!((one.len(), one.split('-').count()), (24, 5));
    }
}
