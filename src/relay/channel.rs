//! What is said to one child and heard from it: its connection, made again when it breaks, its transport, its log.
//!
//! **Invariant:** what a child has said before its connection broke is heard.

use std::fs::File;

use super::link::Link;
use crate::core::input::Input;
use crate::model::child::ChildEvent;
use crate::model::clock::Millis;
use crate::model::id::Nonce;
use crate::model::limits;
use crate::transport::Transport;

/// The channel to a child.
#[derive(Debug)]
pub struct Channel {
    /// Speaks the child's language.
    pub transport: Box<dyn Transport>,
    /// When to try to connect next.
    pub retry: Option<Millis>,
    log: Option<File>,
    link: Option<Link>,
    /// How long to wait after an attempt that fails.
    pause_ms: i64,
    /// When the last connection was made.
    linked_at: Millis,
    flood: Flood,
}

/// How much a child says.
#[derive(Debug, Default)]
struct Flood {
    since: Option<Millis>,
    messages: u64,
    bytes: u64,
    /// Of those, what cannot be read.
    garbled: u64,
}

impl Flood {
    fn hear(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// Counts a message that cannot be read; true for the first one in a while, which is told.
    fn hear_garbled(&mut self) -> bool {
        self.garbled += 1;
        self.garbled == 1
    }

    /// What has been said, once it is more than anybody can have to say in that time; then it is counted anew.
    fn found(&mut self, now: Millis) -> Option<String> {
        let since = *self.since.get_or_insert(now);
        let is_flood = self.messages > limits::CHILD_FLOOD_MESSAGES || self.bytes > limits::CHILD_FLOOD_BYTES;
        let is_garbage = self.garbled > limits::CHILD_GARBLED_MAX;
        if !is_flood && !is_garbage && now.since(since) < limits::CHILD_FLOOD_MS {
            return None;
        }
        let said = std::mem::take(self);
        let (mib, s) = (said.bytes / 1024 / 1024, now.since(since) / 1000);
        if is_garbage {
            return Some(format!("{} messages in {s} s that cannot be read", said.garbled));
        }
        is_flood.then(|| format!("{} messages with {mib} MiB in {s} s", said.messages))
    }
}

impl Channel {
    /// Nothing is connected yet.
    pub fn new(transport: Box<dyn Transport>, log: Option<File>) -> Channel {
        let (pause_ms, retry) = (limits::CHILD_CONNECT_MS_MIN, Some(Millis(0)));
        Channel { transport, retry, log, link: None, pause_ms, linked_at: Millis(0), flood: Flood::default() }
    }

    /// A connection was made.
    pub fn open(&mut self, link: Link, now: Millis) {
        self.retry = None;
        self.linked_at = now;
        let is_open = link.is_open();
        self.link = Some(link);
        if is_open {
            self.transport.on_open();
        }
    }

    /// The connection broke. One that hangs up again and again is called less and less often.
    pub fn close(&mut self, now: Millis) {
        self.link = None;
        if now.since(self.linked_at) >= limits::CHILD_LINK_STEADY_MS {
            self.pause_ms = limits::CHILD_CONNECT_MS_MIN;
        }
        self.wait(now, limits::RETRY_MS_MAX);
    }

    /// Tries to connect after a pause, and after a longer one the next time.
    pub fn wait(&mut self, now: Millis, longest_ms: i64) {
        self.retry = Some(now.plus(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(longest_ms);
    }

    /// Does what can be done on the socket; true when messages were left for the next lap.
    pub fn exchange(&mut self, nonce: Nonce, inputs: &mut Vec<Input>) -> Result<bool, String> {
        let Some(link) = &mut self.link else { return Ok(false) };
        if !link.is_open() {
            if !link.shake()? {
                return Ok(false);
            }
            self.transport.on_open();
        }
        self.pump(nonce, inputs)?;
        let mut bytes = 0;
        for _ in 0..limits::CHILD_MESSAGES_PER_LAP {
            let Some(link) = &mut self.link else { return Ok(false) };
            let Some(text) = link.read()? else { return Ok(false) };
            bytes += text.len();
            self.flood.hear(text.len());
            self.transport.on_message(&text);
            self.pump(nonce, inputs)?;
            if bytes > limits::CHILD_BYTES_PER_LAP {
                break;
            }
        }
        Ok(true)
    }

    /// What the child has said, if it is too much.
    pub fn flood(&mut self, now: Millis) -> Option<String> {
        self.flood.found(now)
    }

    /// Passes on what the transport has to say, in both directions.
    pub fn pump(&mut self, nonce: Nonce, inputs: &mut Vec<Input>) -> Result<(), String> {
        while let Some(event) = self.transport.next_event() {
            match &event {
                ChildEvent::Unusable { why } => log::warn!("child {nonce}: {why}"),
                // One that goes on is ended like one that floods; the log is not for what it says.
                ChildEvent::Garbled { why } if self.flood.hear_garbled() => {
                    log::warn!(
                        "child {nonce} said what cannot be read (more of that is only counted): {why}"
                    );
                }
                ChildEvent::CompactRefused { session, why, .. } => {
                    log::warn!("child {nonce} would not sum the context of {session} up: {why}");
                }
                ChildEvent::AskRefused { method, .. } => {
                    log::warn!("child {nonce} asked what nobody here answers: {method}");
                }
                _ => {}
            }
            inputs.push(Input::Child { nonce, event });
        }
        let Some(link) = self.link.as_mut().filter(|link| link.is_open()) else { return Ok(()) };
        while let Some(message) = self.transport.next_message() {
            link.write(message)?;
        }
        link.flush()
    }

    /// Cuts its errors to nothing when they have grown too long.
    pub fn bound_log(&self) {
        if let Some(log) = &self.log
            && log.metadata().is_ok_and(|meta| meta.len() > limits::CHILD_LOG_BYTES_MAX)
        {
            let _ = log.set_len(0);
        }
    }

    /// The last lines of its errors, in one.
    pub fn last_words(&self) -> String {
        self.log.as_ref().map(last_lines).unwrap_or_default()
    }
}

/// The last lines of a file, each cut.
fn last_lines(log: &File) -> String {
    use std::os::unix::fs::FileExt;
    let length = log.metadata().map_or(0, |meta| meta.len());
    let tail_bytes = length.min(limits::CHILD_WORDS_BYTES_READ);
    let mut tail = vec![0; tail_bytes as usize];
    if log.read_exact_at(&mut tail, length - tail_bytes).is_err() {
        return String::new();
    }
    let plain = |line: &str| -> String {
        let line = without_colours(line.trim());
        line.chars().filter(|c| !c.is_control()).take(limits::CHILD_WORDS_CHARS_MAX).collect()
    };
    let text = String::from_utf8_lossy(&tail);
    let lines = text.lines().rev().map(plain).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.take(limits::CHILD_WORDS_LINES).collect();
    lines.reverse();
    lines.join(" | ")
}

/// A line without the sequences (`ESC [ … letter`) that colour it on a terminal.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    let is_end = |c: char| ('@'..='~').contains(&c);
    parts.fold(first, |text, part| text + part.split_once(is_end).map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_more_than_the_limit_in_one_window() {
        let most = limits::CHILD_FLOOD_MESSAGES;
        let at = |ms: i64| Millis(ms);
        let mut flood = Flood::default();
        assert_eq!(flood.found(at(0)), None);
        // As much as is allowed, window after window.
        for window in 1..4 {
            (flood.messages, flood.bytes) = (most, limits::CHILD_FLOOD_BYTES);
            assert_eq!(flood.found(at(window * limits::CHILD_FLOOD_MS)), None);
            assert_eq!((flood.messages, flood.bytes), (0, 0), "counted anew");
            assert_eq!(flood.found(at(window * limits::CHILD_FLOOD_MS)), None);
        }
        let now = at(4 * limits::CHILD_FLOOD_MS - 1);
        flood.messages = most;
        flood.hear(3 * 1024 * 1024);
        let said = format!("{} messages with 3 MiB in 59 s", most + 1);
        assert_eq!(flood.found(now), Some(said));
        assert_eq!(flood.found(now), None, "said once");
        flood.bytes = limits::CHILD_FLOOD_BYTES;
        flood.hear(1);
        assert!(flood.found(now).is_some());
    }

    #[test]
    fn garbage_is_told_once_and_more_of_it_than_the_limit_is_found() {
        let mut flood = Flood::default();
        for window in 0..3 {
            let now = Millis(window * limits::CHILD_FLOOD_MS);
            let told = (0..limits::CHILD_GARBLED_MAX).filter(|_| flood.hear_garbled()).count();
            assert_eq!((flood.found(now), told), (None, 1), "as much as is allowed, window after window");
            assert_eq!(flood.found(now.plus(limits::CHILD_FLOOD_MS)), None);
        }
        let now = Millis(9 * limits::CHILD_FLOOD_MS);
        assert_eq!(flood.found(now), None);
        (0..=limits::CHILD_GARBLED_MAX).for_each(|_| _ = flood.hear_garbled());
        let said = format!("{} messages in 2 s that cannot be read", limits::CHILD_GARBLED_MAX + 1);
        assert_eq!(flood.found(now.plus(2_000)), Some(said));
    }

    #[test]
    fn last_words_are_a_few_lines_in_one() {
        let mut log = tempfile::tempfile().expect("a file");
        assert_eq!(last_lines(&log), "");
        let long = "x".repeat(10_000);
        for (more, words) in [
            ("one\n", "one"),
            ("\ntwo\n\n", "one | two"),
            ("\x1b[31mthree\x1b[0m\nfour", "two | three | four"),
            (long.as_str(), &long[..limits::CHILD_WORDS_CHARS_MAX]),
        ] {
            std::io::Write::write_all(&mut log, more.as_bytes()).expect("it is writable");
            assert_eq!(last_lines(&log), words);
        }
    }

    #[test]
    fn a_line_loses_its_colours_and_nothing_else() {
        for (line, plain) in [
            ("plain [2m words", "plain [2m words"),
            ("\x1b[2m2026\x1b[0m \x1b[31mERROR\x1b[0m no [sandbox]", "2026 ERROR no [sandbox]"),
            ("cut \x1b[1;3", "cut "),
        ] {
            assert_eq!(without_colours(line), plain);
        }
    }
}
