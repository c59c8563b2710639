//! Texts in the OpenAPI document: what the code that takes them says in Rust, as regular expressions (ECMA-262).

use utoipa::openapi::{Object, ObjectBuilder, Type};

/// What `char::is_whitespace` means.
const SPACE: &str = r"[\t-\r \u0085\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]*";
/// A letter that is neither that nor a control character, and on one line with others any number of letters.
const LINE: &str = concat!(
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000](?:[^\u0000-\u001F\u007F-\u009F]*",
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000])?",
);

/// The schema of a text on one line, from which white space around it is taken off.
pub fn line_schema(description: &str, max: usize, example: &str) -> Object {
    text_schema(description, LINE, max, example)
}

/// The schema of a text that matches `pattern` once white space around it is taken off.
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

/// Whether a text's schema allows `text`: the types that take texts are held against it.
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

    /// Any text, with more than its share of what the pattern is about.
    fn text() -> impl Strategy<Value = String> {
        let letter = prop_oneof![
            any::<char>(),
            proptest::char::range('\u{0}', '\u{ff}'),
            proptest::char::range('\u{2000}', '\u{2030}'),
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
            let line = text.trim();
            let taken = !line.is_empty() && !line.chars().any(char::is_control);
            prop_assert_eq!(LINES.is_match(&text), taken, "{:?}", text);
        }
    }
}
