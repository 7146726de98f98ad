//! As much HTTP/1.1 as Codex needs from a model: read one request, write one answer, plain or as server-sent events.
//!
//! **Invariant:** a request's head and body are bounded before they are kept.
//!
//! Deliberately absent: keep-alive, compression, trailers' meaning.

use serde_json::{Value, json};
use std::io::{BufRead, Error, Read, Write};
use std::net::TcpStream;

/// One request, read whole.
#[derive(Debug)]
pub struct Incoming {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Incoming {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Reads one request; `None` when the client closed without sending one. An error says in words what was wrong.
pub fn read(
    reader: &mut impl BufRead,
    writer: &TcpStream,
    body_bytes_max: usize,
) -> Result<Option<Incoming>, String> {
    let mut head_bytes_left = HEAD_BYTES_MAX;
    let first = read_line(reader, &mut head_bytes_left)?;
    if first.is_empty() {
        return Ok(None);
    }
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("not a request line: {first:?}"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(format!("not HTTP/1.x: {first:?}"));
    }
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader, &mut head_bytes_left)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("not a header: {line:?}"))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let path = target.split('?').next().unwrap_or(target).to_owned();
    let mut incoming = Incoming { method: method.to_owned(), path, headers, body: Vec::new() };
    if incoming.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        (&mut &*writer).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(|error| error.to_string())?;
    }
    incoming.body =
        if incoming.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            read_chunks(reader, body_bytes_max)?
        } else {
            let length = incoming.header("content-length").map_or(Ok(0), str::parse);
            let length: usize = length.map_err(|_| "content-length is not a number".to_owned())?;
            read_bytes(reader, length, body_bytes_max)?
        };
    Ok(Some(incoming))
}

fn read_chunks(reader: &mut impl BufRead, body_bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader, &mut CHUNK_LINE_BYTES_MAX.clone())?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length =
            usize::from_str_radix(digits, 16).map_err(|_| format!("not a chunk's length: {line:?}"))?;
        if length == 0 {
            let mut trailer_bytes_left = HEAD_BYTES_MAX;
            while !read_line(reader, &mut trailer_bytes_left)?.is_empty() {}
            return Ok(body);
        }
        body.extend(read_bytes(reader, length, body_bytes_max - body.len())?);
        read_line(reader, &mut CHUNK_LINE_BYTES_MAX.clone())?;
    }
}

fn read_bytes(reader: &mut impl BufRead, length: usize, limit: usize) -> Result<Vec<u8>, String> {
    if length > limit {
        return Err(format!("a body of {length} more bytes exceeds the limit"));
    }
    let mut bytes = Vec::new();
    let count = reader.take(length as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if count == length { Ok(bytes) } else { Err(format!("body ended after {count} of {length} bytes")) }
}

/// One line without its end; empty at the end of the stream too.
fn read_line(reader: &mut impl BufRead, bytes_left: &mut usize) -> Result<String, String> {
    let mut line = Vec::new();
    let count =
        reader.take(*bytes_left as u64).read_until(b'\n', &mut line).map_err(|error| error.to_string())?;
    if count > 0 && line.last() != Some(&b'\n') {
        return Err(format!("a line was cut short or the head is too long ({count} bytes)"));
    }
    *bytes_left -= count;
    let text = String::from_utf8(line).map_err(|_| "the head is not UTF-8".to_owned())?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Answers with a status and a JSON body; a body that is a JSON string is sent as that plain text.
pub fn write_json(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(String, String)],
    body: &Value,
) -> Result<(), Error> {
    let (text, kind) = match body {
        Value::String(text) => (text.clone(), "text/plain"),
        value => (value.to_string(), "application/json"),
    };
    let length = text.len();
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}

/// The server-sent events of one response, in the order the Responses API has them.
#[derive(Debug)]
pub struct Events<'a> {
    stream: &'a TcpStream,
    response_id: String,
    /// What was streamed of the message so far; `None` before its first piece.
    message: Option<String>,
}

impl<'a> Events<'a> {
    /// Writes the head and `response.created`.
    pub fn start(mut stream: &'a TcpStream, response_id: String) -> Result<Events<'a>, Error> {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")?;
        let mut events = Events { stream, response_id, message: None };
        events.event("response.created", json!({ "response": { "id": events.response_id } }))?;
        Ok(events)
    }

    /// Streams one more piece of the assistant's message.
    pub fn text(&mut self, delta: &str) -> Result<(), Error> {
        let item_id = format!("msg_{}", self.response_id);
        if self.message.is_none() {
            let item = json!({ "type": "message", "role": "assistant", "id": item_id, "content": [] });
            self.event("response.output_item.added", json!({ "output_index": 0, "item": item }))?;
        }
        self.message.get_or_insert_default().push_str(delta);
        let data = json!({ "item_id": item_id, "output_index": 0, "content_index": 0, "delta": delta });
        self.event("response.output_text.delta", data)
    }

    /// Writes one finished function call.
    pub fn call(
        &mut self,
        name: &str,
        namespace: Option<&str>,
        arguments: &Value,
        call_id: &str,
    ) -> Result<(), Error> {
        let mut item = json!({ "type": "function_call", "id": format!("fc_{call_id}"), "name": name,
                               "arguments": arguments.to_string(), "call_id": call_id });
        if let Some(namespace) = namespace {
            item["namespace"] = json!(namespace);
        }
        let output_index = usize::from(self.message.is_some());
        self.finish_message()?;
        self.event("response.output_item.done", json!({ "output_index": output_index, "item": item }))
    }

    /// Finishes the message, if one was begun, and the response.
    pub fn complete(&mut self) -> Result<(), Error> {
        self.finish_message()?;
        let usage = json!({ "input_tokens": 10, "input_tokens_details": null, "output_tokens": 5,
                            "output_tokens_details": null, "total_tokens": 15 });
        self.event("response.completed", json!({ "response": { "id": self.response_id, "usage": usage } }))
    }

    /// Ends the response with the model's own failure.
    pub fn fail(&mut self, code: &str, message: &str) -> Result<(), Error> {
        let error = json!({ "code": code, "message": message });
        let response = json!({ "id": self.response_id, "status": "failed", "error": error });
        self.event("response.failed", json!({ "response": response }))
    }

    fn finish_message(&mut self) -> Result<(), Error> {
        let Some(text) = self.message.take() else { return Ok(()) };
        let item = json!({ "type": "message", "role": "assistant", "id": format!("msg_{}", self.response_id),
                           "content": [{ "type": "output_text", "text": text }] });
        self.event("response.output_item.done", json!({ "output_index": 0, "item": item }))
    }

    fn event(&mut self, kind: &str, mut data: Value) -> Result<(), Error> {
        data["type"] = json!(kind);
        self.stream.write_all(format!("event: {kind}\ndata: {data}\n\n").as_bytes())
    }
}

const HEAD_BYTES_MAX: usize = 64 << 10;
const CHUNK_LINE_BYTES_MAX: usize = 1 << 10;
