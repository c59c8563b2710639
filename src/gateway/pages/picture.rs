//! Pictures of products, drawn as SVG from nothing but their names and categories: the same name always gets the same one.

use actix_web::HttpResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ContentEncoding, ETAG, HeaderMap, VARY,
};

use super::super::compress::{gzip, negotiate};
use crate::middleware::Condition;
use crate::storage::digest;

/// Objects, and their shapes on a ground at 310 of 400. `@m`, `@d` and `@l` are the main colour, a dark and a light one.
const OBJECTS: [(&str, &str); 17] = [
    (
        "bag",
        r#"<path d="M150 170v-30a50 50 0 0 1 100 0v30" fill="none" stroke="@d" stroke-width="16"/><rect x="100" y="165" width="200" height="145" rx="24" fill="@m"/><rect x="100" y="205" width="200" height="16" fill="@d"/><rect x="180" y="195" width="40" height="36" rx="8" fill="@l"/>"#,
    ),
    (
        "blocks",
        r#"<rect x="105" y="220" width="90" height="90" rx="8" fill="@m"/><rect x="205" y="220" width="90" height="90" rx="8" fill="@d"/><path d="M150 212l50-88 50 88z" fill="@l"/><circle cx="150" cy="265" r="22" fill="@l"/><path d="M230 290l20-46 20 46z" fill="@m"/>"#,
    ),
    (
        "book",
        r#"<rect x="120" y="100" width="170" height="210" rx="10" fill="@d"/><rect x="132" y="292" width="154" height="12" fill="@l"/><rect x="120" y="100" width="164" height="190" rx="10" fill="@m"/><rect x="120" y="100" width="24" height="190" rx="8" fill="@d"/><rect x="168" y="140" width="92" height="14" rx="7" fill="@l"/><rect x="168" y="168" width="60" height="10" rx="5" fill="@l"/>"#,
    ),
    (
        "bottle",
        r#"<rect x="176" y="80" width="48" height="36" rx="8" fill="@d"/><path d="M180 116h40v22q30 14 30 50v102a20 20 0 0 1-20 20h-60a20 20 0 0 1-20-20V188q0-36 30-50z" fill="@m"/><rect x="150" y="212" width="100" height="54" fill="@l"/>"#,
    ),
    (
        "candle",
        r#"<path d="M200 70q34 44 0 72q-34-28 0-72z" fill="@l"/><rect x="197" y="136" width="6" height="22" fill="@d"/><rect x="160" y="156" width="80" height="140" rx="8" fill="@m"/><rect x="130" y="292" width="140" height="18" rx="9" fill="@d"/>"#,
    ),
    (
        "chair",
        r#"<path d="M138 220l-12 90M262 220l12 90" stroke="@d" stroke-width="14" stroke-linecap="round"/><rect x="130" y="90" width="140" height="120" rx="26" fill="@m"/><rect x="150" y="112" width="100" height="60" rx="16" fill="@l"/><rect x="116" y="196" width="168" height="40" rx="18" fill="@d"/>"#,
    ),
    (
        "headphones",
        r#"<path d="M110 240v-30a90 90 0 0 1 180 0v30" fill="none" stroke="@d" stroke-width="20"/><rect x="92" y="218" width="52" height="92" rx="22" fill="@m"/><rect x="256" y="218" width="52" height="92" rx="22" fill="@m"/><rect x="132" y="232" width="20" height="64" rx="10" fill="@l"/><rect x="248" y="232" width="20" height="64" rx="10" fill="@l"/>"#,
    ),
    (
        "lamp",
        r#"<path d="M200 190v110" stroke="@d" stroke-width="12"/><path d="M120 200l-50 110h260l-50-110z" fill="@l" opacity=".45"/><path d="M160 90h80l44 112H116z" fill="@m"/><path d="M116 202h168l-5-14H121z" fill="@d"/><rect x="145" y="294" width="110" height="16" rx="8" fill="@d"/>"#,
    ),
    (
        "mug",
        r#"<path d="M150 120q-14-18 0-36t0-34M210 120q-14-18 0-36t0-34" fill="none" stroke="@l" stroke-width="10" stroke-linecap="round"/><path d="M246 180h24a36 36 0 0 1 0 72h-24" fill="none" stroke="@d" stroke-width="20"/><path d="M112 146h140v124a40 40 0 0 1-40 40h-60a40 40 0 0 1-40-40z" fill="@m"/><rect x="112" y="190" width="140" height="20" fill="@l"/>"#,
    ),
    (
        "pan",
        r#"<rect x="236" y="196" width="136" height="26" rx="13" fill="@d"/><circle cx="165" cy="210" r="100" fill="@d"/><circle cx="165" cy="210" r="78" fill="@m"/><path d="M112 200a56 56 0 0 1 60-46" fill="none" stroke="@l" stroke-width="12" stroke-linecap="round"/>"#,
    ),
    (
        "paper",
        r#"<rect x="110" y="90" width="150" height="220" rx="10" fill="@l"/><path d="M136 140h98M136 172h98M136 204h98M136 236h60" stroke="@m" stroke-width="10" stroke-linecap="round"/><path d="M300 110l24 14-84 150-30 18 6-32z" fill="@m"/><path d="M216 260l-6 32 30-18z" fill="@d"/>"#,
    ),
    (
        "parcel",
        r#"<path d="M200 164q-60-70-74-30t74 30q60-70 74-30t-74 30" fill="@d"/><rect x="100" y="190" width="200" height="120" rx="8" fill="@m"/><rect x="88" y="160" width="224" height="44" rx="8" fill="@d"/><rect x="184" y="160" width="32" height="150" fill="@l"/>"#,
    ),
    (
        "plant",
        r#"<path d="M200 250q-6-90 0-130" stroke="@d" stroke-width="10" fill="none"/><path d="M198 210q-90 10-96-74q88 0 96 74z" fill="@m"/><path d="M202 186q90 0 94-84q-86 6-94 84z" fill="@d"/><path d="M200 130q-36-30 0-76q36 46 0 76z" fill="@m"/><path d="M138 236h124l-16 74h-92z" fill="@l"/><rect x="128" y="226" width="144" height="24" rx="8" fill="@d"/>"#,
    ),
    (
        "shelf",
        r#"<path d="M100 90v220M300 90v220" stroke="@d" stroke-width="14"/><path d="M100 160h200M100 230h200M100 300h200" stroke="@d" stroke-width="12"/><rect x="122" y="104" width="22" height="50" fill="@m"/><rect x="148" y="112" width="18" height="42" fill="@l"/><rect x="240" y="180" width="36" height="44" rx="14" fill="@m"/><rect x="130" y="252" width="60" height="42" rx="6" fill="@l"/><rect x="204" y="244" width="20" height="50" fill="@m"/>"#,
    ),
    (
        "speaker",
        r#"<rect x="130" y="80" width="140" height="230" rx="18" fill="@m"/><circle cx="200" cy="140" r="30" fill="@d"/><circle cx="200" cy="140" r="12" fill="@l"/><circle cx="200" cy="234" r="54" fill="@d"/><circle cx="200" cy="234" r="34" fill="@m"/><circle cx="200" cy="234" r="14" fill="@l"/>"#,
    ),
    (
        "tent",
        r#"<path d="M200 90l130 220H70z" fill="@m"/><path d="M200 90l130 220h-70z" fill="@d"/><path d="M200 170l48 140h-96z" fill="@l"/><path d="M200 90v-30" stroke="@d" stroke-width="8"/>"#,
    ),
    (
        "textile",
        r#"<rect x="92" y="250" width="216" height="60" rx="28" fill="@d"/><rect x="100" y="192" width="200" height="58" rx="27" fill="@m"/><rect x="110" y="138" width="180" height="54" rx="25" fill="@l"/><path d="M130 280h120M140 221h100" stroke="@l" stroke-width="8" stroke-linecap="round"/>"#,
    ),
];

/// What is drawn for the words of a name, the first that matches; and for a category, if no word does.
const WORDS: [(&str, &str); 46] = [
    ("headphone", "headphones"),
    ("earphone", "headphones"),
    ("speaker", "speaker"),
    ("radio", "speaker"),
    ("candle", "candle"),
    ("lantern", "candle"),
    ("lanterne", "candle"),
    ("lamp", "lamp"),
    ("light", "lamp"),
    ("bulb", "lamp"),
    ("headlamp", "lamp"),
    ("shelf", "shelf"),
    ("bookcase", "shelf"),
    ("rack", "shelf"),
    ("chair", "chair"),
    ("stool", "chair"),
    ("blanket", "textile"),
    ("towel", "textile"),
    ("linen", "textile"),
    ("mat", "textile"),
    ("cushion", "textile"),
    ("pillow", "textile"),
    ("sock", "textile"),
    ("glove", "textile"),
    ("mask", "textile"),
    ("bottle", "bottle"),
    ("bag", "bag"),
    ("pack", "bag"),
    ("suitcase", "bag"),
    ("wallet", "bag"),
    ("washbag", "bag"),
    ("bolsa", "bag"),
    ("mug", "mug"),
    ("cup", "mug"),
    ("coffee", "mug"),
    ("théière", "mug"),
    ("pan", "pan"),
    ("bowl", "pan"),
    ("plate", "pan"),
    ("voucher", "parcel"),
    ("notebook", "paper"),
    ("pen", "paper"),
    ("card", "paper"),
    ("plant", "plant"),
    ("seed", "plant"),
    ("pot", "plant"),
];
const CATEGORIES: [(&str, &str); 10] = [
    ("audio", "speaker"),
    ("books", "book"),
    ("desk", "paper"),
    ("furniture", "chair"),
    ("games", "blocks"),
    ("garden", "plant"),
    ("kitchen", "mug"),
    ("lighting", "lamp"),
    ("outdoors", "tent"),
    ("travel", "bag"),
];
/// What is drawn for everything else.
const OTHER: &str = "parcel";
/// The most characters of a title.
const TITLE: usize = 100;

/// The picture, or 304 when the client's copy is current. Another release may draw better, so that copies are kept for a day.
pub(super) fn answer(
    (category, name): (&str, &str),
    headers: &HeaderMap,
    condition: &Condition,
) -> HttpResponse {
    let picture = draw(category, name);
    let is_packed = negotiate(headers, &[ContentEncoding::Gzip]).is_some();
    let end = if is_packed { "-gzip" } else { "" };
    let tag = format!("\"{:032x}{end}\"", digest(picture.as_bytes()));
    let is_known = condition.if_none_match(&tag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "public, max-age=86400"))
        .insert_header((VARY, "accept-encoding"));
    if is_known {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, "image/svg+xml"));
    if is_packed {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    response.body(if is_packed { gzip(picture.as_bytes()) } else { picture.into() })
}

/// An SVG picture, of at most 2 KiB, of the product `name` in `category`, either of which may be anything.
fn draw(category: &str, name: &str) -> String {
    let hash = hash(name);
    let hue = hash % 360;
    let colour = |turn: u32, saturation: u32, light: u32| {
        format!("hsl({},{saturation}%,{light}%)", (hue + turn) % 360)
    };
    let (x, y) = (120 + hash / 360 % 160, 110 + hash / 57_600 % 80);
    let shapes = shapes(object(category, name))
        .replace("@m", &colour(0, 48, 50))
        .replace("@d", &colour(350, 50, 34))
        .replace("@l", &colour(30, 72, 80));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 400 400\" role=\"img\">\
         <title>{}</title>\
         <rect width=\"400\" height=\"400\" fill=\"{}\"/>\
         <circle cx=\"{x}\" cy=\"{y}\" r=\"150\" fill=\"{}\"/>\
         <ellipse cx=\"200\" cy=\"312\" rx=\"150\" ry=\"16\" fill=\"{}\"/>\
         {shapes}</svg>",
        title(name),
        colour(20, 42, 91),
        colour(45, 60, 96),
        colour(10, 28, 78),
    )
}

/// The name of the object that is drawn.
fn object(category: &str, name: &str) -> &'static str {
    let (category, name) = (category.to_lowercase(), name.to_lowercase());
    let words = name.split(|letter: char| !letter.is_alphanumeric()).collect::<Vec<_>>();
    let is_said = |word: &str| {
        words
            .iter()
            .any(|said| said.strip_prefix(word).is_some_and(|rest| matches!(rest, "" | "s")))
    };
    let by_category = CATEGORIES.iter().find(|(known, _)| *known == category);
    let by_word = WORDS.iter().find(|(word, _)| is_said(word));
    // Books are of everything else.
    let found = by_category.filter(|_| category == "books").or(by_word).or(by_category);
    found.map_or(OTHER, |(_, object)| object)
}

fn shapes(object: &str) -> &'static str {
    OBJECTS.iter().find(|(known, _)| *known == object).map_or("", |(_, shapes)| shapes)
}

/// `name` as the text of an XML element.
fn title(name: &str) -> String {
    let mut title = String::new();
    for letter in name.chars().take(TITLE) {
        match letter {
            '<' => title += "&lt;",
            '>' => title += "&gt;",
            '&' => title += "&amp;",
            // XML has no way to write some of them.
            _ if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => {
                title.push(' ')
            }
            _ => title.push(letter),
        }
    }
    title
}

/// FNV-1a, folded to what colours need.
fn hash(text: &str) -> u32 {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = text.bytes().fold(0x811c_9dc5, mix);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_object_that_is_named_is_drawn() {
        let named = WORDS.iter().chain(&CATEGORIES).map(|(_, object)| *object).chain([OTHER]);
        for object in named {
            assert!(!shapes(object).is_empty(), "{object}");
        }
    }

    #[test]
    fn a_picture_shows_what_the_name_says_or_else_the_category() {
        assert_eq!(object("Kitchen", "Cast Iron Pan 26 cm"), "pan");
        assert_eq!(object("Lighting", "Pendant Lamp, Enamel"), "lamp");
        assert_eq!(object("Garden", "Wildflower Meadow Mix"), "plant");
        assert_eq!(object("Books", "Le jardin en pot"), "book");
        assert_eq!(object("Furniture", "كرسي خشب الزيتون"), "chair");
        assert_eq!(object("Cheese", "Gouda"), OTHER);
    }

    #[test]
    fn the_same_name_always_gets_the_same_picture_and_another_gets_another() {
        assert_eq!(draw("Desk", "Felt Desk Mat"), draw("Desk", "Felt Desk Mat"));
        assert_ne!(draw("Desk", "Felt Desk Mat"), draw("Desk", "Wool Desk Mat"));
    }

    #[test]
    fn a_name_is_text_and_nothing_else() {
        let picture = draw("Books", "</title><script>\"a\" & b\u{1}</script>");
        assert!(
            picture.contains(
                "<title>&lt;/title&gt;&lt;script&gt;\"a\" &amp; b &lt;/script&gt;</title>"
            )
        );
        assert!(!picture.contains("<script"), "{picture}");
        assert!(picture.contains("role=\"img\"") && !picture.contains("href"));
    }

    #[test]
    fn no_picture_is_large() {
        let longest = "&".repeat(300);
        for (object, _) in OBJECTS {
            for name in [object, &format!("{object} {longest}")] {
                let picture = draw("", name);
                assert!(picture.len() <= 2048, "{object}: {}", picture.len());
            }
        }
    }
}
