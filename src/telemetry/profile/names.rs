//! The names of functions at addresses.

use std::collections::HashMap;
use std::fs;

use super::{Frame, Function};

/// A part of memory that code was loaded into from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where in the file that begins.
    pub(super) offset: u64,
    pub(super) file: String,
}

/// Looks up names, each once.
pub(super) struct Names {
    mappings: Vec<Mapping>,
    known: HashMap<u64, Frame>,
}

impl Names {
    pub(super) fn new() -> Self {
        // Not to be had outside of Linux: addresses without a name then stay as they are.
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Self { mappings: maps.lines().filter_map(Mapping::parse).collect(), known: HashMap::new() }
    }

    pub(super) fn frame(&mut self, found: &backtrace::Frame) -> Frame {
        // The address is where a call returns to.
        let address = (found.ip() as u64).saturating_sub(1);
        let Self { mappings, known } = self;
        let frame = known.entry(address).or_insert_with(|| {
            let mut functions = Vec::new();
            backtrace::resolve_frame(found, |symbol| functions.extend(Function::of(symbol)));
            let is_named = !functions.is_empty();
            if !is_named {
                functions.push(Function { name: unnamed(mappings, address), file: None, line: 0 });
            }
            Frame { address, functions, is_named }
        });
        frame.clone()
    }

    pub(super) fn into_mappings(self) -> Vec<Mapping> {
        self.mappings
    }
}

impl Function {
    fn of(symbol: &backtrace::Symbol) -> Option<Self> {
        // Without the hash at its end.
        let name = format!("{:#}", symbol.name()?);
        let file = symbol.filename().map(|file| file.display().to_string());
        Some(Self { name, file, line: symbol.lineno().unwrap_or_default() })
    }
}

impl Mapping {
    /// Reads a line of `/proc/self/maps`; `None` for what is no code of a file.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_code = words.next()?.contains('x');
        let offset = words.next()?;
        // After the device and the inode.
        let file = words.nth(2)?.to_owned();
        let hex = |digits| u64::from_str_radix(digits, 16).ok();
        let (start, end, offset) = (hex(start)?, hex(end)?, hex(offset)?);
        is_code.then_some(Self { start, end, offset, file })
    }
}

/// What stands for the function at an address that has no name: its file, and the place in it.
fn unnamed(mappings: &[Mapping], address: u64) -> String {
    let within = |mapping: &&Mapping| (mapping.start..mapping.end).contains(&address);
    match mappings.iter().find(within) {
        Some(mapping) => {
            let file = mapping.file.rsplit('/').next().unwrap_or_default();
            format!("{file}+{:#x}", address - mapping.start + mapping.offset)
        }
        None => format!("{address:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_without_a_name_is_named_by_its_file() {
        let maps = "55d0a000-55d0b000 r--p 00000000 08:01 42 /usr/bin/app\n\
                    55d0b000-55d0d000 r-xp 00001000 08:01 42 /usr/bin/app\n\
                    7ffd1000-7ffd2000 rw-p 00000000 00:00 0 [stack]\n\
                    7ffd3000-7ffd4000 r-xp 00000000 00:00 0 \n";
        let mappings = maps.lines().filter_map(Mapping::parse).collect::<Vec<_>>();
        assert_eq!(mappings.len(), 1, "{mappings:?}");
        assert_eq!(unnamed(&mappings, 0x55d0_b010), "app+0x1010");
        assert_eq!(unnamed(&mappings, 0x10), "0x10");
    }
}
