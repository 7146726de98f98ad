//! Client connections: bytes in, requests out, answers back, all bounded.
//!
//! **Invariant:** one client's flood, silence or slowness costs the others nothing but its share of a lap.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};

use crate::model::clock::Millis;
use crate::model::fault::{Code, Fault};
use crate::model::id::ConnId;
use crate::model::limits;
use crate::protocol::request::Request;
use crate::protocol::verb;
use crate::wire::call::parse_call;
use crate::wire::lines::{Lines, TooLong};
use crate::wire::rpc::{self, Id, RpcError};

/// One client.
#[derive(Debug)]
struct Client {
    stream: UnixStream,
    lines: Lines,
    out: Vec<u8>,
    /// How much of `out` is written.
    written: usize,
    /// Whether the kernel is asked to say when more can be written.
    waits_to_write: bool,
    /// Whether the kernel has said that the peer will send no more, so that reading goes on to the end.
    closing: bool,
    /// Requests that have no answer yet.
    owed: usize,
    /// The peer will send no more.
    ended: bool,
    /// The refusal of a line that nobody can read. It is the last that this client hears, after the answers to what it asked before.
    last_word: Option<String>,
    /// Closes once `out` is written.
    doomed: bool,
    /// Closes then, although something is not written: its peer does not read.
    until: Option<Millis>,
    /// Closes now.
    gone: bool,
}

/// A request of a client, read but not resolved.
#[derive(Debug)]
pub struct Asked {
    /// The connection.
    pub conn: ConnId,
    /// The request's id.
    pub id: Id,
    /// The request.
    pub request: Request,
    /// Whether it was sent before the answers to earlier ones had left.
    pub pipelined: bool,
}

impl Asked {
    /// Whether it tells what a pane is about to answer. One that was sent on the heels of another request keeps its place.
    pub fn is_told_before(&self) -> bool {
        !self.pipelined && matches!(&self.request, Request::PaneReport(report) if report.answered.is_some())
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    all: BTreeMap<ConnId, Client>,
    /// Clients with bytes or lines that were left for the next lap.
    unread: BTreeSet<ConnId>,
    /// Clients that may have to be written to or closed.
    dirty: BTreeSet<ConnId>,
    /// What is read goes through here.
    buffer: Vec<u8>,
}

impl Clients {
    /// Takes a new connection.
    ///
    /// # Errors
    /// What the registry says.
    pub fn add(&mut self, registry: &Registry, mut stream: UnixStream, token: Token) -> io::Result<ConnId> {
        registry.register(&mut stream, token, Interest::READABLE)?;
        let conn = ConnId(token.0 as u64);
        let lines = Lines::new(limits::REQUEST_LINE_BYTES_MAX);
        let client = Client {
            stream,
            lines,
            out: Vec::new(),
            written: 0,
            waits_to_write: false,
            closing: false,
            owed: 0,
            ended: false,
            last_word: None,
            doomed: false,
            until: None,
            gone: false,
        };
        self.all.insert(conn, client);
        Ok(conn)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether something was left for the next lap.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Clients with something left from the lap before.
    pub fn take_unread(&mut self) -> BTreeSet<ConnId> {
        std::mem::take(&mut self.unread)
    }

    /// Reads what clients have sent, each up to its share of a lap, and appends their requests.
    pub fn read_all(&mut self, ready: &BTreeSet<ConnId>, asked: &mut Vec<Asked>) {
        let share = limits::REQUESTS_PER_LAP / ready.len().max(1);
        let share = share.clamp(1, limits::REQUESTS_PER_CLIENT_PER_LAP);
        for conn in ready {
            self.read(*conn, share, asked);
        }
    }

    fn read(&mut self, conn: ConnId, share: usize, asked: &mut Vec<Asked>) {
        let Some(client) = self.all.get_mut(&conn) else { return };
        // What is here already goes first, so that a flood waits in the kernel and not in this process.
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::READ_BYTES_PER_LAP];
        }
        let more = client.lines.has_line() || client.fill(&mut self.buffer);
        let mut left = share;
        while left > 0 && client.is_heard() {
            let Some(line) = client.lines.next_line() else { break };
            left -= 1;
            match hear(line) {
                Heard::Nothing => {}
                Heard::Request(id, request) => {
                    let pipelined = client.owed > 0 || !client.out.is_empty();
                    client.owed += 1;
                    asked.push(Asked { conn, id, request, pipelined });
                }
                Heard::Refused(refusal) => client.push(&refusal),
                Heard::Unreadable(refusal) => client.last_word = Some(refusal),
            }
        }
        if !client.is_heard() {
            client.lines = Lines::new(limits::REQUEST_LINE_BYTES_MAX);
        } else if more || client.lines.has_line() {
            self.unread.insert(conn);
        }
        self.dirty.insert(conn);
    }

    /// Queues the line that answers a request.
    pub fn answer(&mut self, conn: ConnId, line: &str) {
        if let Some(client) = self.all.get_mut(&conn) {
            client.owed = client.owed.saturating_sub(1);
            client.push(line);
            self.dirty.insert(conn);
        }
    }

    /// Queues a line that nobody asked for.
    pub fn notify(&mut self, conn: ConnId, line: &str) {
        if let Some(client) = self.all.get_mut(&conn) {
            client.push(line);
            self.dirty.insert(conn);
        }
    }

    /// Whether a watcher has read enough to be told more: it is owed less than `bytes_max`.
    pub fn has_room(&self, conn: ConnId, bytes_max: usize) -> bool {
        self.all.get(&conn).is_some_and(|client| {
            client.is_heard() && !client.gone && client.out.len() - client.written < bytes_max
        })
    }

    /// Closes a connection once what it is owed is written.
    pub fn close(&mut self, conn: ConnId) {
        if let Some(client) = self.all.get_mut(&conn) {
            client.doomed = true;
            self.dirty.insert(conn);
        }
    }

    /// The peer will send no more; what it has sent is still read.
    pub fn on_read_closed(&mut self, conn: ConnId) {
        if let Some(client) = self.all.get_mut(&conn) {
            client.closing = true;
        }
    }

    /// The peer has closed both directions, or can be written to again.
    pub fn on_writable(&mut self, conn: ConnId, hung_up: bool) {
        if let Some(client) = self.all.get_mut(&conn) {
            client.gone |= hung_up;
            self.dirty.insert(conn);
        }
    }

    /// Writes what can be written and closes whom it is time to close; returns those.
    pub fn flush(&mut self, registry: &Registry, now: Millis) -> Vec<ConnId> {
        let mut closed = Vec::new();
        let overdue = |client: &Client| client.until.is_some_and(|until| until <= now);
        self.dirty.extend(self.all.iter().filter(|(_, client)| overdue(client)).map(|(conn, _)| *conn));
        for conn in std::mem::take(&mut self.dirty) {
            let Some(client) = self.all.get_mut(&conn) else { continue };
            if let Some(line) = client.last_word.take() {
                client.push(&line);
                client.doomed = true;
            }
            client.drain();
            client.wait_to_write(registry, Token(conn.0 as usize));
            if client.doomed && !client.out.is_empty() && client.until.is_none() {
                client.until = Some(now.plus(limits::HELLO_MS));
            }
            client.gone |= client.until.is_some_and(|until| until <= now);
            let finished = client.out.is_empty()
                && (client.doomed || (client.ended && client.owed == 0 && !client.lines.has_line()));
            if client.gone || finished {
                if let Some(mut client) = self.all.remove(&conn) {
                    let _ = registry.deregister(&mut client.stream);
                }
                self.unread.remove(&conn);
                closed.push(conn);
            }
        }
        closed
    }

    /// When the next client that does not read its last answers is closed.
    pub fn deadline(&self) -> Option<Millis> {
        self.all.values().filter_map(|client| client.until).min()
    }

    /// Whether the other end of a connection is gone, at this moment.
    pub fn has_hung_up(&self, conn: ConnId) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let Some(client) = self.all.get(&conn) else { return true };
        let mut fds = [PollFd::new(client.stream.as_fd(), PollFlags::empty())];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        polled.is_ok() && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    /// Whether everything queued has been written.
    pub fn is_flushed(&self) -> bool {
        self.all.values().all(|client| client.out.is_empty())
    }
}

impl Client {
    /// Reads up to a lap's share; true when there may be more.
    fn fill(&mut self, buffer: &mut [u8]) -> bool {
        let mut read = 0;
        while !self.ended && read < limits::READ_BYTES_PER_LAP {
            match self.stream.read(buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => {
                    read += count;
                    if self.is_heard() {
                        self.lines.push(&buffer[..count]);
                    }
                    // A short read has emptied the socket: the kernel tells when there is more.
                    if count < buffer.len() && !self.closing {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
            if self.gone {
                return false;
            }
        }
        !self.ended
    }

    /// Asks the kernel to say when more can be written, while something is left; each such word wakes the relay.
    fn wait_to_write(&mut self, registry: &Registry, token: Token) {
        let wanted = !self.out.is_empty();
        if wanted != self.waits_to_write && !self.gone {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            match registry.reregister(&mut self.stream, token, interest) {
                Ok(()) => self.waits_to_write = wanted,
                Err(error) => {
                    log::warn!("watching a client failed: {error}");
                    self.gone = true;
                }
            }
        }
    }

    /// Whether what it sends is still looked at.
    fn is_heard(&self) -> bool {
        !self.doomed && self.last_word.is_none()
    }

    fn push(&mut self, line: &str) {
        if self.doomed || self.gone {
            return;
        }
        if self.out.len() - self.written + line.len() > limits::CLIENT_OUT_BYTES_MAX {
            let most = limits::CLIENT_OUT_BYTES_MAX;
            log::warn!("a client is closed: it left more than {most} bytes unread");
            self.gone = true;
            return;
        }
        self.out.extend_from_slice(line.as_bytes());
    }

    fn drain(&mut self) {
        while self.written < self.out.len() && !self.gone {
            match self.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
    }
}

/// What a line comes to.
#[allow(clippy::large_enum_variant, reason = "it is taken apart where it is made")]
enum Heard {
    /// It wants no answer.
    Nothing,
    /// A request.
    Request(Id, Request),
    /// A request that is refused at once, by this line.
    Refused(String),
    /// Nobody can say what it is; this line is the last that its client hears.
    Unreadable(String),
}

fn hear(line: Result<&[u8], TooLong>) -> Heard {
    let call = match line {
        Ok(b"") => return Heard::Nothing,
        Ok(line) => parse_call(line),
        Err(TooLong) => {
            let most = limits::REQUEST_LINE_BYTES_MAX;
            let fault = Fault::usage(format!("request refused: the line is longer than {most} bytes"));
            Err(rpc::BadLine { id: None, number: -32_600, fault })
        }
    };
    match call {
        Ok(Some(call)) => match Request::parse(&call.method, call.params) {
            Ok(request) => Heard::Request(call.id, request),
            Err(fault) => {
                let error = RpcError::of(&fault);
                let code = if verb::is_method(&call.method) { error.code } else { rpc::UNKNOWN_METHOD };
                Heard::Refused(rpc::refusal(Some(&call.id), &RpcError { code, ..error }))
            }
        },
        Ok(None) => Heard::Nothing,
        Err(bad) => {
            let error = RpcError { code: bad.number, ..RpcError::of(&bad.fault) };
            Heard::Unreadable(rpc::refusal(bad.id.as_ref(), &error))
        }
    }
}

/// An out-buffer that has grown past this is given back when it is empty.
const OUT_BYTES_KEPT: usize = 256 * 1024;

/// The line for a connection that is not taken.
pub fn turned_away(code: Code, why: &str) -> String {
    rpc::refusal(None, &RpcError::of(&Fault::new(code, why)))
}
