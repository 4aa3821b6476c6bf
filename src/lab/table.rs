//! The steps of a replay as a table.

use super::controller::Role;
use crate::extent_buffer::flags::Flags;
use crate::sync::race_point::Seen;
use std::fmt::Write;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who.
    pub role: Role,
    /// Did what.
    pub what: String,
    /// The buffer right after, where it was looked at.
    pub seen: Option<Seen>,
}

/// The rows, numbered and aligned; flags are T tree ref, D dirty, S stale, W writeback.
pub fn render(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.what.chars().count())
        .max()
        .unwrap_or(0);
    let mut table = format!(
        "{:>4}  {:<22}  {:<width$}  refs  flags\n",
        "step", "who", "what"
    );
    for (n, row) in rows.iter().enumerate() {
        let (refs, flags) = row.seen.map_or_else(Default::default, |seen| {
            (seen.refs.to_string(), Flags(seen.flags).letters())
        });
        let name = row.role.name();
        // Writing to a string can't fail.
        let _ = writeln!(
            table,
            "{:>4}  {name:<22}  {:<width$}  {refs:>4}  {flags}",
            n + 1,
            row.what
        );
    }
    table
}
