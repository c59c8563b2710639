//! What the program makes of a configuration: whether it runs with it, and whether it says so beforehand.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;

use tempfile::TempDir;

use super::{PATIENCE, Process};

/// How the program ended, with its line, or that it was ready, by which it is ended.
pub(crate) fn start(folder: &TempDir, args: &[&str]) -> Result<(), String> {
    let mut command = Process::command(folder.path());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = out.lines().map_while(Result::ok);
        let _ = tell.send(lines.any(|line| line.starts_with("ready")));
    });
    let is_ready = told.recv_timeout(PATIENCE).unwrap_or_default();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains("panicked"), "{args:?}: {log}");
    if is_ready { Ok(()) } else { Err(log) }
}

/// What `app check-config` says of the same.
pub(crate) fn check(folder: &TempDir, args: &[&str]) -> Result<(), String> {
    let mut command = Process::command(folder.path());
    command.args(args).arg("check-config");
    let output = Process::run(command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!said.contains("panicked"), "{args:?}: {said}");
    if output.status.success() { Ok(()) } else { Err(said) }
}
