//! How is a GRUB script cut into words? (GRUB manual 2.06, section 6.2 "Quoting" and following.)

/// A word, or what stands between words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Word(Word),
    /// A line break or a semicolon: the end of a command.
    End,
    /// `{`
    Open,
    /// `}`
    Close,
}

/// A word as parts, because quoting decides what is expanded and split later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Text { text: String, quoted: bool },
    Variable { name: String, quoted: bool },
}

impl Word {
    /// The text of a word that has no quotes and no variables, as keywords are written.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [
                Part::Text {
                    text,
                    quoted: false,
                },
            ] => Some(text),
            _ => None,
        }
    }
}

/// Cuts `script` into tokens, each with its line. Any text can be cut: an open quote reaches to
/// the end.
pub(super) fn tokens(script: &str) -> Vec<(Token, usize)> {
    let mut lexer = Lexer {
        rest: script.chars().peekable(),
        line: 1,
        tokens: Vec::new(),
        word: None,
    };
    lexer.all();
    lexer.tokens
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
    tokens: Vec<(Token, usize)>,
    /// The word being read and the line it began on; a pair of quotes alone makes an empty one.
    word: Option<(Word, usize)>,
}

impl Lexer<'_> {
    fn all(&mut self) {
        while let Some(c) = self.next() {
            match c {
                '\n' | ';' => self.separate(Some(Token::End)),
                '{' => self.separate(Some(Token::Open)),
                '}' => self.separate(Some(Token::Close)),
                c if c.is_ascii_whitespace() => self.separate(None),
                '#' if self.word.is_none() => self.comment(),
                '\\' => match self.next() {
                    // A backslash before a line break joins the lines.
                    Some('\n') | None => {}
                    Some('\r') => {
                        if self.rest.peek() == Some(&'\n') {
                            self.next();
                        }
                    }
                    Some(c) => self.push(c, true),
                },
                '\'' => self.single(),
                '"' => self.double(),
                '$' => self.dollar(false),
                c => self.push(c, false),
            }
        }
        self.separate(None);
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn separate(&mut self, token: Option<Token>) {
        if let Some((word, line)) = self.word.take() {
            self.tokens.push((Token::Word(word), line));
        }
        // The line break itself was counted already.
        self.tokens.extend(token.map(|token| (token, self.line)));
    }

    fn comment(&mut self) {
        while self.rest.peek().is_some_and(|c| *c != '\n') {
            self.rest.next();
        }
    }

    fn word(&mut self) -> &mut Word {
        &mut self.word.get_or_insert((Word::default(), self.line)).0
    }

    fn push(&mut self, c: char, quoted: bool) {
        match self.word().parts.last_mut() {
            Some(Part::Text { text, quoted: same }) if *same == quoted => text.push(c),
            _ => self.word().parts.push(Part::Text {
                text: c.into(),
                quoted,
            }),
        }
    }

    fn single(&mut self) {
        self.word();
        while let Some(c) = self.next() {
            match c {
                '\'' => return,
                c => self.push(c, true),
            }
        }
    }

    fn double(&mut self) {
        self.word();
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '$' => self.dollar(true),
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(c @ ('$' | '"' | '\\')) => self.push(c, true),
                    Some(c) => {
                        self.push('\\', true);
                        self.push(c, true);
                    }
                },
                c => self.push(c, true),
            }
        }
    }

    fn dollar(&mut self, quoted: bool) {
        match self.rest.peek() {
            // $"text" and $'text' are translated strings.
            Some('"') if !quoted => {
                self.next();
                self.double();
            }
            Some('\'') if !quoted => {
                self.next();
                self.single();
            }
            Some('{') => {
                self.next();
                let mut name = String::new();
                while let Some(c) = self.next() {
                    if c == '}' {
                        break;
                    }
                    name.push(c);
                }
                self.word().parts.push(Part::Variable { name, quoted });
            }
            Some(c) if "?@*#".contains(*c) || c.is_ascii_digit() => {
                let name = (*c).into();
                self.next();
                self.word().parts.push(Part::Variable { name, quoted });
            }
            Some(c) if is_name(*c) => {
                let mut name = String::new();
                while let Some(c) = self.rest.next_if(|c| is_name(*c)) {
                    name.push(c);
                }
                self.word().parts.push(Part::Variable { name, quoted });
            }
            _ => self.push('$', quoted),
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}
