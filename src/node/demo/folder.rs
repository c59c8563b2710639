//! The folder of a demo: one of its own in the temporary directory, or one that is kept.
//!
//! A file in it marks it as a demo's, and another is locked while the demo runs. So nobody else uses it, and what a demo that was
//! killed has left is known for it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::super::Failure;

/// What the names of folders in the temporary directory begin with.
const PREFIX: &str = "app-demo-";
/// The file that marks a folder.
const MARKER: &str = "demo.json";
/// The file that its demo has locked.
const LOCK: &str = "demo.lock";
/// The longest marker, in bytes.
const LONGEST: u64 = 4096;
/// The folder for the stores in it, as in the built-in settings: commands that run in the folder find them.
const DATA: &str = "data";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Marker {
    /// Whether the folder stays when the demo ends.
    kept: bool,
    /// Where the pictures of the products are; absent until the stores are filled.
    pictures: Option<String>,
}

/// A folder, for as long as the demo runs.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    marker: Marker,
    /// Locked until it is closed.
    _lock: File,
    /// Removes the folder when it is dropped.
    temporary: Option<TempDir>,
}

impl Folder {
    /// The folder at `place`, which stays; without one a new folder, which stays if it is to be `kept`.
    ///
    /// # Errors
    /// When it is not a demo's, another demo runs in it, or the system refuses.
    pub fn open(place: Option<&Path>, kept: bool) -> Result<Self, Failure> {
        let Some(place) = place else {
            let parent = std::env::temp_dir();
            sweep(&parent);
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
            let made = made.map_err(|error| of(&parent, error))?;
            let path = fs::canonicalize(made.path())?;
            let mut folder = Self::begin(path, kept).map_err(|error| of(made.path(), error))?;
            folder.temporary = Some(made);
            return Ok(folder);
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
        let path = made.and_then(|()| fs::canonicalize(place)).map_err(|error| of(place, error))?;
        let is_empty = fs::read_dir(&path).map_err(|error| of(place, error))?.next().is_none();
        match is_empty {
            true => Self::begin(path, true).map_err(|error| of(place, error)),
            false => Self::resume(path, place),
        }
    }

    /// Marks the folder at `path`, which is empty.
    fn begin(path: PathBuf, kept: bool) -> io::Result<Self> {
        let marker = Marker { kept, pictures: None };
        let lock = lock(&path)?;
        lock.lock()?;
        write(&path, &marker)?;
        Ok(Self { path, marker, _lock: lock, temporary: None })
    }

    /// Goes on in the folder at `path`, which was given as `place`.
    fn resume(path: PathBuf, place: &Path) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::Other(format!("{}: {why}", place.display()));
        let found = read(&path).ok().flatten();
        found.ok_or_else(|| refuse("is not empty, and no demo's folder"))?;
        let lock = lock(&path).map_err(|error| of(place, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(refuse("another demo runs in it")),
            Err(TryLockError::Error(error)) => return Err(of(place, error)),
        }
        // Another demo may have written it before this one had the lock.
        let found = read(&path).ok().flatten();
        let mut marker = found.ok_or_else(|| refuse("is no demo's folder any more"))?;
        marker.kept = true;
        if marker.pictures.is_none() {
            // What was filled in part is filled anew.
            let removed = fs::remove_dir_all(path.join(DATA));
            let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
            removed
                .or_else(|error| if is_gone(&error) { Ok(()) } else { Err(of(place, error)) })?;
        }
        Ok(Self { path, marker, _lock: lock, temporary: None })
    }

    /// The path of the file `name` for settings.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub(super) fn file(&self, name: &str) -> Result<String, Failure> {
        let path = self.path.join(DATA).join(name).into_os_string().into_string();
        path.map_err(|_| Failure::Other(format!("{}: is not UTF-8", self.path.display())))
    }

    /// Where it is, if it stays.
    pub(super) fn stays_at(&self) -> Option<&Path> {
        self.marker.kept.then_some(&*self.path)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the pictures of the products are; `None` while the stores are not filled.
    pub(super) fn pictures(&self) -> Option<&str> {
        self.marker.pictures.as_deref()
    }

    /// Notes that the stores are filled, with products whose pictures are at `pictures`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn note(&mut self, pictures: &str) -> io::Result<()> {
        self.marker.pictures = Some(pictures.to_owned());
        write(&self.path, &self.marker)?;
        if self.marker.kept {
            self.temporary.take().map(TempDir::keep);
        }
        Ok(())
    }

    /// Removes it, unless it stays.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn close(self) -> Result<(), Failure> {
        let Some(temporary) = self.temporary else { return Ok(()) };
        temporary.close().map_err(|error| of(&self.path, error))
    }
}

/// Writes the marker of the folder at `path`.
fn write(path: &Path, marker: &Marker) -> io::Result<()> {
    let draft = tempfile::NamedTempFile::new_in(path)?;
    serde_json::to_writer(&draft, marker)?;
    draft.persist(path.join(MARKER))?;
    Ok(())
}

/// The file of the folder at `path` that its demo has locked. It is never replaced, so that there is one lock.
fn lock(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(path.join(LOCK))
}

/// The marker of the folder at `path`, if it is one.
fn read(path: &Path) -> io::Result<Option<Marker>> {
    let path = path.join(MARKER);
    // In a folder that everybody writes to, it may be anything.
    if !fs::symlink_metadata(&path)?.is_file() {
        return Ok(None);
    }
    let mut text = String::new();
    File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text).ok())
}

fn of(place: &Path, error: io::Error) -> Failure {
    Failure::Other(format!("{}: {error}", place.display()))
}

/// Removes what demos have left in the folder `parent` that were killed. Nothing depends on it.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for entry in ours.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let Ok(Some(marker)) = read(&entry.path()) else { continue };
        let is_over = lock(&entry.path()).is_ok_and(|lock| lock.try_lock().is_ok());
        if !marker.kept && is_over {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(place: &Path) -> String {
        Folder::open(Some(place), false).unwrap_err().to_string()
    }

    #[test]
    fn a_temporary_folder_is_gone_at_the_end_unless_it_is_kept_and_filled() {
        for (kept, is_filled) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut folder = Folder::open(None, kept).unwrap();
            let path = folder.path().to_owned();
            if is_filled {
                folder.note("http://127.0.0.1:8000").unwrap();
            }
            folder.close().unwrap();
            assert_eq!(path.exists(), kept && is_filled);
            let _ = fs::remove_dir_all(path);
        }
    }

    #[test]
    fn a_folder_is_used_again_if_it_is_a_demos_and_nobody_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("deep/demo");
        let mut first = Folder::open(Some(&place), false).unwrap();
        assert!(refusal(&place).ends_with("another demo runs in it"));
        assert_eq!(first.pictures(), None);
        first.note("http://127.0.0.1:8000").unwrap();
        assert!(refusal(&place).ends_with("another demo runs in it"));
        first.close().unwrap();
        let again = Folder::open(Some(&place), false).unwrap();
        assert_eq!(again.pictures(), Some("http://127.0.0.1:8000"));
        assert!(refusal(parent.path()).ends_with("is not empty, and no demo's folder"));
    }

    #[test]
    fn what_was_filled_in_part_is_filled_anew() {
        let place = tempfile::tempdir().unwrap();
        Folder::open(Some(place.path()), false).unwrap().close().unwrap();
        let store = place.path().join(DATA).join("user.db");
        fs::create_dir(store.parent().unwrap()).unwrap();
        fs::write(&store, "half").unwrap();
        Folder::open(Some(place.path()), false).unwrap();
        assert!(!store.exists());
    }

    #[test]
    fn what_a_killed_demo_has_left_is_swept_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str, kept: bool| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            Folder::begin(path, kept).unwrap()
        };
        let running = make("app-demo-running", false);
        for (name, kept) in [("app-demo-dead", false), ("app-demo-kept", true), ("other", false)] {
            drop(make(name, kept));
        }
        fs::create_dir(parent.path().join("app-demo-foreign")).unwrap();
        sweep(parent.path());
        let left = fs::read_dir(parent.path()).unwrap().flatten();
        let mut left =
            left.map(|entry| entry.file_name().into_string().unwrap()).collect::<Vec<_>>();
        left.sort();
        assert_eq!(left, ["app-demo-foreign", "app-demo-kept", "app-demo-running", "other"]);
        drop(running);
    }
}
