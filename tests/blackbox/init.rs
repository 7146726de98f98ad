//! `agentmux init`: a file to fill in, that parses and says nothing.

use crate::*;

#[test]
fn a_new_file_parses_says_nothing_and_is_never_overwritten() {
    let house = House::new();
    let written = versioned(&house.run(&["init", "--json"]), &["path"]);
    let path = house.project().join("agentmux.toml");
    assert_eq!(written["path"].as_str(), path.to_str());
    assert!(listing(&house.state_dir()).is_empty(), "no relay, no state");
    let up = house.run(&["up"]).ok();
    assert_eq!((up.stdout.as_str(), up.stderr.as_str()), ("", ""), "it says nothing, so it needs no trust");
    let text = refused(house.run(&["init"]), 7);
    assert!(text.contains("is there already"), "{text}");
    // Every line of it that is commented out is one that parses, too.
    let template = std::fs::read_to_string(&path).expect("the file");
    let told = template.lines().filter_map(|line| line.strip_prefix("# "));
    let told: Vec<&str> = told.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
    std::fs::write(&path, told.join("\n")).expect("the house is writable");
    let shown = house.run(&["config", "show", "--json", "--bundle", "web"]).ok();
    assert!(shown.stderr.is_empty());
    let settings = house.run(&["config", "show", "--json"]).ok().json();
    let keys: Vec<&str> =
        settings["settings"].as_array().into_iter().flatten().filter_map(|s| s["key"].as_str()).collect();
    for key in ["bundle", "groups.reviewers", "sessions.reviewer.isolated", "coders.nightly.program"] {
        assert!(keys.contains(&key), "{key}: {keys:?}");
    }
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    let house = House::new();
    let _ = refused_json(house.run(&["init", "--json", "-C", "/proc"]), 74, "io");
}
