//! Lanes as a picture: threads from left to right, time from top to bottom.
//!
//! Owns: the SVG in the README's manner, which `btrfuse lab replay --svg FILE` makes.

use super::explore::Mark;
use super::lanes::Lanes;
use std::fmt::Write;

const LANE_PX: usize = 310;
const ROW_PX: usize = 26;
const TOP_PX: usize = 92;
const STATE_PX: usize = 120;
const COLOURS: [&str; 3] = ["#0b6e99", "#6b5b00", "#7b2d8b"];

/// The picture as an SVG document.
pub fn svg(lanes: &Lanes) -> String {
    let count = lanes.names.len();
    let (width, end) = (
        count * LANE_PX + STATE_PX + 20,
        TOP_PX + lanes.steps.len() * ROW_PX,
    );
    let height = end + 40;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut svg, 14, 26, "#111111", "bold", &lanes.title);
    for (lane, name) in lanes.names.iter().enumerate() {
        let (x, colour) = (14 + lane * LANE_PX, COLOURS[lane % COLOURS.len()]);
        text(&mut svg, x, 58, colour, "bold", name);
        // Writing to a string can't fail, here and below.
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" y1=\"68\" x2=\"{x}\" y2=\"{end}\" stroke=\"{colour}\" \
             stroke-opacity=\"0.35\"/>"
        );
    }
    let state_x = 14 + count * LANE_PX;
    text(&mut svg, state_x, 58, "#111111", "bold", "refs   flags");
    for (n, step) in lanes.steps.iter().enumerate() {
        let y = TOP_PX + n * ROW_PX;
        let (x, colour) = (14 + step.lane * LANE_PX, COLOURS[step.lane % COLOURS.len()]);
        let _ = match step.mark {
            // A cross, for those who don't see its colour.
            Some(Mark::Breaks) => writeln!(
                svg,
                "<path d=\"M{} {y0} l8 8 m0 -8 l-8 8\" stroke=\"#c00000\" stroke-width=\"3\"/>",
                x - 4,
                y0 = y - 8
            ),
            // And a triangle.
            Some(Mark::Decided | Mark::End) => writeln!(
                svg,
                "<path d=\"M{} {y0} l8 5 l-8 5 z\" fill=\"#c00000\"/>",
                x - 4,
                y0 = y - 9
            ),
            None => writeln!(
                svg,
                "<circle cx=\"{x}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"/>",
                y - 4
            ),
        };
        let what = match step.mark {
            None | Some(Mark::Breaks) => step.what.clone(),
            Some(mark) => format!("{} ({})", step.what, mark.words()),
        };
        text(&mut svg, x + 9, y, colour, "normal", &what);
        if let Some(refs) = step.refs {
            let state = format!("{refs}        {}", step.flags);
            text(&mut svg, state_x, y, "#111111", "normal", &state);
        }
    }
    let colour = match (lanes.broken, lanes.strayed) {
        (false, false) => "#1a7f37",
        _ => "#c00000",
    };
    text(&mut svg, 14, end + 14, colour, "bold", &lanes.ending);
    svg.push_str("</svg>\n");
    svg
}

fn text(svg: &mut String, x: usize, y: usize, colour: &str, weight: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" font-weight=\"{weight}\" \
         xml:space=\"preserve\">{words}</text>"
    );
}
