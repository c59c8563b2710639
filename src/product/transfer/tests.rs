use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::export;
use super::parser::{HeaderError, LONGEST};
use super::{Format, LineError, Parsed, Parser};
use crate::config::Currency;
use crate::contract::Product;

fn euro() -> Currency {
    Currency::try_from("EUR".to_owned()).unwrap()
}

/// What is read of `file`, which arrives in pieces of these lengths, again and again.
fn read(format: Format, file: &[u8], lengths: &[usize]) -> Result<Parsed, HeaderError> {
    let (mut parser, mut parsed, mut rest) = (Parser::new(format, euro()), Parsed::default(), file);
    for length in lengths.iter().cycle() {
        let (piece, other) = rest.split_at((*length).min(rest.len()));
        parser.feed(piece, &mut parsed)?;
        rest = other;
        if rest.is_empty() {
            break;
        }
    }
    parser.finish(&mut parsed)?;
    Ok(parsed)
}

fn products(format: Format, file: &[u8]) -> Vec<Product> {
    let parsed = read(format, file, &[7]).unwrap();
    assert_eq!(parsed.lines().1, [], "{}", String::from_utf8_lossy(file));
    parsed.products.into_iter().map(|(_, new)| new.product).collect()
}

/// The names of products by their lines, and what is wrong with the other lines.
type Outcome = (Vec<(u64, String)>, Vec<(u64, String)>);

fn outcome(format: Format, file: &[u8]) -> Outcome {
    let parsed = read(format, file, &[file.len().max(1)]).unwrap();
    let errors = parsed.lines().1;
    let products = parsed.products.into_iter().map(|(line, new)| (line, new.product.name));
    let errors = errors.into_iter().map(|LineError { line, detail }| (line, detail));
    (products.collect(), errors.collect())
}

fn expected<const A: usize, const B: usize>(
    products: [(u64, &str); A],
    errors: [(u64, &str); B],
) -> Outcome {
    let owned = |(line, text): (u64, &str)| (line, text.to_owned());
    (products.map(owned).into(), errors.map(owned).into())
}

#[test]
fn a_bad_line_of_ndjson_spoils_no_other() {
    let long = "x".repeat(LONGEST);
    let file = [
        b"\xef\xbb\xbf{\"name\":\"A\",\"price\":1}\r\n\n  \r\n{\"name\":\n[]\n{\"name\":\"B\",\"price\":-1,\"colour\":\"red\"}\n".as_slice(),
        b"{\"name\":\"\xff\",\"price\":1}\n{\"name\":\"C\",\"price\":\"1\"}\n{\"price\":1,\"price\":2}\n\"",
        long.as_bytes(),
        b"\"\n{\"name\":\"D\",\"price\":0,\"id\":\"x\",\"inStock\":7,\"createdAt\":0,\"updatedAt\":null}",
    ];
    let (products, errors) = outcome(Format::Ndjson, &file.concat());
    assert_eq!(products, expected([(1, "A"), (11, "D")], []).0);
    let errors = errors.iter().map(|(line, detail)| (*line, detail.as_str())).collect::<Vec<_>>();
    assert_eq!(
        errors,
        [
            (4, "the line is not JSON: EOF while parsing a value at line 1 column 8"),
            (5, "the line must be a JSON object"),
            (6, "price: must not be negative; colour: is unknown"),
            (7, "the line is not JSON: invalid unicode code point at line 1 column 10"),
            (8, "price: invalid type: string \"1\", expected f64"),
            (9, "price: must be given once; name: is required"),
            (10, "the line is longer than 262144 bytes"),
        ]
    );
}

#[test]
fn a_table_may_have_quotes_breaks_semicolons_and_a_byte_order_mark() {
    let file = "\u{feff}price,name,description,tags,attributes,sku\r\n\
        1.5,\"Lamp \"\"L\"\"; large\",\"two\r\nlines, one cell\",\"[\"\"a,b\"\",\"\"c\"\"]\",\"{\"\"x\"\":1}\", S-1 \r\n\
        \r\n2,Monitor 27\",,,,\n";
    let found = products(Format::Csv, file.as_bytes());
    assert_eq!(found[0].name, "Lamp \"L\"; large");
    assert_eq!(found[0].description.as_deref(), Some("two\r\nlines, one cell"));
    assert_eq!(found[0].tags, ["a,b", "c"]);
    assert_eq!(Value::Object(found[0].attributes.clone()), json!({ "x": 1 }));
    assert_eq!((found[0].sku.as_deref(), found[0].price.minor()), (Some("S-1"), 150));
    assert_eq!((found[1].name.as_str(), &found[1].description), ("Monitor 27\"", &None));
}

#[test]
fn a_bad_row_spoils_no_other() {
    let long = "x".repeat(LONGEST + 1);
    let many = ",".repeat(100);
    let file = [
        b"name,price,tags,stock,inStock\nA,1,,,maybe\nB,1\nC,1,,,,\nD,1,a|b,,\nE,,,-1,\n\xff,1,,,\n".as_slice(),
        b"\"F\nF\",1,,,\n\"", long.as_bytes(), b"\",1,,,\nG,1,,,\nH", many.as_bytes(), b"\nI,1,,,\n\"J,1,,,\nK",
    ];
    let (products, errors) = outcome(Format::Csv, &file.concat());
    assert_eq!(products, expected([(2, "A"), (11, "G"), (13, "I")], []).0);
    let errors = errors.iter().map(|(line, detail)| (*line, detail.as_str())).collect::<Vec<_>>();
    assert_eq!(
        errors,
        [
            (3, "the row has 2 cells, the header has 5"),
            (4, "the row has 6 cells, the header has 5"),
            (5, "tags: invalid type: string \"a|b\", expected a sequence"),
            (6, "price: is required; stock: must be a whole number from 0 to 1000000000"),
            (7, "name: must be UTF-8"),
            (8, "name: must be one line, without control characters"),
            (10, "the row is longer than 262144 bytes; is a quote not closed?"),
            (12, "the row has more than 64 cells"),
            (14, "a quote is not closed"),
        ]
    );
}

#[test]
fn a_cell_that_begins_with_a_quote_ends_with_its_closing_quote() {
    let file = "name,price,sku\n\"27\" monitor\",5,\nA,\"1\"2,\n\"B\" ,1,\n\"C\",1,\"\"x\"\"\nD,1,\"E\"x\"F\ny\"\n\
        \"G\"\"\",1,\"\"\n27\",\"1\",x\"\"y\n\"H\"x,1,,,\nI,1,";
    let (products, errors) = outcome(Format::Csv, file.as_bytes());
    assert_eq!(products, expected([(8, "G\""), (9, "27\""), (11, "I")], []).0);
    let named = errors.iter().map(|(line, detail)| (*line, detail.split(':').next().unwrap()));
    let lines = [(2, "name"), (3, "price"), (4, "name"), (5, "sku"), (6, "sku"), (10, "name")];
    assert_eq!(named.filter(|(line, _)| *line != 7).collect::<Vec<_>>(), lines);
    assert!(errors[0].1.contains("text behind its closing quote"), "{}", errors[0].1);
    let header = read(Format::Csv, b"name,\"price\"x\nA,1\n", &[1]).unwrap_err().to_string();
    assert!(header.contains("cell 2 has text behind its closing quote"), "{header}");
}

#[test]
fn lines_of_a_table_are_counted_whatever_ends_them() {
    for end in ["\n", "\r\n", "\r"] {
        let file =
            ["name,price,description", "A,x,", "", "\"B", "b\",1,", "C,1,\"c", "c\"", "D,1,", "E"];
        let file = file.join(end);
        for lengths in [1, 2, 1000] {
            let parsed = read(Format::Csv, file.as_bytes(), &[lengths]).unwrap();
            let wrong = parsed.lines().1.iter().map(|error| error.line).collect::<Vec<_>>();
            assert_eq!((parsed.lines().0, wrong), (vec![6, 8], vec![2, 4, 9]), "{file:?}");
        }
    }
}

#[test]
fn a_number_that_is_too_large_is_named_and_so_is_what_is_said_twice() {
    let file = "{\"name\":\"A\",\"price\":1e400}\n{\"name\":\"B\",\"price\":1,\"attributes\":{\"a\":[{\"b\":-1e999}]}}\n\
        {\"name\":\"C\",\"price\":1,\"attributes\":{\"a\":1,\"b\":{\"c\":1,\"c\":1}}}\n{\"name\":\"D\",\"price\":1,\"attributes\":{\"a\":1}}\n";
    let wrong = [
        (1, "price: number out of range"),
        (2, "attributes: number out of range"),
        (3, "attributes: \"c\" must be given once"),
    ];
    assert_eq!(outcome(Format::Ndjson, file.as_bytes()), expected([(4, "D")], wrong));
    let file = "name,price,attributes\nA,1e400,\nB,1,\"{\"\"a\"\":1,\"\"a\"\":2}\"\nC,1,{}\n";
    let wrong = [(2, "price: number out of range"), (3, "attributes: \"a\" must be given once")];
    assert_eq!(outcome(Format::Csv, file.as_bytes()), expected([(4, "C")], wrong));
}

#[test]
fn columns_that_are_not_those_of_products_are_named() {
    for (file, error) in [
        ("", "the file is empty; its first line names the columns"),
        ("\u{feff}\r\n", "the file is empty; its first line names the columns"),
        ("name;price\n", "separate columns by commas, not by semicolons"),
        ("name\tprice\n", "separate columns by commas, not by tabs"),
        ("name,price,colour\n", "the column \"colour\" is unknown"),
        ("name,price,\n", "the column \"\" is unknown"),
        ("name,price,name\n", "the column \"name\" is there twice"),
        ("name\nLamp", "the column \"price\" is missing"),
        ("price", "the column \"name\" is missing"),
        (
            "\"name,price\nLamp,1\n",
            "the first line does not name the columns: a quote is not closed",
        ),
    ] {
        let found = read(Format::Csv, file.as_bytes(), &[3]).unwrap_err();
        assert_eq!(found.to_string(), error, "{file:?}");
    }
}

#[test]
fn nothing_is_nothing() {
    for file in ["", "\n", "\u{feff}", "\r\n \n"] {
        assert_eq!(outcome(Format::Ndjson, file.as_bytes()), expected([], []), "{file:?}");
    }
    assert_eq!(outcome(Format::Csv, b"name,price\r\n\r\n"), expected([], []));
}

/// A text with what formats find hard.
fn text(longest: usize) -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "\\PC".prop_map(String::from),
        prop::sample::select(vec!["\"", ",", ";", "'", "\\", "\u{feff}x", "é", "🦊", "[", "=1"])
            .prop_map(String::from),
    ];
    vec(part, 1..longest).prop_map(|parts| parts.concat())
}

prop_compose! {
    fn product()(
        name in text(20),
        minor in 0..10_000_000_i64,
        description in prop::option::of(vec(prop_oneof![text(9), Just("\r\n".into()), Just("\n".into()), Just("\r".into())], 1..5)),
        category in prop::option::of(text(9)),
        tags in vec(text(5), 0..4),
        sku in prop::option::of(text(9)),
        images in vec("https?://[a-z]{1,9}\\.example/[a-z,;?\"]{0,9}", 0..3),
        names in vec(text(4), 0..4),
        number in any::<i32>(),
        stock in prop::option::of(0..1_000_000_000_i64),
    ) -> Value {
        let mut product = json!({ "name": name, "price": minor as f64 / 100.0, "tags": tags, "images": images });
        let rest = [
            ("description", description.map(|parts| parts.concat().into())),
            ("category", category.map(Value::from)),
            ("sku", sku.map(Value::from)),
            ("stock", stock.map(Value::from)),
        ];
        for (name, value) in rest {
            value.into_iter().for_each(|value| product[name] = value);
        }
        product["attributes"] = json!({});
        for name in names {
            product["attributes"][name] = json!([number, f64::from(number) / 4.0, null, { "a": "\"," }]);
        }
        product
    }
}

proptest! {
    #[test]
    fn products_are_the_same_behind_an_export_and_an_import(
        lines in vec(product(), 1..6),
        lengths in vec(1..50_usize, 1..5),
    ) {
        let file = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        // Some of them are not valid.
        let parsed = read(Format::Ndjson, file.as_bytes(), &lengths).unwrap();
        prop_assert_eq!(parsed.products.len() + parsed.lines().1.len(), lines.len());
        let before = parsed.products.into_iter().map(|(_, new)| new.product).collect::<Vec<_>>();
        for format in [Format::Ndjson, Format::Csv] {
            let exported = export::write(&before, format, true).unwrap();
            let parsed = read(format, &exported, &lengths).unwrap();
            prop_assert_eq!(parsed.lines().1, [], "{}", String::from_utf8_lossy(&exported));
            let after = parsed.products.into_iter().map(|(_, new)| new.product);
            prop_assert_eq!(after.len(), before.len());
            for (after, before) in after.zip(&before) {
                let same = Product {
                    id: before.id,
                    created_at: before.created_at,
                    updated_at: before.updated_at,
                    version: before.version,
                    ..after
                };
                prop_assert_eq!(&same, before);
            }
        }
    }

    #[test]
    fn pieces_make_no_difference(
        file in vec(prop::sample::select(vec!["{\"name\":\"a\",\"price\":1}", "\n", "\r\n", "\"", ",", "a", "1", "name,price\n", "\u{feff}", "\r", ";"]), 0..40),
        lengths in vec(1..9_usize, 1..5),
    ) {
        let file = file.concat();
        for format in [Format::Ndjson, Format::Csv] {
            let parts = read(format, file.as_bytes(), &lengths).map(|parsed| parsed.lines());
            let whole = read(format, file.as_bytes(), &[file.len().max(1)]);
            prop_assert_eq!(parts, whole.map(|parsed| parsed.lines()));
        }
    }
}
