//! How often a test that plays with chance plays: a few times in an ordinary run, many times in `scripts/soak`.

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
