//! Cases played on all subjects at once: the kernel's btrfs is the reference, every other subject must
//! give its answers, step by step, and show its tree at the end.

use crate::book::Book;
use crate::engine::Engine;
use crate::excuses;
use crate::mounted::Mounted;
use crate::step::{Step, to_lines};
use crate::strategy;
use crate::subject::{Answer, Subject, comparable};
use btrfuse_test_support::compare::{Rules, assert_same, differences};
use btrfuse_test_support::walk::errno_name;
use btrfuse_test_support::{BtrfuseMount, Image, LoopMount, Manifest, btrfs_check, walk};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// The reference first.
pub struct Stage {
    subjects: Vec<Box<dyn Subject>>,
    cases: usize,
    /// What was met.
    pub book: Book,
}

impl Stage {
    /// A stage of these subjects.
    pub fn new(subjects: Vec<Box<dyn Subject>>) -> Self {
        rustix::process::umask(rustix::fs::Mode::empty());
        Self {
            subjects,
            cases: 0,
            book: Book::default(),
        }
    }

    /// Plays one case in a fresh folder; the first difference in words.
    pub fn play(&mut self, steps: &[Step]) -> Result<(), String> {
        self.cases += 1;
        let case = format!("case-{}", self.cases);
        for subject in &mut self.subjects {
            subject.begin(&case);
        }
        let found = self.steps(steps);
        for subject in &mut self.subjects {
            subject.end();
        }
        self.book.case();
        found?;
        self.trees()
    }

    fn trees(&mut self) -> Result<(), String> {
        let (reference, others) = self.subjects.split_first_mut().expect("a reference");
        let expected = comparable(reference.walk());
        for other in others {
            let (mut expected, mut found) = (expected.clone(), comparable(other.walk()));
            let book = &mut self.book;
            let maps =
                excuses::data_maps(&mut expected, &mut found, reference.as_mut(), |reason| {
                    book.excuse(reason);
                });
            let mut lines = differences(&expected, &found, &Rules::all());
            lines.extend(maps.err());
            if !lines.is_empty() {
                let (name, lines) = (other.name(), lines.join("\n"));
                let reference = reference.name();
                return Err(format!(
                    "the tree of {name} isn't that of {reference}:\n{lines}"
                ));
            }
        }
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), String> {
        let (reference, others) = self.subjects.split_first_mut().expect("a reference");
        for (at, step) in steps.iter().enumerate() {
            let expected = reference.step(step);
            self.book.step(step, &expected);
            for other in &mut *others {
                let found = other.step(step);
                if found == expected {
                    if let Some(reason) =
                        excuses::resynchronise(step, reference.as_mut(), other.as_mut())
                    {
                        self.book.excuse(reason);
                    }
                    continue;
                }
                let (name, asked) = (other.name(), reference.as_mut());
                if let Some(reason) = excuses::excuse(name, step, &expected, &found, asked) {
                    self.book.excuse(reason);
                    continue;
                }
                return Err(format!(
                    "step {}: {}\n{} says {}, {name} {}",
                    at + 1,
                    step.line(),
                    reference.name(),
                    said(&expected),
                    said(&found)
                ));
            }
        }
        Ok(())
    }

    /// Plays so many cases of a seed. The first that differs comes back as short as it could be made, in
    /// the form that the list of regressions takes.
    pub fn explore(&mut self, cases: usize, seed: u64) -> Result<(), Found> {
        let config = Config {
            cases: cases as u32,
            failure_persistence: None,
            max_shrink_time: 30_000,
            ..Config::default()
        };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let mut runner = TestRunner::new_with_rng(config, rng);
        // The runner wants a function that changes nothing.
        let stage = std::cell::RefCell::new(self);
        let result = runner.run(&strategy::case(40), |steps| {
            stage.borrow_mut().play(&steps).map_err(TestCaseError::fail)
        });
        match result {
            Ok(()) => Ok(()),
            Err(TestError::Fail(reason, steps)) => Err(Found {
                difference: reason.message().to_owned(),
                steps,
            }),
            Err(TestError::Abort(reason)) => panic!("no cases: {reason}"),
        }
    }

    /// The last case is over: everything is unmounted.
    pub fn finish(self) -> Book {
        for subject in self.subjects {
            subject.finish();
        }
        self.book
    }
}

/// A difference, and the steps that lead to it.
pub struct Found {
    /// In words.
    pub difference: String,
    /// As few as there could be.
    pub steps: Vec<Step>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = to_lines(&self.steps);
        write!(
            f,
            "{}\nthe case, as regressions.jsonl takes it:\n{lines}",
            self.difference
        )
    }
}

fn said(answer: &Answer) -> String {
    match answer {
        Ok(value) if value.is_null() => "ok".into(),
        Ok(value) => value.to_string(),
        Err(error) => errno_name(*error),
    }
}

/// The images of one run, and what each judge says of them at its end.
pub struct Images {
    kernels: Image,
    ours: Image,
    engines: Image,
}

impl Images {
    /// Fresh ones.
    pub fn new(options: &[&str]) -> Self {
        let fresh = || Image::mkfs_btrfs(16 << 10, options);
        Self {
            kernels: fresh(),
            ours: fresh(),
            engines: fresh(),
        }
    }

    /// The kernel's mount, ours, and the engine in this process.
    pub fn mounted(&self) -> Vec<Box<dyn Subject>> {
        vec![
            Box::new(Mounted::new(self.kernels.path(), false)),
            Box::new(Mounted::new(self.ours.path(), true)),
            Box::new(Engine::new(self.engines.path())),
        ]
    }

    /// Two engines in this process.
    pub fn engines(&self) -> [Box<dyn Subject>; 2] {
        [&self.kernels, &self.engines]
            .map(|image| -> Box<dyn Subject> { Box::new(Engine::new(image.path())) })
    }

    /// Nothing is mounted any more: `btrfs check` is content, the kernel sees on our image what it sees
    /// on its own, and we see on its image what it does.
    pub fn judge(&self) {
        // The places of data were compared case by case.
        let rules = Rules {
            without: vec!["data"],
            ..Rules::all()
        };
        let expected = by_the_kernel(&self.kernels);
        for (whose, image) in [("our mount's", &self.ours), ("the engine's", &self.engines)] {
            btrfs_check(image.path());
            let found = by_the_kernel(image);
            let what = format!("{whose} image, by the kernel");
            let (wanted, shown) = (comparable(expected.clone()), comparable(found.clone()));
            assert_same(&what, &wanted, &shown, &rules);
            by_us(image, &format!("{whose} image, by us"), &found);
        }
        by_us(&self.kernels, "the kernel's image, by us", &expected);
    }
}

fn by_us(image: &Image, what: &str, expected: &Manifest) {
    let mount = BtrfuseMount::read_only(image.path());
    let found = walk(mount.path());
    mount.unmount();
    assert_same(what, expected, &found, &Rules::fuse());
}

fn by_the_kernel(image: &Image) -> Manifest {
    let mount = LoopMount::read_only(image.path());
    let walked = walk(mount.path());
    mount.unmount();
    walked
}
