//! `agentmux ack`: the recipient's own word, and the operator's where nobody else can know.

use crate::*;

#[test]
fn the_operator_confirms_its_own_mail() {
    let house = House::new();
    let id = mail_to_operator(&house, "read me");
    let _ = house.run(&["read", &id]).ok();
    let ran = house.run(&["ack", &id, "--json"]);
    let acked = versioned(&ran, &["id", "state", "deliveries"]);
    assert_eq!((&acked["id"], &acked["state"]), (&id.as_str().into(), &"acked".into()));
    assert_eq!(state(&house, &id), "acked");
    // Saying it again changes nothing; mail that was never read here can be confirmed, too.
    let steps = |id: &str| trace(&house, id)["deliveries"][0]["transitions"].as_array().map_or(0, Vec::len);
    let before = steps(&id);
    let _ = house.run(&["ack", &id]).ok();
    assert_eq!(steps(&id), before);
    let unread = mail_to_operator(&house, "never read");
    let ran = house.run(&["ack", &unread[28..]]).ok();
    assert_eq!((ran.stdout.trim_end(), ran.stderr.trim_end()), (unread.as_str(), "acked: operator"));
    assert_eq!(house.run(&["inbox", "--unread", "--json"]).json()["mails"].as_array().map(Vec::len), Some(0));
}

/// Users 1: when nobody can know whether an agent took a mail it says `unknown`, and a person's word settles it either way.
#[test]
fn mail_in_doubt_is_settled_by_hand_as_taken_or_as_not_taken() {
    let team = Team::of(&["reviewer"]);
    let (house, model) = (&team.house, &team.model);
    let taken = in_doubt(house, "a first thing");
    let _ = house.run(&["ack", &taken]).ok();
    let traced = trace(house, &taken);
    assert_eq!(traced["deliveries"][0]["state"], "acked", "{traced}");
    assert_eq!(traced["deliveries"][0]["reason"], "the operator says that it was taken");
    assert_eq!(session(house, "reviewer")["pending"], 0);

    let _ = house.run(&["up", "reviewer"]).ok();
    let lost = in_doubt(house, "a second thing");
    let _ = house.run(&["requeue", &lost]).ok();
    assert_eq!(state(house, &lost), "queued");
    let _ = house.run(&["up", "reviewer"]).ok();
    house.poll("the mail", SOON, || match state(house, &lost).as_str() {
        "consumed" => Ok(()),
        state => Err(state.to_owned()),
    });
    read_once(model, "a second thing");
    assert_eq!(model.times_read("a first thing"), 0);
}

#[test]
fn nobody_confirms_mail_of_others() {
    let team = Team::of(&["reviewer"]);
    let house = &team.house;
    let id = sent_id(&house.run(&["send", "reviewer", "hello", "--wait"]).ok());
    let text = refused(house.run(&["ack", &id]), 1);
    assert!(text.contains("is not to you"), "{text}");
    let text = refused(house.run(&["ack", &id, "--for", "reviewer"]), 1);
    assert!(text.contains("is consumed, not in doubt"), "{text}");
    let _ = refused(agent(house, &["ack", &id]).run(), 1);
    let _ = refused_json(house.run(&["ack", "0123456789", "--json"]), 3, "not_found");
    assert_eq!(state(house, &id), "consumed");
}

/// Mail to `reviewer` of which nobody can know whether its child took it: the child is stopped before it can answer, and
/// then the session is.
#[track_caller]
fn in_doubt(house: &House, text: &str) -> String {
    wait_until_idle(house, "reviewer");
    let shown = house.run(&["show", "reviewer", "--json"]).json();
    let pid = shown["session"]["childPid"].as_i64().expect("it runs") as i32;
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).expect("a process of ours");
    let id = sent_id(&house.run(&["send", "reviewer", text]).ok());
    let _ = house.run(&["down", "reviewer", "--now"]);
    house.poll("the doubt", SOON, || match state(house, &id).as_str() {
        "unknown" => Ok(()),
        state => Err(state.to_owned()),
    });
    house.poll("the end of the child", SOON, || match session(house, "reviewer")["state"].as_str() {
        Some("stopped") => Ok(()),
        state => Err(format!("{state:?}")),
    });
    id
}
