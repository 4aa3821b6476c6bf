//! Whether the handshake's empty lock section is in a program, and not only in its source.
//!
//! Owns: the look at one function of a built program, by way of `objdump`. A lock is taken by a
//! locked compare-and-swap of its byte that expects 0, and given back by one of the same byte that
//! expects 1 (a compiler may write the latter twice, once for each way out of the first): one that
//! took the section for nothing would have left neither. And a lookup must call it: every build has
//! the function, for the table of protocols.

use serde::Serialize;
use std::path::Path;
use std::process::Command;

/// Whether this machine's code is understood here: elsewhere there is nothing to look into.
pub const IS_READ: bool = cfg!(target_arch = "x86_64");

/// The function whose whole body is the section; never inlined.
const FUNCTION: &str = "handshake::wait_for_dropper>:";
const CALLED: &str = "handshake::wait_for_dropper>";
/// The handshake's entry in the table of protocols, which every build has and only lab builds ask.
const OF_TABLE: &str = "Handshake as ";
const CHECK: &str = "::found>";
const SWAP: &str = "lock cmpxchg";
/// What only a lab build has.
const LAB: &str = "::lab::controller::";

/// What a program has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// The program.
    pub program: String,
    /// The instructions of the function.
    pub code: Vec<String>,
    /// Where in it the lock is taken, by locked instructions.
    pub takes: Vec<usize>,
    /// Where it is given back.
    pub gives_back: Vec<usize>,
    /// The functions that call it, but for the table's.
    pub lookups: Vec<String>,
}

impl Section {
    /// Whether lookups come by, and the lock is taken and given back.
    pub fn is_there(&self) -> bool {
        let first = (self.takes.first(), self.gives_back.first());
        !self.lookups.is_empty()
            && matches!(first, (Some(takes), Some(gives_back)) if takes < gives_back)
    }
}

/// Disassembles a program and looks.
pub fn look(program: &Path) -> Result<Section, String> {
    if !IS_READ {
        return Err("only x86-64 code is read".into());
    }
    let text = objdump(
        program,
        &["--disassemble", "--demangle", "--no-show-raw-insn"],
    )?;
    let relocations = objdump(program, &["--dynamic-reloc"])?;
    judge(program, &text, &relocations)
}

fn objdump(program: &Path, options: &[&str]) -> Result<String, String> {
    let output = Command::new("objdump")
        .args(options)
        .arg(program)
        .output()
        .map_err(|why| format!("objdump (of binutils) can't be run: {why}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("objdump: {}", words.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn judge(program: &Path, text: &str, relocations: &str) -> Result<Section, String> {
    let program = program.display().to_string();
    let Some(from) = text.find(FUNCTION) else {
        return Err(format!(
            "{program} has no function wait_for_dropper: it isn't built with the handshake, or \
             its symbols are gone"
        ));
    };
    if text.contains(LAB) {
        return Err(format!(
            "{program} is a build of the lab, whose notes and points stand inside the section: name one that \
             people mount (cargo build --release --no-default-features --features handshake)"
        ));
    }
    let body = text[from..].split("\n\n").next().unwrap_or_default();
    let code: Vec<String> = body
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(":\t"))
        .map(|(_, instruction)| instruction.trim_end().to_owned())
        .collect();
    let operand = |line: &str| line.rsplit_once(',').map(|(_, operand)| operand.to_owned());
    let swaps = || (0..code.len()).filter(|at| code[*at].starts_with(SWAP));
    // Of one byte: the lock's.
    let lock = swaps().next().and_then(|at| operand(&code[at]));
    let of_lock = || swaps().filter(|at| operand(&code[*at]) == lock);
    let expecting = |value| -> Vec<usize> {
        let of_lock = of_lock();
        of_lock
            .filter(|at| expected(&code[..*at]) == Some(value))
            .collect()
    };
    let (takes, gives_back) = (expecting(0), expecting(1));
    Ok(Section {
        program,
        takes,
        gives_back,
        code,
        lookups: callers(text, relocations),
    })
}

/// The lookups: who calls the section, or the handshake's check that has it. A compiler puts that check
/// into the lookups or leaves it a function, and a linker may have it called by way of a slot that holds
/// its address. The table of protocols has such a slot, too, but nobody calls through that one by name.
fn callers(text: &str, relocations: &str) -> Vec<String> {
    let functions = || {
        let functions = text.split("\n\n");
        functions.filter_map(|function| function.trim_start().split_once(">:\n"))
    };
    let is_meant = |name: &str| {
        let is_check = name.contains(OF_TABLE) && name.ends_with(CHECK);
        is_check || name.ends_with(CALLED)
    };
    let meant: Vec<String> = functions()
        .filter(|(name, _)| is_meant(&format!("{name}>")))
        .filter_map(|(name, _)| name.split_once(' '))
        .map(|(address, _)| format!("*ABS*+0x{}", address.trim_start_matches('0')))
        .collect();
    // `00000000006abe78 R_X86_64_RELATIVE  *ABS*+0x00000000002ac710`
    let slots: Vec<String> = relocations
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [slot, _, value] = words.as_slice() else {
                return None;
            };
            let bare = value.split_once("+0x")?.1.trim_start_matches('0');
            let is_meant = meant.contains(&format!("*ABS*+0x{bare}"));
            is_meant.then(|| format!("# {} <", slot.trim_start_matches('0')))
        })
        .collect();
    let calls = |line: &str| {
        let line = line.trim_end();
        let jumps = ["call", "jmp"].iter().any(|word| line.contains(word));
        // Without an offset: a jump within a function has one.
        jumps && (is_meant(line) || slots.iter().any(|slot| line.contains(slot)))
    };
    let mut out: Vec<String> = Vec::new();
    for (name, body) in functions() {
        let name = name.split_once('<').map_or(name, |(_, name)| name);
        if body.lines().any(calls) && !name.contains(OF_TABLE) {
            out.push(name.to_owned());
        }
    }
    out
}

/// What a swap after these instructions expects: the last constant that they put into `al`.
fn expected(code: &[String]) -> Option<u8> {
    code.iter().rev().find_map(|line| {
        let line: Vec<&str> = line.split_whitespace().collect();
        match line.as_slice() {
            ["xor", "%eax,%eax"] | ["mov", "$0x0,%al" | "$0x0,%eax"] => Some(0),
            ["mov", "$0x1,%al" | "$0x1,%eax"] => Some(1),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = "\
0000000000001000 <btrfuse::extent_buffer::protocol::handshake::wait_for_dropper>:
    1000:\tmov    $0x1,%cl
    1002:\txor    %eax,%eax
    1004:\tlock cmpxchg %cl,0xd8(%rdi)
    100c:\tjne    1020
    100d:\tmov    $0x1,%al
    100e:\tlock cmpxchg %dl,0xd8(%rdi)
    1016:\tret

0000000000002000 <other>:
    2000:\tlock cmpxchg %cl,0xd8(%rdi)

0000000000003000 <<btrfuse::Handshake as btrfuse::Protocol>::found>:
    3000:\tcall   1000 <btrfuse::extent_buffer::protocol::handshake::wait_for_dropper>

0000000000004000 <btrfuse::extent_buffer::cache::Inner::find>:
    4000:\tcall   1000 <btrfuse::extent_buffer::protocol::handshake::wait_for_dropper>
    4005:\tret
";
    const GIVES_BACK: &str = "    100e:\tlock cmpxchg %dl,0xd8(%rdi)\n";

    fn of(text: &str) -> Section {
        judge(Path::new("x"), text, "").unwrap()
    }

    #[test]
    fn a_build_of_the_lab_is_refused_in_words() {
        let lab =
            format!("{WHOLE}\n0000000000003000 <btrfuse::lab::controller::Controller::new>:\n");
        let why = judge(Path::new("x"), &lab, "").unwrap_err();
        assert!(why.contains("a build of the lab"), "{why}");
    }

    #[test]
    fn both_halves_are_found_and_no_neighbour_is_counted() {
        let section = of(WHOLE);
        assert_eq!((section.takes.len(), section.gives_back.len()), (1, 1));
        assert_eq!(section.code.len(), 7);
        assert!(section.is_there());
    }

    /// Every build has the function. One that mounts by other rules passed.
    #[test]
    fn a_section_that_no_lookup_comes_to_is_missed() {
        assert_eq!(
            of(WHOLE).lookups,
            ["btrfuse::extent_buffer::cache::Inner::find"]
        );
        let (without, _) = WHOLE.split_once("\n0000000000004000").unwrap();
        assert!(of(without).lookups.is_empty() && !of(without).is_there());
        let call = "    4000:\tcall   3000 <<btrfuse::Handshake as btrfuse::Protocol>::found>\n";
        let by_way_of = format!("{without}\n0000000000004000 <cache::find>:\n{call}");
        assert_eq!(of(&by_way_of).lookups, ["cache::find"]);
        let call = "    4000:\tcall   *0x10(%rip)        # 6abe78 <_DYNAMIC+0x398>\n";
        let by_slot = format!("{without}\n0000000000004000 <cache::find>:\n{call}");
        let slot = "00000000006abe78 R_X86_64_RELATIVE  *ABS*+0x0000000000003000\n";
        let section = judge(Path::new("x"), &by_slot, slot).unwrap();
        assert_eq!(section.lookups, ["cache::find"]);
        let other = slot.replace("3000", "3008");
        assert!(!judge(Path::new("x"), &by_slot, &other).unwrap().is_there());
    }

    #[test]
    fn another_way_out_may_give_it_back_too() {
        let twice = WHOLE.replace(GIVES_BACK, &GIVES_BACK.repeat(2));
        assert!(of(&twice).is_there());
        assert_eq!(of(&twice).gives_back.len(), 2);
    }

    #[test]
    fn a_section_without_a_half_is_missed() {
        assert!(!of(&WHOLE.replace(GIVES_BACK, "")).is_there());
        let never_taken = WHOLE.replace("xor    %eax,%eax", "mov    $0x1,%al");
        assert!(!of(&never_taken).is_there());
        let other_byte = WHOLE.replacen("%dl,0xd8(%rdi)", "%dl,0xd0(%rdi)", 1);
        assert!(!of(&other_byte).is_there());
        assert!(!of(&WHOLE.replace("lock cmpxchg", "nop")).is_there());
        assert!(judge(Path::new("x"), "nothing", "").is_err());
    }
}
