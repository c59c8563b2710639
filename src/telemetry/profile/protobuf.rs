//! A profile in the format of pprof
//! (<https://github.com/google/pprof/blob/main/proto/profile.proto>), which many tools read. It has addresses, too, by which
//! `pprof` finds the names of a stripped binary in one that is not.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use super::{Frame, Function, Profile};

impl Profile {
    /// The profile as a message of pprof, uncompressed.
    pub fn protobuf(&self) -> Vec<u8> {
        let mut tables = Tables::new(self);
        let mut message = Message::default();
        for [kind, unit] in [["samples", "count"], ["cpu", "nanoseconds"]] {
            let value = tables.value_type(kind, unit);
            message.message(1, &value);
        }
        let period = nanos(self.period);
        for stack in &self.stacks {
            let locations =
                stack.frames.iter().map(|frame| tables.location(frame)).collect::<Vec<_>>();
            let mut sample = Message::default();
            sample.packed(1, &locations);
            sample.packed(2, &[stack.samples, stack.samples * period]);
            let mut label = Message::default();
            label.number(1, tables.text("thread"));
            label.number(2, tables.text(&stack.thread));
            sample.message(3, &label);
            message.message(2, &sample);
        }
        let period_type = tables.value_type("cpu", "nanoseconds");
        message.message(11, &period_type);
        message.number(12, period);
        message.number(9, nanos(self.begun.duration_since(UNIX_EPOCH).unwrap_or_default()));
        message.number(10, nanos(self.duration));
        tables.write(message)
    }
}

/// What samples refer to by number.
struct Tables<'a> {
    profile: &'a Profile,
    texts: HashMap<String, u64>,
    functions: HashMap<(u64, u64), u64>,
    locations: HashMap<u64, u64>,
    /// The messages of locations and functions.
    written: Message,
}

impl<'a> Tables<'a> {
    fn new(profile: &'a Profile) -> Self {
        // The first text is empty.
        let texts = HashMap::from([(String::new(), 0)]);
        let (functions, locations) = (HashMap::new(), HashMap::new());
        Self { profile, texts, functions, locations, written: Message::default() }
    }

    fn text(&mut self, text: &str) -> u64 {
        let next = self.texts.len() as u64;
        *self.texts.entry(text.to_owned()).or_insert(next)
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> Message {
        let mut message = Message::default();
        message.number(1, self.text(kind));
        message.number(2, self.text(unit));
        message
    }

    fn function(&mut self, function: &Function) -> u64 {
        let name = self.text(&function.name);
        let file = self.text(function.file.as_deref().unwrap_or_default());
        let next = self.functions.len() as u64 + 1;
        if let Some(known) = self.functions.get(&(name, file)) {
            return *known;
        }
        self.functions.insert((name, file), next);
        let mut message = Message::default();
        for (field, value) in [(1, next), (2, name), (3, name), (4, file)] {
            message.number(field, value);
        }
        self.written.message(5, &message);
        next
    }

    fn location(&mut self, frame: &Frame) -> u64 {
        if let Some(known) = self.locations.get(&frame.address) {
            return *known;
        }
        let next = self.locations.len() as u64 + 1;
        self.locations.insert(frame.address, next);
        let within =
            |mapping: &super::names::Mapping| (mapping.start..mapping.end).contains(&frame.address);
        let mapping = self.profile.mappings.iter().position(within);
        let mut message = Message::default();
        message.number(1, next);
        message.number(2, mapping.map_or(0, |at| at as u64 + 1));
        message.number(3, frame.address);
        // What has no name is left to the reader of the profile.
        for function in frame.functions.iter().filter(|_| frame.is_named) {
            let mut line = Message::default();
            line.number(1, self.function(function));
            line.number(2, function.line.into());
            message.message(4, &line);
        }
        self.written.message(4, &message);
        next
    }

    /// Adds everything to `message`.
    fn write(mut self, mut message: Message) -> Vec<u8> {
        for (number, mapping) in (1..).zip(&self.profile.mappings) {
            let file = self.text(&mapping.file);
            let mut part = Message::default();
            let fields = [mapping.start, mapping.end, mapping.offset, file];
            part.number(1, number);
            (2..).zip(fields).for_each(|(field, value)| part.number(field, value));
            message.message(3, &part);
        }
        message.0.extend_from_slice(&self.written.0);
        let mut texts = self.texts.into_iter().collect::<Vec<_>>();
        texts.sort_unstable_by_key(|(_, number)| *number);
        texts.iter().for_each(|(text, _)| message.bytes(6, text.as_bytes()));
        message.0
    }
}

fn nanos(time: Duration) -> u64 {
    // Until the year 2554.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A message of protocol buffers (<https://protobuf.dev/programming-guides/encoding/>).
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn packed(&mut self, field: u64, numbers: &[u64]) {
        let mut packed = Self::default();
        numbers.iter().for_each(|number| packed.varint(*number));
        self.message(field, &packed);
    }
}
