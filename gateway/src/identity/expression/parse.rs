//! Parses a condition. `not` binds closer than `and`, `and` closer than `or`.

use std::ops::Range;

use gateway_common::source::Source;
use serde_json::{Number, Value};

use super::{
    check::RouteScope,
    lexer::{Lexer, Token},
    tree::{
        Claim, Comparison, ComparisonKind, ConditionNode, ExpressionError, IdentityList, MAX_COMPARISONS, MAX_DEPTH,
        MAX_LENGTH, Operand, PathParameter, Relation,
    },
};
use crate::{identity::claim::ClaimPath, net::source_set::SourceSet};

/// The most constants or networks in one list.
const MAX_LIST: usize = 100;

const VALUES: &str =
    "write {parameter}, claim.NAME, principal, method, a text in quotation marks, a number, true or false";

type Result<T> = std::result::Result<T, ExpressionError>;

pub(super) fn parse(text: &str, scope: &RouteScope<'_>) -> Result<ConditionNode> {
    if text.len() > MAX_LENGTH {
        let hint = "split it: all conditions of a route must be true";
        return Err(ExpressionError::new(0..text.len(), format!("is over {MAX_LENGTH} bytes"), hint));
    }
    let mut parser = Parser { lexer: Lexer::new(text), scope, comparisons: 0 };
    let root = parser.any(0)?;
    match parser.lexer.next()? {
        (Token::End, _) => Ok(root),
        (_, at) => {
            Err(ExpressionError::new(at, "something follows a whole condition", "join conditions by `and` or `or`"))
        }
    }
}

struct Parser<'t> {
    lexer: Lexer<'t>,
    scope: &'t RouteScope<'t>,
    comparisons: usize,
}

/// What stands on one side of a comparison.
enum Side {
    Value(Operand),
    /// `roles`, `scopes`.
    List(IdentityList),
    Source,
}

impl Parser<'_> {
    fn any(&mut self, depth: usize) -> Result<ConditionNode> {
        let parts = self.joined("or", |parser| parser.all(depth))?;
        Ok(single(parts).unwrap_or_else(|parts| ConditionNode::Any(parts.into())))
    }

    fn all(&mut self, depth: usize) -> Result<ConditionNode> {
        let parts = self.joined("and", |parser| parser.not(depth))?;
        Ok(single(parts).unwrap_or_else(|parts| ConditionNode::All(parts.into())))
    }

    fn joined(
        &mut self,
        word: &str,
        mut part: impl FnMut(&mut Self) -> Result<ConditionNode>,
    ) -> Result<Vec<ConditionNode>> {
        let mut parts = vec![part(self)?];
        while self.lexer.peek()? == Token::Word(word) {
            self.lexer.next()?;
            parts.push(part(self)?);
        }
        Ok(parts)
    }

    fn not(&mut self, depth: usize) -> Result<ConditionNode> {
        let begin = self.lexer.place();
        if depth > MAX_DEPTH {
            let hint = "split the condition: all conditions of a route must be true";
            return Err(ExpressionError::new(begin..begin + 1, format!("is nested over {MAX_DEPTH} deep"), hint));
        }
        match self.lexer.peek()? {
            Token::Word("not") => {
                self.lexer.next()?;
                Ok(ConditionNode::Not(self.not(depth + 1)?.into()))
            }
            Token::Sign("(") => {
                self.lexer.next()?;
                let inner = self.any(depth + 1)?;
                self.sign(")", "close the bracket with `)`")?;
                Ok(inner)
            }
            _ => self.comparison(begin),
        }
    }

    fn comparison(&mut self, begin: usize) -> Result<ConditionNode> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            let hint = "split it: all conditions of a route must be true";
            return Err(ExpressionError::new(
                begin..begin + 1,
                format!("has over {MAX_COMPARISONS} comparisons"),
                hint,
            ));
        }
        let left = self.side()?;
        let (token, at) = self.lexer.next()?;
        let kind = match (left, token) {
            (Side::Source, Token::Word("in")) => ComparisonKind::From(self.networks()?),
            (Side::Source, _) => {
                return Err(ExpressionError::new(
                    at,
                    "`source` can only be looked for",
                    "write `source in 10.0.0.0/8`",
                ));
            }
            (Side::List(_), _) => {
                let whole = begin..at.end;
                let hint = "write what to look for first: 'admin' in roles";
                return Err(ExpressionError::new(whole, "roles and scopes are lists", hint));
            }
            (Side::Value(value), Token::Word("in")) => self.membership(value)?,
            (Side::Value(value), Token::Sign(sign)) if relation(sign).is_some() => {
                let right_at = self.lexer.place();
                match (relation(sign), self.side()?) {
                    (Some(relation), Side::Value(right)) => ComparisonKind::Compare(value, relation, right),
                    _ => {
                        let whole = right_at..self.lexer.end();
                        let hint = "write `in` to look into a list: 'admin' in roles";
                        return Err(ExpressionError::new(whole, "is no single value", hint));
                    }
                }
            }
            (Side::Value(_), _) => {
                let hint = "compare it by ==, !=, <, <=, > or >=, or look into a list by `in`";
                return Err(ExpressionError::new(begin..at.end, "is no comparison", hint));
            }
        };
        Ok(ConditionNode::Comparison(Comparison { at: begin..self.lexer.end(), kind }))
    }

    fn side(&mut self) -> Result<Side> {
        let (token, at) = self.lexer.next()?;
        Ok(Side::Value(match token {
            Token::Parameter(name) => Operand::Parameter(self.parameter(name, at)?),
            Token::Text(text) => Operand::Constant(Value::from(text)),
            Token::Number(text) => Operand::Constant(Value::Number(number(text, at)?)),
            Token::Word("true") => Operand::Constant(Value::Bool(true)),
            Token::Word("false") => Operand::Constant(Value::Bool(false)),
            Token::Word("claim") => Operand::Claim(self.claim(at)?),
            Token::Word("method") => Operand::Method,
            Token::Word("principal") => Operand::Principal,
            Token::Word("source") => return Ok(Side::Source),
            Token::Word("roles") => return Ok(Side::List(IdentityList::Roles)),
            Token::Word("scopes") => return Ok(Side::List(IdentityList::Scopes)),
            Token::Word(word) => {
                let known = ["claim", "method", "principal", "source", "roles", "scopes", "true", "false", "not"];
                let near = known.into_iter().find(|known| strsim::jaro_winkler(known, word) >= 0.8);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("a text stands in quotation marks: '{word}'"),
                };
                return Err(ExpressionError::new(at, format!("there is no `{word}`"), hint));
            }
            Token::End => return Err(ExpressionError::new(at, "a value is missing at the end", VALUES)),
            Token::Sign(_) => return Err(ExpressionError::new(at, "is no value", VALUES)),
        }))
    }

    fn parameter(&self, name: &str, at: Range<usize>) -> Result<PathParameter> {
        let known = &self.scope.parameters;
        known.iter().find(|parameter| &*parameter.name == name).cloned().ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|parameter| format!("{{{}}}", parameter.name)).collect();
            let hint = match names.as_slice() {
                [] => "`path` has no parameters".to_owned(),
                names => format!("`path` has {}", names.join(", ")),
            };
            ExpressionError::new(at, format!("names {{{name}}}, which `path` has not"), hint)
        })
    }

    /// What follows `claim`: `.tenant`, `.realm_access.roles`, `["https://example.com/tenant"]`.
    fn claim(&mut self, at: Range<usize>) -> Result<Claim> {
        const HINT: &str = "write claim.NAME, or claim['https://example.com/NAME']";
        let wrong = |end: usize| ExpressionError::new(at.start..end, "is no claim", HINT);
        let path = match self.lexer.next()?.0 {
            Token::Sign("[") => {
                let Token::Text(text) = self.lexer.next()?.0 else { return Err(wrong(self.lexer.end())) };
                self.sign("]", "close the bracket with `]`")?;
                ClaimPath::parse(&text)
            }
            Token::Sign(".") => {
                let mut names = Vec::from_iter(self.lexer.claim_name());
                while !names.is_empty() && self.lexer.peek()? == Token::Sign(".") {
                    self.lexer.next()?;
                    names.push(self.lexer.claim_name().unwrap_or_default());
                }
                ClaimPath::parse(&names.join("."))
            }
            _ => None,
        };
        let path = path.ok_or_else(|| wrong(self.lexer.end()))?;
        Ok(Claim { path, place: usize::MAX })
    }

    /// What follows `in`, but for networks.
    fn membership(&mut self, value: Operand) -> Result<ComparisonKind> {
        if self.lexer.peek()? == Token::Sign("[") {
            self.lexer.next()?;
            return Ok(ComparisonKind::OneOf(value, self.constants()?.into()));
        }
        let begin = self.lexer.place();
        match self.side()? {
            Side::List(list) => Ok(ComparisonKind::Among(value, list)),
            Side::Value(Operand::Claim(claim)) => Ok(ComparisonKind::Among(value, IdentityList::Claim(claim))),
            Side::Value(_) | Side::Source => {
                let hint = "write a claim, roles, scopes, or a list: in ['a', 'b']";
                Err(ExpressionError::new(begin..self.lexer.end(), "is no list", hint))
            }
        }
    }

    /// The rest of a list of constants.
    fn constants(&mut self) -> Result<Vec<Value>> {
        let mut constants = Vec::new();
        loop {
            let begin = self.lexer.place();
            match self.side() {
                Ok(Side::Value(Operand::Constant(constant))) => constants.push(constant),
                _ => {
                    let whole = begin..self.lexer.end().max(begin + 1);
                    return Err(ExpressionError::new(whole, "is no constant", "write texts or numbers: ['a', 'b']"));
                }
            }
            if self.ends_list(constants.len())? {
                return Ok(constants);
            }
        }
    }

    /// One network or set, or several in brackets.
    fn networks(&mut self) -> Result<SourceSet> {
        let mut networks: Vec<Source> = Vec::new();
        if self.lexer.peek().is_ok_and(|token| token == Token::Sign("[")) {
            self.lexer.next()?;
            let mut count = 0;
            loop {
                self.network(&mut networks)?;
                count += 1;
                if self.ends_list(count)? {
                    break;
                }
            }
        } else {
            self.network(&mut networks)?;
        }
        Ok(SourceSet::new(&networks))
    }

    fn network(&mut self, networks: &mut Vec<Source>) -> Result<()> {
        const HINT: &str = "write a prefix, or the name of a set in [sources]: source in [office, 10.0.0.0/8]";
        let begin = self.lexer.place();
        let Some((text, at)) = self.lexer.network() else {
            return Err(ExpressionError::new(begin..begin + 1, "a network is missing", HINT));
        };
        match self.scope.networks(text) {
            Ok(found) => networks.extend(found),
            Err(message) => return Err(ExpressionError::new(at, message, HINT)),
        }
        Ok(())
    }

    /// Whether a list of so many elements ends here.
    fn ends_list(&mut self, count: usize) -> Result<bool> {
        let (token, at) = self.lexer.next()?;
        match token {
            Token::Sign("]") => Ok(true),
            Token::Sign(",") if count < MAX_LIST => Ok(false),
            Token::Sign(",") => {
                Err(ExpressionError::new(at, format!("the list has over {MAX_LIST} elements"), "shorten it"))
            }
            _ => Err(ExpressionError::new(at, "is neither `,` nor `]`", "write lists as ['a', 'b']")),
        }
    }

    fn sign(&mut self, sign: &'static str, hint: &str) -> Result<()> {
        match self.lexer.next()? {
            (Token::Sign(found), _) if found == sign => Ok(()),
            (_, at) => Err(ExpressionError::new(at, format!("`{sign}` is missing"), hint)),
        }
    }
}

fn single(mut parts: Vec<ConditionNode>) -> std::result::Result<ConditionNode, Vec<ConditionNode>> {
    if parts.len() > 1 { Err(parts) } else { parts.pop().ok_or(parts) }
}

fn relation(sign: &str) -> Option<Relation> {
    Some(match sign {
        "==" => Relation::Equal,
        "!=" => Relation::NotEqual,
        "<" => Relation::Less,
        "<=" => Relation::LessOrEqual,
        ">" => Relation::Greater,
        ">=" => Relation::GreaterOrEqual,
        _ => return None,
    })
}

/// A number that every program reads alike: at most 15 digits.
fn number(text: &str, at: Range<usize>) -> Result<Number> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let plain = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number: Option<Number> = serde_json::from_str(text).ok();
    number.filter(|_| plain && digits <= 15).ok_or_else(|| {
        let hint = "write at most 15 digits, with a dot for fractions; texts stand in quotation marks";
        ExpressionError::new(at, format!("{text} is no number"), hint)
    })
}
