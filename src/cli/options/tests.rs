//! What `-o` lists mean, and the words for those that mean nothing here.

use super::*;
use crate::cli::Exit;

fn one(list: &str) -> Result<Options, Failure> {
    parse(&[list], false)
}

#[test]
fn an_fstab_line_of_a_distribution_is_understood() {
    let line = "rw,relatime,compress=zstd:1,ssd,discard=async,space_cache=v2,subvolid=256,\
                subvol=/@,x-systemd.device-timeout=0,nofail,_netdev,user_xattr,acl,nodiratime";
    let options = one(line).unwrap();
    assert!(!options.read_only && options.discard);
    assert_eq!(options.subvolid, Some(256));
    assert_eq!(options.subvol.as_deref(), Some("/@"));
    assert_eq!(options.notes.len(), 2, "{:?}", options.notes);
    assert!(options.notes[0].contains("compress=zstd:1"));
}

#[test]
fn later_options_win_over_lists_and_within_one() {
    let options = parse(&["ro,commit=5", "rw,commit=10,nosuid,suid"], false).unwrap();
    assert!(!options.read_only);
    assert_eq!(options.commit_secs, Some(10));
    assert_eq!(options.point, PointFlags::default());
}

#[test]
fn sizes_and_numbers_are_checked_by_name() {
    assert_eq!(
        one("metadata_cache=32M").unwrap().metadata_cache_bytes,
        Some(32 << 20)
    );
    for (list, word) in [
        ("metadata_cache=lots", "metadata_cache"),
        ("metadata_cache=4K", "at least 1M"),
        ("commit=x", "commit=x"),
        ("commit", "needs a value"),
        ("subvolid=root", "subvolid=root"),
        ("threads=0", "1 to 256"),
        ("discard=maybe", "discard=maybe"),
    ] {
        let failure = one(list).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage, "{list}");
        assert!(failure.sentence.contains(word), "{list}: {failure}");
    }
    assert_eq!(one("subvolid=0x100").unwrap().subvolid, Some(256));
    assert_eq!(one("commit=0").unwrap().commit_secs, None);
}

#[test]
fn unknown_options_are_refused_by_name_with_a_hint() {
    let failure = one("rw,metadata_cash=64M").unwrap_err();
    assert!(failure.sentence.contains("metadata_cash=64M"), "{failure}");
    assert!(
        failure.sentence.contains("did you mean `metadata_cache`"),
        "{failure}"
    );
    let failure = one("frobnicate").unwrap_err();
    assert!(failure.sentence.contains("frobnicate") && !failure.sentence.contains("did you mean"));
    let sloppy = parse(&["frobnicate,ro"], true).unwrap();
    assert!(sloppy.read_only && sloppy.notes.len() == 1);
}

#[test]
fn dangerous_options_are_explained() {
    assert!(
        one("nologreplay")
            .unwrap_err()
            .sentence
            .contains("needs `ro`")
    );
    assert!(one("ro,nologreplay").unwrap().nologreplay);
    assert!(one("ro,rescue=nologreplay").unwrap().nologreplay);
    assert!(
        one("remount,ro")
            .unwrap_err()
            .sentence
            .contains("btrfuse umount")
    );
    assert!(one("nobarrier").unwrap_err().sentence.contains("power cut"));
    assert!(one("commit=900").unwrap().notes[0].contains("crash"));
    assert!(one("uid=1000").unwrap_err().sentence.contains("chown"));
}

/// The manual lists what is understood, and docs/mount-options.md the same.
#[test]
fn every_option_of_the_table_is_understood_and_documented() {
    let page = include_str!("../../../docs/mount-options.md");
    for name in table::names() {
        let value = match name {
            "commit" | "subvolid" | "threads" => "=7",
            "metadata_cache" => "=2M",
            "subvol" => "=a",
            "protocol" | "delay" | "ahead" | "reclaim" => continue,
            _ => "",
        };
        one(&format!("ro,{name}{value}")).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        assert!(page.contains(&format!("`{name}")), "{name}");
    }
    assert!(table::help().contains("rescue=nologreplay"));
}

/// The values that the manual and docs/mount-options.md name are those of a mount without options.
#[test]
fn documented_defaults_are_the_engines() {
    let engine = crate::fs::MountOptions::default();
    let seconds = engine.commit_interval_secs;
    let cache = format!("{}M", engine.metadata_cache_bytes >> 20);
    let words = |name: &str| {
        let row = table::OWN
            .iter()
            .find(|(written, _)| written.starts_with(name));
        row.expect("an option").1
    };
    assert!(words("commit=").contains(&format!("({seconds})")));
    assert!(words("metadata_cache=").contains(&format!("({cache};")));
    let page = include_str!("../../../docs/mount-options.md");
    let default = |name: &str| {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}")));
        row.and_then(|row| row.rsplit('|').nth(1)).map(str::trim)
    };
    assert_eq!(default("commit"), Some(&*seconds.to_string()));
    assert_eq!(default("metadata_cache"), Some(&*cache));
}

#[test]
fn quotes_protect_commas() {
    assert_eq!(
        one("subvol=\"a,b\",ro").unwrap().subvol.as_deref(),
        Some("a,b")
    );
    assert!(one("subvol=\"a").is_err());
    assert_eq!(
        one(",,ro,").unwrap(),
        Options {
            read_only: true,
            ..Options::default()
        }
    );
}

#[test]
fn user_mounts_bring_their_restrictions() {
    let user = one("user").unwrap().point;
    assert!(user.nosuid && user.nodev && user.noexec);
    let user = one("user,exec").unwrap().point;
    assert!(user.nosuid && !user.noexec);
}

#[test]
#[cfg(not(feature = "protocols"))]
fn lab_options_name_the_build_that_has_them() {
    for option in [
        "protocol=unfixed",
        "delay=drop-tested:50",
        "ahead=freed",
        "reclaim=always",
    ] {
        let sentence = one(option).unwrap_err().sentence;
        assert!(sentence.contains("race-lab"), "{sentence}");
        let is_protocol = option.starts_with("protocol");
        assert_eq!(
            sentence.contains("--features protocols"),
            is_protocol,
            "{sentence}"
        );
    }
}

#[test]
#[cfg(feature = "race-lab")]
fn what_arranges_meetings_has_one_value_each() {
    let options = one("ahead=freed,reclaim=always").unwrap();
    assert!(options.ahead_freed && options.reclaim_always);
    for other in ["ahead=all", "reclaim=often"] {
        let sentence = one(other).unwrap_err().sentence;
        assert!(
            sentence.contains("ahead=freed and reclaim=always"),
            "{sentence}"
        );
    }
}
