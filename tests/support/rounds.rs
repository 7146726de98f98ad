//! How often a test that plays with chance plays (a few times in an ordinary run, many times in `scripts/soak`), and its dice.

/// The rounds that `AGENTMUX_ROUNDS` asks for, else `usual`.
///
/// # Panics
/// When the variable holds no number.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("AGENTMUX_ROUNDS").map_or(usual, |text| text.parse().expect("AGENTMUX_ROUNDS is a number"))
}

/// How long a storm shall last, in seconds: what `AGENTMUX_STORM_SECONDS` asks for, else a few.
///
/// # Panics
/// When the variable holds no number.
pub fn storm_seconds() -> u64 {
    let asked = std::env::var("AGENTMUX_STORM_SECONDS").ok();
    asked.map_or(6, |text| text.parse().expect("AGENTMUX_STORM_SECONDS is a number"))
}

/// Draws from a seed (SplitMix64).
#[derive(Debug)]
pub struct Draws(u64);

impl Draws {
    pub fn of(seed: u64) -> Draws {
        Draws(seed)
    }

    /// A number from 0 to below the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    /// Lets a random part of this time pass: what comes next comes at any moment.
    pub fn moment(&mut self, longest: std::time::Duration) {
        let micros = self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX).max(1));
        let then = std::time::Instant::now() + std::time::Duration::from_micros(micros);
        while std::time::Instant::now() < then {
            std::hint::spin_loop();
        }
    }
}
