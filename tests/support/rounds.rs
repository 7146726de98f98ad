//! How often a test that plays with chance plays: a few times in an ordinary run, many times in `scripts/soak`.

/// The rounds that `AGENTMUX_ROUNDS` asks for, else `usual`.
///
/// # Panics
/// When the variable holds no number.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("AGENTMUX_ROUNDS").map_or(usual, |text| text.parse().expect("AGENTMUX_ROUNDS is a number"))
}
