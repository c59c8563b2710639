//! The logger of the process: what the filter and the limiter let through goes to env_logger, which formats it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use env_filter::ParseError;
use log::{Log, Metadata, Record};
use tokio::time::sleep;

use super::filter::{AUDIT, Filter, FilterState};
use super::limiter::{LeftOut, Limiter, WINDOW};
use super::writer;
use crate::tasks;

/// The key of how many lines were left out.
pub(super) const LEFT_OUT: &str = "leftOut";

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    filter: Filter,
    limiter: Limiter,
    output: env_logger::Logger,
}

/// Starts the logger of the process, which writes what `filter` lets through to `output`, whatever that's own filter. Later
/// calls do nothing.
pub(super) fn start(filter: &str, output: env_logger::Logger) {
    let logger = Logger { filter: Filter::new(filter), limiter: Limiter::default(), output };
    if LOGGER.set(logger).is_ok()
        && let Some(logger) = LOGGER.get()
        && log::set_logger(logger).is_ok()
    {
        logger.apply();
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.is_enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.admits(record) {
            return;
        }
        let (is_admitted, left_out) = self.limiter.admit(record, Instant::now());
        if let Some(left_out) = left_out {
            self.tell(&left_out);
        }
        if is_admitted {
            self.output.log(record);
        }
    }

    fn flush(&self) {}
}

impl Logger {
    /// Lets call sites know which levels may be written.
    fn apply(&self) {
        log::set_max_level(self.filter.level());
    }

    fn tell(&self, left_out: &LeftOut) {
        let values = [(LEFT_OUT, left_out.count)];
        let mut line = Record::builder();
        line.level(left_out.level()).target(left_out.target()).key_values(&values);
        self.output.log(&line.args(format_args!("{left_out}")).build());
    }
}

/// Tells what was left out, also if no further line follows. Never returns.
pub async fn follow_left_out() {
    loop {
        sleep(WINDOW / 10).await;
        if let Some(logger) = LOGGER.get() {
            let left_out = logger.limiter.conclude(Instant::now());
            left_out.iter().for_each(|left_out| logger.tell(left_out));
        }
    }
}

/// Tells what was left out so far, writes `line` to standard error after the log, and waits at most a second until everything is
/// written.
pub fn last_word(line: Option<&str>) {
    if let Some(logger) = LOGGER.get() {
        logger.limiter.conclude_all().iter().for_each(|left_out| logger.tell(left_out));
    }
    writer::last_word(line);
}

/// How many lines were left out because one place wrote too many.
pub fn left_out_lines() -> u64 {
    LOGGER.get().map_or(0, |logger| logger.limiter.left_out())
}

/// The filter of the process's log; `None` if it writes none of its own.
pub fn filter() -> Option<FilterState> {
    LOGGER.get().map(|logger| logger.filter.state())
}

/// Writes what the filter `text` lets through for `time`, then again what the setting does.
///
/// # Errors
/// When the text is no filter; nothing has changed then.
pub fn replace_filter(text: &str, time: Duration) -> Result<(), ParseError> {
    let Some(logger) = LOGGER.get() else { return Ok(()) };
    let number = logger.filter.replace(text, time)?;
    logger.apply();
    let time_in_words = humantime::format_duration(time);
    log::warn!(target: AUDIT, filter = text; "the log filter is {text} for {time_in_words}");
    tasks::spawn("log_filter", async move {
        sleep(time).await;
        end(logger, Some(number));
    });
    Ok(())
}

/// Writes what the filter of the settings lets through again.
pub fn reset_filter() {
    if let Some(logger) = LOGGER.get() {
        end(logger, None);
    }
}

fn end(logger: &Logger, number: Option<u64>) {
    if logger.filter.end(number) {
        logger.apply();
        log::warn!(target: AUDIT, "the log filter is that of the settings again");
    }
}
