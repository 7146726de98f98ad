//! Generated input from a fixed seed: a run that passes passes again, and a failing one can be replayed.
//!
//! `PROPTEST_RNG_SEED=<n>` draws another one; `scripts/soak` plays some.

use proptest::test_runner::{Config, RngSeed};

/// A configuration with so many cases and a fixed seed.
pub fn seeded(cases: u32) -> Config {
    let default = Config::default();
    let rng_seed = match default.rng_seed {
        RngSeed::Random => RngSeed::Fixed(1),
        fixed => fixed,
    };
    Config { cases, failure_persistence: None, rng_seed, ..default }
}
