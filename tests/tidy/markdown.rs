//! Reads the few things of a markdown file that the rules ask for.
//!
//! **Invariant:** a `#` inside a code fence is no heading.
//!
//! Deliberately absent: underlined headings, which the house does not use.

/// Every heading with its line number, `#` marks included.
pub fn headings(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
        }
        let is_heading = !is_fenced && line.trim_start_matches('#').starts_with(' ') && line.starts_with('#');
        is_heading.then_some((index + 1, line))
    })
}

/// True when the text holds this word or phrase with nothing of a longer name on either side.
pub fn holds_word(text: &str, word: &str) -> bool {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_outside_of_fences_only() {
        let text = "# One\n```sh\n# no\n```\n#not\ntext # no\n### Three\n";
        assert_eq!(headings(text).collect::<Vec<_>>(), [(1, "# One"), (7, "### Three")]);
    }

    #[test]
    fn a_word_is_not_found_inside_a_longer_one() {
        assert!(holds_word("`agentmux up` starts", "agentmux up"));
        assert!(!holds_word("`agentmux update`", "agentmux up"));
        assert!(!holds_word("send-all, resend", "send"));
    }
}
