//! Words that were written to a relay and not answered: whoever says them again shall not say them twice. The relay is played.

use crate::support::played::{Step, play, play_with};
use crate::*;
use serde_json::json;
use std::sync::mpsc::sync_channel;

/// The commands that say something, with the method that each calls.
const SAYING: [(&[&str], &str); 4] = [
    (&["send", "operator", "x"], "mail/send"),
    (&["ask", "operator", "x"], "mail/send"),
    (&["reply", "ffffffff", "x"], "mail/reply"),
    (&["prompt", "reviewer", "x"], "session/prompt"),
];

/// NB-6: the request was written, and the relay was gone, or was being stopped, before its answer came.
#[test]
fn what_was_written_and_not_answered_ends_with_the_key_that_makes_it_harmless_to_say_again() {
    for (words, method) in SAYING {
        let stopping = || Step::Tell("relay/stopping", json!({}));
        for (what, code, said, connections) in [
            ("no next relay", 5, "no relay", vec![(true, vec![Step::Hear(method)])]),
            (
                "a next relay that is slow",
                75,
                "did not answer",
                vec![(true, vec![Step::Hear(method)]), (false, vec![Step::Stay])],
            ),
            (
                "a stop",
                75,
                "was stopped before it answered",
                vec![(true, vec![stopping(), Step::Hear(method)])],
            ),
        ] {
            let house = House::new();
            std::fs::write(house.config_dir().join("config.toml"), "start_timeout = \"300ms\"\n")
                .expect("writable");
            let playing = play_with(&house, connections);
            let ran = house.run(&[words, &["--no-start"]].concat());
            playing.join().expect("the relay of the test");
            let text = refused(ran, code);
            assert!(text.contains(said), "{words:?}, {what}: {text}");
            let hint =
                "hint: it may have been accepted, `agentmux log` shows it; sending it again with --key '~";
            assert!(text.contains(hint), "{words:?}, {what}: {text}");
        }
        // A key that was given is the one to give again.
        let house = House::new();
        let playing = play(&house, vec![vec![Step::Hear(method)]]);
        let text = refused(house.run(&[words, &["--no-start", "--key", "my own"]].concat()), 5);
        playing.join().expect("the relay of the test");
        assert!(text.contains("sending it again with --key 'my own' is harmless"), "{words:?}: {text}");
    }
}

/// A stopping relay that refuses words has not taken them: that is no wait that was cut short, of which nothing is lost.
#[test]
fn what_a_stopping_relay_refuses_is_told_as_refused() {
    for (words, method) in SAYING {
        let house = House::new();
        let steps = vec![
            Step::Tell("relay/stopping", json!({})),
            Step::Hear(method),
            Step::Refuse("refused: the relay is stopping"),
        ];
        let playing = play(&house, vec![steps]);
        let text = refused(house.run(words), 75);
        playing.join().expect("the relay of the test");
        assert!(text.contains("refused: the relay is stopping"), "{words:?}: {text}");
        assert!(
            !text.contains("nothing is lost") && !text.contains("may have been accepted"),
            "{words:?}: {text}"
        );
    }
}

/// users 1: ^C between the words and the answer to them: the answer, which has the id, is still waited for a moment.
#[test]
fn an_interrupted_command_still_hears_what_became_of_its_words() {
    for (words, method) in SAYING {
        let id = "019ac7d2-7e8b-7f2a-9d3c-0123456789ab";
        let sent = json!({"id": id, "thread": id, "deliveries": [{"to": "operator", "state": "queued"}]});
        let (here, is_here) = sync_channel(1);
        let (go_on, told) = sync_channel(1);
        let house = House::new();
        let steps = vec![Step::Hear(method), Step::Meet(here, told), Step::Say(sent), Step::Stay];
        let playing = play(&house, vec![steps]);
        let words =
            [words, if words[0] == "prompt" || words[0] == "ask" { &[][..] } else { &["--wait"] }].concat();
        let command = house.spawn(&words);
        is_here.recv_timeout(SOON).expect("the request comes");
        command.signal(nix::sys::signal::Signal::SIGINT);
        go_on.send(()).expect("it plays");
        let ran = command.finish(SOON).fails(130);
        assert!(ran.stderr.contains(&format!("mail {id} goes on its way")), "{words:?}: {}", ran.evidence());
        playing.join().expect("the relay of the test");
    }
}
