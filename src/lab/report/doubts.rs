//! The mail's doubts: for each an experiment, its numbers, and an answer that follows from them.

use super::evidence::Evidence;
use super::{grouped, mounts};
use crate::extent_buffer::Kind;
use crate::extent_buffer::lifetime::Profile;
use crate::extent_buffer::scenarios::Play;
use crate::lab::cost::Costs;
use crate::lab::cost::lookups::Shape;
use crate::lab::explore::Counts;
use crate::lab::machine_code;
use serde::Serialize;

/// A doubt and what becomes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Doubt {
    /// As the mail has it.
    pub claim: String,
    /// What was done to find out.
    pub experiment: String,
    /// What was counted, and how often.
    pub numbers: Vec<(String, String)>,
    /// What follows.
    pub answer: String,
}

impl Doubt {
    fn new(claim: &str, experiment: &str) -> Self {
        Self {
            claim: claim.to_owned(),
            experiment: experiment.to_owned(),
            numbers: Vec::new(),
            answer: String::new(),
        }
    }

    fn number(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.numbers.push((name.into(), value.into()));
    }
}

/// All four.
pub fn all(evidence: &Evidence) -> Vec<Doubt> {
    vec![
        moved(evidence),
        dropped(evidence),
        counting(evidence),
        unseen(evidence),
    ]
}

/// The schedules of a protocol in these plays, together.
fn sum(evidence: &Evidence, labels: &[&str], kind: Kind) -> Counts {
    let found = labels
        .iter()
        .filter_map(|label| evidence.explored(label, kind));
    found.fold(Counts::default(), |sum, found| sum.plus(found.total()))
}

fn of_all(counts: Counts) -> String {
    format!(
        "{} of {} schedules fail",
        grouped(counts.failing),
        grouped(counts.explored)
    )
}

fn moved(evidence: &Evidence) -> Doubt {
    let mut doubt = Doubt::new(
        "The window only moves: the dropper can run after the finder's test of STALE.",
        "Every interleaving of A, D and E by the rules of 2015, and among them those in which the \
         dropper runs wholly between the finder's test of STALE and its lock.",
    );
    let labels = ["A", "D", "E"];
    let unfixed = sum(evidence, &labels, Kind::Unfixed);
    let fixed = sum(evidence, &labels, Kind::Handshake);
    let feared = labels
        .iter()
        .filter_map(|label| evidence.explored(label, Kind::Handshake)?.watched)
        .fold(Counts::default(), Counts::plus);
    doubt.number("without the fix", of_all(unfixed));
    doubt.number("with it", of_all(fixed));
    doubt.number("of these the feared ones", of_all(feared));
    doubt.answer = match (fixed.failing, feared.explored) {
        (0, 1..) => format!(
            "No: the schedules that the mail fears exist, {} of them, and none fails. The lock \
             section waits for whoever decided before the finder's count was visible, and whoever \
             decides later sees that count.",
            grouped(feared.explored)
        ),
        (0, 0) => "The schedules that the mail fears didn't come about, so this run says nothing \
                   about them. No other schedule fails."
            .to_owned(),
        (failing, _) => format!(
            "Yes: {} schedules still fail with the fix. The shortest is drawn below.",
            grouped(failing)
        ),
    };
    doubt
}

fn dropped(evidence: &Evidence) -> Doubt {
    let mut doubt = Doubt::new(
        "The compiler could drop an empty lock section.",
        "The machine code of the function that is the section, in a release build with the \
         handshake; and the handshake without the section, a planted mutant, in A.",
    );
    match &evidence.section {
        None if !machine_code::IS_READ => {
            doubt.number("machine code", "not applicable: only x86-64 code is read");
        }
        None => doubt.number("machine code", "not run (--program PATH names the build)"),
        Some(Err(why)) => doubt.number("machine code", format!("not judged: {why}")),
        Some(Ok(section)) => {
            for at in &section.takes {
                doubt.number("takes the lock", section.code[*at].clone());
            }
            for at in &section.gives_back {
                doubt.number("gives it back", section.code[*at].clone());
            }
        }
    }
    let name = "handshake, lock section deleted";
    let mutant = evidence
        .mutants
        .iter()
        .find(|planted| planted.mutant.rules.name() == name);
    let mutant = mutant
        .map(|planted| planted.explored.total())
        .unwrap_or_default();
    doubt.number("with the section deleted", of_all(mutant));
    let model = evidence.model.as_ref();
    let modelled = model.and_then(|model| model.results.iter().find(|cell| cell.protocol == name));
    if let Some(cell) = modelled {
        let words = format!(
            "it {} after {} executions",
            cell.verdict,
            grouped(cell.executions)
        );
        doubt.number("the same in the model", words);
    }
    let needed = match mutant.failing {
        0 => "No schedule needs the section in A.".to_owned(),
        failing => format!("Without it {} schedules of A fail.", grouped(failing)),
    };
    doubt.answer = match &evidence.section {
        Some(Ok(section)) if section.is_there() => format!(
            "It doesn't: the program's lookups take the lock and give it back, by a locked instruction \
             each. {needed}"
        ),
        Some(Ok(section)) if section.lookups.is_empty() => format!(
            "The program that was named has no handshake in its lookups, and says nothing. {needed}"
        ),
        Some(Ok(_)) => format!("In this build it did: the section isn't whole. {needed}"),
        Some(Err(why)) => {
            format!("The build that was named couldn't be looked into: {why}. {needed}")
        }
        None => format!("This run has no release build to look into. {needed}"),
    };
    doubt
}

fn counting(evidence: &Evidence) -> Doubt {
    let mut doubt = Doubt::new(
        "A real fix would be counting, not an empty lock section.",
        "Every scenario as it is done today, by protocols that count: under refs_lock, as the mail \
         proposes; in a word with the flags; and one count for each reason to live.",
    );
    let counting = [Kind::CountUnderLock, Kind::PackedWord, Kind::Owned];
    let today = |label: &str| !label.ends_with('\'');
    let all = |kind| {
        let cells = evidence.explored.iter();
        let of = cells.filter(|cell| cell.kind == kind && today(&cell.play.label()));
        of.fold(Counts::default(), |sum, cell| sum.plus(cell.found.total()))
    };
    for kind in counting {
        doubt.number(kind.name(), of_all(all(kind)));
    }
    doubt.number("for comparison: handshake", of_all(all(Kind::Handshake)));
    let mut lost_somewhere = false;
    if let Some(model) = &evidence.model {
        for kind in counting {
            let lost = model.lost(kind.name());
            lost_somewhere |= !lost.is_empty();
            let words = match lost.is_empty() {
                true => format!(
                    "loses nothing in {} executions",
                    grouped(model.executions(kind.name()))
                ),
                false => format!("loses {}", lost.join(", ")),
            };
            doubt.number(format!("{} in the model", kind.name()), words);
        }
    }
    if let Some(costs) = &evidence.costs {
        for kind in Kind::ALL {
            prices(costs, *kind, &mut doubt);
        }
    }
    let failing: u128 = counting.iter().map(|kind| all(*kind).failing).sum();
    doubt.answer = match failing == 0 && !lost_somewhere {
        true => {
            "Counting holds in every scenario, and needs no lock in a lookup if each reason to \
                 live owns its count. That is what btrfuse does by default."
                .to_owned()
        }
        false => "Not as it is here: a protocol that counts lost a scenario. The tables have it."
            .to_owned(),
    };
    doubt
}

/// What a lookup of one thread costs, and of many that meet; `owned` is 1.
fn prices(costs: &Costs, kind: Kind, doubt: &mut Doubt) {
    let rows = || {
        let of = costs.lookups.rows.iter();
        of.filter(move |row| row.protocol == kind.name())
    };
    let alone = rows().find(|row| row.threads == 1);
    let most = rows().filter(|row| row.shape == Shape::Together);
    let crowded = most.max_by_key(|row| row.threads);
    if let (Some(alone), Some(crowded)) = (alone, crowded) {
        let words = format!(
            "{:.2} alone, {:.2} with {} threads at one buffer",
            alone.times_owned, crowded.times_owned, crowded.threads
        );
        doubt.number(
            format!("{}: time of a lookup, owned = 1", kind.name()),
            words,
        );
    }
}

fn unseen(evidence: &Evidence) -> Doubt {
    let mut doubt = Doubt::new(
        "What nobody in the thread saw: other ways into the same window.",
        "The fix of 2015 against reclaim (C), against a lookup that ends in an insert's collision \
         (H), against a read that nobody waits for (J), against STALE that is set after the range is \
         free (I), on mounts where readers follow pointers to freed blocks \
         while reclaim takes all that is idle, and under memory models in which an atomic \
         write is no full barrier.",
    );
    let names = [
        ("C", "reclaim"),
        ("H", "insert collision"),
        ("J", "read in the background"),
    ];
    let mut lost = Vec::new();
    for (label, name) in names {
        let counts = sum(evidence, &[label], Kind::Handshake);
        doubt.number(format!("{label}, {name}"), of_all(counts));
        if counts.failing > 0 {
            lost.push(name);
        }
    }
    for kind in [Kind::Handshake, Kind::Owned] {
        if let Some(row) = mounts::of_reclaim(evidence, kind) {
            doubt.number(
                format!("C on mounts, {}", kind.name()),
                format!("{} of {} runs broken", row.violations, row.runs),
            );
        }
    }
    let late = late_stale(evidence, &mut doubt);
    let weak = evidence.model.as_ref().map(|model| {
        let mut weak = model.lost(Kind::Handshake.name());
        let strong: Vec<_> = names
            .iter()
            .map(|(label, _)| format!("{label} ("))
            .collect();
        weak.retain(|words| !strong.iter().any(|label| words.starts_with(label.as_str())));
        weak
    });
    match &weak {
        None => doubt.number("weaker memory", "not run"),
        Some(weak) if weak.is_empty() => doubt.number("weaker memory", "nothing more is lost"),
        Some(weak) => doubt.number("weaker memory also loses", weak.join(", ")),
    }
    let here = match lost.is_empty() {
        true => "The fix of 2015 covers these too.".to_owned(),
        false => format!(
            "The fix of 2015 leaves the window open for {}.",
            lost.join(", ")
        ),
    };
    let there = match weak {
        None => "Weaker memory models weren't run",
        Some(weak) if weak.is_empty() => "Weaker memory models change nothing",
        Some(_) => {
            "Where an atomic write is no full barrier, finder and freer can miss each other, and \
             more is lost"
        }
    };
    doubt.answer = format!("{here} {there}{late}.");
    doubt
}

/// I: the range is free before STALE is set, which loses only under weaker memory, so that exploring
/// alone would say that nothing is there.
fn late_stale(evidence: &Evidence, doubt: &mut Doubt) -> &'static str {
    let (label, name) = ("I", "I, STALE after the range is free");
    let kind = Kind::Handshake;
    doubt.number(name, of_all(sum(evidence, &[label], kind)));
    let modelled: Vec<_> = Profile::ALL
        .iter()
        .filter_map(|profile| {
            let model = evidence.model.as_ref()?;
            model.cell(label, kind.name(), profile.name())
        })
        .collect();
    let words = modelled.iter().map(|cell| {
        let executions = grouped(cell.executions);
        format!(
            "{}: {}, {executions} executions",
            cell.profile, cell.verdict
        )
    });
    let words = match modelled.is_empty() {
        true => "not run".to_owned(),
        false => words.collect::<Vec<_>>().join("; "),
    };
    doubt.number(format!("{name}, in the model"), words);
    let play = Play::named(label).into_iter().next();
    let must_lose = |profile| play.is_some_and(|play| play.must_lose(kind, profile));
    let registry = Profile::ALL.iter().map(|profile| {
        let verdict = if must_lose(*profile) {
            "loses"
        } else {
            "holds"
        };
        format!("{}: {verdict}", profile.name())
    });
    doubt.number(
        format!("{name}, by the registry"),
        registry.collect::<Vec<_>>().join("; "),
    );
    if modelled.iter().any(|cell| cell.verdict == "loses") {
        ", as by a STALE that lands on a block that lives again (I)"
    } else if modelled.is_empty() {
        ", and it is for them to say whether STALE lands on a block that lives again (I)"
    } else {
        ", but STALE after the range is free (I) loses nowhere"
    }
}
