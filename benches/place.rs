//! What every bench needs of the relay that it measures: where it is, which process it is, a connection, and what `/proc` says.
//!
//! **Invariant:** a line is timed from its writing to the last byte of its answer, and an answer that is a refusal ends the bench.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The house of `scripts/bench`, and the bundle in it that is measured.
pub struct Place {
    pub agentmux: PathBuf,
    pub house: PathBuf,
    pub bundle: PathBuf,
}

impl Place {
    /// Reads the first two words of a bench, and takes a bundle by its name.
    pub fn of(words: &mut impl Iterator<Item = String>, usage: &str, bundle: &str) -> Place {
        let mut word = || words.next().unwrap_or_else(|| panic!("usage: {usage}"));
        let (house, agentmux) = (PathBuf::from(word()), PathBuf::from(word()));
        Place { agentmux, bundle: house.join("state/bundles").join(bundle), house }
    }

    /// The relay, if it runs.
    pub fn relay_pid(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.bundle.join("relay.lock")).ok()?;
        let pid: i32 = text.lines().find_map(|line| line.strip_prefix("pid="))?.parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// A connection that has said hello.
    pub fn connect(&self) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(self.bundle.join("relay.sock")).expect("the relay listens");
        let mut relay = BufReader::new(stream);
        let hello = r#"{"jsonrpc":"2.0","id":0,"method":"hello","params":{"client":"bench","version":"0","protocolMin":1,"protocolMax":1}}"#;
        round_trip(&mut relay, hello);
        relay
    }
}

/// Writes a line and waits for its answer.
pub fn round_trip(peer: &mut BufReader<UnixStream>, line: &str) -> Duration {
    let began = Instant::now();
    peer.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the peer listens");
    let mut answer = String::new();
    peer.read_line(&mut answer).expect("the peer answers");
    let took = began.elapsed();
    assert!(answer.contains("\"result\""), "{answer}");
    took
}

/// A number that `/proc` keeps of a process, such as `VmRSS:` of `status` in KiB.
pub fn status_field(pid: i32, file: &str, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
