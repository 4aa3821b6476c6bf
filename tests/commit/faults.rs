//! Devices that fail: a commit that can't be finished aborts, says so, and leaves the last one
//! whole.

use crate::scribe::{Scribe, open_device};
use btrfuse::Error;
use btrfuse::volume::{Fault, FaultyDevice, FileDevice};
use btrfuse_test_support::{Image, Rng, btrfs_check};
use std::sync::Arc;

fn fail(fault: Fault) {
    let image = Image::mkfs_btrfs(128, &[]);
    let inner = Arc::new(FileDevice::open(image.path(), false).unwrap());
    let device = Arc::new(FaultyDevice::over(inner));
    {
        let engine = open_device(device.clone()).unwrap();
        let mut rng = Rng::new(8);
        let mut scribe = Scribe::new(&engine, 5, "f");
        for _ in 0..50 {
            scribe.step(&mut rng).unwrap();
        }
        engine.committer.commit().unwrap();
        let durable = engine.ctx.transactions.durable();
        // Edits without data, so that the next write is the commit's.
        for _ in 0..20 {
            scribe.touch(&mut rng).unwrap();
        }
        device.plan(fault.clone());
        let error = engine.committer.commit().expect_err("the device failed");
        assert!(matches!(error, Error::Device { .. }), "{fault:?}: {error}");
        assert_eq!(engine.ctx.transactions.durable(), durable, "{fault:?}");
        assert!(
            matches!(scribe.touch(&mut rng), Err(Error::Aborted(_))),
            "{fault:?}"
        );
        assert!(
            matches!(engine.committer.commit(), Err(Error::Aborted(_))),
            "{fault:?}"
        );
        assert!(engine.shutdown().is_err());
    }
    btrfs_check(image.path());
}

/// Metadata is DUP: both copies must fail before the commit has to.
#[test]
fn a_failed_flush_aborts_and_the_last_commit_stays() {
    fail(Fault::FailFlush(1));
}

#[test]
fn a_power_cut_aborts_and_the_last_commit_stays() {
    fail(Fault::PowerCut(1));
    fail(Fault::PowerCut(4));
}
