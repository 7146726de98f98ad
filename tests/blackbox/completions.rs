//! `agentmux completions`: from the same grammar as the command line, for every shell; and what `--help` says of it.

use crate::*;
use agentmux::protocol::verb::VERBS;

#[test]
fn every_verb_is_completed_and_no_relay_is_started() {
    let house = House::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = touches_nothing(&house, || house.run(&["completions", shell])).ok();
        let missing: Vec<&str> =
            VERBS.iter().map(|verb| verb.name).filter(|name| !ran.stdout.contains(name)).collect();
        assert!(missing.is_empty() && ran.stderr.is_empty(), "{shell} lacks {missing:?}\n{}", ran.stderr);
    }
    assert!(listing(&house.state_dir()).is_empty());
}

#[test]
fn an_unknown_shell_is_refused() {
    let house = House::new();
    let text = refused(touches_nothing(&house, || house.run(&["completions", "cmd"])), 2);
    assert!(text.contains("`cmd`") || text.contains("'cmd'"), "{text}");
    let _ = refused_json(house.run(&["completions", "--json"]), 2, "usage");
}

#[test]
fn a_shell_takes_the_completions_as_they_are() {
    let house = House::new();
    let mut shell = house.command("bash");
    shell.args([
        "-euc",
        "source <(\"$0\" completions bash); complete -p agentmux",
        env!("CARGO_BIN_EXE_agentmux"),
    ]);
    let ran = house.call_of(shell).run().ok();
    assert!(ran.stdout.contains("agentmux"), "{}", ran.evidence());
}

#[test]
fn help_lists_every_verb_on_stdout_and_an_unknown_verb_is_usage() {
    let house = House::new();
    let ran = touches_nothing(&house, || house.run(&["--help"])).ok();
    for verb in VERBS {
        assert!(ran.stdout.contains(verb.help), "{}\n{}", verb.name, ran.evidence());
        let own = house.run(&[verb.name, "--help"]).ok();
        assert!(own.stdout.contains(verb.help) && own.stderr.is_empty(), "{}", own.evidence());
        assert_eq!(house.run(&["help", verb.name]).ok().stdout, own.stdout);
    }
    let text = refused(touches_nothing(&house, || house.run(&["sned", "a", "b"])), 2);
    assert!(text.contains("sned") && text.contains("hint: "), "{text}");
    let _ = refused(house.run(&[]), 2);
    let _ = refused_json(house.run(&["--json", "sned"]), 2, "usage");
}
