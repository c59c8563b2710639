//! The keys that sign access tokens: which there are, and which one signs now.

mod file;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::ExposeSecret as _;

use crate::auth::{AUDIT, MARGIN, SigningKey};
use crate::config::User as Options;
use crate::contract::JwkSet;
use crate::error::Error;
use crate::storage::sqlite;

pub use file::rotate;
use file::{make, modified, parse, read};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The setting that names it.
const PATH: &str = "user.signing_keys_path";

/// What a process knows of its keys.
#[derive(Debug)]
pub(super) struct Keyring {
    /// The file that the keys come from, where they may change.
    file: Option<PathBuf>,
    access_ttl: Duration,
    read: Mutex<Read>,
}

/// The keys as they were read, the newest first; never empty.
#[derive(Debug)]
struct Read {
    keys: Vec<Key>,
    modified: Option<SystemTime>,
    looked: Instant,
    /// Why they could not be read again when last tried.
    problem: Option<String>,
}

#[derive(Clone, Debug)]
struct Key {
    line: String,
    key: SigningKey,
    /// When it begins to sign; until then others get to know it.
    since: Option<DateTime<Utc>>,
}

impl Keyring {
    /// The keys that `options` name. Where there is no file, and `may_make` says so, one is made.
    ///
    /// # Errors
    /// The setting that does not work, and why.
    pub(super) fn open(
        options: &Options,
        access_ttl: Duration,
        may_make: bool,
    ) -> Result<Self, (&'static str, String)> {
        if let Some(keys) = given(options)? {
            let read =
                Mutex::new(Read { keys, modified: None, looked: Instant::now(), problem: None });
            return Ok(Self { file: None, access_ttl, read });
        }
        let path = &options.signing_keys_path;
        if may_make && is_missing(path) {
            make(path)
                .map_err(|error| (PATH, format!("cannot make {}: {error}", path.display())))?;
        }
        let read = read_there(path)?;
        Ok(Self { file: Some(path.clone()), access_ttl, read: Mutex::new(read) })
    }

    /// Looks at what stops [`Keyring::open`], and makes nothing.
    ///
    /// # Errors
    /// The setting that does not work, and why.
    pub(super) fn check(options: &Options, may_make: bool) -> Result<(), (&'static str, String)> {
        let path = &options.signing_keys_path;
        match given(options)? {
            Some(_) => Ok(()),
            None if may_make && is_missing(path) => {
                sqlite::check_folder(path).map_err(|problem| (PATH, problem))
            }
            None => read_there(path).map(drop),
        }
    }

    /// The key that signs now: the newest that others have had time to get to know.
    ///
    /// # Errors
    /// Never, as long as there is a key.
    pub(super) fn signing(&self) -> Result<SigningKey, Error> {
        let read = self.current();
        let now = Utc::now();
        let begun = read.keys.iter().find(|key| key.since.is_none_or(|since| since <= now));
        let key = begun.or(read.keys.last()).map(|key| key.key.clone());
        key.ok_or_else(|| Error::internal("there is no key to sign with"))
    }

    /// All keys, the newest first.
    pub(super) fn all(&self) -> Vec<SigningKey> {
        self.current().keys.iter().map(|key| key.key.clone()).collect()
    }

    /// The keys that verify tokens that may still be good, and those that will sign next.
    pub(super) fn published(&self) -> JwkSet {
        let current = self.current();
        let keys = in_use(&current.keys, self.access_ttl);
        JwkSet { keys: keys.map(|key| key.key.public().clone()).collect() }
    }

    /// The keys, read again when their file has changed.
    fn current(&self) -> MutexGuard<'_, Read> {
        let mut current = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.file else { return current };
        if current.looked.elapsed() < LOOK {
            return current;
        }
        current.looked = Instant::now();
        let modified = modified(path);
        if modified.is_some() && modified != current.modified {
            match read(path) {
                Ok(new) => {
                    log::info!(target: AUDIT, event = "keys_changed"; "keys_changed: read again");
                    *current = new;
                }
                Err(problem) => {
                    if current.problem.as_ref() != Some(&problem) {
                        log::error!("the keys stay as they are: {problem}");
                    }
                    current.problem = Some(problem);
                }
            }
        }
        current
    }
}

/// The keys of the setting, where there are any.
fn given(options: &Options) -> Result<Option<Vec<Key>>, (&'static str, String)> {
    match options.signing_keys.expose_secret() {
        "" => Ok(None),
        given => parse(given).map(Some).map_err(|problem| ("user.signing_keys", problem)),
    }
}

/// Whether nothing has that name. What cannot be looked at may be there, and so does a link that leads nowhere.
fn is_missing(path: &Path) -> bool {
    path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The keys of a file that must be there.
fn read_there(path: &Path) -> Result<Read, (&'static str, String)> {
    read(path).map_err(|problem| {
        let hint = "; `app keys rotate` makes it, or set user.signing_keys";
        (PATH, format!("{problem}{}", if is_missing(path) { hint } else { "" }))
    })
}

/// Those of `keys` whose tokens may still be good. A key signs no more once the next one does.
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
        let keys = parse(&lines.join("\n")).unwrap();
        let read = Mutex::new(Read { keys, modified: None, looked: Instant::now(), problem: None });
        Keyring { file: None, access_ttl: TTL, read }
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
        let first = read(&path).unwrap().keys[0].line.clone();
        make(&path).unwrap();
        assert_eq!(read(&path).unwrap().keys[0].line, first);
    }

    #[test]
    fn a_file_that_cannot_be_read_for_a_moment_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-keys");
        fs::write(&path, "soon").unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        let touch = || fs::File::options().write(true).open(&path).unwrap().set_modified(later);
        touch().unwrap();
        let ring = Keyring { file: Some(path.clone()), ..ring(&[line("a", None)]) };
        let look = || {
            let before = Instant::now().checked_sub(LOOK).unwrap();
            ring.read.lock().unwrap().looked = before;
            ring.published().keys
        };
        let old = look();
        fs::write(&path, line("b", None)).unwrap();
        touch().unwrap();
        assert_ne!(look(), old);
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_told() {
        for bad in ["", "# none", "abc", &"a".repeat(63), &"g".repeat(64), &line("a", None)[..60]] {
            let problem = parse(bad).unwrap_err();
            assert!(!problem.contains("aaa") && !problem.contains("ggg"), "{problem}");
        }
        let late = format!("{} soon", "a".repeat(64));
        assert!(parse(&late).unwrap_err().contains("a time"));
    }
}
