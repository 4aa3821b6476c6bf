//! The replay's verdicts, for every protocol.

use super::replay::replay;
use crate::extent_buffer::Kind;

#[test]
fn the_report_kills_unfixed_and_no_other() {
    for kind in Kind::ALL {
        let outcome = replay(*kind).unwrap();
        println!("{}\n{}", outcome.table(), outcome.verdict());
        assert_eq!(outcome.judge(), Ok(()), "{kind}\n{}", outcome.table());
        assert_eq!(!outcome.violations.is_empty(), *kind == Kind::Unfixed);
        let lockless = matches!(kind, Kind::Unfixed | Kind::Owned | Kind::PackedWord);
        assert_eq!(outcome.finder_waited, !lockless, "{kind}");
        let decides_in_steps = !matches!(kind, Kind::Owned | Kind::PackedWord);
        assert_eq!(outcome.dropper_took_tree_ref(), decides_in_steps, "{kind}");
    }
}

#[test]
fn the_replay_is_the_same_every_time() {
    let steps = |kind| {
        let outcome = replay(kind).unwrap();
        outcome
            .rows
            .into_iter()
            .map(|row| (row.role, row.what))
            .collect::<Vec<_>>()
    };
    for kind in Kind::ALL {
        let first = steps(*kind);
        for _ in 0..3 {
            assert_eq!(steps(*kind), first, "{kind}");
        }
    }
}

#[test]
fn a_report_of_a_broken_rule_names_buffer_and_roles() {
    let outcome = replay(Kind::Unfixed).unwrap();
    let report = outcome.violations[0].to_string();
    assert!(report.starts_with("BUG_ON"), "{report}");
    for words in [
        "DIRTY",
        "protocol unfixed",
        "CPU0",
        "CPU2",
        &outcome.bytenr.to_string(),
    ] {
        assert!(report.contains(words), "{words} is missing: {report}");
    }
    assert!(!outcome.table().contains("BUG_ON") && !outcome.verdict().contains("BUG_ON"));
}

/// "The compiler could drop an empty lock section": it is in this program's machine code, a locked
/// instruction to take the lock and one to give it back.
#[cfg(target_arch = "x86_64")]
#[test]
fn the_handshake_s_lock_section_is_in_the_machine_code() {
    let program = std::env::current_exe().unwrap();
    let objdump = std::process::Command::new("objdump")
        .args(["--disassemble", "--demangle", "--no-show-raw-insn"])
        .arg(&program)
        .output()
        .expect("objdump is there: it comes with the linker");
    let text = String::from_utf8_lossy(&objdump.stdout);
    let from = text
        .find("handshake::wait_for_dropper>:")
        .expect("the function isn't inlined");
    let code = text[from..].split("\n\n").next().unwrap();
    let locked = code.matches("lock cmpxchg").count();
    assert_eq!(locked, 2, "{code}");
}
