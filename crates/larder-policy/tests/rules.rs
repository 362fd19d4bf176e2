//! What rules promise: who wins, what patterns match, what is shown, and what a mistake says.

use larder_core::{DrivePath, NodeKind};
use larder_policy::rules::{Decision, Pattern, Placement, RULES_MAX, Rule, Rules};
use proptest::prelude::*;
use std::time::Instant;

fn rules(text: &str) -> Rules {
    text.parse().expect(text)
}

fn path(text: &str) -> DrivePath {
    DrivePath::parse(text).expect(text)
}

fn file(rules: &Rules, text: impl AsRef<[u8]>) -> Decision {
    rules.placement(&DrivePath::parse(text).expect("a path"), NodeKind::File)
}

fn folder(rules: &Rules, text: &str) -> Decision {
    rules.placement(&path(text), NodeKind::Folder)
}

#[test]
fn last_rule_that_matches_wins_and_is_named() {
    let rules = rules("exclude Videos\npin Videos/family\non-demand Videos/family/raw\n");
    for (at, placement, rule) in [
        ("Photos/a.jpg", Placement::OnDemand, None),
        ("Videos/film.mkv", Placement::Excluded, Some(0)),
        ("Videos2/film.mkv", Placement::OnDemand, None),
        ("Videos/family/a.mkv", Placement::Pinned, Some(1)),
        ("Videos/family/raw/2024/a.mkv", Placement::OnDemand, Some(2)),
    ] {
        let decision = file(&rules, at);
        assert_eq!((decision.placement, decision.rule), (placement, rule), "{at}");
    }
}

#[test]
fn patterns_match_as_in_gitignore() {
    for (pattern, matched, others) in [
        ("*.iso", &["a.iso", "deep/er/b.iso", "x.iso/in"][..], &["a.iso2", "iso"][..]),
        ("/*.iso", &["a.iso"], &["deep/b.iso"]),
        ("Work/*.iso", &["Work/a.iso"], &["a.iso", "Work/x/a.iso", "My/Work/a.iso"]),
        ("Work/**/old", &["Work/old", "Work/a/b/old", "Work/a/old/file"], &["Work/older", "old"]),
        ("**/cache", &["cache", "a/cache", "a/b/cache/x"], &["a/caches"]),
        ("Videos/**", &["Videos/a", "Videos/a/b"], &["Videos", "a/Videos/b"]),
        ("**", &["a", "a/b"], &[]),
        ("/", &["a", "a/b"], &[]),
        ("Photos/", &["Photos", "Photos/a"], &["a/Photos"]),
        ("IMG_?[0-9].[!r]*", &["IMG_x1.jpg", "a/IMG_é9.jpg"], &["IMG_1.jpg", "IMG_11.raw", "IMG_11."]),
        ("[]x]", &["]", "a/x"], &["[", "y"]),
        ("[ä-ü]*", &["öl", "über"], &["ol"]),
        (r"\*\[a\]", &["*[a]"], &["x[a]", "*a"]),
        (r"a\x2Ab", &["a*b"], &["axb"]),
        ("Work/old", &["Work/old/a"], &["work/old/a", "Work/Old"]),
    ] {
        let rules = Rules::new(vec![rule(pattern, Placement::Pinned)]).expect("one");
        for at in matched {
            assert_eq!(file(&rules, at).rule, Some(0), "{pattern} and {at}");
        }
        for at in others {
            assert_eq!(file(&rules, at).rule, None, "{pattern} and {at}");
        }
    }
}

fn rule(pattern: &str, placement: Placement) -> Rule {
    Rule { pattern: Pattern::parse(pattern).expect(pattern), include_subfolders: true, placement }
}

#[test]
fn names_are_one_in_either_unicode_form_and_other_bytes_are_bytes() {
    for pattern in ["Été", "E\u{301}te\u{301}", "[É]t[e\u{301}]"] {
        let rules = rules(&format!("pin {pattern}"));
        assert_eq!(file(&rules, "Été/a").rule, Some(0));
        assert_eq!(file(&rules, "E\u{301}te\u{301}/a").rule, Some(0));
        assert_eq!(file(&rules, "Ete").rule, None);
    }
    let latin = &b"caf\xe9/menu"[..];
    assert_eq!(file(&rules("pin caf?"), latin).rule, Some(0));
    assert_eq!(file(&rules("pin café"), latin).rule, None);
    assert_eq!(file(&rules(r"pin caf\xE9"), latin).rule, Some(0));
    assert_eq!(file(&rules(r"pin *\xe9"), latin).rule, Some(0));
    assert_eq!(file(&rules("pin caf[!a]"), latin).rule, Some(0));
}

#[test]
fn without_subfolders_only_the_files_of_the_folder_are_meant() {
    let rules = rules("pin Work --no-subfolders");
    assert_eq!(folder(&rules, "Work").rule, Some(0));
    assert_eq!(file(&rules, "Work/a.txt").rule, Some(0));
    assert_eq!(folder(&rules, "Work/sub").rule, None);
    assert_eq!(file(&rules, "Work/sub/a.txt").rule, None);
}

#[test]
fn excluded_folders_are_passages_to_what_is_shown_below() {
    let archive =
        rules("exclude Archive\npin Archive/2024/taxes\non-demand Archive/**/*.pdf\nexclude Archive/2019\n");
    for at in ["Archive", "Archive/2024", "Archive/2023"] {
        let decision = folder(&archive, at);
        assert!(decision.is_passage && decision.is_shown(), "{at}");
        assert_eq!(decision.placement, Placement::Excluded);
    }
    assert!(!file(&archive, "Archive/2024/letter.txt").is_shown());
    assert!(!folder(&archive, "Archive/2019").is_shown());
    assert!(!folder(&archive, "Archive/2019/sub").is_shown());
    assert!(!folder(&rules("exclude A\npin A/b/c\nexclude A/b"), "A").is_shown(), "nothing is left below");
    assert!(folder(&rules("exclude /\npin Photos"), "").is_shown(), "the top is always there");
    assert!(!folder(&rules("exclude /\npin Photos"), "Music").is_shown());
    assert!(folder(&rules("exclude Work --no-subfolders"), "Work").is_shown(), "its subfolders are shown");
    let hidden = "pin A/b\nexclude A --no-subfolders\nexclude A/*";
    assert!(!folder(&rules(hidden), "A").is_shown(), "a glob has all that is below");
    let below = "exclude A\npin A/b\nexclude A/b/c --no-subfolders\nexclude A/b --no-subfolders";
    for at in ["A", "A/b", "A/b/c"] {
        assert!(folder(&rules(below), at).is_shown(), "{at} leads to A/b/c/d, which is pinned");
    }
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (line, place) in [
        ("exlude Videos", "\"exlude\" at character 1 is no placement"),
        ("", "\"\" at character 1 is no placement"),
        ("pin", "\"\" at character 4 is no pattern"),
        ("pin Été/../x", "\"..\" at character 9 is no name"),
        ("pin \"\"", "at character 6 is empty"),
        ("pin a b", "\"b\" at character 7 is too much"),
        ("pin a --no-subfolders x", "\"x\" at character 23 is too much"),
        ("pin  \"a b", "\"\\\"a b\" at character 6 has no closing quote"),
        ("pin \"a\"b", "at character 5 has no closing quote"),
        ("pin x/*.{jpg,png}", "\"{\" at character 9 would be an alternative"),
        ("pin a/b**", "\"**\" at character 8 is no name"),
        ("pin a/[b", "\"[\" at character 7 opens a class"),
        ("pin a\\", "\"\\\\\" at character 6 has nothing behind it"),
        ("pin a\\xZZ", "\"\\\\x\" at character 6 is not followed by two hexadecimal"),
        ("pin a\\x2f", "at character 6 is in no name"),
    ] {
        let error = line.parse::<Rule>().expect_err(line).to_string();
        assert!(error.contains(place), "{line}: {error}");
    }
    let text = "# what stays here\n\n  pin Photos\nexclude [\n";
    let error = text.parse::<Rules>().expect_err(text).to_string();
    assert!(error.starts_with("line 4: rule \"exclude [\": \"[\" at character 9"), "{error}");
    let long = format!("*{}", "/x".repeat(100));
    assert!(Pattern::parse(&long).expect_err("a long glob").to_string().contains("more than 60 names"));
    assert!(
        Pattern::parse(&"x/".repeat(3000)).expect_err("long").to_string().contains("more than 4096 bytes")
    );
    let many = vec![rule("a", Placement::Pinned); RULES_MAX + 1];
    assert!(Rules::new(many).expect_err("many").to_string().contains("at most 1000 rules"));
}

#[test]
fn rule_of_any_path_is_read_back() {
    for at in ["", "a\" b", "--no-subfolders", "# a", "tab\there", "\\", "*", "a/{b}", "new\nline", "été"] {
        let pattern = Pattern::of_path(&path(at)).expect(at);
        let rule = Rule { pattern, include_subfolders: true, placement: Placement::Excluded };
        assert_eq!(rule.to_string().parse::<Rule>().expect(at), rule);
    }
    // U+0340, which is composed to another mark, in a name that is no UTF-8 and stays as it is.
    let odd = DrivePath::parse(b"\x80\xCD\x80").expect("a name");
    let pattern = Pattern::of_path(&odd).expect("short");
    let rules = Rules::new(vec![Rule { pattern, include_subfolders: false, placement: Placement::Pinned }]);
    assert_eq!(rules.expect("one").placement(&odd, NodeKind::File).rule, Some(0));
}

/// Prints the figure; the bound that decides is generous, as a busy machine must not fail it.
#[test]
fn thousand_rules_decide_in_less_than_a_millisecond() {
    let rules: Vec<Rule> = (0..RULES_MAX)
        .map(|number| match number % 2 {
            0 => rule(&format!("Projects/customer-{number}/old"), Placement::Excluded),
            _ => rule(&format!("*-{number}.bak"), Placement::Excluded),
        })
        .collect();
    let begun = Instant::now();
    let rules = Rules::new(rules).expect("as many as there may be");
    let made_us = begun.elapsed().as_micros();
    let at = path("Projects/customer-77/reports/2024/march/numbers.ods");
    let begun = Instant::now();
    for _ in 0..1000 {
        assert_eq!(rules.placement(&at, NodeKind::File).rule, None);
    }
    let decided_us = begun.elapsed().as_micros() as f64 / 1000.0;
    println!("{RULES_MAX} rules made ready in {made_us} us; a path of 6 names decided in {decided_us} us");
    assert!(decided_us < 1000.0, "{decided_us} us");
}

/// Matches by trying everything: what the pattern means, said as simply as it can be.
fn matches_naively(pattern: &[&str], names: &[&str]) -> bool {
    match (pattern, names) {
        ([], names) => names.is_empty(),
        (["**"], names) => !names.is_empty(),
        (["**", rest @ ..], names) => {
            (0..=names.len()).any(|skipped| matches_naively(rest, &names[skipped..]))
        }
        ([_, ..], []) => false,
        ([first, rest @ ..], [name, names @ ..]) => {
            name_matches_naively(first.as_bytes(), name.as_bytes()) && matches_naively(rest, names)
        }
    }
}

fn name_matches_naively(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|from| name_matches_naively(rest, &name[from..])),
        [b'?', rest @ ..] => !name.is_empty() && name_matches_naively(rest, &name[1..]),
        [letter, rest @ ..] => name.first() == Some(letter) && name_matches_naively(rest, &name[1..]),
    }
}

fn rule_matches_naively(written: &str, subfolders: bool, names: &[&str], is_folder: bool) -> bool {
    let mut pattern: Vec<&str> = written.split('/').filter(|part| !part.is_empty()).collect();
    if written.contains(['*', '?']) && !written.contains('/') {
        pattern.insert(0, "**");
    }
    let is_match = |length: usize| matches_naively(&pattern, &names[..length]);
    let depth = names.len();
    match subfolders {
        true => (0..=depth).any(is_match),
        false => is_match(depth) || (!is_folder && depth > 0 && is_match(depth - 1)),
    }
}

fn written_rule() -> impl Strategy<Value = (String, bool, Placement)> {
    let part = prop::sample::select(vec!["a", "b", "ab", "*", "**", "a*", "*b", "?", "?b", "a*b", "*a*"]);
    let placement = prop::sample::select(vec![Placement::Pinned, Placement::OnDemand, Placement::Excluded]);
    let pattern = (prop::collection::vec(part, 1..5), any::<bool>());
    let written =
        pattern.prop_map(|(parts, top)| format!("{}{}", if top { "/" } else { "" }, parts.join("/")));
    (written, prop::bool::weighted(0.7), placement)
}

fn some_path() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "aab", "ba"]), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn decisions_are_what_the_words_say(
        written in prop::collection::vec(written_rule(), 0..6), names in some_path(), is_folder in any::<bool>(),
    ) {
        let made = written.iter().map(|(pattern, include_subfolders, placement)| Rule {
            pattern: Pattern::parse(pattern).expect(pattern),
            include_subfolders: *include_subfolders,
            placement: *placement,
        });
        let rules = Rules::new(made.collect()).expect("few");
        prop_assert_eq!(&rules.to_string().parse::<Rules>().expect("its own words"), &rules);
        let kind = if is_folder { NodeKind::Folder } else { NodeKind::File };
        let decision = rules.placement(&path(&names.join("/")), kind);
        let matches = |(pattern, subfolders, _): &(String, bool, Placement)| {
            rule_matches_naively(pattern, *subfolders, &names, is_folder)
        };
        let rule = written.iter().rposition(matches);
        prop_assert_eq!(decision.rule, rule);
        prop_assert_eq!(decision.placement, rule.map_or(Placement::OnDemand, |rule| written[rule].2));
        prop_assert!(is_folder || !decision.is_passage);
        // Whatever is shown can be reached.
        for depth in (0..names.len()).filter(|_| decision.is_shown()) {
            let above = folder(&rules, &names[..depth].join("/"));
            prop_assert!(above.is_shown(), "{:?} at depth {} hides it", above, depth);
        }
    }

    #[test]
    fn pattern_of_a_path_means_that_path_and_no_other(
        names in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..6), 0..4), other in "[a-e*?\\[\\\\{\" #-]{1,3}",
    ) {
        let bytes = names.join(&b'/');
        let Ok(at) = DrivePath::parse(&bytes) else { return Ok(()) };
        let pattern = Pattern::of_path(&at).expect("a short path");
        prop_assert!(pattern.is_path());
        let rule = Rule { pattern, include_subfolders: false, placement: Placement::Pinned };
        let line = rule.to_string();
        prop_assert_eq!(&line.parse::<Rule>().expect(&line), &rule);
        let rules = Rules::new(vec![rule]).expect("one");
        prop_assert_eq!(rules.placement(&at, NodeKind::Folder).rule, Some(0));
        let Ok(other) = DrivePath::parse(&other) else { return Ok(()) };
        let own = Rule { pattern: Pattern::of_path(&other).expect("short"), include_subfolders: true, placement: Placement::Excluded };
        prop_assert_eq!(&own.to_string().parse::<Rule>().expect("its own words"), &own);
        prop_assert_eq!(rules.placement(&other, NodeKind::Folder).rule.is_some(), other == at);
    }
}
