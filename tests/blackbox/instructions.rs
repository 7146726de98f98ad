//! `agentmux instructions`: short, generated, and what a session is really told.

use crate::*;

/// users 27, and smaller asks: an agent is told by us who it is, who its peers are, and how to write to them.
#[test]
fn the_instructions_that_are_printed_are_what_the_agent_was_told() {
    let team = Team::of(&["lead", "reviewer"]);
    let house = &team.house;
    let ran = house.run(&["instructions", "reviewer", "--json"]);
    let told = versioned(&ran, &["session", "text"]);
    let text = told["text"].as_str().unwrap_or_default().to_owned();
    for part in [
        "You are the session `reviewer`",
        "bundle `test`",
        "Your peers now are lead;",
        "agentmux `send` tool",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.len() < 1_200, "{} bytes", text.len());
    let _ = house.run(&["send", "reviewer", "anybody there", "--wait"]).ok();
    read_once(&team.model, "anybody there");
    let heard = team.model.requests().iter().any(|request| request.contains(&text));
    assert!(heard, "{text}\n{}", team.model.transcript());
    assert_eq!(
        house.run(&["instructions", "lead"]).ok().stdout.matches("peers now are reviewer;").count(),
        1
    );
    let _ = agent(house, &["--as", "visitor", "whoami"]).run().ok();
    let visitor = house.run(&["instructions", "visitor"]).ok().stdout;
    assert!(
        visitor.contains("You are the outside agent `visitor`") && visitor.contains("`inbox` or `wait`"),
        "{visitor}"
    );
    let _ = refused(house.run(&["instructions", "nobody"]), 3);
}
