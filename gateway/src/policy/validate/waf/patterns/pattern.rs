//! What a pattern is, and in what kind of value it is looked for.

/// Kinds of values, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::validate::waf) struct PatternScope(u8);

impl PatternScope {
    pub(in crate::policy::validate::waf) const NAME: Self = Self(1);
    pub(in crate::policy::validate::waf) const VALUE: Self = Self(2);
    pub(in crate::policy::validate::waf) const PATH: Self = Self(4);
    pub(in crate::policy::validate::waf) const HEADER: Self = Self(8);
    pub(in crate::policy::validate::waf) const FILE: Self = Self(16);
    /// A header with a grammar of its own.
    pub(in crate::policy::validate::waf) const ANYWHERE: Self = Self(32);
    /// A whole document of XML.
    pub(in crate::policy::validate::waf) const DOCUMENT: Self = Self(64);

    pub(in crate::policy::validate::waf) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(in crate::policy::validate::waf) const fn has(self, one: Self) -> bool {
        self.0 & one.0 != 0
    }

    /// Whether values of this kind are read as SQL.
    pub(in crate::policy::validate::waf) const fn reads_sql(self) -> bool {
        Self::VALUE.and(Self::NAME).has(self)
    }

    /// Whether values of this kind are read as HTML.
    pub(in crate::policy::validate::waf) const fn reads_html(self) -> bool {
        Self::VALUE.and(Self::NAME).and(Self::PATH).and(Self::HEADER).and(Self::FILE).has(self)
    }
}

/// One pattern.
pub(in crate::policy::validate::waf) struct BuiltinPattern {
    pub(in crate::policy::validate::waf) rule: &'static str,
    /// The kind of attack, as tags of the Core Rule Set name it.
    pub(in crate::policy::validate::waf) tag: &'static str,
    pub(in crate::policy::validate::waf) level: u8,
    pub(in crate::policy::validate::waf) score: u32,
    pub(in crate::policy::validate::waf) scopes: PatternScope,
    pub(in crate::policy::validate::waf) regex: &'static str,
}

pub(super) const fn pattern(
    rule: &'static str,
    tag: &'static str,
    scopes: PatternScope,
    regex: &'static str,
) -> BuiltinPattern {
    BuiltinPattern { rule, tag, level: 1, score: 5, scopes, regex }
}

pub(super) const fn weak(
    rule: &'static str,
    tag: &'static str,
    scopes: PatternScope,
    regex: &'static str,
) -> BuiltinPattern {
    BuiltinPattern { score: 3, ..pattern(rule, tag, scopes, regex) }
}

pub(super) const VALUES: PatternScope = PatternScope::VALUE.and(PatternScope::NAME);
const TEXT: PatternScope = VALUES.and(PatternScope::PATH).and(PatternScope::HEADER);
pub(super) const ALL: PatternScope = TEXT.and(PatternScope::FILE);
pub(super) const EVERYWHERE: PatternScope = ALL.and(PatternScope::ANYWHERE).and(PatternScope::DOCUMENT);
