//! While a commit is on its way to the device, everything but waiting for durability goes on: the
//! device holds the commit at each of its steps until every kind of operation is over.

use crate::meaning::{caller, end};
use btrfuse::fs::{
    DirHandle, Filesystem, MountOptions, NodeId, RenameFlags, SetAttr, WriteFlags, XattrMode,
};
use btrfuse::volume::{BlockDevice, FileDevice};
use btrfuse_test_support::{Image, LoopMount, btrfs_check};
use std::io;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

const ROOT: NodeId = NodeId::ROOT;
const SUPER_AT: u64 = 65_536;
/// So long a commit is held for operations that it should not hold.
const PATIENCE: Duration = Duration::from_secs(30);

/// A place in a commit's order of writes and flushes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    FirstBlock,
    FlushOfBlocks,
    Superblock,
    FlushOfSuperblocks,
}

const STEPS: [Step; 4] = [
    Step::FirstBlock,
    Step::FlushOfBlocks,
    Step::Superblock,
    Step::FlushOfSuperblocks,
];

/// Where a commit is held: who comes there says so, and waits for the answer.
struct Hold {
    step: Step,
    superblock_written: bool,
    reached: mpsc::Sender<()>,
    go_on: mpsc::Receiver<()>,
}

/// A device that holds one commit at one step.
struct Holding {
    inner: FileDevice,
    hold: Mutex<Option<Hold>>,
}

impl Holding {
    fn pass(&self, write_at: Option<u64>) {
        let mut hold = self.hold.lock().unwrap();
        let Some(planned) = &mut *hold else { return };
        let now = match write_at {
            Some(SUPER_AT) => Step::Superblock,
            Some(_) => Step::FirstBlock,
            None if planned.superblock_written => Step::FlushOfSuperblocks,
            None => Step::FlushOfBlocks,
        };
        planned.superblock_written |= now == Step::Superblock;
        if planned.step != now {
            return;
        }
        // Taken out: what the operations write passes, and the next commit as well.
        let planned = hold.take().expect("just looked at");
        drop(hold);
        planned.reached.send(()).expect("somebody waits for this");
        let _ = planned.go_on.recv_timeout(2 * PATIENCE);
    }
}

impl BlockDevice for Holding {
    fn read_at(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read_at(at, buf)
    }

    fn write_at(&self, at: u64, buf: &[u8]) -> io::Result<()> {
        self.pass(Some(at));
        self.inner.write_at(at, buf)
    }

    fn flush(&self) -> io::Result<()> {
        self.pass(None);
        self.inner.flush()
    }

    fn discard(&self, at: u64, len: u64) -> io::Result<()> {
        self.inner.discard(at, len)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    fn is_read_only(&self) -> bool {
        false
    }
}

/// What a round works on: made and committed, or at least gone through a commit's critical
/// section, before the commit that is held.
fn prepare(fs: &Filesystem, round: usize) -> NodeId {
    let c = caller();
    let name = format!("round-{round}");
    let dir = fs.mkdir(&c, ROOT, name.as_bytes(), 0o755).unwrap().node;
    for name in ["grown", "cut", "gone", "moved", "replaced", "linked"] {
        let file = fs
            .create(&c, dir, name.as_bytes(), 0o644, libc::O_RDWR)
            .unwrap();
        fs.write(file.node, 0, &[round as u8; 20_000], WriteFlags::default())
            .unwrap();
        fs.fsync(file.node, false).unwrap();
        fs.release(file.node);
        fs.forget(file.node, 1);
    }
    fs.mkdir(&c, dir, b"empty", 0o755).unwrap();
    dir
}

/// One of every kind of operation, in the directories and files whose blocks are being written.
fn everything(fs: &Filesystem, dir: NodeId) {
    let c = caller();
    let flags = WriteFlags::default();
    let node = |name: &[u8]| fs.lookup(dir, name).unwrap().node;
    let made = fs.create(&c, dir, b"made", 0o600, libc::O_RDWR).unwrap();
    fs.write(made.node, 5000, &[9; 300_000], flags).unwrap();
    assert_eq!(fs.read(made.node, 5000, 300_000).unwrap(), [9; 300_000]);
    fs.flush(made.node).unwrap();
    fs.release(made.node);
    fs.write(node(b"grown"), 20_000, &[7; 50_000], flags)
        .unwrap();
    assert_eq!(fs.read(node(b"grown"), 19_999, 2).unwrap()[1], 7);
    let cut = SetAttr {
        size: Some(5000),
        mode: Some(0o640),
        ..SetAttr::default()
    };
    assert_eq!(fs.setattr(&c, node(b"cut"), &cut).unwrap().size, 5000);
    fs.fallocate(node(b"cut"), 0, 1 << 20, 1 << 20).unwrap();
    fs.unlink(dir, b"gone").unwrap();
    fs.rmdir(dir, b"empty").unwrap();
    let below = fs.mkdir(&c, dir, b"below", 0o755).unwrap().node;
    let plain = RenameFlags::default();
    fs.rename(&c, dir, b"moved", below, b"moved", plain)
        .unwrap();
    fs.rename(&c, dir, b"made", dir, b"replaced", plain)
        .unwrap();
    fs.link(node(b"linked"), below, b"second").unwrap();
    let link = fs.symlink(&c, dir, b"symlink", b"somewhere").unwrap().node;
    assert_eq!(fs.readlink(link).unwrap(), b"somewhere");
    fs.mknod(&c, dir, b"fifo", libc::S_IFIFO | 0o600, 0)
        .unwrap();
    let linked = node(b"linked");
    fs.setxattr(linked, b"user.a", &[1; 500], XattrMode::Any, false)
        .unwrap();
    assert_eq!(fs.getxattr(linked, b"user.a").unwrap(), [1; 500]);
    fs.removexattr(linked, b"user.a").unwrap();
    let handle: DirHandle = fs.opendir(dir).unwrap();
    let mut names = Vec::new();
    fs.readdir(dir, &handle, 0, &mut |entry| {
        names.push(entry.name.to_vec());
        true
    })
    .unwrap();
    fs.releasedir(dir);
    assert!(names.contains(&b"below".to_vec()) && !names.contains(&b"gone".to_vec()));
    assert!(fs.statfs().unwrap().available > 0);
    // What nobody uses any more goes as well, with its extents.
    fs.clean().unwrap();
}

fn mount(image: &Image) -> (Arc<Holding>, Arc<Filesystem>) {
    let device = Arc::new(Holding {
        inner: FileDevice::open(image.path(), false).unwrap(),
        hold: Mutex::new(None),
    });
    let options = MountOptions {
        subvolid: Some(5),
        background: false,
        ..MountOptions::default()
    };
    let on: Arc<dyn BlockDevice> = device.clone();
    let fs = Filesystem::mount(vec![on], &options).unwrap();
    (device, fs)
}

impl Holding {
    /// The next commit is held at `step`: who is told when, and the way to let it go on.
    fn plan(&self, step: Step) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (reached, is_reached) = mpsc::channel();
        let (let_go, go_on) = mpsc::channel();
        *self.hold.lock().unwrap() = Some(Hold {
            step,
            superblock_written: false,
            reached,
            go_on,
        });
        (is_reached, let_go)
    }
}

#[test]
fn operations_go_on_while_a_commit_is_written() {
    let image = Image::mkfs_btrfs(256, &["-n", "4096"]);
    let (device, fs) = mount(&image);
    for (round, step) in STEPS.into_iter().enumerate() {
        let dir = prepare(&fs, round);
        let durable = fs.info().generation;
        let (is_reached, let_go) = device.plan(step);
        thread::scope(|scope| {
            let commit = scope.spawn(|| fs.sync());
            is_reached
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the commit never came to {step:?}"));
            let (over, is_over) = mpsc::channel();
            let worker = {
                let fs = fs.clone();
                thread::spawn(move || {
                    everything(&fs, dir);
                    let _ = over.send(fs.info().generation);
                })
            };
            let seen = is_over.recv_timeout(PATIENCE);
            assert!(!commit.is_finished(), "{step:?} didn't hold the commit");
            let_go.send(()).unwrap();
            commit.join().unwrap().unwrap();
            worker
                .join()
                .unwrap_or_else(|_| panic!("an operation failed while {step:?} was held"));
            let seen = seen.unwrap_or_else(|_| panic!("an operation waited for {step:?}"));
            assert_eq!(seen, durable, "{step:?} was over before the operations");
        });
        assert_eq!(fs.info().generation, durable + 1);
    }
    drop(device);
    end(fs, image.path());
    let kernel = LoopMount::read_only(image.path());
    for round in 0..STEPS.len() {
        let at = |name: &str| kernel.path().join(format!("round-{round}/{name}"));
        let mut grown = vec![round as u8; 20_000];
        grown.resize(70_000, 7);
        assert_eq!(std::fs::read(at("grown")).unwrap(), grown);
        let replaced = std::fs::read(at("replaced")).unwrap();
        assert!(replaced.len() == 305_000 && replaced[5000..].iter().all(|&byte| byte == 9));
        assert_eq!(
            std::fs::read(at("below/second")).unwrap(),
            [round as u8; 20_000]
        );
        assert_eq!(std::fs::metadata(at("cut")).unwrap().len(), 2 << 20);
        let names = std::fs::read_dir(at("")).unwrap().count();
        assert_eq!(names, 7, "round {round}");
    }
    kernel.unmount();
}

/// What changed before the commit that is on its way is durable with that one, and no sooner.
#[test]
fn an_fsync_waits_for_the_commit_that_has_its_change() {
    let image = Image::mkfs_btrfs(256, &[]);
    let (device, fs) = mount(&image);
    let c = caller();
    for (round, step) in STEPS.into_iter().enumerate() {
        let name = format!("file-{round}");
        let made = fs.create(&c, ROOT, name.as_bytes(), 0o600, libc::O_RDWR);
        let node = made.unwrap().node;
        fs.write(node, 0, &[7; 30_000], WriteFlags::default())
            .unwrap();
        let durable = fs.info().generation;
        let (is_reached, let_go) = device.plan(step);
        thread::scope(|scope| {
            let commit = scope.spawn(|| fs.sync());
            is_reached
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the commit never came to {step:?}"));
            let (fs, (told, is_told)) = (&fs, mpsc::channel());
            scope.spawn(move || told.send(fs.fsync(node, false)));
            let early = is_told.recv_timeout(Duration::from_millis(200));
            assert!(early.is_err(), "{step:?}: {early:?}");
            let_go.send(()).unwrap();
            commit.join().unwrap().unwrap();
            is_told.recv_timeout(PATIENCE).unwrap().unwrap();
        });
        assert_eq!(fs.info().generation, durable + 1);
    }
    drop(device);
    end(fs, image.path());
}

/// Until a commit is durable a cut shows the log before it, whose blocks nobody may have written over: not
/// even content, which goes to the same groups on a small image and doesn't wait for the commit.
#[test]
fn blocks_of_a_log_stay_until_the_commit_is_durable() {
    let image = Image::mkfs_btrfs(64, &["-M"]);
    let (device, fs) = mount(&image);
    let c = caller();
    let make = |name: String, bytes: &[u8]| {
        let made = fs.create(&c, ROOT, name.as_bytes(), 0o600, libc::O_RDWR);
        let node = made.unwrap().node;
        fs.write(node, 0, bytes, WriteFlags::default()).unwrap();
        node
    };
    fs.sync().unwrap();
    let logged = |fs: &Filesystem| fs.stats().commits.logs;
    for round in 0..3_u8 {
        let before = logged(&fs);
        for n in 0..20 {
            let node = make(format!("kept-{round}-{n}"), &[round; 9000]);
            fs.fsync(node, false).unwrap();
        }
        assert_eq!(logged(&fs), before + 20, "each is in a log");
        let (is_reached, let_go) = device.plan(Step::FlushOfBlocks);
        thread::scope(|scope| {
            let commit = scope.spawn(|| fs.sync());
            is_reached.recv_timeout(PATIENCE).expect("a flush");
            // Wherever something is free.
            for n in 0..200 {
                let node = make(format!("new-{round}-{n}"), &[0xEE; 4096]);
                fs.fallocate(node, 0, 0, 4096).unwrap();
            }
            let cut = image.copy();
            let kernel = LoopMount::read_write(cut.path());
            for n in 0..20 {
                let name = format!("kept-{round}-{n}");
                let found = std::fs::read(kernel.path().join(&name)).expect(&name);
                assert_eq!(found, [round; 9000], "{name}");
            }
            kernel.unmount();
            btrfs_check(cut.path());
            let_go.send(()).unwrap();
            commit.join().unwrap().unwrap();
        });
    }
    drop(device);
    end(fs, image.path());
}
