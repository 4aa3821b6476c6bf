//! The scenarios under loom: every schedule within a preemption bound, and every value that a
//! relaxed load may still see.

use super::{Play, World};
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::protocol::Protocol;
use crate::sync::{Arc, explore, thread};

/// How often a schedule may take the processor from a thread that could go on. Two find every
/// failure that is known here, three is a sound default.
pub const PREEMPTIONS: usize = 3;

/// [`PREEMPTIONS`], or what a scenario with longer roles can pay.
pub fn bound(play: Play) -> usize {
    match play.scenario.letter {
        // A million executions with three; two find what the explorer finds.
        'I' => 2,
        _ => PREEMPTIONS,
    }
}

/// Why the model checker says nothing about a play, if so.
pub fn not_applicable(play: Play) -> Option<&'static str> {
    (play.scenario.letter == 'G' && play.as_it_was).then_some(
        "its reduction does not reach the failure with bounds up to 5; the explorer does, and the \
         model of the index alone",
    )
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Explored {
    /// How many executions loom ran; it stops at the first failure.
    pub executions: u64,
    /// What broke.
    pub failure: Option<String>,
}

/// Explores a scenario by these rules under a profile.
pub fn run(
    play: Play,
    rules: &'static dyn Protocol,
    profile: Profile,
    preemptions: usize,
) -> Explored {
    let (executions, failure) = explore(preemptions, move || {
        let world = Arc::new(World::new(rules, profile, play.scenario.stage));
        play.setup(&world);
        let threads: Vec<_> = play
            .roles()
            .iter()
            .map(|role| {
                let world = world.clone();
                thread::spawn(move || (role.run)(&world))
            })
            .collect();
        for thread in threads {
            thread.join().expect("a role doesn't panic");
        }
        if let Err(words) = play.judge(&world) {
            panic!("{words}");
        }
    });
    Explored {
        executions,
        failure,
    }
}
