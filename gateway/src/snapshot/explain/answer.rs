//! What is said of a request or a token. It has bounds: the guard takes no more from a proxy.

use serde::{Deserialize, Serialize};

use crate::{policy::auth::Identity, refusal::Refusal, settings::authz::Settings as Roles};

/// The most requirements that are told of.
const MOST_STEPS: usize = 40;

/// The most roles, scopes or permissions.
const MOST_WORDS: usize = 100;

/// The longest text and the longest word, in bytes.
pub(super) const LONGEST: usize = 500;
const LONGEST_WORD: usize = 100;

/// What one requirement says.
#[derive(Clone, Copy)]
pub(super) enum RequirementResult<'a> {
    Met,
    Denied(&'a Refusal),
    Unknown(&'a str),
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// Of a request.
    Request(Box<Explained>),
    /// Of a token.
    Token(Box<ExplainedToken>),
    /// The question makes no sense: why.
    Refused(String),
}

/// What would become of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is let through.
    Allowed,
    /// It is not.
    Denied,
    /// It cannot be told.
    #[default]
    Unknown,
}

/// What is said of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// What becomes of it.
    pub verdict: Verdict,
    /// Whose it is, where that is known.
    pub principal: Option<String>,
    /// Its route: the position in the configuration, and the path.
    pub route: Option<(u32, String)>,
    /// The status, label and detail of the refusal; of what cannot be told, the detail alone.
    pub status: Option<u16>,
    /// See `status`.
    pub reject: Option<String>,
    /// See `status`.
    pub detail: Option<String>,
    /// Every requirement.
    pub steps: Vec<ExplainedStep>,
}

/// What is said of one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedStep {
    /// Its key in the route: `require`, `allow_if[1]`.
    pub step: String,
    /// Whether it is met; absent: it cannot be told.
    pub ok: Option<bool>,
    /// What it asks for, or what meets it.
    pub asks: String,
    /// Why it is not met.
    pub detail: Option<String>,
    /// It only counts.
    pub shadow: bool,
    /// The status and the label of its refusal.
    #[serde(default)]
    pub refused: Option<(u16, String)>,
}

/// What is said of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedToken {
    /// Whether it is valid; absent: it cannot be told.
    pub valid: Option<bool>,
    /// Why it is not, or why it cannot be told.
    pub detail: Option<String>,
    /// The signal that it causes.
    pub signal: Option<String>,
    /// Whom it proves.
    pub principal: Option<String>,
    /// With which roles.
    pub roles: Vec<String>,
    /// With which scopes.
    pub scopes: Vec<String>,
    /// What its roles permit.
    pub permissions: Vec<String>,
}

impl Explained {
    /// No route takes it.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let row = refusal.reject.row();
        let (status, reject) = (Some(row.status.as_u16()), Some(row.label.to_owned()));
        Self {
            verdict: Verdict::Denied,
            status,
            reject,
            detail: Some(cut(&refusal.detail, LONGEST)),
            ..Self::default()
        }
    }

    /// What its requirements come to. One that is not met denies, whatever cannot be told of the others.
    pub(super) fn of(route: Option<(u32, String)>, principal: Option<String>, steps: Vec<ExplainedStep>) -> Self {
        let enforced = || steps.iter().filter(|step| !step.shadow);
        let denied = enforced().find(|step| step.ok == Some(false));
        let unknown = enforced().find(|step| step.ok.is_none());
        let verdict = match (denied, unknown) {
            (Some(_), _) => Verdict::Denied,
            (None, Some(_)) => Verdict::Unknown,
            (None, None) => Verdict::Allowed,
        };
        let detail = denied.or(unknown).and_then(|step| step.detail.clone());
        let (status, reject) = denied.and_then(|step| step.refused.clone()).unzip();
        let route = route.map(|(index, path)| (index, cut(&path, LONGEST)));
        let principal = principal.map(|name| cut(&name, LONGEST));
        let steps = steps.into_iter().take(MOST_STEPS).collect();
        Self { verdict, principal, route, status, reject, detail, steps }
    }

    fn fits(&self) -> bool {
        let texts = [&self.principal, &self.reject, &self.detail];
        let step = |step: &ExplainedStep| {
            let reject = step.refused.as_ref().is_none_or(|(_, label)| label.len() <= LONGEST_WORD);
            step.step.len() <= LONGEST_WORD
                && step.asks.len() <= LONGEST
                && step.detail.as_ref().is_none_or(|text| text.len() <= LONGEST)
                && reject
        };
        texts.into_iter().flatten().all(|text| text.len() <= LONGEST)
            && self.route.as_ref().is_none_or(|(_, path)| path.len() <= LONGEST)
            && self.steps.len() <= MOST_STEPS
            && self.steps.iter().all(step)
    }
}

impl ExplainedStep {
    pub(super) fn new(step: &str, asks: &str, judged: RequirementResult<'_>, shadow: bool) -> Self {
        let (ok, detail, refused) = match judged {
            RequirementResult::Met => (Some(true), None, None),
            RequirementResult::Denied(refusal) => {
                let row = refusal.reject.row();
                let refused = Some((row.status.as_u16(), row.label.to_owned()));
                (Some(false), Some(cut(&refusal.detail, LONGEST)), refused)
            }
            RequirementResult::Unknown(why) => (None, Some(cut(why, LONGEST)), None),
        };
        Self { step: cut(step, LONGEST_WORD), ok, asks: cut(asks, LONGEST), detail, shadow, refused }
    }
}

impl ExplainedToken {
    pub(super) fn unknown(why: &str) -> Self {
        Self { detail: Some(cut(why, LONGEST)), ..Self::default() }
    }

    pub(super) fn refused(refusal: &Refusal) -> Self {
        let signal = refusal.row().signal.map(|signal| signal.name().to_owned());
        Self { valid: Some(false), detail: Some(cut(&refusal.detail, LONGEST)), signal, ..Self::default() }
    }

    pub(super) fn good(identity: &Identity, roles: &Roles) -> Self {
        let given = identity.roles().filter_map(|role| roles.get(role)).flatten();
        let mut permissions: Vec<&str> = given.map(String::as_str).collect();
        permissions.sort_unstable();
        permissions.dedup();
        Self {
            valid: Some(true),
            principal: Some(cut(identity.principal(), LONGEST)),
            roles: words(identity.roles()),
            scopes: words(identity.scopes()),
            permissions: words(permissions.into_iter()),
            ..Self::default()
        }
    }

    fn fits(&self) -> bool {
        let texts = [&self.detail, &self.signal, &self.principal];
        let lists = [&self.roles, &self.scopes, &self.permissions];
        texts.into_iter().flatten().all(|text| text.len() <= LONGEST)
            && lists.iter().all(|list| list.len() <= MOST_WORDS)
            && lists.into_iter().flatten().all(|word| word.len() <= LONGEST_WORD)
    }
}

impl Explanation {
    /// Whether it is as long as it may be.
    #[must_use]
    pub fn fits(&self) -> bool {
        match self {
            Self::Request(explained) => explained.fits(),
            Self::Token(explained) => explained.fits(),
            Self::Refused(why) => why.len() <= LONGEST,
        }
    }
}

fn words(words: impl Iterator<Item = impl AsRef<str>>) -> Vec<String> {
    words.take(MOST_WORDS).map(|word| cut(word.as_ref(), LONGEST_WORD)).collect()
}

/// The beginning of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    const MORE: &str = "...";
    let end = text.floor_char_boundary(most - MORE.len());
    [text.get(..end).unwrap_or_default(), MORE].concat()
}
