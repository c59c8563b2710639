//! The place of a request in a trace: W3C Trace Context, levels 1 and 2 (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

use actix_web::http::header::HeaderValue;

/// The length of the header's value in version 00, and the least in later ones.
const LENGTH: usize = 55;

/// The flag of a trace that is sampled.
const SAMPLED: u8 = 1;
/// The flags of level 2: sampled, and a trace id that is random.
const KNOWN: u8 = 3;

/// A span of a trace, as `traceparent` names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    flags: u8,
}

/// The id of a trace, which prints as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

/// The id of a span, which prints as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub u64);

impl TraceContext {
    /// The first span of a trace of its own, which is not sampled.
    pub fn new() -> Self {
        // Ids are no secrets, so they need not be hard to guess. Zero is invalid.
        Self { trace: fastrand::u128(..).max(1), span: new_span(), flags: 0 }
    }

    /// The span that the value of a `traceparent` header names; `None` when it is invalid. Of a later version, what this one
    /// knows is read (section 4.3 of level 2).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(LENGTH)?;
        let separated = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        let version = number_of(&known[..2])?;
        let rest_is_valid = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let trace = number_of(&known[3..35])?;
        let span = u64::try_from(number_of(&known[36..52])?).ok()?;
        let flags = u8::try_from(number_of(&known[53..])?).ok()?;
        let is_valid = separated && rest_is_valid && trace != 0 && span != 0;
        is_valid.then_some(Self { trace, span, flags })
    }

    /// A new span of the same trace, whose parent is this one.
    pub fn child(self) -> Self {
        // Flags that this version does not know must not be passed on (level 2, section 3.2.2.5.3).
        Self { span: new_span(), flags: self.flags & KNOWN, ..self }
    }

    /// The trace's id.
    pub fn trace_id(self) -> TraceId {
        TraceId(self.trace)
    }

    /// The span's id.
    pub fn span_id(self) -> SpanId {
        SpanId(self.span)
    }

    /// The trace flags; bit 0 is set when the trace is sampled.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// The trace's id, if the trace is sampled.
    pub fn sampled_id(self) -> Option<TraceId> {
        self.is_sampled().then(|| self.trace_id())
    }

    /// Whether the trace is sampled.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, sampled or not.
    pub fn with_sampled(self, is_sampled: bool) -> Self {
        Self { flags: self.flags & !SAMPLED | u8::from(is_sampled) * SAMPLED, ..self }
    }

    /// The same with other trace flags.
    pub fn with_flags(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    /// The value of a `traceparent` header that names this span as the parent.
    pub fn header(self) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        // Each part has its length; and digits and dashes are valid in a header.
        let _ = hex::encode_to_slice(self.trace.to_be_bytes(), &mut text[3..35]);
        let _ = hex::encode_to_slice(self.span.to_be_bytes(), &mut text[36..52]);
        let _ = hex::encode_to_slice([self.flags], &mut text[53..]);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

impl Default for TraceContext {
    fn default() -> Self {
        Self::new()
    }
}

/// As in the header, in version 00.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id(), self.span_id(), self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn new_span() -> u64 {
    fastrand::u64(..).max(1)
}

/// The number that at most 32 lower-case hexadecimal `digits` write.
fn number_of(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_a_caller_gives_is_taken_as_it_is() {
        let given = TraceContext::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!(given.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(given.span_id().to_string(), "00f067aa0ba902b7");
        assert_eq!((given.flags(), given.to_string().as_str()), (1, GIVEN));
        let child = given.child();
        assert_eq!((child.trace_id(), child.flags()), (given.trace_id(), 1));
        assert_eq!(given.with_flags(0xff).child().flags(), 3);
        assert_ne!(child.span_id(), given.span_id());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for later in
            [GIVEN.replacen("00", "cc", 1), GIVEN.replacen("00", "01", 1) + "-what-follows"]
        {
            let read = TraceContext::parse(later.as_bytes()).map(|read| read.to_string());
            assert_eq!(read.as_deref(), Some(GIVEN), "{later}");
        }
    }

    #[test]
    fn what_is_invalid_is_refused() {
        for bad in [
            "",
            "00",
            &GIVEN[1..],
            &GIVEN.to_uppercase(),
            &GIVEN.replace('-', "_"),
            &GIVEN.replacen("00", "ff", 1),
            &format!("{GIVEN}-more"),
            &(GIVEN.replacen("00", "01", 1) + "more"),
            &GIVEN.replace("00f067aa0ba902b7", "0000000000000000"),
            &GIVEN.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GIVEN.replace("4bf9", "4bg9"),
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(flags: u8) {
            let made = TraceContext::new().with_flags(flags);
            let header = made.header();
            prop_assert_eq!(header.to_str().unwrap(), made.to_string());
            prop_assert_eq!(TraceContext::parse(header.as_bytes()), Some(made));
        }

        #[test]
        fn no_bytes_are_too_bad_to_be_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = TraceContext::parse(&bytes);
        }
    }
}
