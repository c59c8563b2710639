//! Writes log lines to standard error on a thread of its own, so that nothing waits for a slow reader. When the queue is
//! full, lines are dropped and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::recent_lines;

/// The size of the queue, in bytes.
const CAPACITY: usize = 1024 * 1024;
/// How long the thread pauses between writes, so that it writes several lines at once.
const LINGER: Duration = Duration::from_millis(2);
/// How long to wait for a slow reader on a non-blocking descriptor.
const PAUSE: Duration = Duration::from_millis(10);

/// The most characters of the last line.
const LAST_WORD: usize = 2000;

static WRITER: OnceLock<Writer> = OnceLock::new();

/// A queue of lines and the thread that writes them; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<u8>,
    /// Whether the thread is writing lines.
    is_writing: bool,
    /// Whether the thread waits for lines.
    is_waiting: bool,
    dropped: u64,
    /// How many of the dropped lines were logged.
    reported: u64,
}

impl Writer {
    /// The process's writer, to standard error.
    pub(super) fn stderr() -> &'static Self {
        WRITER.get_or_init(|| {
            // Without the lock of `io::stderr`, so that other writers do not wait for it.
            let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
            Self::start(stderr)
        })
    }

    /// Starts the thread that writes to `target`. Without a target or a thread, all lines are dropped.
    fn start(target: io::Result<impl Write + Send + 'static>) -> Self {
        let writer = Self(Arc::default());
        let Ok(mut target) = target else { return writer };
        let queue = writer.0.clone();
        let work = move || {
            loop {
                queue.write(&mut target);
            }
        };
        // A failure cannot be logged.
        let _ = thread::Builder::new().name("log".into()).spawn(work);
        writer
    }

    /// Queues `line`, or drops it.
    fn queue(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.lines.len() + line.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        state.lines.extend_from_slice(line);
        if std::mem::take(&mut state.is_waiting) {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything is written, at most for `limit`.
    fn flush(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.0.lock();
        while !state.lines.is_empty() || state.is_writing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            // The thread notifies after each write.
            let waited = self.0.changed.wait_timeout(state, left.min(PAUSE));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many lines have been dropped so far.
    fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines and writes them, however long that takes.
    fn write(&self, target: &mut impl Write) {
        let mut state = self.lock();
        while state.lines.is_empty() {
            state.is_waiting = true;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let lines = std::mem::take(&mut state.lines);
        state.is_writing = true;
        drop(state);
        let written = write_all(target, &lines);
        let mut state = self.lock();
        state.is_writing = false;
        if let Err(rest) = written {
            state.dropped += rest.iter().filter(|byte| **byte == b'\n').count() as u64;
        }
        let dropped = state.dropped - state.reported;
        let is_written = written.is_ok();
        // While writing fails, dropped lines cannot be logged.
        if is_written {
            state.reported = state.dropped;
        }
        self.changed.notify_all();
        drop(state);
        recent_lines::keep(lines);
        if dropped > 0 && is_written {
            log::warn!(dropped; "{dropped} log lines were dropped because the reader was too slow");
        }
        thread::sleep(LINGER);
    }
}

/// Writes all of `lines`. On failure it returns the rest.
fn write_all<'a>(target: &mut impl Write, mut lines: &'a [u8]) -> Result<(), &'a [u8]> {
    while !lines.is_empty() {
        match target.write(lines) {
            Ok(0) => return Err(lines),
            Ok(written) => lines = &lines[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program that shares the descriptor may have made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(_) => return Err(lines),
        }
    }
    Ok(())
}

/// env_logger writes a whole line at a time.
impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many log lines were dropped because the reader was too slow.
pub fn dropped_lines() -> u64 {
    WRITER.get().map_or(0, Writer::dropped)
}

/// Writes `line` to standard error after the log, and waits at most a second until everything is written.
pub(super) fn last_word(line: Option<&str>) {
    if let Some(line) = line {
        let mut line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some((end, _)) = line.char_indices().nth(LAST_WORD) {
            line.truncate(end);
        }
        line.push('\n');
        Writer::stderr().queue(line.as_bytes());
    }
    if let Some(writer) = WRITER.get() {
        writer.flush(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes a write each time it is let.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(io::Error::other)?;
            self.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Writer, mpsc::Sender<()>, Arc<Mutex<Vec<u8>>>) {
        let (opens, open) = mpsc::channel();
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let writer = Writer::start(Ok(Gate { open, written: written.clone() }));
        (writer, opens, written)
    }

    #[test]
    fn lines_are_written_in_order_and_waited_for_at_the_end() {
        let (writer, opens, written) = gate();
        let all = (0..100).map(|n| format!("line {n}\n")).collect::<Vec<_>>();
        all.iter().for_each(|line| writer.queue(line.as_bytes()));
        (0..100).for_each(|_| opens.send(()).unwrap());
        writer.flush(Duration::from_secs(20));
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), all.concat());
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_dropped_is_counted() {
        let (writer, opens, written) = gate();
        let line = [b"x".repeat(1023), vec![b'\n']].concat();
        (0..5 * 1024).for_each(|_| writer.queue(&line));
        let start = Instant::now();
        writer.flush(Duration::from_millis(50));
        assert!((50..5000).contains(&start.elapsed().as_millis()));
        let dropped = writer.dropped();
        assert!((3 * 1024..=4 * 1024).contains(&dropped), "{dropped}");
        (0..10).for_each(|_| opens.send(()).unwrap());
        writer.flush(Duration::from_secs(20));
        let written = written.lock().unwrap().len() as u64 / 1024;
        assert_eq!(written + dropped, 5 * 1024);
    }

    #[test]
    fn what_a_reader_leaves_unread_for_ever_is_dropped_too() {
        let (writer, opens, _) = gate();
        drop(opens);
        (0..10).for_each(|_| writer.queue(b"a line\n"));
        writer.flush(Duration::from_secs(20));
        assert_eq!(writer.dropped(), 10);
    }
}
