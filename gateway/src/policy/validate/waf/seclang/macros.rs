//! Text with `%{...}` in it: values of the transaction stand there.

use super::targets::Variable;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MacroPart {
    Text(String),
    /// A variable, and its member in lower case.
    Value(Variable, Option<String>),
}

/// A text, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template(pub(super) Vec<MacroPart>);

impl Template {
    /// Reads a text. What looks like a value and is none stays as it is.
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%{") {
            let Some((name, after)) = after.split_once('}') else { break };
            if !before.is_empty() {
                parts.push(MacroPart::Text(before.to_owned()));
            }
            let (variable, member) = name.split_once(['.', ':']).map_or((name, None), |(name, it)| (name, Some(it)));
            parts.push(match Variable::named(variable) {
                Some(variable) => MacroPart::Value(variable, member.map(str::to_ascii_lowercase)),
                None => MacroPart::Text(format!("%{{{name}}}")),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(MacroPart::Text(rest.to_owned()));
        }
        Self(parts)
    }

    /// The text, where no value is in it.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [MacroPart::Text(text)] => Some(text),
            _ => None,
        }
    }
}
