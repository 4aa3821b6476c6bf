//! Batches that fill leaves and empty them again, while others hold and look for the same leaves.
//!
//! All processes fill one directory, so their items lie side by side in the tree's leaves. Names
//! take little room a leaf; symbolic links and attributes of some hundred bytes fill one with a
//! few, so that it is freed and its address reused every few operations.

use super::name::{CROWD, Name};
use super::operation::{Operation, Special};
use super::rng::Rng;
use super::stamp::Stamp;
use std::collections::VecDeque;

/// The order in which things go: as they came, backwards, or any.
fn removal<T: Clone>(rng: &mut Rng, things: &[T]) -> Vec<T> {
    let mut order = things.to_vec();
    match rng.below(3) {
        0 => {}
        1 => order.reverse(),
        _ => {
            for at in (1..order.len()).rev() {
                order.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
    }
    order
}

/// Names that come and go.
pub fn names(rng: &mut Rng, number: u64) -> VecDeque<Operation> {
    let crowd = Name(CROWD.to_vec());
    let kind = rng.below(6);
    let count = match kind {
        // Large items.
        0 | 1 => 10 + rng.below(60),
        _ => 30 + rng.below(270),
    };
    let padding = "-name".repeat(rng.below(6) as usize);
    let paths: Vec<Name> = (0..count)
        .map(|n| crowd.child(format!("b{number}-{n:04}{padding}").as_bytes()))
        .collect();
    let mut steps = VecDeque::new();
    for path in &paths {
        let path = path.clone();
        steps.push_back(match kind {
            0 | 1 => {
                let target = Name(vec![b't'; 300 + rng.below(600) as usize]);
                Operation::Symlink { path, target }
            }
            2 => Operation::Mkdir { path, mode: 0o755 },
            3 => Operation::Mknod {
                path,
                what: Special::Fifo,
                mode: 0o644,
            },
            _ => Operation::Create { path, mode: 0o644 },
        });
    }
    for path in removal(rng, &paths) {
        steps.push_back(match kind {
            2 => Operation::Rmdir { path },
            _ => Operation::Unlink { path },
        });
    }
    steps
}

/// Large attributes of a few files that come and go.
pub fn xattrs(rng: &mut Rng, number: u64, stamp: Stamp) -> VecDeque<Operation> {
    let crowd = Name(CROWD.to_vec());
    let files: Vec<Name> = (0..1 + rng.below(3))
        .map(|n| crowd.child(format!("x{number}-{n}").as_bytes()))
        .collect();
    let mut steps = VecDeque::new();
    for path in &files {
        steps.push_back(Operation::Create {
            path: path.clone(),
            mode: 0o644,
        });
    }
    let attributes: Vec<(Name, String)> = (0..8 + rng.below(40))
        .map(|n| (rng.choose(&files).clone(), format!("user.s-b{n}")))
        .collect();
    for _ in 0..1 + rng.below(3) {
        for (path, name) in &attributes {
            let (path, name, len) = (path.clone(), name.clone(), 400 + rng.below(1000) as usize);
            steps.push_back(Operation::SetXattr {
                path,
                name,
                len,
                stamp,
            });
        }
        for (path, name) in removal(rng, &attributes) {
            steps.push_back(Operation::RemoveXattr { path, name });
        }
    }
    for path in removal(rng, &files) {
        steps.push_back(Operation::Unlink { path });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::super::model::Model;
    use super::*;

    #[test]
    fn a_batch_leaves_nothing_behind() {
        let mut rng = Rng::new(9, 9);
        let mut model = Model::new((0, 0));
        for number in 0..40 {
            let stamp = Stamp::new(0, number);
            let steps = match number % 2 {
                0 => names(&mut rng, number),
                _ => xattrs(&mut rng, number, stamp),
            };
            let mut most = 0;
            for step in steps {
                model
                    .apply(&step, number)
                    .expect("a batch meets no refusal");
                most = most.max(model.names());
            }
            assert!(most > 0);
            assert_eq!(model.names(), 0, "batch {number}");
        }
    }
}
