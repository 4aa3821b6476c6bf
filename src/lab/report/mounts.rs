//! Comparisons on live mounts: their cells, and what must come of them.
//!
//! Owns: which row of which comparison stands in a cell. A comparison whose rows stand in none is
//! judged all the same ([`surprises`]), so that no file given by `--live` hides a failure.

use super::evidence::{self, Evidence};
use super::matrix::{Cell, State};
use crate::extent_buffer::Kind;
use crate::extent_buffer::scenarios::Play;
use crate::lab::live::report::Row;
use crate::sync::race_point::Point;

/// The delay point that widens a scenario's window on a mount, or why there is none.
pub fn widened(play: Play) -> Result<Point, &'static str> {
    match (play.scenario.letter, play.as_it_was) {
        (_, true) => Err("the filesystem doesn't do it that way"),
        ('A', _) => Ok(Point::DropTested),
        ('C', _) => Ok(Point::ReclaimTested),
        ('F', _) => Ok(Point::WritebackBegins),
        ('D' | 'E', _) => Err("who meets whom isn't chosen on a mount; it is in the runs of A"),
        ('G', _) => Err(
            "who meets whom isn't chosen on a mount; its reclaim stands at reclaim-tested, as in \
             the runs of C",
        ),
        ('H', _) => Err(
            "who meets whom isn't chosen on a mount; its dropper stands at drop-tested, as in the \
             runs of A",
        ),
        ('B' | 'I', _) => Err(
            "a freer there has two counts, its path's and its own, when it sets STALE, so that it \
             decides nothing then; its last drop stands at drop-tested, as in the runs of A",
        ),
        ('J', _) => Err(
            "on mounts each read ahead owns a count of its own, so that reclaim takes no buffer \
             from under it, by whatever rules",
        ),
        ('L', _) => Err(
            "who meets whom isn't chosen on a mount; its commit stands at writeback-begins, as in \
             the runs of F",
        ),
        _ => Err("no delay point is in its window; the other runs pass it unwidened"),
    }
}

/// Mount options without which nobody comes to a window. Reclaim meets a new block only where somebody
/// has just read what was freed there, and hardly ever comes for a buffer so young.
pub fn meetings(point: Option<Point>) -> &'static [&'static str] {
    match point {
        Some(Point::ReclaimTested) => &["ahead=freed", "reclaim=always"],
        _ => &[],
    }
}

/// Whether a protocol's threads ever stand at a point that runs widen. Where a test and what follows
/// from it are one step, there is nothing between them to sleep in.
pub fn stands_at(kind: Kind, point: Point) -> bool {
    match point {
        Point::DropTested => !matches!(kind, Kind::Owned | Kind::PackedWord),
        Point::WritebackBegins => kind != Kind::PackedWord,
        _ => true,
    }
}

/// Who breaks in every run that is long enough. A live engine that doesn't catch these catches nothing.
fn must_break(play: Play, kind: Kind) -> bool {
    match play.scenario.letter {
        'A' => kind == Kind::Unfixed,
        'C' => matches!(kind, Kind::Unfixed | Kind::Handshake),
        _ => false,
    }
}

/// The row of a cell: each protocol's from the best comparison that has it, so that one which was
/// made of a single protocol empties no cell. One in which they meet says more than one in which they
/// don't, one that was ended early less, and one of all protocols compares them under the same seeds.
fn row_at(evidence: &Evidence, point: Point, kind: Kind) -> Option<(&evidence::Live, &Row)> {
    let is_whole = |live: &evidence::Live| Kind::ALL.iter().all(|kind| live.row(*kind).is_some());
    let at = evidence.live.iter().filter(|live| live.widens(point));
    at.filter_map(|live| Some((live, live.row(kind)?)))
        // The first of several that are as good; this report's own before an earlier one's.
        .min_by_key(|(live, _)| {
            let own = (live.earlier, !is_whole(live));
            (!live.meets(point), live.interrupted, own)
        })
}

/// The row of unfixed in the reported race.
pub fn of_report(evidence: &Evidence) -> Option<&Row> {
    row_at(evidence, Point::DropTested, Kind::Unfixed).map(|(_, row)| row)
}

/// What live mounts say of a scenario.
pub fn cell(evidence: &Evidence, play: Play, kind: Kind) -> Cell {
    let point = match widened(play) {
        Ok(point) => point,
        Err(why) => return Cell::silent(State::NotApplicable, why),
    };
    let Some((live, row)) = row_at(evidence, point, kind) else {
        return Cell::silent(
            State::NotRun,
            "no comparison on mounts has it with this window widened",
        );
    };
    let mut words = format!("{} / {} runs", row.violations, row.runs);
    if !stands_at(kind, point) {
        words += ", unwidened";
    }
    if !live.meets(point) {
        words = format!("{words}, without {}", meetings(Some(point)).join(","));
    }
    if live.earlier {
        words += ", before this report";
    }
    // Short runs may have luck, and so may those that somebody ended or in which nobody meets.
    let is_proof = !evidence.quick && !live.interrupted && live.meets(point);
    let lucky = is_proof && must_break(play, kind) && row.violations == 0;
    let as_expected = match row.failure() {
        Some(failure) => {
            words = format!("{words}; {failure}");
            false
        }
        None if lucky => {
            words += "; it must break here, or these runs catch nothing";
            false
        }
        None => true,
    };
    Cell::judged(row.violations > 0, words, as_expected)
}

/// Failures of rows that stand in no cell: of other points, of further comparisons at the same one, of
/// subjects that are no protocol.
pub fn surprises(evidence: &Evidence) -> Vec<String> {
    let points = || Play::all().filter_map(|play| widened(play).ok());
    let cells = points().flat_map(|point| Kind::ALL.iter().map(move |kind| (point, *kind)));
    let in_cells: Vec<&Row> = cells
        .filter_map(|(point, kind)| Some(row_at(evidence, point, kind)?.1))
        .collect();
    let mut out = Vec::new();
    for live in &evidence.live {
        for row in &live.rows {
            let has_cell = in_cells.iter().any(|other| std::ptr::eq(*other, row));
            if let Some(failure) = row.failure().filter(|_| !has_cell) {
                let (title, name) = (live.title(), &row.subject);
                out.push(format!("live mounts, {title}: {name}: {failure}"));
            }
        }
    }
    out
}

/// What a row of the live table says for C in the doubts.
pub fn of_reclaim(evidence: &Evidence, kind: Kind) -> Option<&Row> {
    row_at(evidence, Point::ReclaimTested, kind).map(|(_, row)| row)
}

#[cfg(test)]
mod tests;
