//! Passwords: which ones are accepted, and how they are hashed.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use unicode_normalization::UnicodeNormalization as _;
use utoipa::ToSchema;
use zxcvbn::{Score, zxcvbn};

use crate::config::User as Options;
use crate::error::{Error, FieldError};

/// The hash of a random password, with the usual parameters. It is verified where there is no account, so that the time
/// does not tell whether there is one.
const DUMMY_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$qbKhlWimr8MxtrM86XIhfg$\
                      9KIblZA2tr0Z5D1lO/ZX9C96hSDtLVoCOEfcIa68CbM";

/// A password that a client sent: any text, normalised (NFKC, as in RFC 8265).
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(from = "String")]
#[schema(value_type = String, format = Password, example = "follow the white rabbit")]
pub(super) struct Password(SecretString);

impl From<String> for Password {
    fn from(text: String) -> Self {
        // A longer text cannot be a password and would take long to normalise.
        let text = if text.len() <= MAX_BYTES { text.nfkc().collect() } else { text };
        Self(text.into())
    }
}

/// How many characters are checked for strength: the time grows with the square of their number.
const CHECKED: usize = 32;
/// More bytes than any password of 128 characters has in any Unicode form.
const MAX_BYTES: usize = 4096;

/// A password for an account: 12 to 128 characters. [`Hashing::hash`] refuses it if it is easy to guess.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    format = Password,
    min_length = 12,
    max_length = 128,
    example = "follow the white rabbit"
)]
pub(super) struct NewPassword(Password);

impl TryFrom<String> for NewPassword {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.len() > MAX_BYTES {
            return Err("must have at most 128 characters");
        }
        let given = text.chars().count();
        let password = Password::from(text);
        // Normalisation can turn one character into eighteen, or two into one.
        match password.0.expose_secret().chars().count().min(given) {
            ..12 => Err("must have at least 12 characters"),
            _ if given > 128 => Err("must have at most 128 characters"),
            _ => Ok(Self(password)),
        }
    }
}

/// Hashes passwords on a limited number of threads; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Hashing {
    /// Permits for passwords that are being hashed or wait.
    places: Arc<Semaphore>,
    /// Permits for passwords that are being hashed.
    threads: Arc<Semaphore>,
}

impl Hashing {
    pub(super) fn new(options: &Options) -> Self {
        let threads = match options.hashing_threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2),
            threads => threads,
        };
        Self {
            places: Arc::new(Semaphore::new(threads + options.hashing_queue)),
            threads: Arc::new(Semaphore::new(threads)),
        }
    }

    /// The hash of `password` in PHC format: argon2id with the parameters that OWASP recommends (m = 19 MiB, t = 2,
    /// p = 1). `about` lists words about the owner that make a password easy to guess.
    ///
    /// # Errors
    /// 422 for `field` when the password is easy to guess; 503 when too many wait.
    pub(super) async fn hash(
        &self,
        field: &'static str,
        password: NewPassword,
        about: Vec<String>,
    ) -> Result<String, Error> {
        self.run(move || {
            let text = password.0.0.expose_secret();
            if let Some(why) = guessable(text, &about) {
                return Err(Error::invalid(vec![FieldError::new(field, why)]));
            }
            let hash = Argon2::default().hash_password(text.as_bytes());
            hash.map(|hash| hash.to_string()).map_err(|error| Error::internal(error.to_string()))
        })
        .await?
    }

    /// Whether `hash` is of `password`. Without a hash the answer is no, and takes as long.
    ///
    /// # Errors
    /// 503 when too many wait; 500 when `hash` is malformed.
    pub(super) async fn verify(
        &self,
        password: Password,
        hash: Option<&str>,
    ) -> Result<bool, Error> {
        let (hash, known) = (hash.unwrap_or(DUMMY_HASH).to_owned(), hash.is_some());
        self.run(move || {
            let hash = PasswordHash::new(&hash);
            let hash = hash.map_err(|error| Error::internal(error.to_string()))?;
            let text = password.0.expose_secret().as_bytes();
            Ok(Argon2::default().verify_password(text, &hash).is_ok() && known)
        })
        .await?
    }

    /// Runs `work` on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let busy = || {
            let detail = "too many passwords are being checked, try again";
            Error::unavailable(detail, "user.hashing_queue is full")
        };
        let place = self.places.clone().try_acquire_owned().map_err(|_| busy())?;
        let thread = self.threads.clone().acquire_owned().await.map_err(Error::internal)?;
        let done = spawn_blocking(move || {
            // Returned when the work is done, even if the caller has left.
            let _held = (place, thread);
            work()
        });
        done.await.map_err(Error::internal)
    }
}

/// Why `password` is too easy to guess by the words `about` its owner, if it is.
fn guessable(password: &str, about: &[String]) -> Option<String> {
    let start = |text: &str| text.nfkc().take(CHECKED).collect::<String>();
    let about = about.iter().map(|word| start(word)).collect::<Vec<_>>();
    let about = about.iter().map(String::as_str).collect::<Vec<_>>();
    let start = start(password);
    let strength = zxcvbn(&start, &about);
    if strength.score() >= Score::Three {
        return None;
    }
    let warning = strength.feedback().and_then(|feedback| feedback.warning());
    let warning = warning.map(|warning| format!(": {warning}"));
    Some(format!("is too easy to guess{}", warning.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::middleware::allows;

    #[test]
    fn no_password_takes_long_to_judge() {
        // Of digits and signs that may all stand for letters.
        let password = "9<3!868782+2|319@|[|+93|(5%+%8334318658o84249!00{($|8$l[[{{|9(i$%9{<{5o@|%l5oi<\
                        [9/5[@il368l7/56575741|[6042/+4@i!+{+{{661+1[%8";
        let time = |work: &dyn Fn()| {
            let start = std::time::Instant::now();
            work();
            start.elapsed()
        };
        let ours = time(&|| drop(guessable(password, &[])));
        let half = time(&|| drop(zxcvbn(&password[..64], &[])));
        assert!(ours * 4 < half, "{ours:?}, and {half:?} for half of it");
    }

    #[test]
    fn nobodys_hash_is_as_costly_as_any_and_of_no_password() {
        let hash = PasswordHash::new(DUMMY_HASH).unwrap();
        let of_somebody = Argon2::default().hash_password(b"somebody").unwrap().to_string();
        let cost = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(DUMMY_HASH.starts_with(cost) && of_somebody.starts_with(cost), "{of_somebody}");
        assert_eq!(DUMMY_HASH.len(), of_somebody.len());
        assert!(Argon2::default().verify_password(b"", &hash).is_err());
    }

    #[test]
    fn a_password_has_12_to_128_characters_of_any_kind() {
        let good = |text: &str| NewPassword::try_from(text.to_owned()).is_ok();
        assert!(good("zwölf Füchse") && good(&"🦊".repeat(12)) && good(&"ö".repeat(128)));
        assert!(good(&"½Ⅷ㎏".repeat(20)), "each is several when written out");
        for bad in ["", "elf letters", &"🦊".repeat(11), &"ö".repeat(129), "\u{fdfa}"] {
            assert!(!good(bad) && !allows::<NewPassword>(bad), "{bad}");
        }
        assert!(!good(&"e\u{301}".repeat(8)), "eight letters, in whatever way");
        assert!(allows::<NewPassword>(&"🦊".repeat(12)) && allows::<NewPassword>(&"ö".repeat(128)));
    }

    #[test]
    fn a_long_address_is_no_password_of_its_owner() {
        let address = "bartholomew.featherstonehaugh@example-company.com";
        assert!(guessable(address, &[address.to_owned()]).is_some());
        assert!(guessable("follow the white rabbit", &[address.to_owned()]).is_none());
    }

    #[test]
    fn two_ways_to_write_a_letter_are_one_password() {
        let written = |text: &str| Password::from(text.to_owned()).0.expose_secret().to_owned();
        assert_eq!(written("caf\u{e9} \u{fb01}"), written("cafe\u{301} fi"));
    }
}
