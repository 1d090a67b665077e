//! The names and signs of code, and the paths that they make.

/// Everything in a file that is a name of something, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'code> {
    Word(&'code str),
    /// `::`
    Colons,
    Sign(char),
}

/// One name of a use-tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) names: Vec<String>,
    pub(super) alias: Option<String>,
    pub(super) is_glob: bool,
}

impl Leaf {
    /// What it is called where it is imported.
    pub(super) fn name(&self) -> Option<String> {
        self.alias.clone().or_else(|| self.names.last().cloned())
    }
}

/// Takes a use-tree apart, from after `use` to its semicolon.
pub(super) fn leaves<'tokens, 'code>(tokens: &'tokens [Token<'code>]) -> (Vec<Leaf>, &'tokens [Token<'code>]) {
    let mut leaves = Vec::new();
    let mut rest = tree(&[], tokens, &mut leaves);
    if let Some((Token::Sign(';'), after)) = rest.split_first() {
        rest = after;
    }
    (leaves, rest)
}

fn tree<'tokens, 'code>(
    above: &[String],
    tokens: &'tokens [Token<'code>],
    leaves: &mut Vec<Leaf>,
) -> &'tokens [Token<'code>] {
    let mut names = above.to_vec();
    let mut rest = tokens;
    loop {
        match rest {
            [Token::Colons, after @ ..] => rest = after,
            [Token::Sign('{'), after @ ..] => {
                rest = after;
                loop {
                    match rest {
                        [Token::Sign('}'), after @ ..] => return after,
                        [Token::Sign(','), after @ ..] => rest = after,
                        [] | [Token::Sign(';'), ..] => return rest,
                        _ => rest = tree(&names, rest, leaves),
                    }
                }
            }
            [Token::Sign('*'), after @ ..] => {
                leaves.push(Leaf { names, alias: None, is_glob: true });
                return after;
            }
            [Token::Word(word), after @ ..] => {
                // `a::{self}` is `a`.
                if *word != "self" || names.is_empty() {
                    names.push((*word).to_owned());
                }
                rest = after;
                if rest.first() != Some(&Token::Colons) {
                    let mut alias = None;
                    if let [Token::Word("as"), Token::Word(name), after @ ..] = rest {
                        alias = Some((*name).to_owned());
                        rest = after;
                    }
                    leaves.push(Leaf { names, alias, is_glob: false });
                    return rest;
                }
            }
            // Nothing that a use-tree has: go on behind it.
            [_, after @ ..] => return after,
            [] => return rest,
        }
    }
}

/// The path that begins with `first`.
pub(super) fn path<'tokens, 'code>(
    first: &str,
    mut rest: &'tokens [Token<'code>],
) -> (Vec<String>, &'tokens [Token<'code>]) {
    let mut names = vec![first.to_owned()];
    while let [Token::Colons, Token::Word(name), after @ ..] = rest {
        names.push((*name).to_owned());
        rest = after;
    }
    (names, rest)
}

/// The names and signs of code.
pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
        let (token, after) = match end {
            0 if rest.starts_with("::") => (Token::Colons, 2),
            0 => (Token::Sign(first), first.len_utf8()),
            end => (Token::Word(rest.get(..end).unwrap_or_default()), end),
        };
        if !first.is_whitespace() {
            tokens.push(token);
        }
        rest = rest.get(after..).unwrap_or_default();
    }
    tokens
}
