//! The terminal as it was, for programs that are ended before they can put it back; and its size.

use std::io::{IsTerminal, Write};

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// How the terminal was.
#[derive(Debug)]
pub struct Saved(Option<Termios>);

/// Puts back what screens switch on: bracketed paste, reports of focus and mouse, other keyboards, a hidden cursor.
const RESET: &[u8] =
    b"\x1b[?2004l\x1b[?1004l\x1b[?1000l\x1b[?1002l\x1b[?1006l\x1b[<u\x1b[?1049l\x1b[?25h\x1b[0m\r\n";

impl Saved {
    /// The terminal behind stdin, if it is one.
    pub fn of_stdin() -> Saved {
        let stdin = std::io::stdin();
        Saved(stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten())
    }

    /// Puts it back.
    pub fn restore(&self) {
        let Some(saved) = &self.0 else { return };
        if let Err(error) = tcsetattr(std::io::stdin(), SetArg::TCSANOW, saved) {
            log::debug!("putting the terminal back failed: {error}");
        }
        let _ = std::io::stdout().write_all(RESET).and_then(|()| std::io::stdout().flush());
    }
}

/// Columns and rows of the terminal; of a large one when there is none.
pub fn size() -> (u16, u16) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    #[allow(unsafe_code, reason = "the size of a terminal has no wrapper in nix")]
    // SAFETY: TIOCGWINSZ writes one winsize, and `size` is one.
    let done = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    if done == 0 && size.ws_col > 0 && size.ws_row > 0 { (size.ws_col, size.ws_row) } else { (200, 50) }
}
