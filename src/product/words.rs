//! The words of a text, as a search compares them: without regard to case, accents and compatibility forms, in any script.
//!
//! A text is folded first: decomposed (NFKD), its combining marks dropped, its case folded. Then it is cut into words
//! (Unicode Standard Annex 29): an ideograph is a word by itself, and so is an emoji here.

use std::str::FromStr;

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::canonical_combining_class;
use unicode_segmentation::UnicodeSegmentation as _;

/// Emoji and pictures (`Extended_Pictographic`), and flags; what NFKD turns into letters is left out.
const PICTURES: [(char, char); 13] = [
    ('\u{A9}', '\u{A9}'),
    ('\u{AE}', '\u{AE}'),
    ('\u{2194}', '\u{21AA}'),
    ('\u{231A}', '\u{23FF}'),
    ('\u{25AA}', '\u{25FE}'),
    ('\u{2600}', '\u{27BF}'),
    ('\u{2934}', '\u{2935}'),
    ('\u{2B05}', '\u{2B55}'),
    ('\u{3030}', '\u{3030}'),
    ('\u{303D}', '\u{303D}'),
    ('\u{1F000}', '\u{1F3FA}'),
    ('\u{1F400}', '\u{1FAFF}'),
    ('\u{1F1E6}', '\u{1F1FF}'),
];

/// Ideographs after NFKD.
const IDEOGRAPHS: [(char, char); 4] = [
    ('\u{3005}', '\u{3007}'),
    ('\u{3400}', '\u{4DBF}'),
    ('\u{4E00}', '\u{9FFF}'),
    ('\u{20000}', '\u{3FFFD}'),
];

fn is_among(letter: char, ranges: &[(char, char)]) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&letter))
}

/// What shows as nothing (`Default_Ignorable_Code_Point`: soft hyphens, joiners, selectors of variants, marks of direction
/// and the like), the Arabic tatweel, which only stretches a word, and skin tones, which do not tell two emoji apart.
const IGNORED: [(char, char); 19] = [
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{640}', '\u{640}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{202A}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFF8}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{1F3FB}', '\u{1F3FF}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

fn is_ignored(letter: char) -> bool {
    is_among(letter, &IGNORED)
}

/// Whether `letter` is a word by itself: an ideograph or an emoji.
pub(super) fn is_word(letter: char) -> bool {
    is_among(letter, &IDEOGRAPHS) || is_among(letter, &PICTURES)
}

/// `letters` without case: those that differ in case alone, or in one being two letters, become the same.
pub(super) fn without_case(letters: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    letters.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}

/// `text` without case, accents, compatibility forms and what shows as nothing.
pub(super) fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let is_kept = |letter: &char| canonical_combining_class(*letter) == 0 && !is_ignored(*letter);
    without_case(text.nfkd().filter(is_kept)).nfkd().filter(is_kept).collect()
}

/// The words of `text`, folded. A word with apostrophes is there as a whole, without them, and in its parts.
pub fn words(text: &str) -> Vec<String> {
    let (mut words, folded) = (Vec::new(), fold(text));
    if !folded.is_ascii() {
        words_of(&folded, &mut words);
        return words;
    }
    // Words end at white space, if nothing combines with it. Most texts are like this.
    for piece in folded.split_ascii_whitespace() {
        match piece.bytes().all(|letter| letter.is_ascii_alphanumeric()) {
            true => words.push(piece.to_owned()),
            false => words_of(piece, &mut words),
        }
    }
    words
}

/// Adds the words of a folded text to `words`.
fn words_of(folded: &str, words: &mut Vec<String>) {
    for word in cut(folded) {
        if word.contains(is_apostrophe) {
            words.extend(word.split(is_apostrophe).filter(|part| !part.is_empty()).map(plain));
        }
        words.extend(Some(plain(word)).filter(|word| !word.is_empty()));
    }
}

/// What names are sorted by: the name, folded, as far as its first 500 bytes.
pub(super) fn sort_key(name: &str) -> String {
    let mut key = fold(name);
    key.truncate(key.floor_char_boundary(500));
    key
}

/// The words of a folded text, with their apostrophes.
fn cut(folded: &str) -> Vec<String> {
    let mut words = Vec::new();
    for segment in folded.split_word_bounds() {
        let mut rest = String::new();
        for letter in segment.chars() {
            if is_word(letter) {
                words.extend((!rest.is_empty()).then(|| std::mem::take(&mut rest)));
                words.push(letter.to_string());
            } else if letter.is_alphanumeric() || !rest.is_empty() {
                rest.push(letter);
            }
        }
        words.extend((!rest.is_empty()).then_some(rest));
    }
    words
}

/// `word` without apostrophes, and with one sign for all others within it, as the point in `3.0`.
fn plain(word: impl AsRef<str>) -> String {
    let letters = word.as_ref().chars().filter(|letter| !is_apostrophe(*letter));
    letters
        .map(
            |letter| {
                if letter.is_ascii() && !letter.is_ascii_alphanumeric() { '·' } else { letter }
            },
        )
        .collect()
}

/// The most words of a search, and its longest text, in characters.
const MOST: usize = 20;
const LONGEST: usize = 200;

/// What is searched for: words, of which each must begin a word of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// Folded, without repetition.
    pub words: Vec<String>,
    /// The text that they are from.
    pub(super) text: String,
}

/// Why a text cannot be searched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// It has nothing but signs.
    #[error("must have a word")]
    Empty,
    /// It has more characters than this.
    #[error("must have at most {LONGEST} characters")]
    Long,
    /// It has more words than this.
    #[error("must have at most {MOST} words")]
    Many,
    /// One of its words is a single letter.
    #[error("{0:?} is too short; a word has at least two characters")]
    Short(String),
}

impl FromStr for Words {
    type Err = WordsError;

    fn from_str(text: &str) -> Result<Self, WordsError> {
        if text.chars().count() > LONGEST {
            return Err(WordsError::Long);
        }
        let mut words = Vec::new();
        for piece in text.split_whitespace() {
            let found = cut(&fold(piece));
            let is_short = piece.nfc().filter(|letter| !is_ignored(*letter)).count() < 2
                && !piece.nfkc().any(is_word);
            if is_short && !found.is_empty() {
                return Err(WordsError::Short(piece.to_owned()));
            }
            words.extend(found.iter().map(plain));
        }
        // An apostrophe is a letter in some scripts, but no word.
        words.retain(|word| !word.is_empty());
        words.sort_unstable();
        words.dedup();
        match words.len() {
            0 => Err(WordsError::Empty),
            1..=MOST => Ok(Self { words, text: text.trim().to_owned() }),
            _ => Err(WordsError::Many),
        }
    }
}

fn is_apostrophe(letter: char) -> bool {
    matches!(letter, '\'' | '\u{2019}' | '\u{2BC}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_found(query: &str, text: &str) -> bool {
        let there = words(text);
        query
            .parse::<Words>()
            .unwrap()
            .words
            .iter()
            .all(|word| there.iter().any(|known| known.starts_with(word.as_str())))
    }

    #[test]
    fn what_people_type_finds_what_is_there() {
        for (query, text) in [
            ("istanbul", "İSTANBUL'da çay"),
            ("ISIK", "ışık"),
            ("ışık", "ISIK"),
            ("strasse", "Große Straße"),
            ("STRAẞE", "straße"),
            ("cafe", "Cafe\u{301} au lait"),
            ("café", "CAFE"),
            ("كتاب", "كِتَابٌ جميل"),
            ("שלום", "שָׁלוֹם"),
            ("東", "東京タワー"),
            ("京", "東京タワー"),
            ("タワー", "東京ﾀﾜｰ"),
            ("한국", "한국어"),
            ("🦊", "Red🦊Fox"),
            ("👍", "👍🏽"),
            ("👩", "👩\u{200d}🔧"),
            ("❤", "❤\u{fe0f} mug"),
            ("οδοσ", "ΟΔΟΣ"),
            ("file", "ﬁlet"),
            ("t-shirt", "T-Shirt"),
            ("shirt", "T-Shirt"),
            ("eau", "l'eau"),
            ("leau", "L\u{2019}Eau"),
            ("l'eau", "l'eau"),
            ("usb 3.0", "Hub (USB 3.0)"),
            ("हिन्दी", "हिन्दी"),
            ("donau", "Do\u{AD}nau\u{AD}dampfer"),
            ("zero", "ze\u{200B}ro\u{2060}wi\u{FEFF}dth"),
            ("محمد", "محـــمد"),
            ("محمد", "\u{FEE3}\u{FEA4}\u{FEE4}\u{FEAA}"),
            ("\u{FEE3}\u{FEA4}\u{FEE4}\u{FEAA}", "محمد"),
            ("salt\u{200E}", "Salt"),
        ] {
            assert!(
                is_found(query, text),
                "{query:?} in {text:?}: {:?} {:?}",
                words(query),
                words(text)
            );
        }
        for (query, text) in [("hirt", "shirt"), ("lamps", "lamp"), ("🦊", "🐻"), ("कि", "क")]
        {
            assert!(!is_found(query, text), "{query:?} in {text:?}");
        }
        for nothing in ["", " ", "!?", "\u{301}", "--", "'", "\u{fe0f}", "\u{ad}\u{feff}"] {
            assert_eq!(words(nothing), [""; 0], "{nothing:?}");
        }
    }

    #[test]
    fn a_search_has_words_of_two_characters_or_a_sign_that_is_a_word() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.words);
        assert_eq!(words(" Blue & blue  lamp "), Ok(vec!["blue".to_owned(), "lamp".to_owned()]));
        assert_eq!(words("T-shirt"), Ok(vec!["shirt".to_owned(), "t".to_owned()]));
        for good in ["東", "🦊", "ab", "é\u{301}a", "c++", "👩\u{200d}🔧", &"ab ".repeat(20)]
        {
            assert!(words(good).is_ok(), "{good}");
        }
        for short in ["a", "é", "e\u{301}", "vitamin c", "ш", "カ", "a\u{ad}"] {
            assert!(matches!(words(short), Err(WordsError::Short(_))), "{short}");
        }
        for empty in ["", " ", "!", "& - ?", "\u{301}", "\u{2BC}\u{2BC}"] {
            assert_eq!(words(empty), Err(WordsError::Empty), "{empty:?}");
        }
        assert_eq!(words(&"ö".repeat(201)), Err(WordsError::Long));
        let many = (10..31).map(|n| format!("w{n} ")).collect::<String>();
        assert_eq!(words(&many), Err(WordsError::Many));
    }

    proptest! {
        #[test]
        fn pieces_of_plain_text_have_the_words_of_the_whole(text in "[ -~\t\n\r\x0B]{0,60}") {
            let mut whole = Vec::new();
            words_of(&fold(&text), &mut whole);
            prop_assert_eq!(words(&text), whole);
        }

        #[test]
        fn words_are_folded_and_whole(text in "\\PC{0,40}") {
            for word in words(&text) {
                prop_assert!(!word.is_empty() && !word.contains(char::is_whitespace), "{:?}", word);
                prop_assert!(word.chars().all(|sign| !sign.is_ascii() || sign.is_ascii_alphanumeric()));
            }
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
            prop_assert_eq!(words(&text.to_lowercase()), words(&text));
        }
    }
}
