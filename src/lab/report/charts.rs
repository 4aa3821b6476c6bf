//! Survival curves and cost bars, as SVG that needs no colour: lines differ by their dashes and are
//! named at their ends, bars have their numbers beside them.

use super::shown::{Curve, Over};
use crate::lab::cost::lookups::{self, Shape};
use crate::lab::cost::mounts;
use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 46.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;
/// Room for the names at the ends of lines.
const RIGHT: f64 = 150.0;
const DASHES: [&str; 6] = ["", "8 4", "2 3", "10 3 2 3", "5 2", "1 4"];

/// The share of runs that no rule was broken in. Empty without runs.
pub fn survival(curves: &[Curve<'_>], over: Over) -> String {
    let ends = curves.iter().map(|curve| curve.end);
    let last = ends.fold(1e-3, f64::max);
    if curves.is_empty() {
        return String::new();
    }
    let x = |at: f64| LEFT + at / last * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM);
    let mut svg = open(
        HEIGHT,
        &format!(
            "Share of the runs in which no rule was broken yet, over {}",
            over.words()
        ),
    );
    for (share, words) in [(0.0, "0 %"), (0.5, "50 %"), (1.0, "100 %")] {
        grid(&mut svg, y(share));
        label(&mut svg, LEFT - 6.0, y(share) + 4.0, "end", words);
    }
    for part in [0.0, 0.5, 1.0] {
        let words = over.number(last * part);
        label(
            &mut svg,
            x(last * part),
            HEIGHT - BOTTOM + 18.0,
            "middle",
            &words,
        );
    }
    let middle = (LEFT + WIDTH - RIGHT) / 2.0;
    label(
        &mut svg,
        middle,
        HEIGHT - 4.0,
        "middle",
        &format!("{} of a run; each line ends with its longest", over.words()),
    );
    // Names of lines that end at one height stand below each other.
    let mut names: Vec<(f64, String)> = Vec::new();
    for (n, curve) in curves.iter().enumerate() {
        let (path, end) = steps(curve, x, y);
        // Writing to a string can't fail, here and below.
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" class=\"line l{n}\" stroke-dasharray=\"{}\"/>",
            DASHES[n % DASHES.len()]
        );
        // A bar across the end, as dashes may end anywhere.
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1} v8\" class=\"line\"/>",
            x(curve.end),
            end - 4.0
        );
        names.push((end, format!("{} {}", dash_words(n), curve.name)));
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut at = TOP - 12.0;
    for (end, name) in names {
        at = (at + 15.0).max(end + 4.0);
        label(&mut svg, WIDTH - RIGHT + 6.0, at, "start", &name);
    }
    svg.push_str("</svg>");
    svg
}

/// A line that falls at each point, as far as somebody was seen, and how high it ends.
fn steps(curve: &Curve<'_>, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> (String, f64) {
    let (mut path, mut share) = (format!("M{:.1} {:.1}", x(0.0), y(1.0)), 1.0);
    for point in curve.points {
        let _ = write!(path, " H{:.1} V{:.1}", x(point.at), y(point.surviving));
        share = point.surviving;
    }
    let _ = write!(path, " H{:.1}", x(curve.end));
    (path, y(share))
}

/// How a line looks, in characters.
fn dash_words(n: usize) -> &'static str {
    ["──", "╌╌", "┈┈", "─·", "╍╍", "··"][n % 6]
}

/// A bar for each measured protocol: its lookups' time as a multiple of `owned`'s.
pub fn lookups(rows: &[lookups::Row], shape: Shape) -> String {
    let rows: Vec<_> = rows.iter().filter(|row| row.shape == shape).collect();
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            group: format!("{} threads", row.threads),
            name: row.protocol.clone(),
            value: row.times_owned,
            words: format!("{:.2} × owned, {:.1} ns", row.times_owned, row.nanoseconds),
        })
        .collect();
    let title = format!("Time of a lookup and its release, {}", shape.words());
    draw_bars(&bars, &title)
}

/// A bar for each measured protocol: its mounts' operations as a share of `owned`'s.
pub fn mounts(rows: &[mounts::Row]) -> String {
    let bars: Vec<Bar> = rows
        .iter()
        .map(|row| Bar {
            group: format!("{} processes", row.processes),
            name: row.protocol.clone(),
            value: row.of_owned.unwrap_or(0.0),
            words: match row.of_owned {
                Some(ratio) => format!("{ratio:.2} of owned's, {:.0}/s", row.per_second),
                None if row.runs == 0 && row.per_second > 0.0 => {
                    "every run broke a rule".to_owned()
                }
                None => "not measured".to_owned(),
            },
        })
        .collect();
    draw_bars(&bars, "Operations a second of whole mounts")
}

struct Bar {
    group: String,
    name: String,
    value: f64,
    words: String,
}

fn draw_bars(bars: &[Bar], title: &str) -> String {
    const ROW: f64 = 18.0;
    const NAMES: f64 = 140.0;
    const NUMBERS: f64 = 170.0;
    if bars.is_empty() {
        return String::new();
    }
    let most = bars.iter().map(|bar| bar.value).fold(1.0, f64::max);
    let mut groups: Vec<&str> = bars.iter().map(|bar| bar.group.as_str()).collect();
    groups.dedup();
    let height = TOP + (bars.len() + groups.len()) as f64 * ROW + groups.len() as f64 * 6.0;
    let mut svg = open(height, title);
    let (mut at, mut group) = (TOP, "");
    for bar in bars {
        if bar.group != group {
            group = &bar.group;
            at += ROW + 6.0;
            let _ = writeln!(
                svg,
                "<text x=\"0\" y=\"{:.1}\" font-weight=\"bold\">{group}</text>",
                at - 6.0
            );
        }
        let long = bar.value / most * (WIDTH - NAMES - NUMBERS);
        label(&mut svg, NAMES - 6.0, at + 8.0, "end", &bar.name);
        let _ = writeln!(
            svg,
            "<rect x=\"{NAMES}\" y=\"{:.1}\" width=\"{long:.1}\" height=\"{:.1}\" class=\"bar\"/>",
            at - 3.0,
            ROW - 5.0
        );
        label(&mut svg, NAMES + long + 6.0, at + 8.0, "start", &bar.words);
        at += ROW;
    }
    svg.push_str("</svg>");
    svg
}

fn open(height: f64, title: &str) -> String {
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{title}\">\
         <title>{title}</title>\n"
    )
}

fn grid(svg: &mut String, y: f64) {
    let (left, right) = (LEFT, WIDTH - RIGHT);
    let _ = writeln!(
        svg,
        "<path d=\"M{left:.1} {y:.1} H{right:.1}\" class=\"grid\"/>"
    );
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever broke after 10 operations isn't shown to have been seen for 100.
    #[test]
    fn a_line_ends_where_its_own_longest_run_did() {
        let curve = |name, end| Curve {
            name,
            points: &[],
            end,
        };
        let svg = survival(
            &[curve("short", 10.0), curve("long", 100.0)],
            Over::Operations,
        );
        let end = |n: usize| {
            let line = svg
                .lines()
                .find(|line| line.contains(&format!("line l{n}")));
            let (_, end) = line.unwrap().split_once(" H").unwrap();
            end.split('"').next().unwrap().parse::<f64>().unwrap()
        };
        let width = |n| end(n) - LEFT;
        assert!((width(0) * 10.0 - width(1)).abs() < 1.0, "{svg}");
    }
}
