//! Values that are read from files, and read again when these change.

use std::fmt::{self, Display};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the files are checked, at most.
const LOOK: Duration = Duration::from_secs(1);

/// The last valid value of some files.
pub struct Watched<T, E> {
    what: &'static str,
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    changed: fn(&str),
    last: Mutex<Last<T, E>>,
}

struct Last<T, E> {
    value: T,
    stamps: Vec<Stamp>,
    looked: Instant,
    /// Why the files could not be read again when last tried.
    problem: Option<E>,
}

/// Differs when a file has changed, or another file has its name, also through links: device, inode, size, and the time of
/// the last change in seconds and nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl<T, E> fmt::Debug for Watched<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T: Clone, E: Display + PartialEq> Watched<T, E> {
    /// Reads the value of the files at `paths` with `read`. The log calls them `what`, in the plural. `changed` gets their
    /// names whenever they are read again.
    ///
    /// # Errors
    /// The error of `read`.
    pub fn open(
        what: &'static str,
        paths: impl IntoIterator<Item = PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
        changed: fn(&str),
    ) -> Result<Self, E> {
        let paths = paths.into_iter().collect::<Vec<_>>();
        // Before reading, so that a change in the meantime is noticed the next time.
        let stamps = stamps(&paths);
        let last = Last { value: read()?, stamps, looked: Instant::now(), problem: None };
        Ok(Self { what, paths, read: Box::new(read), changed, last: Mutex::new(last) })
    }

    /// The last valid value, checked within the last second.
    pub fn current(&self) -> T {
        let mut last = self.lock();
        if last.looked.elapsed() >= LOOK {
            self.look(&mut last);
        }
        last.value.clone()
    }

    /// The last valid value, checked now.
    pub fn now(&self) -> T {
        let mut last = self.lock();
        self.look(&mut last);
        last.value.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Last<T, E>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, last: &mut Last<T, E>) {
        last.looked = Instant::now();
        let stamps = stamps(&self.paths);
        // After an error, read again even without a change: the error may depend on other files.
        if stamps == last.stamps && last.problem.is_none() {
            return;
        }
        last.stamps = stamps;
        match (self.read)() {
            Ok(value) => {
                (self.changed)(&self.names());
                last.value = value;
                last.problem = None;
            }
            Err(problem) => {
                if last.problem.as_ref() != Some(&problem) {
                    log::error!("{} stay as they are: {problem}", self.what);
                }
                last.problem = Some(problem);
            }
        }
    }

    fn names(&self) -> String {
        let names = self.paths.iter().map(|path| path.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn number(path: &Path) -> Watched<u32, String> {
        let file = path.to_owned();
        let read = move || {
            let text = fs::read_to_string(&file).map_err(|error| error.to_string())?;
            text.trim().parse::<u32>().map_err(|error| error.to_string())
        };
        Watched::open("numbers", [path.to_owned()], read, |_| {}).unwrap()
    }

    #[test]
    fn what_has_changed_is_read_again_and_what_does_not_work_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let watched = number(&path);
        for (text, value) in [("22", 22), ("none", 22), ("3", 3)] {
            fs::write(&path, text).unwrap();
            assert_eq!(watched.now(), value, "{text}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(watched.now(), 3);
        fs::write(&path, "4").unwrap();
        assert_eq!(watched.now(), 4);
    }

    #[test]
    fn a_link_that_is_swapped_as_kubernetes_does_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("1", "1"), ("2", "2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("number"), text).unwrap();
        }
        symlink("1", at("data")).unwrap();
        symlink("data/number", at("number")).unwrap();
        let watched = number(&at("number"));
        symlink("2", at("new")).unwrap();
        fs::rename(at("new"), at("data")).unwrap();
        assert_eq!(watched.now(), 2);
    }

    #[test]
    fn files_are_looked_at_no_more_often_than_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let watched = number(&path);
        fs::write(&path, "2").unwrap();
        // This test would have to be stopped for a second to see the other number.
        assert_eq!(watched.current(), 1);
        watched.lock().looked -= LOOK;
        assert_eq!(watched.current(), 2);
    }
}
