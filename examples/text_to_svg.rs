//! Draws terminal output as an SVG picture: `COMMAND | text_to_svg TITLE > picture.svg`.
//! `scripts/draw-replay` makes the README's picture with it, from what the lab really prints.

use std::fmt::Write;
use std::io::Read;

const LINE_HEIGHT: usize = 18;
const CHARACTER_WIDTH: f64 = 7.83;
const MARGIN: usize = 18;
const BAR: usize = 34;

fn main() -> std::io::Result<()> {
    let title = std::env::args().nth(1).unwrap_or_default();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    print!("{}", draw(&title, &text));
    Ok(())
}

fn draw(title: &str, text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let columns = lines
        .iter()
        .map(|line| line.chars().count())
        .max()
        .unwrap_or(0)
        .max(60);
    let width = (columns as f64 * CHARACTER_WIDTH) as usize + 2 * MARGIN;
    let height = lines.len() * LINE_HEIGHT + BAR + 2 * MARGIN;
    let mut out = String::new();
    let mut put = |line: String| writeln!(out, "{line}").expect("strings grow");
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    ));
    put(format!(
        "<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1b1f24\"/>"
    ));
    for (at, colour) in ["#ff5f57", "#febc2e", "#28c840"].iter().enumerate() {
        put(format!(
            "<circle cx=\"{}\" cy=\"17\" r=\"6\" fill=\"{colour}\"/>",
            20 + at * 20
        ));
    }
    put(
        "<g font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" \
         font-size=\"13\" xml:space=\"preserve\">"
            .into(),
    );
    put(format!(
        "<text x=\"{}\" y=\"22\" text-anchor=\"middle\" fill=\"#8b949e\">{}</text>",
        width / 2,
        escape(title)
    ));
    for (at, line) in lines.iter().enumerate() {
        if line.is_empty() {
            continue;
        }
        let y = BAR + MARGIN + at * LINE_HEIGHT;
        let length = line.chars().count() as f64 * CHARACTER_WIDTH;
        put(format!(
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"{}\" textLength=\"{length:.1}\">{}</text>",
            colour(line),
            escape(line)
        ));
    }
    put("</g>\n</svg>".into());
    out
}

fn colour(line: &str) -> &'static str {
    let low = line.to_lowercase();
    if line.starts_with("BUG_ON") {
        "#ff7b72"
    } else if line.starts_with("$ ") {
        "#79c0ff"
    } else if low.starts_with("verdict") {
        "#7ee787"
    } else {
        "#e6edf3"
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
