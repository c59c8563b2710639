//! The build script: packs the files of the pages, each as it is, with gzip and with Brotli, and writes a table of them.
//!
//! All files are served below one digest of them all, so that scripts import each other by relative names, and a browser
//! may keep each file for ever.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::Hasher;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What a browser takes each kind of file for. Others of the folder are not packed.
const TYPES: [(&str, &str); 4] = [
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("svg", "image/svg+xml"),
];

const FOLDERS: [&str; 4] = ["admin", "common", "languages", "shop"];

fn main() -> io::Result<()> {
    let pages = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("src/gateway/pages");
    for watched in FOLDERS.iter().chain(&["build.rs"]) {
        println!("cargo::rerun-if-changed={}", pages.join(watched).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let files = read(&pages)?;
    let mut table = String::from("const FILES: &[File] = &[\n");
    for (number, (name, content)) in files.iter().enumerate() {
        let packed =
            [("", Some(content.clone())), (".gz", gzip(content)?), (".br", brotli(content)?)];
        let place = |(end, bytes): (&str, Option<Vec<u8>>)| -> io::Result<String> {
            let Some(bytes) = bytes.filter(|bytes| end.is_empty() || bytes.len() < content.len())
            else {
                return Ok("None".to_owned());
            };
            let path = out.join(format!("{number}{end}"));
            fs::write(&path, bytes)?;
            let place = format!("include_bytes!({:?})", path.display().to_string());
            Ok(if end.is_empty() { place } else { format!("Some({place})") })
        };
        let [plain, gzip, brotli] = packed;
        let (plain, gzip, brotli) = (place(plain)?, place(gzip)?, place(brotli)?);
        let tag = format!("{:016x}", digest([content.as_slice()]));
        let kind = kind(name).unwrap_or_default();
        let line = format!(
            "File {{ name: {name:?}, content_type: {kind:?}, tags: {:?}, plain: {plain}, gzip: {gzip}, brotli: {brotli} }},\n",
            ["", "-gzip", "-br"].map(|end| format!("\"{tag}{end}\"")),
        );
        table.push_str(&line);
    }
    table.push_str("];\n");
    let whole = digest(files.iter().flat_map(|(name, content)| [name.as_bytes(), content]));
    let constants = [
        ("DIGEST: &str", format!("{:?}", format!("{whole:016x}"))),
        ("LANGUAGES: &str", format!("{:?}", languages(&files))),
        ("SHOP_MODULES: &[&str]", format!("&{:?}", imports(&files, "shop/main.js"))),
        ("ADMIN_MODULES: &[&str]", format!("&{:?}", imports(&files, "admin/main.js"))),
    ];
    for (name, value) in constants {
        writeln!(table, "const {name} = {value};").map_err(io::Error::other)?;
    }
    fs::write(out.join("pages.rs"), table)
}

fn variable(name: &str) -> io::Result<String> {
    env::var(name).map_err(io::Error::other)
}

type Files = BTreeMap<String, Vec<u8>>;

/// The files that are served, by their name, as in `shop/main.js`.
fn read(pages: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(pages.join(folder))? {
            let path = entry?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{folder}/{file}");
            if kind(&name).is_some() {
                files.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

fn kind(name: &str) -> Option<&'static str> {
    let end = name.rsplit_once('.')?.1;
    TYPES.iter().find(|(known, _)| *known == end).map(|(_, kind)| *kind)
}

fn gzip(content: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(content)?;
    encoder.finish().map(Some)
}

fn brotli(content: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut packed = Vec::new();
    brotli::BrotliCompress(
        &mut &content[..],
        &mut packed,
        &brotli::enc::BrotliEncoderParams::default(),
    )?;
    Ok(Some(packed))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    // Its keys are fixed. That another toolchain may digest otherwise costs browsers one more download.
    let mut hasher = std::hash::DefaultHasher::new();
    for part in parts {
        hasher.write(part);
        hasher.write_usize(part.len());
    }
    hasher.finish()
}

/// The languages that there are files of, separated by spaces.
fn languages(files: &Files) -> String {
    let names =
        files.keys().filter_map(|name| name.strip_prefix("languages/")?.strip_suffix(".json"));
    names.collect::<Vec<_>>().join(" ")
}

/// The modules that `module` imports at once, by themselves or through each other, and itself: those that a browser may load at the same time.
fn imports(files: &Files, module: &str) -> Vec<String> {
    let mut found = vec![module.to_owned()];
    let mut at = 0;
    while let Some(name) = found.get(at).cloned() {
        at += 1;
        let Some(content) = files.get(&name) else { continue };
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let text = String::from_utf8_lossy(content);
        let statements = text.split("\nimport ").skip(1).chain(text.split("\nexport {").skip(1));
        for statement in statements {
            let statement = statement.split(';').next().unwrap_or_default();
            let Some(path) = statement.split('"').nth(1) else { continue };
            let path = match path.strip_prefix("../") {
                Some(path) => path.to_owned(),
                None => format!("{folder}/{}", path.trim_start_matches("./")),
            };
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    found
}
