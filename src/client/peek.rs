//! Between a screen and its child: every byte passes as it is, and what the screen asks for tells which thread it shows.
//!
//! Nothing else tells: a fork keeps the name of its thread, a new thread is announced to everybody without saying for whom, and
//! the resumption of another one is announced to nobody.
//!
//! **Invariant:** bytes pass unchanged and in order, also when they are not understood. **Invariant:** what is kept of a message
//! is bounded. **Invariant:** what is told of a message is told before the child has it, so that it is known before what follows.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use crate::boot::statedir::StateDir;
use crate::model::fault::Fault;
use crate::model::limits;
use crate::protocol::request::{Answered, Elsewhere};

/// A socket for one screen; its name goes when this does.
#[derive(Debug)]
pub struct Door {
    dir: StateDir,
    name: String,
    listening: UnixListener,
}

/// What is seen of a screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A connection leads through to the child.
    Joined,
    /// Such a connection has ended, and whether the child was the one that ended it.
    Left {
        /// See above.
        by_child: bool,
    },
    /// It shows another thread; nothing when it is the one that it was opened for.
    Shows(Option<Elsewhere>),
    /// It answers what the child has asked.
    Answers(Answered),
}

/// Who is told.
pub type Told = Arc<dyn Fn(Seen) + Send + Sync>;

/// What the names of such sockets begin with.
pub const PREFIX: &str = "screen-";

impl Door {
    /// Opens a socket that leads to `target`; `told` hears when a screen behind it reaches its child and loses it, and when it asks for
    /// another thread than `thread`, or comes back.
    ///
    /// # Errors
    /// `io` when the socket cannot be made.
    pub fn open(dir: StateDir, target: PathBuf, thread: String, told: Told) -> Result<Door, Fault> {
        let name = format!("{PREFIX}{}.sock", std::process::id());
        // A process of that number that was killed may have left its name.
        dir.unlink(&name);
        let path = dir.socket_path(&name);
        let failed = |error: std::io::Error| Fault::io(format!("attach failed: {}: {error}", path.display()));
        let listener = UnixListener::bind(&path).map_err(failed)?;
        let listening = listener.try_clone().map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::thread::spawn(move || {
            // Until the door is closed, which ends the listening.
            while let Ok((screen, _)) = listener.accept() {
                // No child: the screen's connection closes, and it tries again.
                let Ok(child) = UnixStream::connect(&target) else { continue };
                let (thread, told) = (thread.clone(), Arc::clone(&told));
                std::thread::spawn(move || join(&screen, &child, &thread, &told));
            }
        });
        Ok(Door { dir, name, listening })
    }

    /// Where screens connect to.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.dir.unlink(&self.name);
        // The thread that accepts, and its socket, go with the door.
        let _ = nix::sys::socket::shutdown(self.listening.as_raw_fd(), nix::sys::socket::Shutdown::Both);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Party {
    Screen,
    Child,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    From,
    To,
}

/// Joins a screen and its child until one of them closes.
fn join(screen: &UnixStream, child: &UnixStream, thread: &str, told: &Told) {
    told(Seen::Joined);
    // Who was the first to end it; what the other one does then is only the consequence.
    let ended_by = OnceLock::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = pass(child, screen, |_| {});
            ended_by.get_or_init(|| if ended == End::From { Party::Child } else { Party::Screen });
            hang_up(screen, child);
        });
        let mut frames = Frames::default();
        let ended = pass(screen, child, |bytes| {
            frames.push(bytes, |message| {
                if let Some(seen) = seen_in(message, thread) {
                    told(seen);
                }
            });
        });
        ended_by.get_or_init(|| if ended == End::From { Party::Screen } else { Party::Child });
        hang_up(screen, child);
    });
    told(Seen::Left { by_child: ended_by.into_inner() == Some(Party::Child) });
}

fn hang_up(screen: &UnixStream, child: &UnixStream) {
    let _ = screen.shutdown(Shutdown::Both);
    let _ = child.shutdown(Shutdown::Both);
}

/// Passes on what comes, until one of them no longer speaks or hears; tells which.
fn pass(mut from: &UnixStream, mut to: &UnixStream, mut seen: impl FnMut(&[u8])) -> End {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(count) if count > 0 => {
                seen(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_err() {
                    return End::To;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return End::From,
        }
    }
}

/// What a message of the screen tells; `None` when it changes nothing.
fn seen_in(message: &[u8], thread: &str) -> Option<Seen> {
    let message: Value = serde_json::from_slice(message).ok()?;
    if message["method"].is_null() {
        return answer_in(&message).map(Seen::Answers);
    }
    let params = &message["params"];
    // A thread that nobody keeps is the screen's own helper, for instance for a title.
    let is_kept = params["ephemeral"] != Value::Bool(true);
    let elsewhere = |how: &str, thread_id: Option<String>| {
        Some(Seen::Shows(Some(Elsewhere { how: how.to_owned(), thread_id })))
    };
    match message["method"].as_str()? {
        "thread/start" if is_kept => elsewhere("new", None),
        "thread/fork" if is_kept => elsewhere("fork", None),
        "thread/resume" if params["threadId"] == thread => Some(Seen::Shows(None)),
        "thread/resume" => elsewhere("other", params["threadId"].as_str().map(str::to_owned)),
        _ => None,
    }
}

/// The answer to a question of the child, by the child's word for it.
fn answer_in(message: &Value) -> Option<Answered> {
    let (id, result) = (&message["id"], &message["result"]);
    let decision = match &result["decision"] {
        Value::String(word) => word.clone(),
        Value::Object(kinds) => {
            let (kind, said) = kinds.iter().next()?;
            // One kind says yes and no (`transport/codex/offer.rs`).
            let is_no = said["network_policy_amendment"]["action"] == "deny";
            if is_no { "denied".to_owned() } else { kind.clone() }
        }
        _ => match (result["action"].as_str(), &result["permissions"], &result["answers"]) {
            (Some("accept"), ..) => result["_meta"]["persist"].as_str().unwrap_or("accept").to_owned(),
            (Some(word), ..) => word.to_owned(),
            (_, Value::Object(given), _) if given.is_empty() => "decline".to_owned(),
            (_, Value::Object(_), _) => result["scope"].as_str().unwrap_or("turn").to_owned(),
            (.., Value::Object(given)) if given.is_empty() => "decline".to_owned(),
            (.., Value::Object(_)) => "answers".to_owned(),
            _ => return None,
        },
    };
    (!id.is_null()).then(|| Answered { request: id.to_string(), decision })
}

/// The messages in what a WebSocket client writes, after its opening lines.
#[derive(Debug, Default)]
struct Frames {
    opened: bool,
    head: Vec<u8>,
    /// Bytes of the current frame that are still to come, and its mask and place in that.
    left: u64,
    mask: [u8; 4],
    at: usize,
    is_last: bool,
    is_data: bool,
    message: Vec<u8>,
    is_too_long: bool,
}

impl Frames {
    fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
                let (now, rest) = bytes.split_at(count);
                self.take(now);
                bytes = rest;
                if self.left == 0 {
                    self.end_frame(&mut each);
                }
                continue;
            }
            self.head.push(bytes[0]);
            bytes = &bytes[1..];
            if !self.opened {
                self.opened = self.head.ends_with(b"\r\n\r\n");
                if self.opened || self.head.len() > limits::READ_BYTES_PER_LAP {
                    self.head.clear();
                }
            } else if self.begin_frame() && self.left == 0 {
                self.end_frame(&mut each);
            }
        }
    }

    /// Reads a frame's head when it is whole.
    fn begin_frame(&mut self) -> bool {
        let head = &self.head;
        if head.len() < 2 {
            return false;
        }
        let (kind, length, is_masked) = (head[0] & 0x0f, head[1] & 0x7f, head[1] & 0x80 != 0);
        let length_bytes = match length {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + length_bytes + if is_masked { 4 } else { 0 };
        if head.len() < whole {
            return false;
        }
        let of = |bytes: &[u8]| bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        self.left = if length_bytes == 0 { u64::from(length) } else { of(&head[2..2 + length_bytes]) };
        self.mask = if is_masked {
            [head[whole - 4], head[whole - 3], head[whole - 2], head[whole - 1]]
        } else {
            [0; 4]
        };
        (self.at, self.is_last, self.is_data) = (0, head[0] & 0x80 != 0, kind <= 2);
        self.head.clear();
        true
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.is_data && self.message.len() + bytes.len() <= limits::SCREEN_MESSAGE_BYTES_MAX {
            let (mask, at) = (self.mask, self.at);
            self.message.extend(bytes.iter().enumerate().map(|(index, byte)| byte ^ mask[(at + index) % 4]));
        } else {
            self.is_too_long |= self.is_data;
        }
        self.at = (self.at + bytes.len()) % 4;
        self.left -= bytes.len() as u64;
    }

    fn end_frame(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.is_data && self.is_last {
            let message = std::mem::take(&mut self.message);
            if !std::mem::take(&mut self.is_too_long) {
                each(&message);
            }
        }
    }
}

/// Removes the sockets of screens whose process is gone.
pub fn clear_up(dir: &StateDir) {
    let is_dead = |name: &String| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".sock"));
        pid.and_then(|pid| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    dir.names(".").iter().filter(|name| is_dead(name)).for_each(|name| dir.unlink(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, text: &str) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match text.len() {
            length @ ..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(text.bytes().enumerate().map(|(index, byte)| byte ^ mask[index % 4]));
        bytes
    }

    #[test]
    fn messages_are_found_however_the_bytes_are_cut() {
        let long = "x".repeat(300);
        let mut stream = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        stream.extend(frame(0x81, "one"));
        stream.extend(frame(0x89, "ping"));
        stream.extend(frame(0x81, ""));
        stream.extend(frame(0x01, "two, in "));
        stream.extend(frame(0x80, "parts"));
        stream.extend(frame(0x81, &long));
        for size in 1..stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for part in stream.chunks(size) {
                frames.push(part, |message| found.push(String::from_utf8_lossy(message).into_owned()));
            }
            assert_eq!(found, ["one", "", "two, in parts", long.as_str()], "{size}");
        }
    }

    #[test]
    fn a_message_tells_which_thread_is_shown_and_what_is_answered() {
        let shows = |how: &str, thread: Option<&str>| {
            Some(Seen::Shows(Some(Elsewhere { how: how.to_owned(), thread_id: thread.map(str::to_owned) })))
        };
        let answers = |decision: &str| {
            Some(Seen::Answers(Answered { request: "7".to_owned(), decision: decision.to_owned() }))
        };
        for (text, seen) in [
            (r#"{"id":1,"method":"thread/resume","params":{"threadId":"t1"}}"#, Some(Seen::Shows(None))),
            (r#"{"id":1,"method":"thread/resume","params":{"threadId":"t2"}}"#, shows("other", Some("t2"))),
            (r#"{"id":1,"method":"thread/start","params":{}}"#, shows("new", None)),
            (r#"{"id":1,"method":"thread/start","params":{"ephemeral":true}}"#, None),
            (r#"{"id":1,"method":"thread/fork","params":{"threadId":"t1"}}"#, shows("fork", None)),
            (r#"{"id":1,"method":"turn/start","params":{"threadId":"t1"}}"#, None),
            (r#"{"id":7,"result":{"decision":"accept"}}"#, answers("accept")),
            (
                r#"{"id":7,"result":{"decision":{"acceptWithExecpolicyAmendment":{}}}}"#,
                answers("acceptWithExecpolicyAmendment"),
            ),
            (
                r#"{"id":7,"result":{"action":"accept","content":{},"_meta":{"persist":"always"}}}"#,
                answers("always"),
            ),
            (
                r#"{"id":7,"result":{"decision":{"applyNetworkPolicyAmendment":{"network_policy_amendment":{"host":"x","action":"deny"}}}}}"#,
                answers("denied"),
            ),
            (
                r#"{"id":7,"result":{"action":"decline","content":null,"_meta":{"persist":"always"}}}"#,
                answers("decline"),
            ),
            (r#"{"id":7,"result":{"answers":{}}}"#, answers("decline")),
            (r#"{"id":7,"result":{"answers":{"q":{"answers":["yes"]}}}}"#, answers("answers")),
            (r#"{"id":7,"result":{"permissions":{},"scope":"turn"}}"#, answers("decline")),
            (r#"{"id":7,"result":{"permissions":{"network":{}},"scope":"session"}}"#, answers("session")),
            (r#"{"id":7,"error":{"code":1,"message":"no"}}"#, None),
            ("no json", None),
        ] {
            assert_eq!(seen_in(text.as_bytes(), "t1"), seen, "{text}");
        }
    }
}
