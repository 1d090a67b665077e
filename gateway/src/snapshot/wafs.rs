//! The rules of every `[waf.NAME]`, compiled.

use std::sync::Arc;

use crate::{diagnostic::Diagnostic, policy::validate::waf::WafRules, settings::proxy};

/// The rules of every table, in their order. They go on with what those of the same name have counted `before`.
pub(super) fn compile(
    settings: &proxy::Settings,
    before: &[Arc<WafRules>],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<WafRules>> {
    let known = |name: &str| before.iter().find(|rules| rules.name() == name).map(|rules| &**rules);
    let compiled = settings.wafs.iter().map(|waf| {
        let rules = WafRules::new(waf, known(&waf.name));
        rules.map(Arc::new).map_err(|wrong| wrong.into_iter().map(|one| one.under(&format!("waf.{}", waf.name))))
    });
    let kept = compiled.filter_map(|rules| rules.map_err(|wrong| diagnostics.extend(wrong)).ok());
    let kept: Vec<_> = kept.collect();
    for fewer in kept.iter().filter_map(|rules| rules.fewer()) {
        tracing::warn!("{fewer}: check that the files are whole");
    }
    kept
}
