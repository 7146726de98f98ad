//! Deterministic simulation: the real core, an in-memory disk, children and clients as scripts, thousands of seeds in seconds.
//!
//! Each seed draws a world (`shape`), lives through a safety phase with crashes, deaths and silence, then through a liveness
//! phase without faults in which everything must converge (`phases`). What clients and children really saw is kept apart
//! (`witness`) and compared with what the relay stored and said. A failing seed prints one command that replays it, traced.
//!
//! `AGENTMUX_SIM_SEEDS` sets how many seeds run, `AGENTMUX_SIM_SEED` which one `replay` lives through.
//!
//! **Invariant:** no wall clock, no sleep, no thread, and no randomness but a seed's.

mod approvals;
mod children;
mod clients;
mod codex;
mod disk;
mod endings;
mod failing;
mod guarantee;
mod hangs;
mod loader;
mod names;
mod orders;
mod pauses;
mod phases;
mod plain;
mod planted;
mod random;
mod requests;
mod run;
mod shape;
mod shell;
mod stories;
mod story;
mod witness;
mod world;

/// Thousands of seeds keep every guarantee, with the relay crashing at every point of its lap. Stands for the queue that
/// loses claimed mail and orders by chance (SQ-4, SQ-5, SQ-6, SQ-9, SQ-13), and for threads that stay busy for ever (NB-5).
#[test]
fn every_seed_keeps_every_guarantee() {
    let seeds = run::seeds();
    let counts = run::all(0..seeds, &run::Options::default()).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{}", run::summary(&counts));
    if seeds >= 1_000 {
        assert!(
            counts.crashes.iter().all(|crashes| *crashes > 0),
            "every crash point is reached: {counts:?}"
        );
        let rare = [
            counts.kills,
            counts.duplicates,
            counts.unknowns_consumed,
            counts.unknowns_requeued,
            counts.our_steers,
            counts.missed,
            counts.interrupts,
            counts.braked,
            counts.notices,
            counts.settled,
            counts.woken,
            counts.prompts,
            counts.closes,
            counts.summaries,
            counts.taken_back,
            counts.reboots,
        ];
        assert!(rare.iter().all(|count| *count > 0), "the rare cases happen: {counts:?}");
    }
}

/// Lives through the one seed of `AGENTMUX_SIM_SEED`, and prints its last steps.
#[test]
fn replay() {
    let Some(seed) = run::seed_to_replay() else { return };
    let options = run::Options { is_traced: true, ..run::Options::default() };
    let (world, failure) = run::one(seed, &options);
    println!("{}", run::steps(&world));
    println!("{}", run::summary(&world.counts));
    if let Some(failure) = failure {
        panic!("{failure}");
    }
}
