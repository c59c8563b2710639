//! The keys that sign access tokens.

mod file;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::ExposeSecret as _;

use crate::auth::{AUDIT, MARGIN, SigningKey};
use crate::config::{SettingError, User as Options};
use crate::contract::JwkSet;
use crate::error::Error;
use crate::files;
use crate::storage::sqlite;
use crate::watched::Watched;

pub use file::rotate;
use file::{KeysError, make, parse, read, read_plain};

/// The setting that names the file.
const PATH: &str = "user.signing_keys_path";

/// The signing keys of this process.
#[derive(Debug)]
pub(super) struct Keyring {
    /// The newest first; never empty.
    keys: Watched<Arc<[Key]>, KeysError>,
    access_ttl: Duration,
}

#[derive(Clone, Debug)]
struct Key {
    line: String,
    key: SigningKey,
    /// When it begins to sign; until then verifiers learn it.
    since: Option<DateTime<Utc>>,
}

impl Keyring {
    /// The keys that `options` name. Creates a missing file if `may_make`.
    ///
    /// # Errors
    /// The setting that does not work.
    pub(super) fn open(
        options: &Options,
        access_ttl: Duration,
        may_make: bool,
    ) -> Result<Self, SettingError> {
        let path = &options.signing_keys_path;
        if let Some(keys) = given(options)? {
            let keys = Arc::<[Key]>::from(keys);
            // They are in the setting, so no file can change.
            let keys = watch(None, move || Ok(keys.clone())).map_err(|problem| (PATH, problem))?;
            return Ok(Self { keys, access_ttl });
        }
        if may_make && is_missing(path) {
            make(path)
                .map_err(|error| (PATH, format!("cannot make {}: {error}", path.display())))?;
        }
        let file = path.clone();
        let keys = watch(Some(path), move || read(&file).map(Arc::from));
        Ok(Self { keys: keys.map_err(|problem| unreadable(path, problem))?, access_ttl })
    }

    /// Checks what would make [`Keyring::open`] fail, without creating anything.
    ///
    /// # Errors
    /// The setting that does not work.
    pub(super) fn check(options: &Options, may_make: bool) -> Result<(), SettingError> {
        let path = &options.signing_keys_path;
        match given(options)? {
            Some(_) => Ok(()),
            None if !files::is_of_file(path) => {
                Err((PATH, "must be the path of a file, as in data/signing-keys").into())
            }
            None if may_make && is_missing(path) => {
                Ok(sqlite::check_folder(path).map_err(|error| (PATH, error))?)
            }
            None => read_plain(path).map(drop).map_err(|problem| unreadable(path, problem)),
        }
    }

    /// The key that signs now: the newest whose time has come.
    ///
    /// # Errors
    /// Never, as there is always a key.
    pub(super) fn signing(&self) -> Result<SigningKey, Error> {
        let keys = self.keys.current();
        let now = Utc::now();
        let begun = keys.iter().find(|key| key.since.is_none_or(|since| since <= now));
        let key = begun.or(keys.last()).map(|key| key.key.clone());
        key.ok_or_else(|| Error::internal("there is no key to sign with"))
    }

    /// All keys, the newest first.
    pub(super) fn all(&self) -> Vec<SigningKey> {
        self.keys.current().iter().map(|key| key.key.clone()).collect()
    }

    /// The public keys of tokens that may still be valid, and of the next tokens.
    pub(super) fn published(&self) -> JwkSet {
        let keys = self.keys.current();
        let used = in_use(&keys, self.access_ttl);
        JwkSet { keys: used.map(|key| key.key.public().clone()).collect() }
    }
}

/// The keys from `read`, which runs again when the file at `path` changes.
fn watch(
    path: Option<&Path>,
    read: impl Fn() -> Result<Arc<[Key]>, KeysError> + Send + Sync + 'static,
) -> Result<Watched<Arc<[Key]>, KeysError>, KeysError> {
    let changed =
        |_: &str| log::info!(target: AUDIT, event = "keys_changed"; "keys_changed: read again");
    Watched::open("the keys", path.map(Path::to_owned), read, changed)
}

/// The keys in the setting, if it has any.
fn given(options: &Options) -> Result<Option<Vec<Key>>, SettingError> {
    match options.signing_keys.expose_secret() {
        "" => Ok(None),
        given => Ok(Some(parse(given).map_err(|error| ("user.signing_keys", error))?)),
    }
}

/// Whether there is no file. A file that cannot be accessed, or a broken link, counts as there.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The `problem` of reading the file, with a hint if it is missing.
fn unreadable(path: &Path, problem: KeysError) -> SettingError {
    let hint = "; `app keys rotate` makes it, or set user.signing_keys";
    (PATH, format!("{problem}{}", if is_missing(path) { hint } else { "" })).into()
}

/// The keys whose tokens may still be valid. A key stops signing when the next one begins.
fn in_use(keys: &[Key], access_ttl: Duration) -> impl Iterator<Item = &Key> {
    let over = move |next: &Key| {
        let end = next.since.and_then(|since| since.checked_add_signed(delta(access_ttl + MARGIN)));
        end.is_some_and(|end| end < Utc::now())
    };
    let old = keys.iter().position(over).map_or(keys.len(), |next| next + 1);
    keys.iter().take(old)
}

fn delta(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}

/// 256 random bits.
///
/// # Errors
/// When the system has no random numbers.
pub(super) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TTL: Duration = Duration::from_secs(900);

    fn line(digit: &str, minutes_ago: Option<i64>) -> String {
        let since = minutes_ago
            .map(|minutes| (Utc::now() - chrono::TimeDelta::minutes(minutes)).to_rfc3339());
        format!("{} {}", digit.repeat(64), since.unwrap_or_default())
    }

    fn ring(lines: &[String]) -> Keyring {
        let keys = Arc::<[Key]>::from(parse(&lines.join("\n")).unwrap());
        Keyring { keys: watch(None, move || Ok(keys.clone())).unwrap(), access_ttl: TTL }
    }

    #[test]
    fn a_new_key_is_known_before_it_signs_and_an_old_one_until_its_tokens_have_ended() {
        for (lines, signing, published) in [
            (vec![line("a", None)], 0, 1),
            (vec![line("a", Some(-1)), line("b", None)], 1, 2),
            (vec![line("a", Some(1)), line("b", None)], 0, 2),
            (vec![line("a", Some(17)), line("b", None)], 0, 1),
            (vec![line("a", Some(1)), line("b", Some(17)), line("c", None)], 0, 2),
            (vec![line("a", Some(-1))], 0, 1),
        ] {
            let ring = ring(&lines);
            let known = ring.published().keys;
            assert_eq!(known.len(), published, "{lines:?}");
            assert_eq!(ring.signing().unwrap().public(), &known[signing], "{lines:?}");
        }
    }

    #[test]
    fn a_first_key_is_made_whatever_is_left_of_a_start_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/signing-keys.new");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for left in ["signing-keys.first", "signing-keys.new.first", "signing-keys.1.first"] {
            fs::write(path.with_file_name(left), "half a k").unwrap();
        }
        make(&path).unwrap();
        let first = read(&path).unwrap()[0].line.clone();
        make(&path).unwrap();
        assert_eq!(read(&path).unwrap()[0].line, first);
    }

    #[test]
    fn a_file_that_cannot_be_read_for_a_moment_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-keys");
        let [old, new] = ["a", "b"].map(|digit| line(digit, None));
        fs::write(&path, &old).unwrap();
        let file = path.clone();
        let keys = watch(Some(&path), move || read(&file).map(Arc::from)).unwrap();
        for (text, known) in [("soon", &old), (&new, &new)] {
            fs::write(&path, text).unwrap();
            assert_eq!(keys.now()[0].line, known.trim(), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_told() {
        for bad in ["", "# none", "abc", &"a".repeat(63), &"g".repeat(64), &line("a", None)[..60]] {
            let problem = parse(bad).unwrap_err().to_string();
            assert!(!problem.contains("aaa") && !problem.contains("ggg"), "{problem}");
        }
        let late = format!("{} soon", "a".repeat(64));
        assert_eq!(parse(&late).unwrap_err(), KeysError::Time);
    }
}
