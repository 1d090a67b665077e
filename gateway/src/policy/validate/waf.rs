//! The web application firewall: whether a request carries an attack on what is behind the gateway. Rules are the built-in
//! set and files in SecLang, such as the OWASP Core Rule Set.
//!
//! *Invariant:* a finding names rule, place and parameter, never a value. What one request costs is bounded by its size:
//! patterns are matched in linear time or stop at a limit, and values, forms and depth are limited.

use std::{fmt, sync::Arc};

use self::{
    body::Format,
    counts::Counts,
    exclusion::Exclusions,
    finding::{Findings, Threshold},
    request::Values,
    seclang::CompiledRules,
};
pub use self::{
    builtin::rule_names,
    counts::WafSum,
    finding::{Finding, WafVerdict},
    request::{Collection, WafRequest},
};
use crate::{
    diagnostic::Diagnostic,
    settings::waf::{self, Exclusion, WafMode},
    text::counted::counted,
};

mod body;
mod breakout;
mod builtin;
mod canonical;
mod charset;
mod counts;
mod decode;
mod exclusion;
mod finding;
mod grammar;
mod multipart;
mod names;
mod parts;
mod patterns;
mod prose;
mod request;
mod seclang;
mod xml;

#[cfg(any(test, fuzzing))]
#[path = "waf/tests/reading.rs"]
pub(super) mod reading;

/// Whether a body of this `Content-Type` is read byte by byte as it is inspected: `charset`, as far as any parser may see it,
/// is UTF-8, US-ASCII or ISO-8859-1.
#[must_use]
pub fn has_known_charset(content_type: &[u8]) -> bool {
    charset::has_known(content_type)
}

/// The most faults of the files that are told.
const MOST_FAULTS: usize = 20;

/// The rules of one `[waf.NAME]`, compiled.
pub struct WafRules {
    settings: waf::Settings,
    /// What the files say; `None`: there are none.
    compiled: Option<Arc<CompiledRules>>,
    /// What the files say that has no effect here.
    warnings: Vec<String>,
    /// The files had so many rules before, where that is far more than now.
    fewer: Option<usize>,
    counts: Arc<Counts>,
}

impl WafRules {
    /// Compiles the rules, and goes on with what `before` has counted: the rules of the same name in the configuration
    /// before this one.
    ///
    /// # Errors
    /// What is wrong in the files, and where; and exceptions for rules that there are not.
    pub fn new(settings: &waf::Settings, before: Option<&Self>) -> Result<Self, Vec<Diagnostic>> {
        if settings.has_builtin {
            builtin::prepare().map_err(|error| vec![Diagnostic::new("builtin", error)])?;
        }
        let is_same =
            |before: &&Self| before.settings.roots == settings.roots && before.settings.files == settings.files;
        let compiled = match before.filter(is_same) {
            Some(before) => before.compiled.clone(),
            None => Self::compile(settings)?.map(Arc::new),
        };
        let mut faults = names::judge(settings, compiled.as_deref());
        let mut warnings = compiled.as_ref().map_or_else(Vec::new, |compiled| compiled.warnings.clone());
        if compiled.as_ref().is_some_and(|compiled| compiled.refusing == 0) {
            const WITHOUT: &str = "no rule in these files can refuse a request";
            if settings.has_builtin {
                warnings.push(format!("{WITHOUT}: only the built-in rules do. Are the files whole?"));
            } else {
                let wrong = Diagnostic::new("rules", format!("{WITHOUT}, and `builtin` is false"));
                faults.push(wrong.hint("check that the files are whole, or leave `builtin = false` out"));
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let count = |compiled: &Arc<CompiledRules>| compiled.rules;
        let had: usize = before.and_then(|before| before.compiled.as_ref()).map_or(0, count);
        let fewer = (compiled.as_ref().map_or(0, count) < had.div_ceil(2) && !settings.roots.is_empty()).then_some(had);
        let counts = before.map_or_else(Arc::default, |before| Arc::clone(&before.counts));
        Ok(Self { settings: settings.clone(), compiled, warnings, fewer, counts })
    }

    fn compile(settings: &waf::Settings) -> Result<Option<CompiledRules>, Vec<Diagnostic>> {
        let compiled = (!settings.roots.is_empty()).then(|| seclang::compile(&settings.roots, &settings.files));
        compiled.transpose().map_err(|wrong| {
            let told = wrong.into_iter().take(MOST_FAULTS).map(|wrong| {
                let seclang::RuleFileError { path, line, message } = wrong;
                Diagnostic::new("rules", format!("{}:{line}: {message}", path.display()))
            });
            told.collect()
        })
    }

    /// The name of the table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What the files say that has no effect here.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is to be told where the files have far fewer rules than before: one may be torn.
    #[must_use]
    pub fn fewer(&self) -> Option<String> {
        let now = self.compiled.as_ref().map_or(0, |compiled| compiled.rules);
        self.fewer.map(|before| {
            let now = counted(now, "rule was", "rules were");
            format!("waf.{}.rules: {now} loaded, {before} before", self.name())
        })
    }

    /// What was counted since the process began.
    #[must_use]
    pub fn sum(&self) -> WafSum {
        self.counts.sum(&self.settings.name)
    }
}

/// What a route asks of the rules.
pub struct Waf {
    rules: Arc<WafRules>,
    threshold: u32,
    exclusions: Exclusions,
}

impl Waf {
    /// What `route` asks of `rules`: with its own threshold where it has one.
    #[must_use]
    pub fn new(rules: Arc<WafRules>, route: Option<&str>, threshold: Option<u32>) -> Self {
        let of_route = |exclusion: &&Exclusion| {
            exclusion.routes.is_empty()
                || route.is_some_and(|route| exclusion.routes.iter().any(|known| known == route))
        };
        let settings = &rules.settings;
        let exclusions = Exclusions::new(settings.exclude.iter().filter(of_route).cloned().collect());
        Self { threshold: threshold.unwrap_or(settings.threshold), exclusions, rules }
    }

    /// The name of its table.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rules.settings.name
    }

    /// Whether an attack is refused, and not only reported.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.rules.settings.mode == WafMode::Enforce
    }

    /// The largest body that is inspected; `None`: none is.
    #[must_use]
    pub fn inspect_body(&self) -> Option<u64> {
        self.rules.settings.inspect_body
    }

    /// Counts a request that passed without being judged.
    pub fn skip(&self) {
        self.rules.counts.count_not_inspected();
    }

    /// Judges a request, and counts it.
    #[must_use]
    pub fn inspect(&self, request: &WafRequest<'_>) -> WafVerdict {
        let verdict = self.judge(request);
        self.rules.counts.count(&verdict, self.enforces());
        verdict
    }

    /// Judges a request.
    #[must_use]
    pub fn judge(&self, request: &WafRequest<'_>) -> WafVerdict {
        let values = Values::read(*request);
        let mut findings = Findings::new(&self.exclusions);
        if self.rules.settings.has_builtin {
            builtin::inspect(&values, self.rules.settings.paranoia, &mut findings);
        }
        // What is not looked at must not pass.
        if values.is_cut {
            findings.add("too_many_values", "protocol", Collection::Other, b"", builtin::CRITICAL);
        }
        // Whoever reads parts in another way, or in another encoding, sees other values.
        let is_strict = self.rules.compiled.is_some() || values.format == Some(Format::Multipart);
        if values.parts.error.is_some() && is_strict || values.parts.is_foreign || values.other.is_foreign {
            findings.add("unreadable_body", "protocol", Collection::Body, b"", builtin::CRITICAL);
        }
        if !values.query.iter().all(body::has_known_charset) {
            findings.add("unreadable_body", "protocol", Collection::Query, b"_charset_", builtin::CRITICAL);
        }
        let mut is_denied = false;
        if let Some(compiled) = &self.rules.compiled {
            let level = self.rules.settings.paranoia.to_string();
            let fixed = [
                ("blocking_paranoia_level", level.clone()),
                ("detection_paranoia_level", level.clone()),
                ("executing_paranoia_level", level.clone()),
                ("paranoia_level", level),
                ("inbound_anomaly_score_threshold", self.threshold.to_string()),
            ];
            let outcome = seclang::run(compiled, &values, &fixed, &self.exclusions);
            is_denied = outcome.is_denied;
            findings.add_all(&outcome);
        }
        findings.verdict(Threshold { threshold: self.threshold, is_denied })
    }
}

impl fmt::Debug for Waf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Waf({:?})", self.name())
    }
}
