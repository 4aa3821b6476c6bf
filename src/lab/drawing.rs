//! A replay as a picture: three threads from left to right, time from top to bottom.
//!
//! Owns: the SVG in the README, which `btrfuse lab replay --svg FILE` makes. It leaves out the
//! lookups by which the first two threads came to the buffer; the table has them.

use super::controller::Role;
use super::replay::Outcome;
use super::table::Row;
use crate::extent_buffer::events::Event;
use crate::extent_buffer::flags::Flags;
use std::fmt::Write;

const LANE_PX: usize = 310;
const ROW_PX: usize = 26;
const TOP_PX: usize = 92;
const STATE_PX: usize = 120;
const LANES: [(Role, &str); 3] = [
    (Role::PathHolder, "#0b6e99"),
    (Role::Deleter, "#6b5b00"),
    (Role::Reuser, "#7b2d8b"),
];

/// The picture as an SVG document.
pub fn svg(outcome: &Outcome) -> String {
    let rows = drawn(&outcome.rows);
    let violated = !outcome.violations.is_empty();
    let (width, end) = (3 * LANE_PX + STATE_PX + 20, TOP_PX + rows.len() * ROW_PX);
    let height = end + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let title = format!(
        "The race of 2015 on one extent buffer, protocol {}",
        outcome.protocol
    );
    text(&mut svg, 14, 26, "#111111", "bold", &title);
    for (lane, (role, colour)) in LANES.iter().enumerate() {
        let x = 14 + lane * LANE_PX;
        text(&mut svg, x, 58, colour, "bold", role.name());
        // Writing to a string can't fail, here and below.
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"68\" x2=\"{x}\" y2=\"{end}\" stroke=\"{colour}\" \
             stroke-opacity=\"0.35\"/>"
        );
    }
    text(
        &mut svg,
        14 + 3 * LANE_PX,
        58,
        "#111111",
        "bold",
        "refs   flags",
    );
    for (n, row) in rows.iter().enumerate() {
        let y = TOP_PX + n * ROW_PX;
        let lane = LANES
            .iter()
            .position(|(role, _)| *role == row.role)
            .unwrap_or(0);
        let (x, colour) = (14 + lane * LANE_PX, LANES[lane].1);
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"/>",
            y - 4
        );
        text(&mut svg, x + 9, y, colour, "normal", plain(&row.what));
        if let Some(seen) = row.seen {
            let state = format!("{}        {}", seen.refs, Flags(seen.flags).letters());
            text(&mut svg, 14 + 3 * LANE_PX, y, "#111111", "normal", &state);
        }
    }
    let (colour, words) = match violated {
        true => (
            "#c00000",
            "BUG_ON: the last count of a dirty buffer is gone",
        ),
        false => (
            "#1a7f37",
            "survived: the new block is dirty, and will be written",
        ),
    };
    text(&mut svg, 14, end + 14, colour, "bold", words);
    svg.push_str("</svg>\n");
    svg
}

/// The steps from the moment on when both paths lead to the buffer.
fn drawn(rows: &[Row]) -> Vec<&Row> {
    let first = |event: Event| rows.iter().position(|row| row.what == event.words());
    let begun = first(Event::Cleaned).unwrap_or(0);
    let is_drawn = |(n, row): &(usize, &Row)| {
        let tells = !row.what.contains(": ");
        let drops = row.what.ends_with("is about to drop its count");
        !drops && (tells || *n >= begun)
    };
    rows.iter()
        .enumerate()
        .filter(is_drawn)
        .map(|(_, row)| row)
        .collect()
}

/// The words without the part that the lane says already.
fn plain(what: &str) -> &str {
    what.split_once(": ").map_or(what, |(_, words)| words)
}

fn text(svg: &mut String, x: usize, y: usize, colour: &str, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" font-weight=\"{weight}\" \
         xml:space=\"preserve\">{words}</text>"
    );
}
