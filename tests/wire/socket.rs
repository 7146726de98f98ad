//! A plain client of the relay's socket: writes bytes, reads lines.
//!
//! **Invariant:** every wait has a deadline. **Invariant:** it knows nothing of the product's own client.

use crate::support::House;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    /// Notifications that came while an answer was waited for.
    notices: VecDeque<Value>,
}

impl Socket {
    /// Connects to the relay of a house, starting it first if need be; says nothing.
    #[track_caller]
    pub fn open(house: &House) -> Socket {
        let path = house.bundle_dir().join("relay.sock");
        if !path.exists() {
            let _ = house.run(&["up"]).ok();
        }
        let stream = UnixStream::connect(&path).expect("a relay listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout is possible");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout is possible");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor is free"));
        Socket { stream, reader, notices: VecDeque::new() }
    }

    /// Connects and says hello, as the operator.
    #[track_caller]
    pub fn hello(house: &House) -> Socket {
        let mut socket = Socket::open(house);
        let welcome = socket.ask("hello", hello());
        assert_eq!(welcome["result"]["kind"], "operator", "{welcome}");
        socket
    }

    /// Connects and says hello with the mark of an agent.
    #[track_caller]
    pub fn hello_outside(house: &House) -> Socket {
        let mut socket = Socket::open(house);
        let mut params = hello();
        params["agentMark"] = "CLAUDECODE".into();
        let welcome = socket.ask("hello", params);
        assert_eq!(
            (&welcome["result"]["kind"], &welcome["result"]["name"]),
            (&"outside".into(), &"outside".into())
        );
        socket
    }

    /// Writes bytes; false when the relay no longer takes them.
    pub fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Writes one line.
    #[track_caller]
    pub fn line(&mut self, line: &str) {
        assert!(self.write(format!("{line}\n").as_bytes()), "the relay no longer reads");
    }

    /// Sends a request and waits for the next answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        self.line(&request(1, method, &params));
        self.answer()
    }

    /// The next line that is no notification.
    #[track_caller]
    pub fn answer(&mut self) -> Value {
        loop {
            let message = self.next().expect("an answer, not the end");
            if message.get("method").is_none() {
                return message;
            }
            self.notices.push_back(message);
        }
    }

    /// The next notification.
    #[track_caller]
    pub fn notice(&mut self) -> Value {
        if let Some(notice) = self.notices.pop_front() {
            return notice;
        }
        let message = self.next().expect("a notification, not the end");
        assert!(message.get("method").is_some(), "a notification was expected: {message}");
        message
    }

    /// Expects that the relay has closed the connection, with nothing more to say.
    #[track_caller]
    pub fn ended(&mut self) {
        let next = self.next();
        assert!(next.is_none(), "the end was expected, not {next:?}");
    }

    /// Says that there will be no more requests.
    pub fn finish_writing(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next message; `None` at the end. A connection that is closed with bytes unread ends with a reset.
    #[track_caller]
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                assert!(line.ends_with('\n'), "half a line: {line}");
                Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}

/// The parameters of a hello.
pub fn hello() -> Value {
    json!({ "client": "test", "version": "1.0.0", "protocolMin": 1, "protocolMax": 1 })
}

/// A request line, without its newline.
pub fn request(id: i64, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

const DEADLINE: Duration = Duration::from_secs(40);
