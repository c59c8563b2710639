//! The tests of pages in a browser, which are scripts of `tests/browser`.

use std::path::Path;
use std::process::Command;

use super::blocking;

/// Runs a script of `tests/browser`, which fails when a page is not as it should be.
pub(crate) async fn browse(script: &str, args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    let mut command = Command::new("node");
    command.arg(script).args(args);
    let output = blocking(move || command.output()).await;
    let output =
        output.unwrap_or_else(|error| panic!("node does not start, see make needs: {error}"));
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}
