//! A profile of the process: where its threads spend the processors' time.
//!
//! A timer of the kernel interrupts whatever thread is running, 99 times per second of processor time, and the stack of
//! the thread is noted. Names of functions are those that the binary still has.

mod flame_graph;
mod names;
mod protobuf;

use std::time::{Duration, SystemTime};

use actix_rt::task::spawn_blocking;
use pprof::{ProfilerGuard, ProfilerGuardBuilder};
use tokio::time::sleep;

use names::Names;

/// How often a second of processor time is looked at: not a divisor of what programs do at regular intervals.
const FREQUENCY: i32 = 99;
/// Stacks are not taken in these libraries, whose own locks the unwinder would wait for.
const BLOCKED: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Another one is being made.
    #[error("another profile is being made")]
    Running,
    /// It cannot be made, as where there is no folder for temporary files.
    #[error("the profiler does not start: {0}")]
    Failed(pprof::Error),
    /// The thread that looked up names is gone.
    #[error("the names were not looked up: {0}")]
    Unnamed(actix_rt::task::JoinError),
}

/// Where the process was, and how often it was found there.
#[derive(Debug)]
pub struct Profile {
    stacks: Vec<Stack>,
    begun: SystemTime,
    duration: Duration,
    /// The processor time that a sample stands for.
    period: Duration,
    /// The parts of memory that code was loaded into.
    mappings: Vec<names::Mapping>,
}

/// The same place of the same thread in several samples.
#[derive(Debug)]
struct Stack {
    thread: String,
    /// The innermost first.
    frames: Vec<Frame>,
    samples: u64,
}

/// A call that has not returned.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    /// An address within the instruction that calls, or that runs.
    address: u64,
    /// The function, after those that were inlined there; never empty.
    functions: Vec<Function>,
    /// Whether the binary has their names.
    is_named: bool,
}

/// A function, and a line in it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Function {
    name: String,
    file: Option<String>,
    line: u32,
}

impl Profile {
    /// Watches the process for `duration`. Nothing else is done on this thread meanwhile; dropping it ends the watch.
    ///
    /// # Errors
    /// As [`ProfileError`] says.
    pub async fn record(duration: Duration) -> Result<Self, ProfileError> {
        let begun = SystemTime::now();
        let builder = ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&BLOCKED);
        let guard = builder.build().map_err(|error| match error {
            pprof::Error::Running => ProfileError::Running,
            error => ProfileError::Failed(error),
        })?;
        sleep(duration).await;
        // The names of a whole program take seconds to look up where it has all of them.
        let stacks =
            spawn_blocking(move || collect(&guard)).await.map_err(ProfileError::Unnamed)?;
        let (stacks, mappings) = stacks.map_err(ProfileError::Failed)?;
        let period = Duration::from_secs(1) / FREQUENCY.unsigned_abs();
        Ok(Self { stacks, begun, duration, period, mappings })
    }

    /// The samples of all stacks.
    fn samples(&self) -> u64 {
        self.stacks.iter().map(|stack| stack.samples).sum()
    }
}

/// What `guard` has seen so far.
fn collect(guard: &ProfilerGuard<'_>) -> pprof::Result<(Vec<Stack>, Vec<names::Mapping>)> {
    let report = guard.report().build_unresolved()?;
    let mut names = Names::new();
    let stacks = report.data.iter().map(|(found, count)| {
        // What the unwinder finds behind the first function of a thread is none.
        let real = found.frames.iter().filter(|frame| !frame.ip().is_null());
        let mut frames = real.map(|frame| names.frame(frame)).collect::<Vec<_>>();
        let is_handler =
            |frame: &Frame| frame.functions.iter().any(|f| f.name == "perf_signal_handler");
        if let Some(handler) = frames.iter().position(is_handler) {
            // What looks on, and the frame that the kernel made for it.
            frames.drain(..(handler + 2).min(frames.len()));
        }
        let name = &found.thread_name[..found.thread_name_length];
        let samples = u64::try_from(*count).unwrap_or_default();
        Stack { thread: String::from_utf8_lossy(name).into_owned(), frames, samples }
    });
    let stacks = stacks.collect();
    Ok((stacks, names.into_mappings()))
}

#[cfg(test)]
fn example() -> Profile {
    let function =
        |name: &str| Function { name: name.into(), file: Some("src/a.rs".into()), line: 7 };
    let frame = |address, names: &[&str]| {
        let functions = names.iter().map(|name| function(name)).collect();
        Frame { address, functions, is_named: true }
    };
    let stack = |frames, samples| Stack { thread: "worker".into(), frames, samples };
    let main = frame(0x1100, &["main"]);
    let stacks = vec![
        stack(vec![frame(0x1300, &["tiny", "Vec<T>::push"]), main.clone()], 30),
        stack(vec![frame(0x1200, &["render"]), main.clone()], 9),
        stack(vec![main], 1),
    ];
    let mapping = names::Mapping { start: 0x1000, end: 0x2000, offset: 0, file: "/app".into() };
    let (begun, duration) = (SystemTime::UNIX_EPOCH, Duration::from_secs(1));
    let period = Duration::from_millis(10);
    Profile { stacks, begun, duration, period, mappings: vec![mapping] }
}
