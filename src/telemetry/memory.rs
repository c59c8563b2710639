//! The memory of the process, as the kernel and the allocator see it.

use std::{fs, io};

use mimalloc::MiMalloc;
use serde::Serialize;
use serde_json::{Map, Value};

/// Figures of the process's memory, in bytes.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What is in main memory now.
    pub resident_bytes: u64,
    /// The most that ever was.
    pub peak_resident_bytes: u64,
    /// What of it is neither a file nor shared: heap and stacks.
    pub anonymous_bytes: u64,
    /// The statistics of mimalloc, which the program allocates with; null where there are none.
    pub mimalloc: Value,
}

impl Memory {
    /// The figures now.
    ///
    /// # Errors
    /// When the kernel does not give them, as outside of Linux.
    pub fn read() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let bytes = |key| kilobytes(&status, key).map(|kilobytes| kilobytes * 1024);
        let missing = || io::Error::other("there are no figures in /proc/self/status");
        Ok(Self {
            resident_bytes: bytes("VmRSS:").ok_or_else(missing)?,
            peak_resident_bytes: bytes("VmHWM:").ok_or_else(missing)?,
            anonymous_bytes: bytes("RssAnon:").ok_or_else(missing)?,
            mimalloc: statistics().unwrap_or_default(),
        })
    }
}

/// Those that mimalloc counts as it is built here.
fn statistics() -> Option<Value> {
    const COUNTED: [&str; 9] = [
        "mimalloc_version",
        "process",
        "reserved",
        "committed",
        "purged",
        "pages",
        "pages_abandoned",
        "mmap_calls",
        "threads",
    ];
    let all = MiMalloc::stats_json().ok()?;
    let mut all = serde_json::from_slice::<Map<String, Value>>(all.to_bytes()).ok()?;
    all.retain(|key, _| COUNTED.contains(&key.as_str()));
    Some(all.into())
}

/// The number in the line of `status` that begins with `key`.
fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
