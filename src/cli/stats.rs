//! `btrfuse stats DIR`: what a mount has done and met, for people, programs and Prometheus.

use super::print::say;
use super::{Failure, ask};
use crate::fs::Stats;
use crate::fs::stats::Device;
use std::fmt::Write;
use std::path::PathBuf;

/// Show what a mount has done and met since it began.
///
/// Commits, the cache, errors and repairs of each device, and why the mount turned read-only, if it
/// did. Whoever can open DIR may ask.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// The mount point, or any directory in the mount.
    dir: PathBuf,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "prometheus")]
    json: bool,
    /// Print Prometheus's text format, for node_exporter's textfile collector.
    #[arg(long)]
    prometheus: bool,
}

const EXAMPLES: &str = "Examples:\n  \
    btrfuse stats /data\n  \
    btrfuse stats --json /data | jq '.devices[].repaired'\n  \
    btrfuse stats --prometheus /data >/var/lib/node_exporter/data.prom";

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let dir = ask::open_ours(&args.dir)?;
    let place = args.dir.display();
    let stats = ask::stats(&dir)
        .map_err(|why| Failure::failed(format!("the daemon of {place} doesn't say: {why}")))?;
    if args.json {
        let json = serde_json::to_string_pretty(&stats);
        say!("{}", json.map_err(|why| Failure::failed(why.to_string()))?);
    } else if args.prometheus {
        say!("{}", prometheus(&stats, &place.to_string()).trim_end());
    } else {
        say!("{}", text(&stats).trim_end());
    }
    Ok(())
}

fn text(stats: &Stats) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<22} {value}");
    };
    let state = match &stats.read_only {
        None => "writable".to_owned(),
        Some(why) => format!("read-only: {why}"),
    };
    line("state", state);
    line("durable transaction", stats.generation.to_string());
    let commits = &stats.commits;
    let ms = |us: u64| us.div_ceil(1000);
    line(
        "commits",
        format!(
            "{} ({} tree blocks, {} ms, operations waited {} ms)",
            commits.count,
            commits.blocks,
            ms(commits.total_us),
            ms(commits.critical_us)
        ),
    );
    line(
        "logs for fsync",
        format!("{} ({} tree blocks)", commits.logs, commits.log_blocks),
    );
    let cache = &stats.cache;
    line(
        "tree block cache",
        format!(
            "{} of {} KiB, {} KiB to be written",
            cache.live_bytes / 1024,
            cache.bound_bytes / 1024,
            cache.dirty_bytes / 1024
        ),
    );
    line(
        "tree blocks",
        format!(
            "{} read, {} written, {} reclaimed",
            cache.reads, cache.writes, cache.evictions
        ),
    );
    if cache.violations > 0 {
        line("broken rules", cache.violations.to_string());
    }
    line("inodes in memory", stats.inodes_in_memory.to_string());
    let kernel = &stats.kernel;
    line(
        "the kernel refers to",
        format!(
            "{} inodes, {} times ({} lookups, {} forgotten)",
            kernel.inodes, kernel.references, kernel.lookups, kernel.forgotten
        ),
    );
    for device in &stats.devices {
        let counts = counts(device).map(|(name, n)| format!("{n} {}", name.replace('_', " ")));
        let words = format!("{}: {}", device.path, counts.join(", "));
        line(&format!("device {}", device.devid), words);
    }
    out
}

/// A device's numbers by name.
fn counts(device: &Device) -> [(&'static str, u64); 5] {
    [
        ("read_errors", device.read_errors),
        ("write_errors", device.write_errors),
        ("flush_errors", device.flush_errors),
        ("corruption_errors", device.corruption_errors),
        ("repaired", device.repaired),
    ]
}

/// The text format, version 0.0.4: metrics in their base units, each with a type.
fn prometheus(stats: &Stats, mount: &str) -> String {
    let mount = escaped(mount);
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, values: &[(String, String)]| {
        let _ = writeln!(out, "# TYPE btrfuse_{name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "btrfuse_{name}{{mount=\"{mount}\"{labels}}} {value}");
        }
    };
    let mut one = |name: &str, kind: &str, value: String| {
        metric(name, kind, &[(String::new(), value)]);
    };
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    let (commits, cache) = (&stats.commits, &stats.cache);
    let read_only = u8::from(stats.read_only.is_some());
    one("read_only", "gauge", read_only.to_string());
    one("generation", "gauge", stats.generation.to_string());
    one("commits_total", "counter", commits.count.to_string());
    one("commit_blocks_total", "counter", commits.blocks.to_string());
    one("commit_seconds_total", "counter", seconds(commits.total_us));
    let waited = seconds(commits.critical_us);
    one("commit_waited_seconds_total", "counter", waited);
    one(
        "delayed_refs_total",
        "counter",
        commits.delayed_refs.to_string(),
    );
    one("logs_total", "counter", commits.logs.to_string());
    one(
        "log_blocks_total",
        "counter",
        commits.log_blocks.to_string(),
    );
    one("cache_bytes", "gauge", cache.live_bytes.to_string());
    one("cache_dirty_bytes", "gauge", cache.dirty_bytes.to_string());
    one("cache_bound_bytes", "gauge", cache.bound_bytes.to_string());
    one("cache_reads_total", "counter", cache.reads.to_string());
    one("cache_writes_total", "counter", cache.writes.to_string());
    one(
        "cache_evictions_total",
        "counter",
        cache.evictions.to_string(),
    );
    one(
        "cache_violations_total",
        "counter",
        cache.violations.to_string(),
    );
    one("inodes", "gauge", stats.inodes_in_memory.to_string());
    let kernel = &stats.kernel;
    one("kernel_inodes", "gauge", kernel.inodes.to_string());
    one("kernel_references", "gauge", kernel.references.to_string());
    one("lookups_total", "counter", kernel.lookups.to_string());
    one("forgotten_total", "counter", kernel.forgotten.to_string());
    for n in 0..5 {
        let values = stats.devices.iter().map(|device| {
            let path = escaped(&device.path);
            let labels = format!(",devid=\"{}\",device=\"{path}\"", device.devid);
            (labels, counts(device)[n].1.to_string())
        });
        let values: Vec<_> = values.collect();
        if let Some(device) = stats.devices.first() {
            let name = format!("device_{}_total", counts(device)[n].0);
            metric(&name, "counter", &values);
        }
    }
    out
}

/// A label's value.
fn escaped(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    value.replace('\n', "\\n")
}
