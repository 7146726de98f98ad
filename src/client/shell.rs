//! Command lines for people: words written so that a shell reads each of them as one.

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,~".contains(c);
    if !word.is_empty() && !word.starts_with('~') && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Words as one line.
pub fn line<W: AsRef<str>>(words: &[W]) -> String {
    words.iter().map(|word| quoted(word.as_ref())).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_for_a_shell() {
        for (given, wanted) in [
            ("/a/b~c.d", "/a/b~c.d"),
            ("/a b", "'/a b'"),
            ("/it's", r"'/it'\''s'"),
            ("~x", "'~x'"),
            ("", "''"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(given), wanted);
        }
        assert_eq!(line(&["/a b/codex", "--remote", "unix:///a"]), "'/a b/codex' --remote unix:///a");
    }
}
