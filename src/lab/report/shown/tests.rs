//! Comparisons on mounts as they are shown: no fact is in one form only.

use super::super::evidence::Evidence;
use super::super::{Report, page, text};

/// Every fact of every row, in all three.
#[test]
fn rows_of_live_mounts_are_the_same_in_page_terminal_and_json() {
    let json = r#"{ "plan": { "delays": [], "options": [], "processes": 8, "cache_bytes": 1048576,
        "nodesize": 4096 }, "interrupted": false, "rows": [
        { "subject": "unfixed", "runs": 17, "operations": 98765, "seconds": 61.0, "violations": 11,
          "first_operations": 1203, "first_seconds": 0.37, "median_operations": 2311.0,
          "median_seconds": 4.19, "survival_operations": [{ "at": 0.0, "surviving": 1.0 },
          { "at": 1203.0, "surviving": 0.41 }], "survival_seconds": [{ "at": 0.0, "surviving": 1.0 },
          { "at": 0.37, "surviving": 0.43 }], "rate": 1619.0, "relative_to_owned": 0.87,
          "images_damaged": 5, "images_unjudged": 4, "damage": { "parent transid <verify> failed": 3 },
          "lost": { "missing": { "names": 23, "promised": 2 },
          "old-contents": { "names": 6, "promised": 1 } }, "wrong": 13 },
        { "subject": "owned", "runs": 19, "operations": 87654, "seconds": 62.0, "violations": 0,
          "first_operations": null, "first_seconds": null, "median_operations": null,
          "median_seconds": null, "survival_operations": [], "survival_seconds": [],
          "rate": 1414.0, "relative_to_owned": 1.0, "images_damaged": 0, "images_unjudged": 0, "damage": {}, "lost": {},
          "wrong": 0 } ], "runs": [
        { "subject": "unfixed", "seed": 71, "operations": 9999, "seconds": 7.25, "violation": null },
        { "subject": "unfixed", "seed": 77, "operations": 1203, "seconds": 0.37, "violation":
          { "operations": 1203, "seconds": 0.37, "report": "BUG_ON: the last\n  and more" } },
        { "subject": "owned", "seed": 71, "operations": 5151, "seconds": 6.75, "violation": null }
        ] }"#;
    let evidence = Evidence {
        live: vec![serde_json::from_str(json).unwrap()],
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    let (page, text) = (page::html(&report), text::text(&report));
    let total = "unfixed, in a lab build: 98,765 operations in 17 runs, 11 of which broke a rule";
    assert!(page.contains(total) && text.contains(total), "{text}");
    for (row, values) in [
        (
            "unfixed",
            [
                "17", "98,765", "11", "0.37 s", "1,203", "2,311", "4.19 s", "1619", "0.87", "5",
                "4", "29", "3", "13",
            ],
        ),
        (
            "owned",
            [
                "19", "87,654", "0", "–", "–", "–", "–", "1414", "1.00", "0", "0", "0", "0", "0",
            ],
        ),
    ] {
        let cells: String = values
            .iter()
            .map(|value| format!("<td>{value}</td>"))
            .collect();
        let on_page = format!("<tr><th scope=\"row\">{row}</th>{cells}</tr>");
        assert!(page.contains(&on_page), "{row}: {on_page}");
        let is_it = |line: &&str| line.trim_start().starts_with(&format!("{row}: runs: "));
        let line = text.lines().find(is_it).unwrap();
        let told: Vec<_> = line
            .split(": ")
            .skip(2)
            .map(|part| part.rsplit_once(", ").map_or(part, |(value, _)| value))
            .collect();
        assert_eq!(told, values, "{line}");
    }
    for words in [
        "unfixed: damaged: 3 × parent transid <verify> failed",
        "unfixed: lost: 23 names missing, 2 of them durable before",
        "unfixed: lost: 6 files with old contents, 1 of them durable before",
        "unfixed: 100 %, 41 % from 1,203 on; until 9,999 operations",
        "unfixed: 100 %, 43 % from 0.37 on; until 7.25 seconds",
        "owned: 100 %; until 5,151 operations",
        "with seed 77, after 1,203 operations and 0.37 s",
        "BUG_ON: the last",
    ] {
        assert!(text.contains(words), "{words}: {text}");
        let escaped = words.replace('<', "&lt;").replace('>', "&gt;");
        assert!(page.contains(&escaped), "{words}");
    }
    assert_eq!(page.matches("rule was broken yet, over ").count(), 2 * 2);
    let json = &serde_json::to_value(&report).unwrap()["live"][0];
    assert_eq!(json["rows"][0]["lost"]["old-contents"]["names"], 6);
    assert_eq!(json["longest"][0]["operations"], 9999.0);
    assert_eq!(json["broken"][0]["seed"], 77);
}

/// What `lab live --report` wrote when it was ended early is read as such.
#[test]
fn a_comparison_that_was_ended_early_says_so() {
    let json = r#"{ "plan": { "delays": [], "options": [], "processes": 8, "cache_bytes": 1048576,
        "nodesize": 4096 }, "rows": [], "runs": [], "interrupted": true, "seconds": 1.0 }"#;
    let evidence = Evidence {
        live: vec![serde_json::from_str(json).unwrap()],
        ..Evidence::default()
    };
    let report = Report::new(&evidence);
    assert!(report.live[0].title.contains("ended early"));
    assert!(
        report
            .missing
            .iter()
            .any(|words| words.contains("ended early"))
    );
}
