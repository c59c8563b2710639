//! What comes from files that may change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Problem;

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// The last that was read of some files and did work.
pub(super) struct Watched<T> {
    paths: Vec<PathBuf>,
    read: Box<dyn Fn() -> Result<T, Problem> + Send + Sync>,
    last: Mutex<Last<T>>,
}

struct Last<T> {
    value: T,
    stamps: Vec<Stamp>,
    looked: Instant,
    /// Why the files could not be read again when last tried.
    problem: Option<Problem>,
}

/// What differs when a file has another content, or another file has its name, by way of links too: device, number,
/// size, and when the system last saw a change of it, in seconds and nanoseconds.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl<T> std::fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("paths", &self.paths).finish_non_exhaustive()
    }
}

impl<T: Clone> Watched<T> {
    /// What `read` makes of the files at `paths`.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read(
        paths: impl IntoIterator<Item = PathBuf>,
        read: impl Fn() -> Result<T, Problem> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Problem> {
        let paths = paths.into_iter().collect::<Vec<_>>();
        // Before they are read: what changes meanwhile is seen the next time.
        let stamps = stamps(&paths);
        let last = Last { value: read()?, stamps, looked: Instant::now(), problem: None };
        Ok(Arc::new(Self { paths, read: Box::new(read), last: Mutex::new(last) }))
    }

    /// The last that did work, no more than a second old.
    pub(super) fn current(&self) -> T {
        let mut last = self.lock();
        if last.looked.elapsed() >= LOOK {
            self.look(&mut last);
        }
        last.value.clone()
    }

    /// The last that did work, looked at now.
    pub(super) fn now(&self) -> T {
        let mut last = self.lock();
        self.look(&mut last);
        last.value.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Last<T>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, last: &mut Last<T>) {
        last.looked = Instant::now();
        let stamps = stamps(&self.paths);
        // What did not work may do so later without a change of these files, as when another one decides.
        if stamps == last.stamps && last.problem.is_none() {
            return;
        }
        last.stamps = stamps;
        match (self.read)() {
            Ok(value) => {
                log::info!("read again: {}", self.names());
                last.value = value;
                last.problem = None;
            }
            Err(problem) => {
                if last.problem.as_ref() != Some(&problem) {
                    log::error!("what was read before is kept: {problem}");
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
    use crate::tls::File;

    fn number(path: &Path) -> Arc<Watched<u32>> {
        let file = path.to_owned();
        let read = move || {
            let text = fs::read_to_string(&file).map_err(|error| Problem::new(File::Key, error))?;
            text.trim().parse().map_err(|error| Problem::new(File::Key, error))
        };
        Watched::read([path.to_owned()], read).unwrap()
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
