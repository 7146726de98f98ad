//! Running seeds: one, or many until the first breach; what a failure prints.
//!
//! **Invariant:** a failure names seed, shape, guarantee and the command that replays it, on one line.

use std::fmt;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};

use agentmux::core::planted::Planted;

use crate::guarantee::{Breach, Guarantee};
use crate::shell::ShellBug;
use crate::world::{Counts, World};

/// What is changed in the worlds of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    pub planted: Option<Planted>,
    pub bug: Option<ShellBug>,
    pub is_traced: bool,
}

/// A seed that broke a guarantee.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub shape: &'static str,
    pub lap: u64,
    pub breach: Breach,
    pub steps: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, shape, lap, breach, steps } = self;
        write!(
            f,
            "{steps}\nseed {seed} ({shape}, lap {lap}) breaks {}: {}; replay: AGENTMUX_SIM_SEED={seed} cargo test \
             --test simulation -- --nocapture replay",
            breach.guarantee, breach.what
        )
    }
}

/// Lives through one seed.
pub fn one(seed: u64, options: &Options) -> (World, Option<Failure>) {
    let mut world = World::new(seed);
    world.planted = options.planted;
    world.bug = options.bug;
    world.trace = options.is_traced.then(Default::default);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(why) = outcome {
        let text = why.downcast_ref::<String>().cloned();
        let text = text.or_else(|| why.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.breach(Guarantee::NoPanic, text.unwrap_or_default());
    }
    let failure = world.breach.clone().map(|breach| Failure {
        seed,
        shape: world.shape.kind,
        lap: world.counts.laps,
        breach,
        steps: steps(&world),
    });
    (world, failure)
}

/// Lives through many seeds, until the first failure, which is lived through again with a trace.
pub fn all(seeds: Range<u64>, options: &Options) -> Result<Counts, Failure> {
    let mut counts = Counts::default();
    for seed in seeds {
        let (world, failure) = one(seed, options);
        counts.add(&world.counts);
        if failure.is_some() {
            let traced = Options { is_traced: true, ..*options };
            return Err(one(seed, &traced).1.expect("equal seeds give equal worlds"));
        }
    }
    Ok(counts)
}

/// How many seeds shall run.
pub fn seeds() -> u64 {
    number("AGENTMUX_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT)
}

/// The seed that shall be lived through again.
pub fn seed_to_replay() -> Option<u64> {
    number("AGENTMUX_SIM_SEED")
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("the variable holds a number"))
}

/// The last steps of a traced world.
pub fn steps(world: &World) -> String {
    world.trace.iter().flatten().cloned().collect::<Vec<String>>().join("\n")
}

/// One line of counts.
pub fn summary(counts: &Counts) -> String {
    let Counts { seeds, laps, inputs, mails, crashes, kills, broken_connections, .. } = counts;
    let Counts { duplicates, unknowns, unknowns_consumed, unknowns_requeued, steers, lost_inputs, .. } =
        counts;
    let Counts { prompts, closes, summaries, taken_back, .. } = counts;
    let Counts { our_steers, missed, interrupts, braked, notices, settled, woken, .. } = counts;
    format!(
        "{seeds} seeds: {laps} laps, {inputs} inputs, {mails} deliveries accepted, crashes {crashes:?} (before commit, \
         after commit, after release), {kills} children ended, {broken_connections} connections broken, {lost_inputs} \
         inputs lost by children, {steers} steers ({our_steers} of ours, {missed} too late), {interrupts} interrupts, \
         {braked} braked, {notices} notices, {settled} settled by a person, {woken} turns of woken sessions, \
         {prompts} prompts ({taken_back} taken back), {closes} closes ({summaries} summaries), \
         {unknowns} deliveries unknown ({unknowns_consumed} found consumed, {unknowns_requeued} queued again), \
         {duplicates} told twice where nobody could know"
    )
}

/// Seeds of an ordinary run.
const SEEDS_DEFAULT: u64 = 7_000;
