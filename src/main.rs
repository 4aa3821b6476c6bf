//! The `btrfuse` command.

fn main() {}
