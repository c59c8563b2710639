//! Inspects the frames of a client on their way to h2, which limits neither the duration of a header block nor the number
//! of frames without content.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The length of the connection preface, in bytes (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// The length of a frame's header, in bytes (section 4.1).
const HEAD: usize = 9;
/// Frame types, and their flags (section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// The most consecutive empty frames (CVE-2019-9518).
const MAX_EMPTY: u32 = 100;
/// The most control frames in a `CONTROL_WINDOW`: pings, settings, priorities, and unknown types (CVE-2019-9512, -9513 and
/// -9515).
const MAX_CONTROL: u32 = 10_000;
const CONTROL_WINDOW: Duration = Duration::from_secs(10);

/// A connection whose frames are inspected as it is read.
pub(super) struct Inspected<IO> {
    io: IO,
    frames: Rc<RefCell<Frames>>,
}

impl<IO> Inspected<IO> {
    /// Wraps `io`, which is at its beginning; also returns the state of its frames.
    pub(super) fn new(io: IO) -> (Self, Rc<RefCell<Frames>>) {
        let frames = Rc::<RefCell<Frames>>::default();
        (Self { io, frames: frames.clone() }, frames)
    }
}

/// The state of a client's frames.
#[derive(Debug)]
pub(super) struct Frames {
    /// The header of the next frame, of which `filled` bytes have been received.
    head: [u8; HEAD],
    filled: usize,
    /// The bytes of the frame, or of the preface, that are still to come.
    left: usize,
    kind: u8,
    flags: u8,
    /// Whether the next byte is the length of the padding.
    padding: bool,
    /// Whether a header block continues after this frame.
    in_block: bool,
    /// Since when a frame or header block is incomplete that has no other timeout.
    incomplete_since: Option<Instant>,
    empty: u32,
    control: (u32, Option<Instant>),
    flooded: bool,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            head: [0; HEAD],
            filled: 0,
            left: PREFACE,
            kind: u8::MAX,
            flags: 0,
            padding: false,
            in_block: false,
            incomplete_since: None,
            empty: 0,
            control: (0, None),
            flooded: false,
        }
    }
}

impl Frames {
    /// Whether there have been too many empty or control frames.
    pub(super) fn flooded(&self) -> bool {
        self.flooded
    }

    /// Is ready once a header block takes longer than `limit`, from its first byte to its last. `timer` must serve nothing
    /// else. Must be polled whenever bytes may have been received.
    pub(super) fn poll_timeout(
        &self,
        mut timer: Pin<&mut Sleep>,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(incomplete_since) = self.incomplete_since else { return Poll::Pending };
        if timer.deadline() != incomplete_since + limit {
            timer.as_mut().reset(incomplete_since + limit);
        }
        timer.poll(cx)
    }

    /// Inspects received `bytes`.
    fn read(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.left == 0 {
                let (more, rest) = bytes.split_at(bytes.len().min(HEAD - self.filled));
                self.head[self.filled..self.filled + more.len()].copy_from_slice(more);
                (self.filled, bytes) = (self.filled + more.len(), rest);
                if self.filled == HEAD {
                    self.begin();
                }
                continue;
            }
            if std::mem::take(&mut self.padding) && self.left == usize::from(*first) + 1 {
                self.count_empty();
            }
            let (some, rest) = bytes.split_at(bytes.len().min(self.left));
            (self.left, bytes) = (self.left - some.len(), rest);
            if self.left == 0 {
                self.end();
            }
        }
        // Content has a timeout of its own, for each piece that a handler reads.
        let is_content = self.kind == DATA && self.left > 0;
        let is_whole = self.left == 0 && self.filled == 0;
        if self.in_block || !(is_whole || is_content) {
            self.incomplete_since.get_or_insert_with(Instant::now);
        } else {
            self.incomplete_since = None;
        }
    }

    /// Begins a frame, whose header is complete.
    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        (self.filled, self.kind, self.flags) = (0, kind, flags);
        self.padding = kind == DATA && flags & PADDED != 0 && self.left > 0;
        let ends = match kind {
            DATA => END_STREAM,
            _ => END_HEADERS,
        };
        match kind {
            DATA | HEADERS | CONTINUATION if self.left == 0 => self.count_empty(),
            DATA | HEADERS | CONTINUATION if flags & ends != 0 => self.empty = 0,
            DATA if !self.padding => self.empty = 0,
            DATA | HEADERS | CONTINUATION | RST_STREAM | WINDOW_UPDATE => {}
            _ => self.count_control(),
        }
        if self.left == 0 {
            self.end();
        }
    }

    /// Ends a frame, which is complete.
    fn end(&mut self) {
        match self.kind {
            HEADERS | CONTINUATION => self.in_block = self.flags & END_HEADERS == 0,
            // No other frame is allowed within a header block; h2 ends the connection.
            _ => self.in_block = false,
        }
        if !self.in_block {
            self.incomplete_since = None;
        }
    }

    /// Counts a frame without content, unless it ends a stream or a header block.
    fn count_empty(&mut self) {
        let ends = if self.kind == DATA { END_STREAM } else { END_HEADERS };
        if self.flags & ends == 0 {
            self.empty += 1;
            self.flooded |= self.empty > MAX_EMPTY;
        }
    }

    fn count_control(&mut self) {
        let now = Instant::now();
        let (count, since) = self.control;
        self.control = match since {
            Some(since) if now - since < CONTROL_WINDOW => (count + 1, Some(since)),
            _ => (1, Some(now)),
        };
        self.flooded |= self.control.0 > MAX_CONTROL;
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Inspected<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frames.borrow().flooded {
            // Stops reading; the connection's task, which has polled this, checks `flooded` next.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.frames.borrow_mut().read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Inspected<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    /// The state after a preface and `bytes`, which arrive `step` at a time.
    fn frames(bytes: &[u8], step: usize) -> Frames {
        let mut frames = Frames::default();
        frames.read(&[b'P'; PREFACE]);
        bytes.chunks(step).for_each(|some| frames.read(some));
        frames
    }

    #[test]
    fn a_header_block_is_incomplete_until_its_last_byte() {
        let whole = frame(HEADERS, END_HEADERS, b"block");
        let half = frame(HEADERS, END_STREAM, b"block");
        let rest = frame(CONTINUATION, END_HEADERS, b"rest");
        let settings = frame(4, 0, &[0; 6]);
        for step in [1, 2, 9, 1000] {
            let is_late =
                |parts: &[&[u8]]| frames(&parts.concat(), step).incomplete_since.is_some();
            assert!(!is_late(&[&settings, &whole]));
            assert!(is_late(&[&settings, &whole[..3]]), "half of a frame's head");
            assert!(is_late(&[&whole[..10]]), "half of a frame");
            assert!(is_late(&[&half]), "half of a block");
            assert!(is_late(&[&half, &rest[..12]]), "half of what follows it");
            assert!(!is_late(&[&half, &rest]));
            assert!(!is_late(&[&half, &rest, &whole, &settings]));
            assert!(!is_late(&[&frame(DATA, 0, &[0; 99])[..50]]), "content has its own timer");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_header_block_has_the_same_time() {
        let (whole, half) = (frame(HEADERS, END_HEADERS, b"block"), frame(HEADERS, 0, b"block"));
        let mut frames = frames(&half, 9);
        let mut timer = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        tokio::time::sleep(Duration::from_secs(4)).await;
        frames.read(&[frame(CONTINUATION, END_HEADERS, b""), whole, half].concat());
        let start = Instant::now();
        std::future::poll_fn(|cx| frames.poll_timeout(timer.as_mut(), LIMIT, cx)).await;
        assert_eq!(start.elapsed().as_secs(), 5);
    }

    #[test]
    fn empty_and_control_frames_are_counted() {
        let all = |frame: Vec<u8>, count| frames(&frame.repeat(count), 7).flooded();
        let empty: [Vec<u8>; 3] =
            [frame(DATA, 0, b""), frame(DATA, PADDED, &[2, 0, 0]), frame(CONTINUATION, 0, b"")];
        for empty in empty {
            assert!(!all(empty.clone(), 100) && all(empty, 101));
        }
        assert!(!all(frame(DATA, 0, b"x"), 1000));
        assert!(!all(frame(DATA, PADDED, &[2, b'x', 0, 0]), 1000));
        assert!(!all(frame(DATA, END_STREAM, b""), 1000));
        assert!(!all(frame(WINDOW_UPDATE, 0, &[0; 4]), 100_000));
        for control in [frame(6, 0, &[0; 8]), frame(4, 0, b""), frame(2, 0, &[0; 5])] {
            assert!(!all(control.clone(), 10_000) && all(control, 10_001));
        }
        let between = [frame(DATA, 0, b"").repeat(99), frame(DATA, 0, b"x")].concat();
        assert!(!all(between, 50));
    }
}
