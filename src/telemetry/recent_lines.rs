//! The last lines of the log, to find those of a request.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most bytes of them.
const CAPACITY: usize = 1024 * 1024;
/// The most lines that a request is shown with.
const MOST: usize = 200;

static RECENT: Mutex<Recent> = Mutex::new(Recent { pieces: VecDeque::new(), bytes: 0 });

/// Pieces of the log, each of whole lines.
#[derive(Debug)]
struct Recent {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// Keeps `lines`, which were written. The thread that writes the log calls it, so that nothing else waits.
pub(super) fn keep(lines: Vec<u8>) {
    lock().keep(lines);
}

/// The last lines about the request or the trace with this `id`, the oldest first, as they were written but for colours; at
/// most 200.
pub fn lines_of(id: &str) -> Vec<String> {
    lock().lines_of(id)
}

fn lock() -> MutexGuard<'static, Recent> {
    RECENT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recent {
    fn keep(&mut self, mut lines: Vec<u8>) {
        lines.shrink_to_fit();
        self.bytes += lines.capacity();
        self.pieces.push_back(lines);
        while self.bytes > CAPACITY {
            let Some(oldest) = self.pieces.pop_front() else { break };
            self.bytes -= oldest.capacity();
        }
    }

    fn lines_of(&self, id: &str) -> Vec<String> {
        let marks = Marks::new(id);
        let lines = self.pieces.iter().rev().flat_map(|piece| piece.rsplit(|byte| *byte == b'\n'));
        let texts = lines.filter(|line| !line.is_empty()).map(String::from_utf8_lossy);
        let meant = texts.filter(|line| marks.are_in(line));
        let mut found = meant.take(MOST).map(|line| without_colours(&line)).collect::<Vec<_>>();
        found.reverse();
        found
    }
}

/// How lines of both formats name a request.
struct Marks {
    json: [String; 2],
    human: [String; 2],
}

impl Marks {
    fn new(id: &str) -> Self {
        let keys = ["requestId", "traceId"];
        Self {
            json: keys.map(|key| format!("\"{key}\":\"{id}\"")),
            human: keys.map(|key| format!(" {key}={id}")),
        }
    }

    fn are_in(&self, line: &str) -> bool {
        if line.starts_with('{') {
            return self.json.iter().any(|mark| line.contains(mark));
        }
        let is_whole = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\r']);
        let ends = |mark: &String| {
            line.match_indices(mark.as_str()).any(|(at, _)| is_whole(&line[at + mark.len()..]))
        };
        self.human.iter().any(ends)
    }
}

/// `line` without the escape sequences that colour it on a terminal.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or(part, |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent() -> Recent {
        Recent { pieces: VecDeque::new(), bytes: 0 }
    }

    #[test]
    fn lines_of_a_request_are_found_by_either_id_and_in_either_format() {
        let mut recent = recent();
        let json = r#"{"message":"a","requestId":"r1","traceId":"t1"}"#;
        let human =
            "12:00:00.000 \x1b[33mWARN \x1b[0m slow role=order requestId=r1 traceId=t1 spanId=s";
        recent.keep(format!("{json}\n{human}\n").into_bytes());
        recent.keep(
            b"{\"requestId\":\"r11\",\"traceId\":\"t11\"}\nx requestId=r11 traceId=t11 spanId=s\n"
                .to_vec(),
        );
        let plain = human.replace("\x1b[33m", "").replace("\x1b[0m", "");
        for id in ["r1", "t1"] {
            assert_eq!(recent.lines_of(id), [json, &plain]);
        }
        assert_eq!(recent.lines_of("r11").len(), 2);
        assert_eq!(recent.lines_of("r"), [""; 0]);
    }

    #[test]
    fn what_is_kept_has_a_bound_and_the_oldest_goes_first() {
        let mut recent = recent();
        for n in 0..2_000 {
            let line = format!("{{\"requestId\":\"r{n}\",\"text\":\"{}\"}}\n", "x".repeat(1_000));
            recent.keep(line.into_bytes());
            assert!(recent.bytes <= CAPACITY);
        }
        let kept = recent.pieces.iter().map(Vec::capacity).sum::<usize>();
        assert_eq!(kept, recent.bytes);
        assert!(kept > CAPACITY / 2);
        assert_eq!((recent.lines_of("r0").len(), recent.lines_of("r1999").len()), (0, 1));
    }

    #[test]
    fn a_request_that_writes_much_is_shown_with_its_last_lines() {
        let mut recent = recent();
        let lines = (0..500).map(|n| format!("{{\"n\":{n},\"requestId\":\"r\"}}\n"));
        recent.keep(lines.collect::<String>().into_bytes());
        let found = recent.lines_of("r");
        assert_eq!(found.len(), MOST);
        assert!(found[MOST - 1].contains("\"n\":499"));
    }
}
