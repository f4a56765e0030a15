//! Which statements is a GRUB script made of?
//!
//! Tolerant: a word that cannot stand where it does is passed over and reported, an open block is
//! closed by the end of the file, so that the entries around a mistake are still found.

use std::rc::Rc;

use super::lexer::{Token, Word, tokens};

/// Statements in order, shared because menu entries and functions outlive what defined them.
pub(super) type Block = Rc<Vec<Statement>>;

#[derive(Debug)]
pub(super) enum Statement {
    /// A command; with a block if one follows, as for `menuentry`.
    Command {
        words: Vec<Word>,
        block: Option<Block>,
        line: usize,
    },
    /// Conditions with what they guard; no condition for `else`.
    If {
        arms: Vec<(Option<Block>, Block)>,
    },
    For {
        variable: String,
        words: Vec<Word>,
        body: Block,
    },
    Function {
        name: String,
        body: Block,
    },
}

/// How deep blocks may lie in blocks.
const MAX_NESTING: usize = 32;

/// Statements of a script, and what was passed over: line and fragment.
pub(super) fn parse(script: &str) -> (Block, Vec<(usize, String)>) {
    let mut parser = Parser {
        tokens: tokens(script),
        at: 0,
        nesting: 0,
        problems: Vec::new(),
    };
    let mut all = Vec::new();
    loop {
        all.extend(parser.statements(&[]));
        // Only a word that closes nothing stops it before the end.
        match parser.next() {
            Some((token, line)) => {
                let what = match token {
                    Token::Word(word) => word.plain().unwrap_or("word").to_owned(),
                    _ => "brace".to_owned(),
                };
                parser.problem(line, format!("{what} without a beginning"));
            }
            None => break,
        }
    }
    (Rc::new(all), parser.problems)
}

/// Words that end the block they stand in.
const CLOSERS: [&str; 6] = ["then", "elif", "else", "fi", "do", "done"];

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
    problems: Vec<(usize, String)>,
}

impl Parser {
    /// Statements up to a closing word or brace, which is left. `until` is only for reporting.
    fn statements(&mut self, until: &[&str]) -> Vec<Statement> {
        let mut statements = Vec::new();
        self.nesting += 1;
        loop {
            match self.tokens.get(self.at) {
                None => {
                    if let (Some(closer), Some((_, line))) = (until.first(), self.tokens.last()) {
                        let line = *line;
                        self.problem(line, format!("no {closer}"));
                    }
                    break;
                }
                Some((Token::End, _)) => self.at += 1,
                Some((Token::Close, _)) => break,
                Some((Token::Open, line)) => {
                    let line = *line;
                    self.at += 1;
                    // A block of its own runs in order.
                    if self.deep(line) {
                        break;
                    }
                    statements.extend(self.statements(&["}"]));
                    self.skip_close();
                }
                Some((Token::Word(word), line)) => {
                    let line = *line;
                    match word.plain() {
                        Some(closer) if CLOSERS.contains(&closer) => break,
                        Some("if") => {
                            self.at += 1;
                            if self.deep(line) {
                                break;
                            }
                            statements.push(self.conditional());
                        }
                        Some("for") => {
                            self.at += 1;
                            if self.deep(line) {
                                break;
                            }
                            statements.push(self.for_loop());
                        }
                        Some("while" | "until") => {
                            self.at += 1;
                            if self.deep(line) {
                                break;
                            }
                            // Loops on a condition wait for keys or count; their body never
                            // ends here, so it is not run at all.
                            self.statements(&["do"]);
                            self.closer("do");
                            self.statements(&["done"]);
                            self.closer("done");
                            self.problem(line, "loop on a condition passed over");
                        }
                        Some("function") => {
                            self.at += 1;
                            if self.deep(line) {
                                break;
                            }
                            statements.extend(self.function());
                        }
                        _ => {
                            if self.deep(line) {
                                break;
                            }
                            statements.push(self.command());
                        }
                    }
                }
            }
        }
        self.nesting -= 1;
        statements
    }

    /// Whether nesting went too deep; the rest of the file is then dropped.
    fn deep(&mut self, line: usize) -> bool {
        if self.nesting < MAX_NESTING {
            return false;
        }
        self.problem(
            line,
            format!("more than {MAX_NESTING} blocks inside one another"),
        );
        self.at = self.tokens.len();
        true
    }

    fn command(&mut self) -> Statement {
        let line = self.tokens.get(self.at).map_or(0, |(_, line)| *line);
        let words = self.words();
        let block = if matches!(self.tokens.get(self.at), Some((Token::Open, _))) {
            self.at += 1;
            let block = self.statements(&["}"]);
            self.skip_close();
            Some(Rc::new(block))
        } else {
            None
        };
        Statement::Command { words, block, line }
    }

    /// Words up to whatever ends a command.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some((Token::Word(word), _)) = self.tokens.get(self.at) {
            words.push(word.clone());
            self.at += 1;
        }
        words
    }

    fn conditional(&mut self) -> Statement {
        let mut arms = Vec::new();
        loop {
            let condition = self.statements(&["then"]);
            self.closer("then");
            let body = self.statements(&["fi"]);
            arms.push((Some(Rc::new(condition)), Rc::new(body)));
            if self.closer_if("elif") {
                continue;
            }
            if self.closer_if("else") {
                arms.push((None, Rc::new(self.statements(&["fi"]))));
            }
            self.closer("fi");
            return Statement::If { arms };
        }
    }

    fn for_loop(&mut self) -> Statement {
        let mut words = self.words();
        self.statements(&["do"]);
        self.closer("do");
        let body = Rc::new(self.statements(&["done"]));
        self.closer("done");
        let variable = words
            .first()
            .and_then(Word::plain)
            .unwrap_or_default()
            .to_owned();
        // The name and `in`.
        words.drain(..words.len().min(2));
        Statement::For {
            variable,
            words,
            body,
        }
    }

    fn function(&mut self) -> Option<Statement> {
        let name = self.words().first()?.plain()?.to_owned();
        while matches!(self.tokens.get(self.at), Some((Token::End, _))) {
            self.at += 1;
        }
        if !matches!(self.tokens.get(self.at), Some((Token::Open, _))) {
            return None;
        }
        self.at += 1;
        let body = Rc::new(self.statements(&["}"]));
        self.skip_close();
        Some(Statement::Function { name, body })
    }

    fn next(&mut self) -> Option<(Token, usize)> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn skip_close(&mut self) {
        if matches!(self.tokens.get(self.at), Some((Token::Close, _))) {
            self.at += 1;
        }
    }

    fn closer_if(&mut self, keyword: &str) -> bool {
        let found = matches!(
            self.tokens.get(self.at),
            Some((Token::Word(word), _)) if word.plain() == Some(keyword)
        );
        if found {
            self.at += 1;
        }
        found
    }

    fn closer(&mut self, keyword: &str) {
        if !self.closer_if(keyword)
            && let Some((_, line)) = self.tokens.get(self.at)
        {
            let line = *line;
            self.problem(line, format!("{keyword} expected"));
        }
    }

    fn problem(&mut self, line: usize, what: impl Into<String>) {
        if self.problems.len() < 16 {
            self.problems.push((line, what.into()));
        }
    }
}
