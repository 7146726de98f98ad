//! `agentmux selftest`: a start is broken at its system calls, in a scratch directory, and the next command must not mind.

use crate::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// Far beyond what a loaded machine needs; how fast it really is, is measured by `scripts/soak`.
const PATIENT: [&str; 2] = ["--patience", "30s"];

/// BS-1, BS-2, BS-10, BS-16, PX-1, PX-2, PX-3, PX-7: whoever is killed, stopped or told to leave, and wherever in a start, the
/// next command starts the one relay or reaches it, and no accepted mail is lost. All calls: `scripts/soak`.
#[test]
fn wherever_a_start_is_broken_the_next_command_succeeds() {
    let house = House::new();
    let ran = house.call(&[&["selftest", "--json", "--rounds", "25", "--seed", "1"][..], &PATIENT].concat());
    let report = versioned(&ran.deadline(SOON * 4).run(), &["overallStatus", "seed", "rounds", "rows"]);
    let rows = report["rows"].as_array().expect("rows");
    println!(
        "{} rounds in {} rows: {}; the slowest next command took {} ms",
        report["rounds"],
        rows.len(),
        report["overallStatus"],
        report["slowestNextMs"]
    );
    for row in rows {
        assert_eq!(
            keys(row),
            ["id", "step", "fault", "rounds", "status", "details", "durationMs"],
            "names that stay"
        );
        // Where tracing is forbidden nothing can be shown, and that is what it says.
        let tried = row["status"] == "ok";
        assert!(tried || row["status"] == "warning" && row["rounds"] == 0, "{row}");
    }
    let bad: Vec<&Value> = rows.iter().filter(|row| row["status"] == "fail").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(left_behind(&house), Vec::<PathBuf>::new());
}

#[test]
fn a_selftest_leaves_the_persons_own_bundle_alone_and_prints_a_table() {
    let house = House::new();
    let _ = mail_to_operator(&house, "mine");
    let ran = touches_nothing(&house, || {
        let words = ["selftest", "--rounds", "3", "--seed", "7"];
        house.call(&[&words[..], &PATIENT].concat()).deadline(SOON * 2).run()
    })
    .ok();
    assert!(
        ran.stdout.starts_with("STATUS ") && ran.stdout.contains("3 rounds (seed 7)"),
        "{}",
        ran.evidence()
    );
    assert_eq!(left_behind(&house), Vec::<PathBuf>::new());
}

/// The tester is tested: relays that do not stay are told, row by row, with exit 1.
#[test]
fn a_relay_that_does_not_stay_fails_its_rows() {
    let house = House::new();
    let over = AtomicBool::new(false);
    let ran = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // The first five places are for measuring and counting.
                scratch_relays(&house, 5).into_iter().for_each(|pid| {
                    let _ = kill(pid, Signal::SIGKILL);
                });
            }
        });
        let words = ["selftest", "--json", "--rounds", "8", "--seed", "3"];
        let ran = house.call(&[&words[..], &PATIENT].concat()).deadline(SOON * 2).run();
        over.store(true, Ordering::Relaxed);
        ran
    })
    .fails(1);
    let report: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let bad = |row: &&Value| row["status"] == "fail";
    let bad: Vec<&Value> = report["rows"].as_array().into_iter().flatten().filter(bad).collect();
    assert_eq!(report["overallStatus"], "fail", "{report}");
    assert!(!bad.is_empty() && bad.iter().all(|row| !row["details"].as_str().unwrap_or("").is_empty()));
    assert_eq!(left_behind(&house), Vec::<PathBuf>::new());
}

#[test]
fn a_killed_selftest_leaves_nothing_behind() {
    let house = House::new();
    for signal in [Signal::SIGKILL, Signal::SIGINT] {
        let selftest = house.spawn(&["selftest", "--all"]);
        house.poll("rounds with relays", SOON, || match scratch_relays(&house, 8).len() {
            0 => Err(selftest.stderr()),
            _ => Ok(()),
        });
        selftest.signal(signal);
        let _ = selftest.finish(SOON);
        house.poll("the janitor", SOON, || match (left_behind(&house), scratch_relays(&house, 0)) {
            (dirs, relays) if dirs.is_empty() && relays.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        house.wait_until_empty(SOON);
    }
}

#[test]
fn a_directory_that_is_no_scratch_directory_is_never_cleared() {
    let house = House::new();
    let mine = house.dir().join("mine");
    fs::create_dir(&mine).expect("the house is writable");
    let path = mine.to_str().expect("UTF-8");
    let text = refused(house.run(&["selftest", "--janitor", path]), 2);
    assert!(text.contains("no scratch directory") && mine.is_dir(), "{text}");
    let _ = refused(house.run(&["selftest", "--rounds", "2", "--all"]), 2);
}

/// What selftests have not removed.
fn left_behind(house: &House) -> Vec<PathBuf> {
    let entries = fs::read_dir(house.dir().join("tmp")).expect("a room of the house");
    entries.flatten().map(|entry| entry.path()).collect()
}

/// The relays that run in the scratch directories of this house, in places of this number or a higher one.
fn scratch_relays(house: &House, first: u32) -> Vec<Pid> {
    let below = house.dir().join("tmp");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("a Linux /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<String> =
            words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let state = words.iter().skip_while(|word| *word != "--state-dir").nth(1).map(PathBuf::from);
        let place = state.as_ref().and_then(|state| state.strip_prefix(&below).ok()?.iter().nth(1)?.to_str());
        let number: Option<u32> = place.and_then(|place| place.parse().ok());
        if words.get(1).is_some_and(|word| word == "host") && number.is_some_and(|number| number >= first) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}
