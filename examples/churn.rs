//! How fast files are created, looked up and removed without a kernel in between:
//! `cargo run --release --example churn -- IMAGE THREADS FILES`.
//!
//! Works on an image that `btrfuse mkfs` made; judges nothing, `btrfs check` does.

use btrfuse::fs::{Caller, Filesystem, MountOptions, NodeId};
use btrfuse::volume::{BlockDevice, FileDevice};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, image, threads, files] = &arguments[..] else {
        return Err("usage: churn IMAGE THREADS FILES".into());
    };
    let (threads, files) = (threads.parse::<u64>()?, files.parse::<u64>()?);
    let device: Arc<dyn BlockDevice> = Arc::new(FileDevice::open(Path::new(image), false)?);
    let fs = Filesystem::mount(vec![device], &MountOptions::default())?;
    let caller = Caller {
        uid: 0,
        gid: 0,
        umask: 0o022,
        pid: 1,
    };
    let mut directories = Vec::new();
    for thread in 0..threads {
        let name = format!("d{thread}");
        directories.push(
            fs.mkdir(&caller, NodeId::ROOT, name.as_bytes(), 0o755)?
                .node,
        );
    }
    let all = |what: &str, work: &(dyn Fn(NodeId, u64) -> btrfuse::Result<()> + Sync)| -> Outcome {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let workers: Vec<_> = directories
                .iter()
                .map(|&directory| {
                    scope.spawn(move || (0..files / threads).try_for_each(|i| work(directory, i)))
                })
                .collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("no panic"))
        })?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "{what:8} {:>9.0}/s {:>7.2} us",
            files as f64 / seconds,
            seconds * 1e6 / files as f64
        );
        Ok(())
    };
    let name = |i: u64| format!("file-{i:07}");
    all("create", &|directory, i| {
        let attr = fs.create(&caller, directory, name(i).as_bytes(), 0o644, libc::O_RDWR)?;
        fs.release(attr.node);
        fs.forget(attr.node, 1);
        Ok(())
    })?;
    all("lookup", &|directory, i| {
        let attr = fs.lookup(directory, name(i).as_bytes())?;
        fs.forget(attr.node, 1);
        Ok(())
    })?;
    let start = Instant::now();
    fs.sync()?;
    println!("sync     {:?}", start.elapsed());
    all("unlink", &|directory, i| {
        fs.unlink(directory, name(i).as_bytes())
    })?;
    let start = Instant::now();
    fs.unmount()?;
    println!("unmount  {:?}", start.elapsed());
    Ok(())
}
