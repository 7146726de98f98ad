//! Mail of which it is not known whether it was accepted: a model that sends it again gets the same key, and makes no second mail.
//!
//! **Invariant:** a key is used again only for the very same request, and only until an answer to it has come.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::client::params;
use crate::model::limits;
use crate::protocol::request::Send;

/// What is not known, the oldest first.
#[derive(Debug, Default)]
pub struct Doubts(VecDeque<Doubt>);

#[derive(Debug)]
struct Doubt {
    /// Of the request without its key.
    digest: u64,
    key: String,
    since: Instant,
}

impl Doubts {
    /// The key of the same request, if that is in doubt; the doubt is the caller's from now on.
    pub fn take(&mut self, request: &Send, now: Instant) -> Option<String> {
        let kept = Duration::from_millis(limits::TOOL_DOUBT_MS);
        self.0.retain(|doubt| now.saturating_duration_since(doubt.since) < kept);
        let digest = digest(request);
        let at = self.0.iter().position(|doubt| doubt.digest == digest)?;
        self.0.remove(at).map(|doubt| doubt.key)
    }

    /// This request was made, and not answered.
    pub fn note(&mut self, request: &Send, now: Instant) {
        let Some(key) = request.key.clone() else { return };
        if self.0.len() >= limits::TOOL_DOUBTS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Doubt { digest: digest(request), key, since: now });
    }
}

/// Two requests of one digest that are not the same meet the relay's own look: a key of other mail is refused.
fn digest(request: &Send) -> u64 {
    let mut hasher = DefaultHasher::new();
    params(&Send { key: None, ..request.clone() }).to_string().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(body: &str, key: Option<&str>) -> Send {
        let (to, key) = (vec!["lead".to_owned()], key.map(str::to_owned));
        Send { to, body: body.to_owned(), key, ..Send::default() }
    }

    #[test]
    fn only_the_same_words_have_the_key_again_once_and_for_a_while() {
        let now = Instant::now();
        let later = |ms: u64| now + Duration::from_millis(ms);
        let mut doubts = Doubts::default();
        doubts.note(&request("one", Some("k1")), now);
        assert_eq!(doubts.take(&request("two", None), now), None);
        assert_eq!(
            doubts.take(&request("one", None), later(limits::TOOL_DOUBT_MS - 1)).as_deref(),
            Some("k1")
        );
        assert_eq!(doubts.take(&request("one", None), now), None, "whoever has taken it knows more soon");
        doubts.note(&request("one", Some("k1")), now);
        assert_eq!(doubts.take(&request("one", None), later(limits::TOOL_DOUBT_MS)), None);
        for n in 0..=limits::TOOL_DOUBTS_MAX {
            doubts.note(&request(&n.to_string(), Some("k")), now);
        }
        assert_eq!(doubts.0.len(), limits::TOOL_DOUBTS_MAX);
        assert_eq!(doubts.take(&request("0", None), now), None, "the oldest is forgotten");
    }
}
