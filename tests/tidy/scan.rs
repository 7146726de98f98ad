//! Splits Rust source into words, literals, marks and comments, so that a rule never trips over a string or a comment.
//!
//! **Invariant:** what stands in a string literal or a comment is never a `Word` or a `Mark`.
//! **Invariant:** `is_test` is true exactly for what only compiles under `test`: `any(test, …)` does not count.
//!
//! Deliberately absent: a grammar. The rules look for short runs of tokens; whatever needs more belongs into clippy.

use std::iter;

/// One source file, taken apart.
pub struct Source<'a> {
    pub tokens: Vec<Token<'a>>,
    pub comments: Vec<Comment<'a>>,
}

/// One word, literal or mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: Kind,
    /// A literal's text stands without its quotes, escapes as written.
    pub text: &'a str,
    pub line: usize,
    pub is_test: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An identifier, a keyword or a number.
    Word,
    /// A string or character literal.
    Literal,
    /// A lifetime, `::`, `->`, `=>`, `!=`, or one other character.
    Mark,
}

/// One line of a comment, markers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comment<'a> {
    pub line: usize,
    pub text: &'a str,
    pub is_doc: bool,
}

/// An attribute: the tokens between its brackets, and where it stands in the file's tokens.
pub struct Attribute<'s, 'a> {
    pub tokens: &'s [Token<'a>],
    /// Index of the `#`.
    pub start: usize,
    /// Index after the `]`.
    pub end: usize,
    /// True for `#![…]`.
    pub is_inner: bool,
}

impl<'a> Source<'a> {
    pub fn scan(text: &'a str) -> Source<'a> {
        let mut scanner = Scanner { text, at: 0, line: 1, tokens: Vec::new(), comments: Vec::new() };
        scanner.run();
        let mut source = Source { tokens: scanner.tokens, comments: scanner.comments };
        source.mark_tests();
        source
    }

    /// Finds every run of tokens with these texts, literals excluded, and returns where each begins.
    pub fn runs<'s>(&'s self, run: &'s [&str]) -> impl Iterator<Item = &'s Token<'a>> {
        self.tokens.windows(run.len()).filter(move |window| is_run(window, run)).map(|window| &window[0])
    }

    pub fn attributes(&self) -> Vec<Attribute<'_, 'a>> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            match attribute_at(&self.tokens, at) {
                Some(attribute) => {
                    at = attribute.end;
                    found.push(attribute);
                }
                None => at += 1,
            }
        }
        found
    }

    /// The comment on this line and the unbroken block of comments right above it, doc comments excluded.
    pub fn comments_at(&self, line: usize) -> impl Iterator<Item = &str> {
        let on =
            |line: usize| self.comments.iter().find(move |comment| comment.line == line && !comment.is_doc);
        let above = iter::successors(line.checked_sub(1), |line| line.checked_sub(1));
        on(line).into_iter().chain(above.map_while(on)).map(|comment| comment.text)
    }

    fn mark_tests(&mut self) {
        let mut regions = Vec::new();
        for attribute in self.attributes() {
            if !is_test_attribute(attribute.tokens) {
                continue;
            }
            if attribute.is_inner {
                regions.push(0..self.tokens.len());
            } else {
                regions.push(attribute.start..item_end(&self.tokens, attribute.end));
            }
        }
        for region in regions {
            for token in &mut self.tokens[region] {
                token.is_test = true;
            }
        }
    }
}

impl Token<'_> {
    /// True for a word or mark with this text, never for a literal.
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Literal && self.text == text
    }

    pub fn is_word(&self) -> bool {
        self.kind == Kind::Word
    }
}

/// True when the tokens are words or marks with exactly these texts.
pub fn is_run(tokens: &[Token<'_>], run: &[&str]) -> bool {
    tokens.len() == run.len() && tokens.iter().zip(run).all(|(token, text)| token.is(text))
}

/// Returns the index of the bracket that closes the one at `open`, or the end of the tokens.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        if opens(token) {
            depth += 1;
        } else if closes(token) {
            depth = depth.saturating_sub(1);
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len()
}

/// Splits at the commas that stand in no inner bracket.
pub fn split_at_commas<'s, 'a>(tokens: &'s [Token<'a>]) -> Vec<&'s [Token<'a>]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < tokens.len() {
        if opens(&tokens[at]) {
            at = closing(tokens, at);
        } else if tokens[at].is(",") {
            parts.push(&tokens[start..at]);
            start = at + 1;
        }
        at += 1;
    }
    parts.push(&tokens[start..]);
    parts
}

fn opens(token: &Token<'_>) -> bool {
    token.is("(") || token.is("[") || token.is("{")
}

fn closes(token: &Token<'_>) -> bool {
    token.is(")") || token.is("]") || token.is("}")
}

fn attribute_at<'s, 'a>(tokens: &'s [Token<'a>], start: usize) -> Option<Attribute<'s, 'a>> {
    let is_inner = tokens.get(start + 1).is_some_and(|token| token.is("!"));
    let open = if is_inner { start + 2 } else { start + 1 };
    if !tokens[start].is("#") || !tokens.get(open)?.is("[") {
        return None;
    }
    let close = closing(tokens, open);
    let inside = tokens.get(open + 1..close)?;
    Some(Attribute { tokens: inside, start, end: (close + 1).min(tokens.len()), is_inner })
}

fn is_test_attribute(tokens: &[Token<'_>]) -> bool {
    match tokens {
        [name] => name.is("test"),
        [name, open, predicate @ .., _] => name.is("cfg") && open.is("(") && implies_test(predicate),
        _ => false,
    }
}

fn implies_test(predicate: &[Token<'_>]) -> bool {
    match predicate {
        [name] => name.is("test"),
        [name, open, inner @ .., _] if name.is("all") && open.is("(") => {
            split_at_commas(inner).into_iter().any(implies_test)
        }
        _ => false,
    }
}

/// Returns the index after the item (or field, or arm) that begins at `start`, further attributes included.
fn item_end(tokens: &[Token<'_>], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len()
        && let Some(attribute) = attribute_at(tokens, at)
    {
        at = attribute.end;
    }
    let ends = Ends::of(&tokens[at..]);
    while at < tokens.len() {
        let token = &tokens[at];
        if token.is(";") || (token.is(",") && ends == Ends::AtComma) {
            return at + 1;
        }
        if closes(token) {
            return at;
        }
        if opens(token) {
            let is_body = token.is("{") && ends == Ends::AfterBody;
            at = closing(tokens, at);
            if is_body {
                return (at + 1).min(tokens.len());
            }
        }
        at += 1;
    }
    at
}

/// What ends an item, besides a semicolon.
#[derive(PartialEq, Eq)]
enum Ends {
    AfterBody,
    AtSemicolon,
    AtComma,
}

impl Ends {
    fn of(item: &[Token<'_>]) -> Ends {
        let mut words = item.iter().filter(|token| token.is_word()).map(|token| token.text).peekable();
        while let Some(word) = words.next() {
            match word {
                "pub" | "crate" | "super" | "in" | "unsafe" | "async" | "extern" => {}
                "const" if words.peek() == Some(&"fn") => {}
                "mod" | "fn" | "impl" | "struct" | "enum" | "trait" | "union" | "macro_rules" => {
                    return Ends::AfterBody;
                }
                "use" | "const" | "static" | "type" | "let" => return Ends::AtSemicolon,
                _ => return Ends::AtComma,
            }
        }
        Ends::AtComma
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
    comments: Vec<Comment<'a>>,
}

impl<'a> Scanner<'a> {
    fn run(&mut self) {
        while let Some(next) = self.rest().chars().next() {
            if self.rest().starts_with("//") {
                self.line_comment();
            } else if self.rest().starts_with("/*") {
                self.block_comment();
            } else if next == '"' {
                self.literal(1, "\"", true);
            } else if next == '\'' {
                self.quote();
            } else if is_word_part(next) {
                self.word();
            } else if next.is_whitespace() {
                self.advance(next.len_utf8());
            } else {
                self.mark(next);
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let passed = &self.rest()[..bytes];
        self.line += passed.matches('\n').count();
        self.at += bytes;
        passed
    }

    fn push(&mut self, kind: Kind, text: &'a str, line: usize) {
        self.tokens.push(Token { kind, text, line, is_test: false });
    }

    fn line_comment(&mut self) {
        let line = self.line;
        let rest = self.rest();
        let text = self.advance(rest.find('\n').unwrap_or(rest.len()));
        let is_doc = text.starts_with("//!") || (text.starts_with("///") && !text.starts_with("////"));
        self.comments.push(Comment { line, text, is_doc });
    }

    fn block_comment(&mut self) {
        let line = self.line;
        let rest = self.rest();
        let mut depth = 0_usize;
        let mut end = 0;
        while end < rest.len() {
            let here = &rest.as_bytes()[end..];
            if here.starts_with(b"/*") {
                depth += 1;
                end += 2;
            } else if here.starts_with(b"*/") {
                depth -= 1;
                end += 2;
                if depth == 0 {
                    break;
                }
            } else {
                end += 1;
            }
        }
        let text = self.advance(end);
        let is_doc = text.starts_with("/*!") || (text.starts_with("/**") && !text.starts_with("/**/"));
        for (offset, text) in text.split('\n').enumerate() {
            self.comments.push(Comment { line: line + offset, text, is_doc });
        }
    }

    /// Takes a literal whose opening (prefix, hashes, quote) has this length.
    fn literal(&mut self, opening: usize, close: &str, has_escapes: bool) {
        let line = self.line;
        self.advance(opening);
        let rest = self.rest();
        let mut end = 0;
        while end < rest.len() && !rest.as_bytes()[end..].starts_with(close.as_bytes()) {
            let is_escape = has_escapes && rest.as_bytes()[end] == b'\\';
            end += if is_escape { 2 } else { 1 };
        }
        let end = end.min(rest.len());
        let text = self.advance(end);
        self.advance(close.len().min(self.rest().len()));
        self.push(Kind::Literal, text, line);
    }

    /// Takes a character literal or a lifetime.
    fn quote(&mut self) {
        let mut after = self.rest().chars().skip(1);
        let (first, second) = (after.next(), after.next());
        if first == Some('\\') || second == Some('\'') {
            self.literal(1, "'", true);
            return;
        }
        let line = self.line;
        let rest = self.rest();
        let length = rest[1..].find(|letter| !is_word_part(letter)).map_or(rest.len(), |end| end + 1);
        let text = self.advance(length);
        self.push(Kind::Mark, text, line);
    }

    /// Takes a word, or the literal that it is the prefix of (`r"…"`, `br#"…"#`, `c"…"`).
    fn word(&mut self) {
        let rest = self.rest();
        let length = rest.find(|letter| !is_word_part(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        let hashes = after.len() - after.trim_start_matches('#').len();
        let is_raw = matches!(word, "r" | "br" | "cr");
        if after[hashes..].starts_with('"') && (is_raw || (hashes == 0 && matches!(word, "b" | "c"))) {
            let close = format!("\"{}", "#".repeat(hashes));
            self.literal(length + hashes + 1, &close, !is_raw);
        } else if word == "r" && hashes == 1 && after[1..].starts_with(is_word_part) {
            // A raw identifier: its word is what follows.
            self.advance(2);
            self.word();
        } else {
            let line = self.line;
            self.advance(length);
            self.push(Kind::Word, word, line);
        }
    }

    fn mark(&mut self, next: char) {
        let line = self.line;
        let is_double = ["::", "->", "=>", "!="].iter().any(|double| self.rest().starts_with(double));
        let text = self.advance(if is_double { 2 } else { next.len_utf8() });
        self.push(Kind::Mark, text, line);
    }
}

fn is_word_part(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Source::scan(text).tokens.iter().filter(|token| token.is_word()).map(|token| token.text).collect()
    }

    fn test_words(text: &str) -> Vec<&str> {
        let source = Source::scan(text);
        source
            .tokens
            .iter()
            .filter(|token| token.is_word() && token.is_test)
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn strings_and_comments_are_no_words() {
        assert_eq!(words(r##"a "b \" c" /* d /* e */ f */ r#"g " h"# i // j"##), ["a", "i"]);
        assert_eq!(words("a b\"c\" br\"d\\\" e c\"f\""), ["a", "e"]);
        assert_eq!(words("a '\\'' b '\"' c 'd' e"), ["a", "b", "c", "e"]);
        assert_eq!(words("a \"two\nlines\" b"), ["a", "b"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_told_from_literals() {
        assert_eq!(words("fn f<'a>(x: &'static str, r#type: &'a T)"), ["fn", "f", "x", "str", "type", "T"]);
    }

    #[test]
    fn an_unfinished_literal_or_comment_ends_with_the_file() {
        assert_eq!(words("a \"b \\"), ["a"]);
        assert_eq!(words("a /* b"), ["a"]);
        assert_eq!(words("a r#\"b\""), ["a"]);
        assert_eq!(words("a '"), ["a"]);
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = Source::scan("\"a\nb\"\n/* c\nd */ e\n// f\ng");
        let lines: Vec<usize> = source.tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 4, 6]);
        let lines: Vec<usize> = source.comments.iter().map(|comment| comment.line).collect();
        assert_eq!(lines, [3, 4, 5]);
    }

    #[test]
    fn only_what_needs_test_is_test() {
        assert_eq!(
            test_words("#[cfg(test)] mod t { fn a() {} } fn b() {}"),
            "cfg test mod t fn a".split(' ').collect::<Vec<_>>()
        );
        assert_eq!(test_words("#[cfg(test)] use a::{b, c}; use d;"), ["cfg", "test", "use", "a", "b", "c"]);
        assert_eq!(
            test_words("#[cfg(test)] #[x] pub(crate) mod t; mod u;"),
            ["cfg", "test", "x", "pub", "crate", "mod", "t"]
        );
        assert_eq!(test_words("struct S { #[cfg(test)] a: B<C>, d: E }"), ["cfg", "test", "a", "B", "C"]);
        assert_eq!(test_words("#[cfg(test)] const fn f<A, B>() {} fn g() {}").last(), Some(&"B"));
        assert_eq!(test_words("#[cfg(all(unix, test))] fn f() {} fn g() {}").last(), Some(&"f"));
        assert_eq!(test_words("#[test] fn f() {} fn g() {}"), ["test", "fn", "f"]);
        assert_eq!(test_words("#![cfg(test)] fn f() {}").last(), Some(&"f"));
        for not_test in
            ["#[cfg(any(test, unix))] fn f() {}", "#[cfg(not(test))] fn f() {}", "#[cfg(unix)] fn f() {}"]
        {
            assert!(test_words(not_test).is_empty(), "{not_test}");
        }
    }

    #[test]
    fn a_comment_block_above_a_line_belongs_to_it() {
        let source = Source::scan("// far\n\n// b\n// a\nx(); // same\n");
        assert_eq!(source.comments_at(5).collect::<Vec<_>>(), ["// same", "// a", "// b"]);
        assert_eq!(source.comments_at(2).collect::<Vec<_>>(), ["// far"]);
    }
}
