//! Printing: JSON objects with their schema version, tables, and text without control characters.
//!
//! **Invariant:** a reader that stops reading (`| head`) ends the command quietly; any other failure to print says what was lost.

use std::io::Write;

use serde::Serialize;

use crate::model::clock::Millis;
use crate::model::session::SessionState;

/// Prints an answer as one line of JSON that begins with the schema version.
pub fn json<T: Serialize>(answer: &T) {
    #[derive(Serialize)]
    struct Versioned<'a, T> {
        #[serde(rename = "schemaVersion")]
        schema_version: u32,
        #[serde(flatten)]
        answer: &'a T,
    }
    let line =
        serde_json::to_string(&Versioned { schema_version: 1, answer }).expect("answers have string keys");
    data(&format!("{line}\n"));
}

/// Prints data to stdout.
pub fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => super::fail_to_print(&format!("{error}; it was: {}", first_line(text, 200))),
        Ok(()) => {}
    }
}

/// Prints to stderr; that nobody reads it is no failure.
pub fn errors(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes rows in columns two blanks apart; the last column is not padded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| shown_width(cell)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.push_str(&" ".repeat(widths[column].saturating_sub(shown_width(cell)) + 2));
            }
        }
        text.push('\n');
    }
    text
}

/// A cell of a line, with blanks up to `width`.
pub fn padded(cell: &str, width: usize) -> String {
    format!("{cell}{}", " ".repeat(width.saturating_sub(shown_width(cell))))
}

/// Characters of a cell that take a place on the screen (colour takes none).
fn shown_width(cell: &str) -> usize {
    let mut width = 0;
    let mut in_escape = false;
    for c in cell.chars() {
        match c {
            '\x1b' => in_escape = true,
            'm' if in_escape => in_escape = false,
            _ if in_escape => {}
            _ => width += 1,
        }
    }
    width
}

/// Makes somebody's text safe for a terminal: control and text-direction characters become visible, line ends stay.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            c if crate::protocol::check::is_unprintable(c) => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// The first line of a text, cut to `chars`.
pub fn first_line(text: &str, chars: usize) -> String {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let line = safe(line);
    let cut: String = line.chars().take(chars).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}

/// A state with its colour.
pub fn state(state: SessionState, color: bool) -> String {
    let code = match state {
        SessionState::Idle => "32",
        SessionState::Busy | SessionState::Starting => "36",
        SessionState::Waiting | SessionState::Blocked | SessionState::Held | SessionState::Backoff => "33",
        SessionState::Failed => "31",
        SessionState::Stopped => "90",
    };
    if color { format!("\x1b[{code}m{}\x1b[0m", state.as_str()) } else { state.as_str().to_owned() }
}

/// A large count for people, such as `12.3k`.
pub fn count(count: i64) -> String {
    match count {
        ..1_000 => count.to_string(),
        1_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// A moment for people: without the milliseconds.
pub fn moment(at: Millis) -> String {
    at.rfc3339_seconds()
}
