//! Besieges the relay at a socket with hostile inputs and judges it: what `scripts/soak` runs.
//!
//! `siege SOCKET INPUTS SEED [AGENTMUX]`: exits with 1 when the relay has grown by 20 MB; and, with a program, when the 99th percentile
//! of its `list` is more than three times what it was undisturbed in the same run. Without one, a connection that stays open asks, whose
//! undisturbed answers take some 0.05 ms: its figures are shown and not judged, because one long line that is read costs more.
//!
//! **Invariant:** the inputs are those of the short form in `tests/wire`.

use std::path::Path;
use std::process::ExitCode;

#[path = "../tests/support/inputs.rs"]
mod inputs;
#[path = "../tests/support/siege.rs"]
mod siege;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (socket, count, seed, program) = match &words[..] {
        [socket, count, seed] => (socket, count, seed, None),
        [socket, count, seed, program] => (socket, count, seed, Some(Path::new(program))),
        _ => panic!("usage: siege SOCKET INPUTS SEED [AGENTMUX]"),
    };
    let number = |text: &String| text.parse().expect("a number");
    let siege = siege::Siege::play(Path::new(socket), number(count) as usize, number(seed), program);
    println!("{}", siege.text());
    let is_well = siege.growth_kib() < GROWTH_KIB && (program.is_none() || siege.ratio() <= RATIO_MAX);
    ExitCode::from(u8::from(!is_well))
}

const GROWTH_KIB: u64 = 20 * 1024;
const RATIO_MAX: f64 = 3.0;
