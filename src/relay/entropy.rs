//! Random bits for the core, drawn from the kernel in pages so that most inputs cost no system call.

use std::fs::File;
use std::io::Read;

const PAGE_BYTES: usize = 4096;

/// A page of random bits and the device that fills it again.
#[derive(Debug)]
pub struct Entropy {
    device: File,
    page: [u8; PAGE_BYTES],
    used: usize,
}

impl Entropy {
    /// Opens the device.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open() -> std::io::Result<Entropy> {
        Ok(Entropy { device: File::open("/dev/urandom")?, page: [0; PAGE_BYTES], used: PAGE_BYTES })
    }

    /// Returns 128 bits that were never returned before.
    ///
    /// # Errors
    /// What the device says.
    pub fn draw(&mut self) -> std::io::Result<u128> {
        if self.used == PAGE_BYTES {
            self.device.read_exact(&mut self.page)?;
            self.used = 0;
        }
        let bytes = &mut self.page[self.used..self.used + 16];
        let seed = bytes.iter().fold(0, |seed, byte| (seed << 8) | u128::from(*byte));
        bytes.fill(0);
        self.used += 16;
        Ok(seed)
    }
}
