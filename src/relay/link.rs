//! The WebSocket to a child over its Unix socket, without blocking: connect, shake hands, exchange whole text messages.
//!
//! **Invariant:** any split of the bytes gives the same messages; every call may return "not yet" and is repeated on readiness.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use tungstenite::client::client_with_config;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::model::limits;

/// A connection to a child.
#[derive(Debug)]
pub struct Link {
    state: State,
    peer: Option<u32>,
}

#[derive(Debug)]
enum State {
    Shaking(MidHandshake<ClientHandshake<UnixStream>>),
    Open(Box<WebSocket<UnixStream>>),
    Broken,
}

impl Link {
    /// Connects to the socket at `path` and begins the handshake.
    ///
    /// # Errors
    /// What the kernel says; `ConnectionRefused` and `NotFound` mean "not yet" for a child that is starting.
    pub fn connect(registry: &Registry, token: Token, path: &Path) -> io::Result<Link> {
        let mut stream = UnixStream::connect(path)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let credentials =
            nix::sys::socket::getsockopt(&stream.as_fd(), nix::sys::socket::sockopt::PeerCredentials);
        let peer = credentials.ok().and_then(|credentials| u32::try_from(credentials.pid()).ok());
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::CHILD_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(limits::CHILD_MESSAGE_BYTES_MAX))
            .max_write_buffer_size(limits::CHILD_OUT_BYTES_MAX);
        let state = match client_with_config("ws://localhost/", stream, Some(config)) {
            Ok((socket, _)) => State::Open(Box::new(socket)),
            Err(HandshakeError::Interrupted(mid)) => State::Shaking(mid),
            Err(HandshakeError::Failure(error)) => return Err(io::Error::other(error.to_string())),
        };
        Ok(Link { state, peer })
    }

    /// The process at the other end, as the kernel says.
    pub fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// Whether messages can be exchanged.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Goes on with the handshake; true when it has just been completed.
    ///
    /// # Errors
    /// Why the handshake failed.
    pub fn shake(&mut self) -> Result<bool, String> {
        let State::Shaking(mid) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err("the connection is broken".to_owned());
        };
        match mid.handshake() {
            Ok((socket, _)) => {
                self.state = State::Open(Box::new(socket));
                Ok(true)
            }
            Err(HandshakeError::Interrupted(mid)) => {
                self.state = State::Shaking(mid);
                Ok(false)
            }
            Err(HandshakeError::Failure(error)) => Err(error.to_string()),
        }
    }

    /// The next whole message; `Ok(None)` when there is none yet.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn read(&mut self) -> Result<Option<String>, String> {
        let State::Open(socket) = &mut self.state else { return Ok(None) };
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
                Ok(Message::Close(_)) => return Err("it closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => return if is_not_yet(&error) { Ok(None) } else { Err(error.to_string()) },
            }
        }
    }

    /// Queues a message and writes what can be written.
    ///
    /// # Errors
    /// Why the connection is over, or that the child reads too slowly.
    pub fn write(&mut self, text: String) -> Result<(), String> {
        let State::Open(socket) = &mut self.state else {
            return Err("the connection is not open".to_owned());
        };
        match socket.write(Message::text(text)) {
            Ok(()) => self.flush(),
            Err(error) if is_not_yet(&error) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Writes what can be written.
    ///
    /// # Errors
    /// Why the connection is over.
    pub fn flush(&mut self) -> Result<(), String> {
        let State::Open(socket) = &mut self.state else { return Ok(()) };
        match socket.flush() {
            Ok(()) => Ok(()),
            Err(error) if is_not_yet(&error) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn is_not_yet(error: &Error) -> bool {
    matches!(error, Error::Io(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}
