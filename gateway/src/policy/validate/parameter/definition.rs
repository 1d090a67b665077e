//! What a parameter is: its name and place, how it is written, and its schema.

use http::HeaderName;

use crate::{
    policy::validate::schema::set::{SchemaId, Shape},
    refusal::violation::RequestPart,
};

/// How a parameter is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::validate) enum Style {
    DeepObject,
    Form,
    Label,
    Matrix,
    PipeDelimited,
    Simple,
    SpaceDelimited,
}

/// How the text of a parameter becomes a value.
#[derive(Clone, Debug)]
pub(in crate::policy::validate) enum Coding {
    /// It is JSON.
    Json,
    /// By style, and whether each element is a parameter of its own.
    Styled { style: Style, explode: bool },
}

/// One parameter.
#[derive(Clone, Debug)]
pub(in crate::policy::validate) struct Parameter {
    pub(in crate::policy::validate) name: Box<str>,
    pub(in crate::policy::validate) part: RequestPart,
    pub(in crate::policy::validate) coding: Coding,
    pub(in crate::policy::validate) is_required: bool,
    /// Whether it may be there without a value.
    pub(in crate::policy::validate) may_be_empty: bool,
    /// `None`: any value.
    pub(in crate::policy::validate) schema: Option<SchemaId>,
    pub(in crate::policy::validate) shape: Shape,
}

impl Parameter {
    /// Whether it is an object whose members are parameters of the query.
    pub(super) fn is_spread(&self) -> bool {
        let spread = matches!(self.coding, Coding::Styled { style: Style::Form, explode: true });
        spread && self.shape.takes_objects() && !self.shape.takes_arrays() && !self.shape.takes_texts()
    }

    /// Whether it is what `name` in the query belongs to.
    pub(super) fn takes(&self, name: &str) -> bool {
        match self.coding {
            Coding::Styled { style: Style::DeepObject, .. } => is_deep(&self.name, name),
            _ if self.is_spread() => self.shape.member(name).is_some(),
            _ => *self.name == *name,
        }
    }

    /// Whether it can be read as `name` from a header map.
    pub(in crate::policy::validate) fn header(&self) -> Option<HeaderName> {
        HeaderName::from_bytes(self.name.as_bytes()).ok()
    }
}

/// The member that `name` is of the object `parameter`: `filter[color]` is `color` of `filter`.
pub(in crate::policy::validate) fn deep_member<'a>(parameter: &str, name: &'a str) -> Option<&'a str> {
    name.strip_prefix(parameter)?.strip_prefix('[')?.strip_suffix(']').filter(|member| !member.contains(['[', ']']))
}

/// Whether `name` is meant for the object `parameter`, however it is written: `filter`, `filter[a]`, `filter[a][b]`.
pub(in crate::policy::validate) fn is_deep(parameter: &str, name: &str) -> bool {
    name.strip_prefix(parameter).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}
