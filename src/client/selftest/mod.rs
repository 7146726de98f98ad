//! `selftest`: breaks a start at its system calls, one after the other, and looks whether the next command minds.
//!
//! The calls are counted first, then each round kills or stops the client or the relay before one of them, in a scratch
//! directory of its own. With all of them the proof is complete: there is no other moment that another process could see.
//!
//! **Invariant:** the product has no hooks for this; what is broken is the program as it is installed. **Invariant:** what
//! could not be tried is a warning, never an ok.

mod round;
mod scratch;
mod step;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::boot::tracer::{Role, Traced};
use crate::model::fault::Fault;
use round::{Ground, Harm, Patience, Plan, Played};
pub use scratch::janitor;
use scratch::{Place, Scratch};
use step::{SPAWN, STEPS, Track};

/// How much to try.
#[derive(Debug, Clone)]
pub struct Options {
    /// So many rounds, spread over the rows; each row once without it.
    pub rounds: Option<usize>,
    /// Every call of both processes with every harm, in place of a choice.
    pub all: bool,
    /// What the choice depends on.
    pub seed: u64,
    /// How much longer than a normal start the next command may take.
    pub patience: Duration,
}

/// What came of it all.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The worst of the rows.
    pub overall_status: Status,
    /// Replays the same choice.
    pub seed: u64,
    /// Rounds played.
    pub rounds: usize,
    /// System calls of client and relay in one start, on both grounds.
    pub boundaries: usize,
    /// A start without any harm.
    pub normal_start_ms: u64,
    /// The slowest command that had to succeed after a harm.
    pub slowest_next_ms: u64,
    /// One for each step and harm.
    pub rows: Vec<Row>,
}

/// One step of the start with one harm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// A name that stays.
    pub id: String,
    /// What the process is doing.
    pub step: &'static str,
    /// What happens to it.
    pub fault: &'static str,
    /// Rounds played.
    pub rounds: usize,
    /// How they went.
    pub status: Status,
    /// What was wrong, or how long the next command took.
    pub details: String,
    /// How long the rounds took together.
    pub duration_ms: u64,
}

/// How a row went; the worst comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As promised.
    Ok,
    /// It could not be tried.
    Warning,
    /// A promise was broken.
    Fail,
}

/// A row while it is played.
#[derive(Debug, Default)]
struct Tally {
    rounds: usize,
    slowest: Duration,
    spent: Duration,
    wrong: Vec<String>,
    not_tried: Vec<String>,
}

/// Rows by step and harm.
type Rows = BTreeMap<(usize, Harm), Tally>;

/// Plays the rounds.
///
/// # Errors
/// `io` when there is no place to play, or when not even a start without any harm succeeds.
pub fn run(options: &Options) -> Result<Report, Fault> {
    let scratch = Scratch::new()?;
    let failed = |error: std::io::Error| Fault::io(format!("selftest failed: {error}"));
    let places = AtomicUsize::new(0);
    let place = || scratch.place(places.fetch_add(1, Ordering::Relaxed));
    let normal = normal_start(&place).map_err(failed)??;
    let patience = Patience { normal, more: options.patience };
    // Tracing belongs to one thread; none of it is done by this one, whose child the janitor is.
    let counted = on_a_thread(|| count_calls(&place));
    let calls = match counted {
        Ok(calls) => calls,
        Err(error) => return Ok(untried(options, normal, &error)),
    };
    let plans = choose(&calls, options);
    let rows: Mutex<Rows> =
        Mutex::new(plans.iter().map(|plan| ((plan.step, plan.harm), Tally::default())).collect());
    let next = AtomicUsize::new(0);
    // Rounds with a stopped process mostly wait.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get() * 3).min(8);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = Instant::now();
                    let played = place().and_then(|place| round::play(&place, *plan, patience));
                    let mut rows = rows.lock().expect("no worker panics");
                    note(&mut rows, plan, played, begun.elapsed());
                }
            });
        }
    });
    let rows = rows.into_inner().expect("no worker panics");
    Ok(report(options, normal, calls.len(), rows))
}

/// The median of a few starts without any harm.
fn normal_start(place: &impl Fn() -> std::io::Result<Place>) -> std::io::Result<Result<Duration, Fault>> {
    let mut took = Vec::new();
    for _ in 0..3 {
        let place = place()?;
        let ran = place.run(place.send())?;
        if ran.code != Some(0) {
            return Ok(Err(Fault::io(format!(
                "selftest failed: a start without any harm failed: {}",
                ran.stderr
            ))));
        }
        took.push(ran.took);
    }
    took.sort_unstable();
    Ok(Ok(took[1]))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().expect("it does not panic"))
}

/// One call of a start: on which ground, whose, its number, its step.
type Counted = (Ground, Role, usize, usize);

/// Runs a start on each ground and counts its calls.
fn count_calls(place: &(impl Fn() -> std::io::Result<Place> + Sync)) -> std::io::Result<Vec<Counted>> {
    let mut calls = Vec::new();
    for ground in [Ground::Fresh, Ground::Stale] {
        let place = place()?;
        round::lay(&place, ground)?;
        let (mut traced, _child) = Traced::start(place.send())?;
        let mut track = Track::default();
        let _ = traced.run_until(|boundary| {
            calls.push((ground, boundary.role, boundary.number, track.step(boundary)));
            false
        });
        traced.release(None);
    }
    Ok(calls)
}

/// Which rounds are played.
fn choose(calls: &[Counted], options: &Options) -> Vec<Plan> {
    let harms = |role: Role| match role {
        Role::Client => &[Harm::Killed, Harm::Stopped][..],
        Role::Relay => &[Harm::Killed, Harm::BothKilled, Harm::Stopped, Harm::ToldToLeave][..],
    };
    let every = calls.iter().flat_map(|&(ground, role, number, step)| {
        harms(role).iter().map(move |&harm| Plan { ground, role, number, step, harm })
    });
    // Who stops the copy stops the client, which waits for it in the kernel: such a round would show nothing.
    let every = every.filter(|plan| !(plan.harm == Harm::Stopped && STEPS[plan.step].id == SPAWN));
    if options.all {
        return every.collect();
    }
    let mut rows: BTreeMap<(usize, Harm), Vec<Plan>> = BTreeMap::new();
    for plan in every {
        rows.entry((plan.step, plan.harm)).or_default().push(plan);
    }
    let mut seed = options.seed;
    let mut rows: Vec<Vec<Plan>> = rows.into_values().collect();
    let rounds = options.rounds.unwrap_or(rows.len());
    rows.sort_by_cached_key(|_| draw(&mut seed));
    (0..rounds)
        .filter_map(|round| {
            let row = rows.get(round % rows.len().max(1))?;
            row.get(draw(&mut seed) as usize % row.len()).copied()
        })
        .collect()
}

/// The next number of a seed (splitmix64).
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}

fn note(rows: &mut Rows, plan: &Plan, played: std::io::Result<Option<Played>>, spent: Duration) {
    let step = played.as_ref().ok().and_then(Option::as_ref).map_or(plan.step, |played| played.step);
    let tally = rows.entry((step, plan.harm)).or_default();
    tally.spent += spent;
    match played {
        Ok(Some(played)) => {
            tally.rounds += 1;
            tally.slowest = tally.slowest.max(played.took);
            if !played.wrong.is_empty() {
                tally.wrong.push(format!("{} ({:?}): {}", played.at, plan.ground, played.wrong.join("; ")));
            }
        }
        // The number of calls differs a little from start to start.
        Ok(None) => {}
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            tally.not_tried.push(error.to_string());
        }
        Err(error) => tally.wrong.push(format!("no round was possible: {error}")),
    }
}

fn report(options: &Options, normal: Duration, boundaries: usize, rows: Rows) -> Report {
    let rounds = rows.values().map(|tally| tally.rounds).sum();
    let slowest = rows.values().map(|tally| tally.slowest).max().unwrap_or_default();
    let rows: Vec<Row> = rows.into_iter().map(|((step, harm), tally)| row(step, harm, tally)).collect();
    let overall_status = rows.iter().map(|row| row.status).max().unwrap_or(Status::Warning);
    Report {
        overall_status,
        seed: options.seed,
        rounds,
        boundaries,
        normal_start_ms: normal.as_millis() as u64,
        slowest_next_ms: slowest.as_millis() as u64,
        rows,
    }
}

fn row(step: usize, harm: Harm, tally: Tally) -> Row {
    let step = &STEPS[step];
    let (id, fault) = match (harm, step.role) {
        (Harm::Killed, Role::Client) => ("killed", "client killed"),
        (Harm::Stopped, Role::Client) => ("stopped", "client stopped"),
        (Harm::Killed, Role::Relay) => ("killed", "relay killed"),
        (Harm::Stopped, Role::Relay) => ("stopped", "relay stopped"),
        (Harm::BothKilled, _) => ("both-killed", "both killed"),
        (Harm::ToldToLeave, _) => ("signalled", "relay told to leave"),
    };
    let (status, details) = if !tally.wrong.is_empty() {
        (Status::Fail, format!("{} of {} rounds: {}", tally.wrong.len(), tally.rounds, tally.wrong[0]))
    } else if let Some(why) = tally.not_tried.first() {
        (Status::Warning, format!("not tried: {why}"))
    } else if tally.rounds == 0 {
        (Status::Warning, "not tried: the start was over before".to_owned())
    } else {
        (Status::Ok, format!("the next command succeeded within {} ms", tally.slowest.as_millis()))
    };
    Row {
        id: format!("{}-{id}", step.id),
        step: step.name,
        fault,
        rounds: tally.rounds,
        status,
        details,
        duration_ms: tally.spent.as_millis() as u64,
    }
}

/// The report of a machine where nothing could be tried.
fn untried(options: &Options, normal: Duration, error: &std::io::Error) -> Report {
    let why = format!("tracing a command of our own failed: {error}");
    let mut rows = Rows::new();
    for (index, step) in STEPS.iter().enumerate() {
        for plan in choose(&[(Ground::Fresh, step.role, 0, index)], &Options { all: true, ..options.clone() })
        {
            rows.entry((index, plan.harm)).or_default().not_tried.push(why.clone());
        }
    }
    report(options, normal, 0, rows)
}
