//! Rules for texts that people write, in Rust and as regular expressions (ECMA-262) for the OpenAPI document.

use utoipa::openapi::{Object, ObjectBuilder, Type};

/// The characters of `char::is_whitespace`.
const SPACE: &str = r"[\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]*";
/// One line: optional invisible characters, one visible character, then any characters of a line, not ending in white space.
/// [`INVISIBLE`] has further characters beyond the basic plane, which not every engine supports.
const LINE: &str = concat!(
    // Invisible characters, beginning with other than white space.
    r"(?:[\u00AD\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200F\u202A-\u202E\u2060-\u206F\u2800\u3164",
    r"\uFDD0-\uFDEF\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB\uFFFE\uFFFF]",
    r"[ \u00A0\u1680\u2000-\u200A\u202F\u205F\u3000\u00AD\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180F",
    r"\u200B-\u200F\u202A-\u202E\u2060-\u206F\u2800\u3164\uFDD0-\uFDEF\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB",
    r"\uFFFE\uFFFF]*)?",
    // A visible character.
    r"[^\u0000-\u0020\u007F-\u00A0\u00AD\u034F\u061C\u115F\u1160\u1680\u17B4\u17B5\u180B-\u180F\u2000-\u200F",
    r"\u2028-\u202F\u205F-\u206F\u2800\u3000\u3164\uFDD0-\uFDEF\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB\uFFFE\uFFFF]",
    // Any characters of a line, without white space at the end.
    r"(?:[^\u0000-\u001F\u007F-\u009F\u2028\u2029]*",
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000])?",
);

/// Invisible characters beside white space: Unicode's `Default_Ignorable_Code_Point`, and those that fonts draw as blanks.
const INVISIBLE: [(char, char); 22] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FDD0}', '\u{FDEF}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{FFFE}', '\u{FFFF}'),
    ('\u{16FE4}', '\u{16FE4}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D159}', '\u{1D159}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Why a text is not a readable line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It has only white space.
    #[error("must not be empty")]
    Empty,
    /// It has no visible character.
    #[error("must have a visible character")]
    Invisible,
    /// It has more characters than this.
    #[error("must have at most {0} characters")]
    Long(usize),
    /// It has line breaks or other control characters.
    #[error("must be one line, without control characters")]
    Control,
}

/// The trimmed line in `text`. `max` limits the text before trimming, as the OpenAPI document does.
///
/// # Errors
/// Why it is not a line.
pub fn line(text: &str, max: usize) -> Result<&str, LineError> {
    let line = text.trim();
    if line.is_empty() {
        Err(LineError::Empty)
    } else if text.chars().count() > max {
        Err(LineError::Long(max))
    } else if line.chars().any(ends_lines) {
        Err(LineError::Control)
    } else if line.chars().all(|letter| letter.is_whitespace() || is_invisible(letter)) {
        Err(LineError::Invisible)
    } else {
        Ok(line)
    }
}

/// Control characters, and Unicode's line and paragraph separators.
fn ends_lines(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Whether `letter` is invisible, but not white space.
pub fn is_invisible(letter: char) -> bool {
    INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&letter))
}

/// The schema of a text on one line, which is trimmed.
pub fn line_schema(description: &str, max: usize, example: &str) -> Object {
    text_schema(description, LINE, max, example)
}

/// The schema of a text that matches `pattern` after trimming.
pub fn text_schema(description: &str, pattern: &str, max: usize, example: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .min_length(Some(1))
        .max_length(Some(max))
        .pattern(Some(trimmed(pattern)))
        .examples([example])
        .build()
}

fn trimmed(pattern: &str) -> String {
    format!("^{SPACE}{pattern}{SPACE}$")
}

/// Whether a schema allows `text`, to compare it with the type.
#[cfg(test)]
pub(crate) fn allows<T: utoipa::PartialSchema>(text: &str) -> bool {
    let utoipa::openapi::RefOr::T(utoipa::openapi::Schema::Object(schema)) = T::schema() else {
        return false;
    };
    let pattern = schema
        .pattern
        .iter()
        .all(|pattern| regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)));
    let length = text.chars().count();
    pattern
        && schema.min_length.is_none_or(|least| length >= least)
        && schema.max_length.is_none_or(|most| length <= most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use regex::Regex;
    use std::sync::LazyLock;

    static LINES: LazyLock<Regex> = LazyLock::new(|| Regex::new(&trimmed(LINE)).unwrap());

    /// Any text, with many of the letters that the pattern distinguishes.
    fn text() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            any::<char>(),
            proptest::char::range('\u{0}', '\u{ff}'),
            proptest::char::range('\u{2000}', '\u{2070}'),
            proptest::sample::select(INVISIBLE.to_vec()).prop_map(|(first, _)| first),
            proptest::sample::select(INVISIBLE.to_vec()).prop_map(|(_, last)| last),
            // Their neighbours.
            proptest::sample::select(vec![
                '\u{ac}', '\u{ae}', '\u{27ff}', '\u{2801}', '\u{fffc}', '\u{fe10}'
            ]),
            Just('\u{1680}'),
            Just('\u{205f}'),
            Just('\u{3000}'),
            Just('a'),
        ];
        proptest::collection::vec(letter, 0..6).prop_map(|letters| letters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]
        #[test]
        fn a_line_is_what_the_roles_take_for_one(text in text()) {
            // The pattern stops at the basic plane.
            let basic = !text.chars().any(|letter| letter > '\u{ffff}' && is_invisible(letter));
            let taken = line(&text, 64).is_ok();
            prop_assert!(!taken || LINES.is_match(&text), "{:?}", text);
            prop_assert!(!basic || taken == LINES.is_match(&text), "{:?}", text);
        }
    }

    #[test]
    fn a_line_has_something_to_see_and_no_end_within() {
        for good in [
            "Lamp",
            " Lamp\n",
            "\u{200b}Lamp",
            "نام\u{200c}ها",
            "שלום\u{200f}",
            "Zoë \u{202e}x",
            "👩\u{200d}🔧",
            "❤\u{fe0f}",
        ] {
            assert_eq!(line(good, 20), Ok(good.trim()), "{good:?}");
        }
        for blank in [
            "\u{200b}",
            "\u{feff}\u{200d} \u{2060}",
            "\u{ad}",
            "\u{3164}",
            "\u{2800}",
            "\u{e0001}\u{e0020}",
            "\u{fe0f}",
            "\u{180e}",
        ] {
            assert_eq!(line(blank, 20), Err(LineError::Invisible), "{blank:?}");
        }
        for end in [
            "\n", "\u{b}", "\u{c}", "\r", "\u{85}", "\u{2028}", "\u{2029}", "\0", "\u{1b}",
            "\u{9b}",
        ] {
            assert_eq!(line(&format!("a{end}b"), 20), Err(LineError::Control), "{end:?}");
        }
        assert_eq!(line(" \u{2003}\n", 20), Err(LineError::Empty));
        assert_eq!(line(" Lamp", 4), Err(LineError::Long(4)));
    }
}
