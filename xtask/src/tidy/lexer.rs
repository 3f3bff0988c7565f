//! Tells the code of a Rust file from its comments and strings.

/// The same text with every comment, string and character blanked out; lines and columns stay where they are.
pub fn code_only(text: &str) -> String {
    let mut lexer = Lexer { bytes: text.as_bytes(), at: 0, code: Vec::with_capacity(text.len()) };
    while lexer.at < lexer.bytes.len() {
        lexer.step();
    }
    String::from_utf8(lexer.code).expect("whole characters are kept or blanked byte by byte")
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    code: Vec<u8>,
}

impl Lexer<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        match rest {
            [b'/', b'/', ..] => self.blank(line_length(rest)),
            [b'/', b'*', ..] => self.blank(block_comment_length(rest)),
            [b'"', ..] => self.blank(string_length(rest)),
            [b'r', b'"' | b'#', ..] if !self.in_word() && raw_string_length(rest).is_some() => {
                self.blank(raw_string_length(rest).expect("just seen"));
            }
            [b'\'', ..] if character_length(rest).is_some() => self.blank(character_length(rest).expect("just seen")),
            _ => self.keep(),
        }
    }

    /// Does the code so far end in the middle of a word? `br"…"` does not count.
    fn in_word(&self) -> bool {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        match self.code.as_slice() {
            [.., before, b'b'] => word(before),
            [.., last] => word(last) && *last != b'b',
            [] => false,
        }
    }

    fn keep(&mut self) {
        self.code.push(self.bytes[self.at]);
        self.at += 1;
    }

    fn blank(&mut self, length: usize) {
        let end = (self.at + length).min(self.bytes.len());
        let blanked = self.bytes[self.at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' });
        self.code.extend(blanked);
        self.at = end;
    }
}

fn line_length(rest: &[u8]) -> usize {
    rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
}

fn block_comment_length(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string_length(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let start = 2 + hashes;
    let found = rest[start..].windows(end.len()).position(|window| window == end);
    Some(found.map_or(rest.len(), |at| start + at + end.len()))
}

/// The length of a character literal; none when the quote begins a lifetime.
fn character_length(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|byte| *byte == b'\'')?;
        return Some(end + 4);
    }
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)])
        .or_else(|error| std::str::from_utf8(&rest[1..=error.valid_up_to()]));
    let first = text.ok()?.chars().next()?.len_utf8();
    (rest.get(1 + first) == Some(&b'\'')).then_some(first + 2)
}

#[cfg(test)]
mod tests {
    use super::code_only;

    #[test]
    fn comments_and_strings_vanish_and_code_stays() {
        let text = "let a = \"x // y\"; // b\nlet c = 'd'; /* e /* f */ g */ h<'a>";
        assert_eq!(code_only(text), "let a =         ;     \nlet c =    ;                   h<'a>");
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        assert_eq!(code_only("r#\"a\"b\"# + br\"c\" + var\"d\""), "         + b     + var   ");
        assert_eq!(code_only("'\\'' + '\\u{1}' + 'é' + 'x"), "     +         +      + 'x");
    }
}
