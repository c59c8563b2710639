//! What the process takes of its machine, as Linux tells in `/proc`. Elsewhere there is nothing to tell.

use std::fs;

use prometheus::core::Collector;

use crate::metrics::{Family, Sampled, Samples};

/// The unit of times in `/proc/self/stat`, per second: the same on every Linux.
const TICKS: f64 = 100.0;
/// The unit of memory in `/proc/self/status`, in bytes.
const KIB: f64 = 1024.0;

const CPU: &str = "process_cpu_seconds_total";
const START: &str = "process_start_time_seconds";
const VIRTUAL: &str = "process_virtual_memory_bytes";
const RESIDENT: &str = "process_resident_memory_bytes";
const ALLOCATED: &str = "process_anonymous_memory_bytes";
const OPEN: &str = "process_open_fds";
const MOST: &str = "process_max_fds";

const FAMILIES: &[Family] = &[
    Family::counter(CPU, "CPU time of the process, by itself and by the kernel for it.", &[]),
    Family::gauge(START, "When the process started, since 1970.", &[]),
    Family::gauge(VIRTUAL, "The address space of the process.", &[]),
    Family::gauge(RESIDENT, "The memory that the process has.", &[]),
    Family::gauge(
        ALLOCATED,
        "The memory of the process that no file backs: what the allocator holds, and stacks.",
        &[],
    ),
    Family::gauge(OPEN, "The file descriptors that are open.", &[]),
    Family::gauge(MOST, "The most file descriptors that may be open.", &[]),
];

/// Prometheus' own metrics of a process.
pub(super) fn collector() -> Box<dyn Collector> {
    Sampled::boxed(FAMILIES, |samples| {
        sample(samples);
    })
}

/// Adds what can be read; nothing more after something that cannot.
fn sample(samples: &mut Samples) -> Option<()> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, which may hold any character.
    let fields = stat.rsplit_once(')')?.1.split_whitespace().collect::<Vec<_>>();
    // Numbered as in proc(5), from which the first two are missing here.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    samples.add(CPU, &[], (field(14)? + field(15)?) / TICKS);
    samples.add(VIRTUAL, &[], field(23)?);
    let boot = value("/proc/stat", "btime")?;
    samples.add(START, &[], boot + field(22)? / TICKS);
    samples.add(RESIDENT, &[], value("/proc/self/status", "VmRSS:")? * KIB);
    samples.add(ALLOCATED, &[], value("/proc/self/status", "RssAnon:")? * KIB);
    // The descriptor of the folder itself is one of them.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    samples.add(OPEN, &[], open as f64);
    samples.add(MOST, &[], value("/proc/self/limits", "Max open files").unwrap_or(f64::INFINITY));
    Some(())
}

/// The first number after `name` at the beginning of a line of `file`.
fn value(file: &str, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
