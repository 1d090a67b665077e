//! SecLang, the language of ModSecurity's rules: what the OWASP Core Rule Set needs of it, for requests.

pub(super) use self::{
    compile::{CompiledRules, RuleFileError, compile},
    run::{WafOutcome, run},
};

mod actions;
mod collect;
mod compile;
mod decode;
mod files;
mod lines;
mod macros;
mod operator;
mod pattern;
mod rule;
mod run;
mod targets;
mod transform;

#[cfg(test)]
mod tests;
