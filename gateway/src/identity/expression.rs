//! Conditions of a route on who asks for what: `{id} == claim.sub`, `claim.level >= 3`, `source in office`.
//!
//! A text is parsed and checked when the configuration is loaded; what is left here is a tree that `authz` judges
//! requests by. *Invariant:* a tree is bounded ([`MAX_COMPARISONS`], [`MAX_DEPTH`]), and judging one is linear in it.

mod check;
mod lexer;
mod parse;
mod tree;

#[cfg(test)]
mod tests;

pub use check::{NoNetworks, RouteScope, contradiction, networks};
pub use tree::{
    Claim, Comparison, ComparisonKind, ConditionNode, Expression, ExpressionError, IdentityList, MAX_COMPARISONS,
    MAX_DEPTH, MAX_LENGTH, Operand, PathParameter, Relation,
};

impl Expression {
    /// Reads a condition of a route.
    ///
    /// # Errors
    /// It is no condition, compares what cannot be compared, or can never be true. The first fault is told.
    pub fn parse(text: &str, scope: &RouteScope<'_>) -> Result<Self, ExpressionError> {
        let root = parse::parse(text, scope)?;
        check::check(&root, scope)?;
        Ok(Self { text: text.into(), root })
    }
}
