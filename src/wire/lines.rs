//! Splits a stream of bytes into lines of bounded length.
//!
//! **Invariant:** never holds more than the bound plus what one `push` brought; a line over the bound is reported once
//! and the stream is then dead, because nobody can say where the next line begins.
//!
//! Deliberately absent: UTF-8 and JSON. A line is bytes until `rpc` has looked at it.

/// A splitter for one stream.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the first unreturned byte stands.
    start: usize,
    /// Up to where no newline stands, so that a long line is searched once.
    searched: usize,
    bytes_max: usize,
    dead: bool,
}

/// A line was longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl Lines {
    /// Makes a splitter for lines of at most `bytes_max` bytes, the newline not counted.
    pub fn new(bytes_max: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, searched: 0, bytes_max, dead: false }
    }

    /// Takes bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.dead {
            return;
        }
        if self.start > 0 && (self.start == self.buffer.len() || self.start > 64 * 1024) {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole line without its newline (and without a carriage return before it).
    ///
    /// # Errors
    /// [`TooLong`] once, when the bound is passed; afterwards there are no more lines.
    pub fn next_line(&mut self) -> Option<Result<&[u8], TooLong>> {
        if self.dead {
            return None;
        }
        match newline(&self.buffer[self.searched..]) {
            Some(offset) if self.searched + offset - self.start <= self.bytes_max => {
                let (from, to) = (self.start, self.searched + offset);
                self.start = to + 1;
                self.searched = to + 1;
                let line = &self.buffer[from..to];
                Some(Ok(line.strip_suffix(b"\r").unwrap_or(line)))
            }
            None if self.buffer.len() - self.start <= self.bytes_max => {
                if self.start == self.buffer.len() && self.buffer.capacity() > KEPT_BYTES {
                    self.buffer = Vec::new();
                    self.start = 0;
                }
                self.searched = self.buffer.len();
                None
            }
            _ => {
                self.dead = true;
                self.buffer = Vec::new();
                (self.start, self.searched) = (0, 0);
                Some(Err(TooLong))
            }
        }
    }

    /// Whether a whole line may still be waiting (so that a bounded reader comes back without new bytes).
    pub fn has_line(&self) -> bool {
        !self.dead && self.buffer[self.searched..].contains(&b'\n')
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Where the first newline stands. Pieces without one are passed over by `contains`, which looks at many bytes at once.
fn newline(bytes: &[u8]) -> Option<usize> {
    const PIECE: usize = 1024;
    let piece = bytes.chunks(PIECE).position(|piece| piece.contains(&b'\n'))? * PIECE;
    bytes[piece..].iter().position(|byte| *byte == b'\n').map(|at| piece + at)
}

/// A buffer that has grown past this is given back when it is empty.
const KEPT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines) -> Vec<Result<Vec<u8>, TooLong>> {
        std::iter::from_fn(|| lines.next_line().map(|line| line.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let stream = b"one\ntwo\r\n\n{\"a\":\"\xc3\xa4\"}\nlast";
        for split in 0..=stream.len() {
            let mut lines = Lines::new(64);
            lines.push(&stream[..split]);
            let mut got = all(&mut lines);
            lines.push(&stream[split..]);
            got.extend(all(&mut lines));
            let want: Vec<Result<Vec<u8>, TooLong>> = [&b"one"[..], b"two", b"", "{\"a\":\"ä\"}".as_bytes()]
                .iter()
                .map(|l| Ok(l.to_vec()))
                .collect();
            assert_eq!(got, want, "split at {split}");
            assert_eq!(lines.held(), 4);
        }
    }

    /// Whoever has sent one long line and then nothing holds no memory for it.
    #[test]
    fn a_long_line_leaves_no_buffer_behind() {
        let mut lines = Lines::new(1 << 20);
        lines.push(&[&[b'x'; 1 << 19][..], b"\n"].concat());
        assert_eq!(all(&mut lines).len(), 1);
        assert_eq!(lines.buffer.capacity(), 0);
        lines.push(b"next\nrest");
        assert!(lines.has_line());
        assert_eq!(all(&mut lines), vec![Ok(b"next".to_vec())]);
        assert!(!lines.has_line());
    }

    #[test]
    fn a_line_over_the_bound_is_reported_once_and_ends_the_stream() {
        let mut lines = Lines::new(4);
        lines.push(b"1234\n12345");
        assert_eq!(all(&mut lines), [Ok(b"1234".to_vec()), Err(TooLong)]);
        lines.push(b"\nok\n");
        assert_eq!(all(&mut lines), []);
        assert_eq!(lines.held(), 0);
    }

    #[test]
    fn a_line_just_over_the_bound_in_one_piece_is_refused_too() {
        let mut lines = Lines::new(4);
        lines.push(b"12345\n");
        assert_eq!(all(&mut lines), [Err(TooLong)]);
    }
}
