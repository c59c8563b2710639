//! Keeps one failure from filling the log: of warnings and errors that come from one place, only some are written in a
//! window of time, and the others are counted.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Record};

use super::filter::AUDIT;

/// How many lines of one place are written in a window.
const MOST: u64 = 10;
/// The length of a window, which begins with the first line.
pub(super) const WINDOW: Duration = Duration::from_secs(10);
/// The most places that are counted apart; there are far fewer in the program.
const PLACES: usize = 1024;
/// What else tells one line of a place from another.
const ABOUT: [&str; 5] = ["role", "route", "statement", "task", "consumer"];
/// The targets whose lines are all written.
const UNLIMITED: [&str; 2] = ["access", AUDIT];

/// The places that have written lately.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    windows: HashMap<u64, Window>,
    left_out: u64,
}

/// What one place has written since a time.
#[derive(Debug)]
struct Window {
    since: Instant,
    lines: u64,
    place: Place,
}

/// Where a line comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    level: Level,
    target: Box<str>,
    /// The file and the line of the code, if they are known.
    code: Option<(Box<str>, u32)>,
}

/// How many lines of a place were left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    place: Place,
    pub(super) count: u64,
}

impl LeftOut {
    pub(super) fn level(&self) -> Level {
        self.place.level
    }

    pub(super) fn target(&self) -> &str {
        &self.place.target
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { place: Place { target, code, .. }, count } = self;
        let lines = if *count == 1 { "line" } else { "lines" };
        write!(f, "{count} more {lines} like this were left out: ")?;
        match code {
            Some((file, line)) => write!(f, "{file}:{line}"),
            None => f.write_str(target),
        }
    }
}

impl Limiter {
    /// Whether `record` is to be written at `now`, and what was left out before it.
    pub(super) fn admit(&self, record: &Record<'_>, now: Instant) -> (bool, Option<LeftOut>) {
        if record.level() > Level::Warn || UNLIMITED.contains(&record.target()) {
            return (true, None);
        }
        let mut places = self.lock();
        let mut key = key(record);
        if places.windows.len() >= PLACES && !places.windows.contains_key(&key) {
            // All that do not fit are one.
            key = 0;
        }
        let old = places.windows.get(&key).filter(|window| window.is_over(now));
        let left_out = old.and_then(Window::left_out);
        if old.is_some() {
            places.windows.remove(&key);
        }
        let window = places.windows.entry(key).or_insert_with(|| Window::new(record, now));
        window.lines += 1;
        let is_admitted = window.lines <= MOST;
        places.left_out += u64::from(!is_admitted);
        (is_admitted, left_out)
    }

    /// Forgets the windows that are over at `now`; gives what was left out in them.
    pub(super) fn conclude(&self, now: Instant) -> Vec<LeftOut> {
        let over = |_: &u64, window: &mut Window| window.is_over(now);
        self.lock().windows.extract_if(over).filter_map(|(_, window)| window.left_out()).collect()
    }

    /// Forgets all windows; gives what was left out in them.
    pub(super) fn conclude_all(&self) -> Vec<LeftOut> {
        self.lock().windows.drain().filter_map(|(_, window)| window.left_out()).collect()
    }

    /// How many lines were left out so far.
    pub(super) fn left_out(&self) -> u64 {
        self.lock().left_out
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    fn new(record: &Record<'_>, now: Instant) -> Self {
        let code = record.file().zip(record.line()).map(|(file, line)| (file.into(), line));
        let place = Place { level: record.level(), target: record.target().into(), code };
        Self { since: now, lines: 0, place }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    fn left_out(&self) -> Option<LeftOut> {
        let count = self.lines.saturating_sub(MOST);
        (count > 0).then(|| LeftOut { place: self.place.clone(), count })
    }
}

/// A number for the place of `record`.
fn key(record: &Record<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.target(), record.file(), record.line()).hash(&mut hasher);
    let values = record.key_values();
    for value in ABOUT.iter().filter_map(|key| values.get((*key).into())) {
        value.to_string().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(limiter: &Limiter, target: &str, line: u32, now: Instant) -> (bool, Option<LeftOut>) {
        let mut record = Record::builder();
        record.level(Level::Error).target(target).file(Some("src/a.rs")).line(Some(line));
        limiter.admit(&record.build(), now)
    }

    #[test]
    fn of_one_place_only_some_lines_are_written_and_the_others_counted() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let written = (0..25).filter(|_| send(&limiter, "app", 1, now).0).count();
        assert_eq!((written, limiter.left_out()), (10, 15));
        assert_eq!(send(&limiter, "app", 2, now), (true, None), "another place");
        let (is_written, left_out) = send(&limiter, "app", 1, now + WINDOW);
        let left_out = left_out.unwrap();
        assert_eq!((is_written, left_out.count), (true, 15));
        assert_eq!(left_out.to_string(), "15 more lines like this were left out: src/a.rs:1");
    }

    #[test]
    fn what_was_left_out_is_told_also_if_nothing_follows() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        (0..11).for_each(|_| _ = send(&limiter, "app", 1, now));
        send(&limiter, "app", 2, now);
        assert_eq!(limiter.conclude(now), []);
        let told = limiter.conclude(now + WINDOW);
        assert_eq!(told.iter().map(|told| told.count).collect::<Vec<_>>(), [1]);
        assert_eq!(limiter.conclude(now + 2 * WINDOW), []);
        assert!(limiter.lock().windows.is_empty());
    }

    #[test]
    fn audit_and_access_lines_are_all_written() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        for target in ["audit", "access"] {
            assert!((0..100).all(|_| send(&limiter, target, 1, now).0));
        }
    }

    #[test]
    fn there_are_never_more_places_than_fit() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        (0..5000).for_each(|line| _ = send(&limiter, "app", line, now));
        assert!(limiter.lock().windows.len() <= PLACES + 1);
        assert_eq!(limiter.left_out(), 5000 - PLACES as u64 - 10);
    }
}
