//! `agentmux whoami`, `--as` and `--take-over`: who a command speaks as, and who may have which name.

use crate::*;

#[test]
fn a_person_an_agent_and_a_claimed_name_are_told_apart_and_why() {
    let house = House::new();
    let ran = house.run(&["whoami", "--json"]);
    let who = versioned(&ran, &["name", "kind", "bundle", "rule", "because"]);
    assert_eq!(
        (&who["name"], &who["kind"], &who["bundle"]),
        (&"operator".into(), &"operator".into(), &"test".into())
    );
    assert_eq!(who["rule"], "AGENTMUX_BUNDLE");
    let who = agent(&house, &["whoami", "--json"]).run().json();
    assert_eq!((&who["name"], &who["kind"]), (&"outside".into(), &"outside".into()));
    assert!(who["because"].as_str().is_some_and(|why| why.contains("CODEX_THREAD_ID")), "{who}");
    let who = agent(&house, &["--as", "bob", "whoami", "--json"]).run().json();
    assert_eq!((&who["name"], &who["kind"]), (&"bob".into(), &"outside".into()));
    let words = house.run(&["whoami"]).ok();
    assert!(words.stdout.starts_with("operator (operator), because: "), "{}", words.evidence());
}

/// users 17, users 8: a claimed name has a mailbox that outlives its holder, and what is in it waits.
#[test]
fn mail_to_a_claimed_name_waits_until_it_is_read_under_that_name() {
    let house = House::new();
    let refused_yet = refused(house.run(&["send", "bob", "too early"]), 3);
    assert!(refused_yet.contains("bob"), "{refused_yet}");
    let bob = |arguments: &[&str]| agent(&house, &[&["--as", "bob"], arguments].concat()).run();
    let _ = bob(&["whoami"]).ok();
    let listed = session(&house, "bob");
    has_keys(
        &listed,
        &["name", "coder", "state", "since", "threadId", "pending", "oldestPendingMs", "attached"],
    );
    assert_eq!((&listed["coder"], &listed["state"]), (&"outside".into(), &"stopped".into()));
    let id = sent_id(&house.run(&["send", "bob", "a question"]).ok());
    assert_eq!(session(&house, "bob")["pending"], 1);
    assert_eq!(bob(&["inbox", "--json"]).json()["mails"][0]["id"], *id);
    assert_eq!(state(&house, &id), "queued", "looking takes nothing");
    let read = bob(&["wait", "--json"]).json();
    assert_eq!((&read["mail"]["body"], &read["mail"]["from"]), (&"a question".into(), &"operator".into()));
    assert_eq!(state(&house, &id), "consumed");
    let _ = bob(&["ack", &id]).ok();
    assert_eq!(state(&house, &id), "acked");
    let answer = sent_id(&bob(&["reply", &id, "an answer"]).ok());
    let read = house.run(&["read", &answer, "--json"]).json();
    assert_eq!((&read["mail"]["from"], &read["mail"]["fromKind"]), (&"bob".into(), &"outside".into()));
    // What is between others is none of its business.
    let between = mail_to_operator(&house, "for the operator");
    for arguments in
        [&["read", &*between][..], &["trace", &between], &["inbox", "operator"], &["cancel", &between]]
    {
        let _ = refused(bob(arguments), 1);
    }
    let _ = refused(bob(&["dead"]), 1);
    let removed = house.run(&["remove", "bob"]).ok();
    assert!(removed.stdout.contains("bob"), "{}", removed.evidence());
    let _ = refused(house.run(&["send", "bob", "too late"]), 3);
}

/// LK-7: a name is checked before anything is opened by it, and the names with a meaning of their own are nobody's.
#[test]
fn a_name_outside_the_grammar_or_with_a_meaning_is_refused_and_touches_no_file() {
    let house = House::new();
    let _ = house.run(&["whoami"]).ok();
    let before = listing(&house.bundle_dir().join("identities"));
    for name in ["operator", "outside", "system", "all", "../relay", "/etc/passwd", "A", "", "a b"] {
        let said = refused(house.run(&["--as", name, "whoami"]), 2);
        assert!(said.contains("nobody may be called"), "{said}");
    }
    assert_eq!(listing(&house.bundle_dir().join("identities")), before);
}

/// LK-1, LK-2, LK-3, LK-8, LK-9: a held name is a conflict that names its holder; the kernel tells when the holder is gone, also
/// after kill -9, and then the next claim succeeds at once. Nothing is decided by a file's text, and no lock file is deleted.
#[test]
fn a_held_name_is_a_conflict_that_names_the_holder_until_the_holder_is_gone() {
    let house = House::new();
    let _ = house.run(&["whoami"]).ok();
    let mut holder = house.spawn(&["--as", "bob", "wait", "--timeout", "1h"]);
    house.poll("bob to be there", SOON, || match session_state(&house, "bob") {
        Some(state) if state == "idle" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let error = refused_json(house.run(&["--as", "bob", "whoami", "--json"]), 7, "conflict");
    let said = error["message"].as_str().unwrap_or_default();
    assert!(said.contains(&format!("pid {}", holder.id())) && said.contains("since 20"), "{said}");
    assert!(house.bundle_dir().join("identities/bob.lock").exists());
    holder.kill();
    let who = house.run(&["--as", "bob", "whoami", "--json"]).json();
    assert_eq!(who["name"], "bob");
    assert!(house.bundle_dir().join("identities/bob.lock").exists(), "the lock file stays");
}

/// LK-8, users 17: whoever loses a name by take-over is fenced: what it asks afterwards is refused, and is not done.
#[test]
fn the_operator_takes_a_name_over_and_the_former_holder_is_fenced() {
    let house = House::new();
    let _ = house.run(&["whoami"]).ok();
    let holder = house.spawn(&["--as", "bob", "wait", "--timeout", "1h"]);
    house.poll("bob to be there", SOON, || match session_state(&house, "bob") {
        Some(state) if state == "idle" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let said = refused(agent(&house, &["--as", "bob", "--take-over", "whoami"]).run(), 1);
    assert!(said.contains("only the operator"), "{said}");
    let _ = house.run(&["--as", "bob", "--take-over", "whoami"]).ok();
    let ran = holder.finish(SOON);
    let said = refused(ran, 7);
    assert!(said.contains("was taken over at") && said.contains("nothing was done"), "{said}");
    assert!(house.relay_log().contains("name bob was taken over by pid"), "{}", house.relay_log());
    let told = house.run(&["log", "--json"]).ok().json_lines();
    let claims: Vec<&Value> = told.iter().filter(|event| event["event"] == "nameClaimed").collect();
    let of = |claim: &Value| (claim["name"].clone(), claim["epoch"].clone(), claim["takenOver"].clone());
    assert_eq!(
        claims.iter().map(|claim| of(claim)).collect::<Vec<_>>(),
        [("bob".into(), 1.into(), false.into()), ("bob".into(), 2.into(), true.into())]
    );
    assert!(claims[1]["by"].as_str().is_some_and(|by| by.starts_with("pid ")), "{claims:?}");
    let words = house.run(&["log", "bob"]).ok();
    assert!(words.stdout.contains("bob  name taken over by pid "), "{}", words.evidence());
    let said = refused(house.run(&["log", "somebody"]), 3);
    assert!(said.contains("there is no `somebody`"), "it concerns nobody else: {said}");
    let watch = house.spawn(&["watch", "bob", "--replay", "100", "--json"]);
    watch.wait_for_stdout("\"event\":\"nameReleased\"", SOON);
    assert_eq!(watch.stdout().matches("\"event\":\"nameClaimed\"").count(), 2, "{}", watch.stdout());
}

/// LK-5: after a restart of the relay a name is free again, however its holder ended; a held one is kept for its token for 10 s.
#[test]
fn a_name_that_was_held_when_the_relay_died_is_kept_a_while_and_the_operator_may_take_it() {
    let house = House::new();
    let _ = house.run(&["whoami"]).ok();
    let holder = house.spawn(&["--as", "bob", "wait", "--timeout", "1h", "--no-start"]);
    house.poll("bob to be there", SOON, || match session_state(&house, "bob") {
        Some(state) if state == "idle" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    house.kill_nine(house.relay_pid().expect("a relay runs"));
    let said = refused(house.run(&["--as", "bob", "whoami"]), 7);
    assert!(said.contains("is kept for its holder for 10 s"), "{said}");
    let _ = house.run(&["--as", "bob", "--take-over", "whoami"]).ok();
    let _ = house.run(&["--as", "bob", "whoami"]).ok();
    drop(holder);
}

/// The person's policy: who may write to whom. Refusals are typed, say what is possible, and stand in the log.
#[test]
fn the_policy_says_who_may_write_to_whom() {
    let house = House::new();
    let config = house.config_dir().join("config.toml");
    std::fs::write(&config, "[policy.mail]\nann = [\"bob\"]\noutside = []\n").expect("the configuration");
    for name in ["ann", "bob", "eve"] {
        let _ = house.run(&["--as", name, "whoami"]).ok();
    }
    let _ = house.run(&["--as", "ann", "send", "bob", "allowed"]).ok();
    let _ = house.run(&["--as", "ann", "send", "operator", "always allowed"]).ok();
    let said = refused(house.run(&["--as", "ann", "send", "eve", "not allowed"]), 1);
    assert!(
        said.contains("the policy does not let ann write to eve") && said.contains("bob, operator"),
        "{said}"
    );
    let _ = refused(house.run(&["--as", "eve", "send", "bob", "outside agents may not"]), 1);
    let _ = house.run(&["send", "eve", "the operator may"]).ok();
    assert!(house.relay_log().contains("the policy does not let ann write to eve"), "{}", house.relay_log());
    for (text, why) in [
        ("[policy.allow]\nsettle = [\"ann\"]\n", "unknown key `settle`, expected one of `prompt`"),
        ("[policy.mail]\n\"A b\" = []\n", "which is no name"),
        ("[policy]\nmails = {}\n", "line"),
    ] {
        std::fs::write(&config, text).expect("the configuration");
        let said = refused(house.run(&["list"]), 2);
        assert!(said.contains(why), "{said}");
    }
}

/// LK-4, LK-10, LK-12: what cannot be told counts as held. A lock that some other process has is held, whoever that is; a lock file that
/// cannot be read is no free name; and asking changes no file.
#[test]
fn a_name_whose_lock_somebody_else_has_or_that_cannot_be_read_is_not_free() {
    let house = House::new();
    let _ = house.run(&["--as", "bob", "whoami"]).ok();
    let locks = house.bundle_dir().join("identities");
    let held = std::fs::File::open(locks.join("bob.lock")).expect("the lock file stays");
    held.lock().expect("nobody has it");
    let said = refused(house.run(&["--as", "bob", "whoami"]), 7);
    assert!(said.contains(&format!("is held by pid {}", std::process::id())), "{said}");
    drop(held);
    let _ = house.run(&["--as", "bob", "whoami"]).ok();
    let freed = std::fs::File::open(locks.join("bob.lock")).expect("the lock file stays");
    freed.lock().expect("the relay lets go of it when it has seen its holder go");
    drop(freed);
    std::fs::remove_file(locks.join("bob.lock")).expect("ours");
    std::os::unix::fs::symlink("/dev/null", locks.join("bob.lock")).expect("ours");
    let said = refused(house.run(&["--as", "bob", "whoami"]), 74);
    assert!(said.contains("bob.lock refused: it is a symbolic link"), "{said}");
    let before = listing(&locks);
    let _ = house.run(&["list"]).ok();
    let _ = house.run(&["status"]).ok();
    assert_eq!(listing(&locks), before, "looking changes nothing");
}

/// LK-1, LK-2, LK-3: of 64 processes that claim one name at once exactly one has it, for as long as it lives; killed with -9, it
/// gives it back, and the next claim succeeds at once. `AGENTMUX_ROUNDS` plays more rounds.
#[test]
fn of_64_claims_at_once_one_wins_and_its_death_frees_the_name_at_once() {
    let house = House::new();
    let _ = house.run(&["whoami"]).ok();
    let rounds = support::rounds::rounds(2);
    let begun = std::time::Instant::now();
    for round in 0..rounds {
        let mut claims: Vec<support::Spawned> = (0..64)
            .map(|_| house.spawn(&["--as", "prize", "wait", "--timeout", "1h", "--no-start"]))
            .collect();
        house.poll("63 to be refused", SOON, || {
            match claims.iter().filter(|claim| !claim.has_exited()).count() {
                1 => Ok(()),
                left => Err(format!("round {round}: {left} are left")),
            }
        });
        assert_eq!(session_state(&house, "prize").as_deref(), Some("idle"));
        let at = claims.iter().position(|claim| !claim.has_exited()).expect("one is left");
        let mut winner = claims.swap_remove(at);
        let refused = refused_json(house.run(&["--as", "prize", "whoami", "--json"]), 7, "conflict");
        assert!(
            refused["message"].as_str().is_some_and(|text| text.contains(&format!("pid {}", winner.id()))),
            "{refused}"
        );
        winner.kill();
        let _ = house.run(&["--as", "prize", "whoami"]).ok();
        for claim in claims {
            let _ = claim.finish(SOON).fails(7);
        }
    }
    let each = begun.elapsed().as_millis() / rounds as u128;
    println!("{rounds} rounds of 64 claims: one holder each, free at once after kill -9; {each} ms a round");
}

fn session_state(house: &House, name: &str) -> Option<String> {
    let list = house.run(&["list", "--json"]).json();
    let found = list["sessions"].as_array()?.iter().find(|session| session["name"] == name)?.clone();
    found["state"].as_str().map(str::to_owned)
}
