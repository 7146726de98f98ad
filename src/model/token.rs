//! Tokens: what proves that a connection speaks as a name, and the hash that is kept of one.
//!
//! **Invariant:** a token is never shown: neither `Debug` nor an error has its digits, and only its hash is stored.
//! **Invariant:** comparing takes the same time wherever two hashes differ.

use std::fmt;

use sha2::{Digest, Sha256};

/// 128 bits that only the holder of a name and the relay know, as 32 hex digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// What is stored of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

impl Token {
    /// Reads the 32 hex digits of a token.
    pub fn parse(text: &str) -> Option<Token> {
        let is_hex = text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
        (text.len() == 32 && is_hex).then(|| Token(text.to_owned()))
    }

    /// Makes the token number `n` of an input from random bits that are used for nothing else. A hash stands between, so that no
    /// token tells anything of another one.
    pub fn draw(secret: u128, n: u64) -> Token {
        let hash = Sha256::new()
            .chain_update(b"agentmux token")
            .chain_update(secret.to_be_bytes())
            .chain_update(n.to_be_bytes())
            .finalize();
        Token(hex(&hash[..16]))
    }

    /// What is stored of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }

    /// The token itself, for its holder.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TokenHash {
    /// Whether it is the hash of `other`; takes the same time whatever differs.
    pub fn is(&self, other: &TokenHash) -> bool {
        let differing = self.0.iter().zip(other.0).fold(0, |differing, (a, b)| differing | (a ^ b));
        std::hint::black_box(differing) == 0
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}…)", hex(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_and_never_shown() {
        let token = Token::draw(7, 0);
        assert_eq!(Token::parse(token.reveal()), Some(token.clone()));
        assert!(!format!("{token:?} {:?}", token.hash()).contains(token.reveal()));
        assert!(token.hash().is(&token.hash()) && !token.hash().is(&Token::draw(7, 1).hash()));
        for bad in ["", "abc", &"g".repeat(32), &"A".repeat(32), &"0".repeat(33)] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }
}
