//! A profile as a picture: the width of a box is the share of samples in which the function ran or waited for what stands on
//! it (Brendan Gregg, "The Flame Graph", CACM 59.6).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Profile;

const WIDTH: f64 = 1200.0;
const ROW: f64 = 17.0;
/// The height of the title.
const TITLE: f64 = 30.0;
/// About the width of a character.
const CHARACTER: f64 = 6.6;
/// Boxes that are narrower are left out.
const NARROWEST: f64 = 0.2;

/// A function as called from one place, and what it calls.
#[derive(Default)]
struct Node<'a> {
    samples: u64,
    calls: BTreeMap<&'a str, Node<'a>>,
}

impl<'a> Node<'a> {
    fn add(&mut self, path: impl Iterator<Item = &'a str>, samples: u64) {
        self.samples += samples;
        let mut node = self;
        for name in path {
            node = node.calls.entry(name).or_default();
            node.samples += samples;
        }
    }

    fn depth(&self) -> usize {
        1 + self.calls.values().map(Node::depth).max().unwrap_or(0)
    }
}

impl Profile {
    /// The flame graph, as SVG. Below are the threads, and above each function those that it called; a pointer on a box shows
    /// its whole name.
    pub fn flame_graph(&self) -> String {
        let mut root = Node::default();
        for stack in &self.stacks {
            let names = stack.frames.iter().flat_map(|frame| &frame.functions).rev();
            let path = std::iter::once(&*stack.thread).chain(names.map(|found| &*found.name));
            root.add(path, stack.samples);
        }
        let height = TITLE + ROW * root.depth() as f64;
        let mut picture = Picture { svg: String::new(), height, total: root.samples };
        let seconds = self.duration.as_secs_f64();
        // Writing to a string does not fail.
        let _ = write!(
            picture.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"monospace\" font-size=\"11\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fffaf0\"/>\n\
             <text x=\"8\" y=\"19\" font-size=\"14\">{} samples in {seconds} s, of {:.1} ms of processor time each</text>\n",
            self.samples(),
            self.period.as_secs_f64() * 1000.0,
        );
        picture.draw("all", &root, 0.0, 0);
        picture.svg + "</svg>\n"
    }
}

struct Picture {
    svg: String,
    height: f64,
    total: u64,
}

impl Picture {
    /// Draws `node` at `x`, as many rows up as it is deep, and what it calls above it.
    fn draw(&mut self, name: &str, node: &Node<'_>, x: f64, depth: usize) {
        let share = node.samples as f64 / self.total.max(1) as f64;
        let width = share * WIDTH;
        if width < NARROWEST {
            return;
        }
        let y = self.height - ROW * (depth + 1) as f64;
        let (name, shown) = (escaped(name), escaped(&shortened(name, width)));
        let _ = writeln!(
            self.svg,
            "<g><title>{name} ({} samples, {:.2} %)</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" fill=\"{}\"/>\
             <text x=\"{:.2}\" y=\"{}\">{shown}</text></g>",
            node.samples,
            share * 100.0,
            ROW - 1.0,
            colour(&name),
            x + 3.0,
            y + 12.0,
        );
        let mut x = x;
        for (name, call) in &node.calls {
            self.draw(name, call, x, depth + 1);
            x += call.samples as f64 / self.total.max(1) as f64 * WIDTH;
        }
    }
}

/// As much of `name` as a box of that `width` has room for.
fn shortened(name: &str, width: f64) -> String {
    // A few hundred at most.
    let room = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    match room {
        0..3 => String::new(),
        _ if name.chars().count() <= room => name.to_owned(),
        _ => name.chars().take(room - 1).chain(['…']).collect(),
    }
}

/// A warm colour that is always the same for a name.
fn colour(name: &str) -> String {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [red, green, blue, ..] = hasher.finish().to_le_bytes();
    format!("rgb({},{},{})", 205 + red % 50, 80 + green % 150, blue % 60)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::example;

    #[test]
    fn a_box_is_as_wide_as_its_share_and_stands_on_its_caller() {
        let svg = example().flame_graph();
        let row = |name: &str| {
            let line = svg.lines().find(|line| line.contains(&format!("<title>{name} "))).unwrap();
            let number = |key: &str| {
                let rest = line.split_once(&format!("{key}=\"")).unwrap().1;
                rest.split('"').next().unwrap().parse::<f64>().unwrap()
            };
            (number("width"), number("y"))
        };
        assert_eq!([row("all").0, row("worker").0, row("main").0], [1200.0; 3]);
        assert_eq!(
            (row("Vec&lt;T&gt;::push").0, row("tiny").0, row("render").0),
            (900.0, 900.0, 270.0)
        );
        let rows = ["all", "worker", "main", "Vec&lt;T&gt;::push", "tiny"].map(|name| row(name).1);
        assert!(rows.is_sorted_by(|below, above| below > above), "{rows:?}");
        assert!(svg.contains("40 samples in 1 s"), "{svg}");
    }
}
