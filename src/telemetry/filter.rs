//! Which lines are written: by the setting, or for a time by another filter.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use env_filter::{Builder, ParseError};
use log::{Level, LevelFilter, Metadata, Record};
use serde::Serialize;

/// The target of the audit log.
pub(super) const AUDIT: &str = "audit";

/// A filter that can be replaced while the process runs.
#[derive(Debug)]
pub(super) struct Filter {
    /// The one of the settings.
    setting: String,
    /// Whether the setting lets the audit log through: then every other filter does, too.
    audits: bool,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    filter: env_filter::Filter,
    text: String,
    until: Option<DateTime<Utc>>,
    /// Counts replacements, so that the end of one does not end the next.
    number: u64,
}

/// The filter of the process, as operators see it.
#[derive(Clone, Debug, Serialize)]
pub struct FilterState {
    /// The filter, in env_logger's syntax.
    pub filter: String,
    /// The one of the settings.
    pub setting: String,
    /// When that is used again, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
}

impl Filter {
    /// The filter of the setting, which was validated. What of it cannot be read lets everything pass.
    pub(super) fn new(setting: &str) -> Self {
        let filter = compile(setting).unwrap_or_else(|_| Builder::new().build());
        let audit = Metadata::builder().target(AUDIT).level(Level::Info).build();
        let audits = filter.enabled(&audit);
        let current = Current { filter, text: setting.to_owned(), until: None, number: 0 };
        Self { setting: setting.to_owned(), audits, current: RwLock::new(current) }
    }

    pub(super) fn level(&self) -> LevelFilter {
        let level = self.read().filter.filter();
        if self.audits { level.max(LevelFilter::Info) } else { level }
    }

    pub(super) fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.is_audited(metadata) || self.read().filter.enabled(metadata)
    }

    pub(super) fn admits(&self, record: &Record<'_>) -> bool {
        self.is_audited(record.metadata()) || self.read().filter.matches(record)
    }

    fn is_audited(&self, metadata: &Metadata<'_>) -> bool {
        self.audits && metadata.target() == AUDIT && metadata.level() <= Level::Info
    }

    pub(super) fn state(&self) -> FilterState {
        let current = self.read();
        let (filter, setting) = (current.text.clone(), self.setting.clone());
        FilterState { filter, setting, until: current.until }
    }

    /// Uses the filter `text` for `time`. Gives the number to [`Filter::end`] it with.
    ///
    /// # Errors
    /// When the text is no filter; nothing has changed then.
    pub(super) fn replace(&self, text: &str, time: Duration) -> Result<u64, ParseError> {
        let filter = compile(text)?;
        let mut current = self.write();
        let number = current.number + 1;
        // At most a day from now.
        let until = Utc::now() + time;
        *current = Current { filter, text: text.to_owned(), until: Some(until), number };
        Ok(number)
    }

    /// Uses the filter of the setting again, unless another one than the one with `number` is used; `None` ends any. Returns
    /// whether that changed anything.
    pub(super) fn end(&self, number: Option<u64>) -> bool {
        let mut current = self.write();
        let is_meant = number.is_none_or(|number| number == current.number);
        if !is_meant || current.until.is_none() {
            return false;
        }
        let number = current.number + 1;
        let filter = compile(&self.setting).unwrap_or_else(|_| Builder::new().build());
        *current = Current { filter, text: self.setting.clone(), until: None, number };
        true
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The filter with `text`, which does not turn off errors and the audit log unless it names them.
fn compile(text: &str) -> Result<env_filter::Filter, ParseError> {
    let mut builder = Builder::new();
    builder.filter_level(LevelFilter::Error).filter_module(AUDIT, LevelFilter::Info);
    Ok(builder.try_parse(text)?.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(60);

    fn passes(filter: &Filter, target: &str, level: Level) -> bool {
        filter.is_enabled(&Metadata::builder().target(target).level(level).build())
    }

    #[test]
    fn another_filter_cannot_turn_off_the_audit_log() {
        let filter = Filter::new("warn");
        filter.replace("off,audit=off", SOON).unwrap();
        assert!(passes(&filter, AUDIT, Level::Info) && !passes(&filter, "app", Level::Error));
        assert_eq!(filter.level(), LevelFilter::Info);
        let silent = Filter::new("off,audit=off");
        assert!(!passes(&silent, AUDIT, Level::Info));
    }

    #[test]
    fn another_filter_holds_until_it_is_ended() {
        let filter = Filter::new("warn");
        assert!(!passes(&filter, "app", Level::Debug));
        let number = filter.replace("debug", SOON).unwrap();
        assert!(passes(&filter, "app", Level::Debug));
        assert_eq!(filter.level(), LevelFilter::Debug);
        assert!(filter.end(Some(number)) && !passes(&filter, "app", Level::Debug));
        assert!(!filter.end(Some(number)) && !filter.end(None));
        assert_eq!((filter.state().filter.as_str(), filter.state().until), ("warn", None));
    }

    #[test]
    fn the_end_of_one_filter_does_not_end_the_next() {
        let filter = Filter::new("warn");
        let first = filter.replace("debug", SOON).unwrap();
        filter.replace("info", SOON).unwrap();
        assert!(!filter.end(Some(first)));
        assert_eq!(filter.state().filter, "info");
        assert!(filter.end(None));
    }

    #[test]
    fn what_is_no_filter_changes_nothing() {
        let filter = Filter::new("warn");
        filter.replace("a=b=c", SOON).unwrap_err();
        assert_eq!((filter.state().filter.as_str(), filter.state().until), ("warn", None));
    }

    #[test]
    fn errors_and_the_audit_log_stay_unless_they_are_named() {
        let filter = Filter::new("");
        assert!(passes(&filter, "app", Level::Error) && passes(&filter, "audit", Level::Info));
        let filter = Filter::new("audit=off");
        assert!(!passes(&filter, "audit", Level::Error));
    }
}
