//! Upgrade: a relay hands over to a newer one; no child ends, no accepted mail is lost or doubled, nobody who waits or sends is let
//! down.

use super::support::call::{Ran, Spawned};
use super::support::model::Rule;
use super::{DEADLINE, child_pid, house_with_reviewer, text_of, traced};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Users 11: commands that send while the relay is replaced ten times see no error and make one mail each; a turn that runs all the while
/// stays the one turn of its one claim; what failed because it was not allowed to wait for the next relay is there at most once.
#[test]
fn ten_replacements_under_load_keep_every_mail_exactly_once_and_show_no_sender_an_error() {
    const SENDERS: usize = 3;
    let (model, house) = house_with_reviewer();
    let _ = house.run(&["spawn", "lead"]).ok();
    model.script([Rule::user("begin")
        .exec("while [ ! -e go ]; do sleep 0.05; done; echo through-it-all")
        .reply("done")]);
    let child = child_pid(&house);
    let begun = house.run(&["send", "lead", "begin", "--wait", "--json"]).ok().json();
    let (begun, turn) = (text_of(&begun["id"]), begun["deliveries"][0]["turnId"].clone());
    assert!(turn.is_string(), "{turn}");
    let waiting = house.spawn(&["send", "lead", "said before the first", "--wait", "--timeout", "60s"]);

    let over = AtomicBool::new(false);
    let mut relays: Vec<Spawned> = Vec::new();
    let mut pids = BTreeSet::from([house.relay_pid()]);
    let (sent, hasty) = std::thread::scope(|scope| {
        let _over = Raised(&over);
        // Each goes on through all ten; what one sends is numbered.
        let send = |sender: usize, more: &'static [&'static str]| {
            let (house, over) = (&house, &over);
            move || {
                let mut done: Vec<(String, Ran)> = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let text = format!("load {sender}-{} of many", done.len());
                    let words = [&["send", "reviewer", text.as_str()][..], more].concat();
                    done.push((text.clone(), house.run(&words)));
                }
                done
            }
        };
        let senders: Vec<_> = (0..SENDERS).map(|sender| scope.spawn(send(sender, &[]))).collect();
        let hasty = scope.spawn(send(SENDERS, &["--no-start"]));
        for _ in 0..10 {
            let before = house.relay_pid();
            relays.push(house.spawn(&["host", "relay", "--replace"]));
            let pid = house.poll("the next relay", DEADLINE, || match house.relay_pid() {
                pid if pid.is_some() && pid != before => Ok(pid),
                pid => Err(format!("{pid:?}")),
            });
            pids.insert(pid);
        }
        over.store(true, Ordering::Relaxed);
        let sent: Vec<(String, Ran)> =
            senders.into_iter().flat_map(|sender| sender.join().expect("it sends")).collect();
        (sent, hasty.join().expect("it sends"))
    });
    assert_eq!(pids.len(), 11, "eleven relays, one after the other");
    for (_, ran) in &sent {
        assert!(ran.code == 0 && !ran.stderr.contains("error:"), "{}", ran.evidence());
    }
    for (_, ran) in &hasty {
        assert!([0, 5, 75].contains(&ran.code), "{}", ran.evidence());
    }
    let ids: BTreeSet<&str> = sent.iter().map(|(_, ran)| ran.stdout.trim_end()).collect();
    assert_eq!(ids.len(), sent.len(), "each has an id of its own");
    assert_eq!(child_pid(&house), child, "the child was handed on");
    assert_eq!(traced(&house, &begun)["turnId"], turn);

    std::fs::write(house.project().join("go"), "").expect("the project is writable");
    let _ = waiting.finish(DEADLINE).ok();
    // Mail is consumed before the model is asked; it has been when the turn is over.
    house.poll("all mail to be read", DEADLINE, || {
        let status = house.run(&["status", "--json"]).ok().json();
        let open = ["queued", "claimed", "unknown"].iter().any(|state| status["mail"][state] != 0);
        let busy =
            status["sessions"].as_array().into_iter().flatten().any(|session| session["state"] != "idle");
        if open || busy { Err(status.to_string()) } else { Ok(()) }
    });
    assert_eq!(child_pid(&house), child, "to the end");
    let _ = house.run(&["down"]).ok();
    for relay in relays {
        let _ = relay.finish(DEADLINE).ok();
    }

    let store = rusqlite::Connection::open(house.bundle_dir().join("mail.db")).expect("the store");
    let count = |query: &str, text: &str| -> usize {
        store.query_row(query, [text], |row| row.get::<_, i64>(0)).expect("a count") as usize
    };
    let mails = |text: &str| count("SELECT count(*) FROM mails WHERE body = ?1", text);
    let claims = |text: &str| {
        let claimed = "SELECT count(*) FROM claim_mails JOIN deliveries ON deliveries.id = delivery JOIN mails ON mails.id = mail WHERE body = ?1";
        count(claimed, text)
    };
    let mut found = 0;
    for (text, ran) in sent.iter().chain(&hasty) {
        let (stored, read) = (mails(text), model.times_read(text));
        found += stored;
        assert!(stored == 1 || stored == 0 && ran.code != 0, "{stored} of `{text}`\n{}", ran.evidence());
        assert_eq!(read, stored, "`{text}` was read {read} times\n{}", ran.evidence());
    }
    assert_eq!(count("SELECT count(*) FROM mails WHERE body LIKE ?1", "load %"), found, "and no others");
    assert_eq!(claims("begin"), 1, "the claim of the turn that ran through it all");
    assert_eq!(count("SELECT count(*) FROM children WHERE why IS NOT ?1", ""), 1, "one child in all");
    let failed = hasty.iter().filter(|(_, ran)| ran.code != 0).count();
    println!("{} sent without an error, {} in haste, of which {failed} failed", sent.len(), hasty.len());
}

struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
