//! Ids: mails (UUIDv7), claims (`am-<uuid>`), children (nonces), and the generator that mints them.
//!
//! **Invariant:** an id is made from a moment and random bits that the shell handed in; this file draws none itself.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Builder, Uuid};

use super::clock::Millis;

/// The id of one mail: a UUIDv7, so that ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailId(pub Uuid);

/// The id of one claim; its text `am-<uuid>` travels as the child's client id and comes back as evidence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimId(pub Uuid);

/// The nonce of one child process: 128 random bits, carried in its environment and its shells'.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u128);

/// One client connection of this relay's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A thread of the child, in the child's own words.
pub type ThreadId = Arc<str>;

/// A turn of the child, in the child's own words.
pub type TurnId = Arc<str>;

/// Reads a thread's id as a person gives it, in whichever spelling of a UUID; Codex itself speaks the plain one in lower case.
pub fn thread_id(text: &str) -> Option<ThreadId> {
    Uuid::try_parse(text).ok().map(|id| id.hyphenated().to_string().into())
}

/// What a claim id begins with, so that our own input can be told from a person's.
pub const CLAIM_PREFIX: &str = "am-";
/// Fewest digits of a mail id's end that are taken as a reference to it.
pub const SUFFIX_DIGITS_MIN: usize = 6;

impl ClaimId {
    /// Reads `am-<uuid>`; `None` for input that is not ours.
    pub fn parse(text: &str) -> Option<ClaimId> {
        Uuid::parse_str(text.strip_prefix(CLAIM_PREFIX)?).ok().map(ClaimId)
    }
}

impl MailId {
    /// Reads a whole id.
    pub fn parse(text: &str) -> Option<MailId> {
        (text.len() == 36).then(|| Uuid::parse_str(text).ok().map(MailId)).flatten()
    }

    /// The last eight digits, as tables show them.
    pub fn short(self) -> String {
        let whole = self.to_string();
        whole[whole.len() - 8..].to_owned()
    }
}

/// Reduces what a person typed to the hex digits of a mail id; `None` when it cannot be one.
pub fn mail_reference(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|c| *c != '-').collect::<String>().to_ascii_lowercase();
    let plausible = (1..=32).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_hexdigit());
    plausible.then_some(digits)
}

/// The id of an approval, for people to type: eight digits that follow from its key, so that every relay gives it the same.
pub fn approval_id(key: &str) -> String {
    let hash = super::hash::fnv1a(key.as_bytes());
    // Keys that differ in their last byte only shall differ in the first digits, too.
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:08x}", mixed >> 32)
}

/// Whether a reference, a whole id or the beginning of one, can lead to the approval of this key.
pub fn is_approval(reference: &str, key: &str) -> bool {
    reference.len() >= APPROVAL_DIGITS_MIN && approval_id(key).starts_with(reference)
}

/// An approval is named by at least this many of its first digits.
pub const APPROVAL_DIGITS_MIN: usize = 4;

impl Nonce {
    /// Reads the 32 hex digits that [`Nonce`] prints.
    pub fn parse(text: &str) -> Option<Nonce> {
        (text.len() == 32).then(|| u128::from_str_radix(text, 16).ok().map(Nonce)).flatten()
    }
}

impl fmt::Display for MailId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CLAIM_PREFIX}{}", self.0)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

macro_rules! debug_as_display {
    ($($id:ty),*) => {$(
        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    )*};
}
debug_as_display!(MailId, ClaimId, Nonce);

impl Serialize for MailId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MailId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MailId, D::Error> {
        let text = String::deserialize(deserializer)?;
        MailId::parse(&text).ok_or_else(|| serde::de::Error::custom("not a mail id"))
    }
}

/// Mints ids within one lap from one moment and 128 random bits (SplitMix64 over both halves).
#[derive(Debug, Clone)]
pub struct Mint {
    now: Millis,
    state: [u64; 2],
}

impl Mint {
    /// Makes a generator; `seed` must be fresh random bits.
    pub fn new(now: Millis, seed: u128) -> Mint {
        Mint { now, state: [seed as u64, (seed >> 64) as u64] }
    }

    /// Mints a mail id.
    pub fn mail(&mut self) -> MailId {
        MailId(self.uuid())
    }

    /// Mints a claim id.
    pub fn claim(&mut self) -> ClaimId {
        ClaimId(self.uuid())
    }

    /// Mints a child's nonce.
    pub fn nonce(&mut self) -> Nonce {
        Nonce((u128::from(self.word()) << 64) | u128::from(self.word()))
    }

    /// Returns 32 random bits, for an envelope's tag.
    pub fn tag(&mut self) -> u32 {
        (self.word() >> 32) as u32
    }

    /// Returns a number from 0 to `bound` (exclusive), for jitter.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.word() % bound }
    }

    fn uuid(&mut self) -> Uuid {
        let (a, b) = (self.word().to_le_bytes(), self.word().to_le_bytes());
        let random = [a[0], a[1], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]];
        Builder::from_unix_timestamp_millis(self.now.0.max(0) as u64, &random).into_uuid()
    }

    fn word(&mut self) -> u64 {
        self.state.swap(0, 1);
        self.state[0] = self.state[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state[0] ^ self.state[1].rotate_left(29);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_as_written() {
        let mut mint = Mint::new(Millis(1_777_629_600_000), 42);
        let (mail, claim, nonce) = (mint.mail(), mint.claim(), mint.nonce());
        assert_eq!(MailId::parse(&mail.to_string()), Some(mail));
        assert_eq!(ClaimId::parse(&claim.to_string()), Some(claim));
        assert_eq!(Nonce::parse(&nonce.to_string()), Some(nonce));
        assert_eq!(ClaimId::parse("9f1c8a52-65a7-4a02-9d3e-0a3e4f1c2b7d"), None, "a person's id is not ours");
    }

    #[test]
    fn a_mint_does_not_repeat_itself() {
        let mut mint = Mint::new(Millis(1), 7);
        let ids: std::collections::BTreeSet<MailId> = (0..10_000).map(|_| mint.mail()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
