//! A plain MCP client: lines of JSON-RPC over the pipes of a server, written by hand.
//!
//! **Invariant:** it knows nothing of the SDK that the server is built on. **Invariant:** every wait has a deadline.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// One server, and the lines that it has written; killed and reaped when dropped.
#[derive(Debug)]
pub struct McpClient {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    last_id: i64,
    /// Answers that came before somebody asked for them.
    kept: Vec<Value>,
}

impl McpClient {
    /// Starts a server and shakes hands with it.
    #[track_caller]
    pub fn start(command: Command) -> McpClient {
        let mut client = McpClient::start_mute(command);
        let welcome = client.ask(
            "initialize",
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}),
        );
        assert_eq!(welcome["result"]["serverInfo"]["name"], "agentmux", "{welcome}");
        client.line(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        client
    }

    /// Starts a server and says nothing.
    #[track_caller]
    pub fn start_mute(mut command: Command) -> McpClient {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        let stdin = child.stdin.take();
        let out = BufReader::new(child.stdout.take().expect("piped above"));
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        McpClient { child, stdin, lines, last_id: 0, kept: Vec::new() }
    }

    /// Its process.
    pub fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid fits")
    }

    /// Writes one line; false when the server no longer reads.
    pub fn line(&mut self, line: &str) -> bool {
        self.stdin.as_mut().is_some_and(|stdin| writeln!(stdin, "{line}").is_ok())
    }

    /// Sends a request; returns its id.
    #[track_caller]
    pub fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.last_id += 1;
        let request = json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params});
        assert!(self.line(&request.to_string()), "the server no longer reads");
        self.last_id
    }

    /// Waits for the answer to a request.
    #[track_caller]
    pub fn answer(&mut self, id: i64) -> Value {
        if let Some(at) = self.kept.iter().position(|answer| answer["id"] == id) {
            return self.kept.swap_remove(at);
        }
        loop {
            let line = match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => panic!("no answer to {id} within {DEADLINE:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the server ended before it answered {id}"),
            };
            let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if said["id"] == id {
                return said;
            }
            self.kept.push(said);
        }
    }

    /// Sends a request and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params);
        self.answer(id)
    }

    /// Calls a tool; what it structured, and whether it says that it failed.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> (Value, bool) {
        let id = self.begin("tools/call", json!({"name": tool, "arguments": arguments}));
        self.called(id)
    }

    /// Begins to call a tool.
    #[track_caller]
    pub fn begin_call(&mut self, tool: &str, arguments: Value) -> i64 {
        self.begin("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// What became of a call.
    #[track_caller]
    pub fn called(&mut self, id: i64) -> (Value, bool) {
        let answer = self.answer(id);
        let result = &answer["result"];
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap_or_default())
            .unwrap_or_else(|error| panic!("{error}: {answer}"));
        assert_eq!(text, result["structuredContent"], "the text is the structure");
        assert_eq!(text["schemaVersion"], 1, "{answer}");
        (text, result["isError"] == true)
    }

    /// Calls a tool that does what it shall.
    #[track_caller]
    pub fn does(&mut self, tool: &str, arguments: Value) -> Value {
        let (answer, failed) = self.call(tool, arguments);
        assert!(!failed, "{tool}: {answer}");
        answer
    }

    /// Calls a tool that fails; its error.
    #[track_caller]
    pub fn fails(&mut self, tool: &str, arguments: Value) -> Value {
        let (answer, failed) = self.call(tool, arguments);
        assert!(failed, "{tool}: {answer}");
        answer["error"].clone()
    }

    /// Ends its stdin and waits for its end; its exit code.
    #[track_caller]
    pub fn end(mut self) -> Option<i32> {
        self.stdin = None;
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the server does not end with its stdin"),
            }
        }
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DEADLINE: Duration = Duration::from_secs(55);
