//! The variables of SecLang: what a rule looks at.

use super::pattern::Pattern;

/// A collection, or a single variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(super) enum Variable {
    Args,
    ArgsCombinedSize,
    ArgsGet,
    ArgsGetNames,
    ArgsNames,
    ArgsPost,
    ArgsPostNames,
    AuthType,
    Duration,
    Empty,
    Files,
    FilesCombinedSize,
    FilesNames,
    FullRequest,
    MatchedVar,
    MatchedVarName,
    MatchedVars,
    MatchedVarsNames,
    MultipartPartHeaders,
    MultipartStrictError,
    QueryString,
    RemoteAddr,
    ReqbodyError,
    ReqbodyProcessor,
    RequestBasename,
    RequestBody,
    RequestBodyLength,
    RequestCookies,
    RequestCookiesNames,
    RequestFilename,
    RequestHeaders,
    RequestHeadersNames,
    RequestLine,
    RequestMethod,
    RequestProtocol,
    RequestUri,
    RequestUriRaw,
    ServerName,
    Tx,
    UniqueId,
    UrlencodedError,
    Xml,
}

/// Names, the variables, and whether single ones or collections. Those without values here are [`Variable::Empty`].
const NAMES: &[(&str, Variable)] = &[
    ("ARGS", Variable::Args),
    ("ARGS_COMBINED_SIZE", Variable::ArgsCombinedSize),
    ("ARGS_GET", Variable::ArgsGet),
    ("ARGS_GET_NAMES", Variable::ArgsGetNames),
    ("ARGS_NAMES", Variable::ArgsNames),
    ("ARGS_POST", Variable::ArgsPost),
    ("ARGS_POST_NAMES", Variable::ArgsPostNames),
    ("AUTH_TYPE", Variable::AuthType),
    ("DURATION", Variable::Duration),
    ("FILES", Variable::Files),
    ("FILES_COMBINED_SIZE", Variable::FilesCombinedSize),
    ("FILES_NAMES", Variable::FilesNames),
    ("FULL_REQUEST", Variable::FullRequest),
    ("INBOUND_DATA_ERROR", Variable::Empty),
    ("MATCHED_VAR", Variable::MatchedVar),
    ("MATCHED_VAR_NAME", Variable::MatchedVarName),
    ("MATCHED_VARS", Variable::MatchedVars),
    ("MATCHED_VARS_NAMES", Variable::MatchedVarsNames),
    ("MULTIPART_PART_HEADERS", Variable::MultipartPartHeaders),
    ("MULTIPART_STRICT_ERROR", Variable::MultipartStrictError),
    ("MULTIPART_UNMATCHED_BOUNDARY", Variable::Empty),
    ("QUERY_STRING", Variable::QueryString),
    ("REMOTE_ADDR", Variable::RemoteAddr),
    ("REQBODY_ERROR", Variable::ReqbodyError),
    ("REQBODY_PROCESSOR", Variable::ReqbodyProcessor),
    ("REQUEST_BASENAME", Variable::RequestBasename),
    ("REQUEST_BODY", Variable::RequestBody),
    ("REQUEST_BODY_LENGTH", Variable::RequestBodyLength),
    ("REQUEST_COOKIES", Variable::RequestCookies),
    ("REQUEST_COOKIES_NAMES", Variable::RequestCookiesNames),
    ("REQUEST_FILENAME", Variable::RequestFilename),
    ("REQUEST_HEADERS", Variable::RequestHeaders),
    ("REQUEST_HEADERS_NAMES", Variable::RequestHeadersNames),
    ("REQUEST_LINE", Variable::RequestLine),
    ("REQUEST_METHOD", Variable::RequestMethod),
    ("REQUEST_PROTOCOL", Variable::RequestProtocol),
    ("REQUEST_URI", Variable::RequestUri),
    ("REQUEST_URI_RAW", Variable::RequestUriRaw),
    ("RULE", Variable::Empty),
    ("SERVER_NAME", Variable::ServerName),
    ("TX", Variable::Tx),
    ("UNIQUE_ID", Variable::UniqueId),
    ("URLENCODED_ERROR", Variable::UrlencodedError),
    ("XML", Variable::Xml),
];

/// Collections that outlive a request, and what nobody fills here.
const EMPTY: [&str; 5] = ["GEO", "GLOBAL", "IP", "RESOURCE", "SESSION"];

impl Variable {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        if EMPTY.contains(&&*name) || name.starts_with("RESPONSE_") || name == "USER" {
            return Some(Self::Empty);
        }
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }

    /// Whether it has no value before the body is read.
    const fn is_of_body(self) -> bool {
        matches!(
            self,
            Self::ArgsPost
                | Self::ArgsPostNames
                | Self::Files
                | Self::FilesNames
                | Self::MultipartPartHeaders
                | Self::MultipartStrictError
                | Self::ReqbodyError
                | Self::RequestBody
                | Self::Xml
        )
    }

    /// The name in `MATCHED_VAR_NAME`.
    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, variable)| *variable == self).map_or("", |(name, _)| name)
    }
}

/// Which members of a collection.
#[derive(Debug)]
pub(super) enum Selector {
    All,
    /// Of this name, in lower case.
    Name(String),
    Matches(Pattern),
}

/// What a rule looks at.
#[derive(Debug)]
pub(super) struct RuleTarget {
    /// As the file has it, without its member.
    pub(super) name: Box<str>,
    pub(super) variable: Variable,
    pub(super) selector: Selector,
    /// It is taken away from what the others have.
    pub(super) is_excluded: bool,
    /// The number of members, instead of themselves.
    pub(super) is_count: bool,
}

impl RuleTarget {
    /// Whether a rule of this phase ever sees a value of it. A number of members is one.
    pub(super) fn can_have_value(&self, phase: usize) -> bool {
        self.is_count || self.variable != Variable::Empty && (phase > 1 || !self.variable.is_of_body())
    }

    /// Whether it has the member of this name.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        match &self.selector {
            Selector::All => true,
            Selector::Name(wanted) => name.eq_ignore_ascii_case(wanted.as_bytes()),
            // Nobody knows: it is looked at.
            Selector::Matches(pattern) => pattern.is_match(name).unwrap_or(!self.is_excluded),
        }
    }
}

/// Reads `ARGS|!ARGS:name|&TX:x|REQUEST_COOKIES:/^a/`.
///
/// # Errors
/// A part that nobody knows.
pub(super) fn targets(text: &str) -> Result<Vec<RuleTarget>, String> {
    split(text).into_iter().map(|part| target(part.trim())).collect()
}

/// Parts between bars, as far as these are not in a pattern.
fn split(text: &str) -> Vec<&str> {
    let (mut found, mut begin, mut in_pattern, mut before) = (Vec::new(), 0, false, ' ');
    for (at, character) in text.char_indices() {
        match character {
            '/' if !in_pattern => in_pattern = begins_pattern(text.get(begin..at).unwrap_or_default()),
            '/' if in_pattern && before != '\\' => in_pattern = false,
            '|' | ',' if !in_pattern => {
                found.push(text.get(begin..at).unwrap_or_default());
                begin = at + 1;
            }
            _ => {}
        }
        before = character;
    }
    found.push(text.get(begin..).unwrap_or_default());
    found
}

/// Whether a slash behind this begins a pattern. `XML` has paths there: `XML:/*|XML://@*` are two targets.
fn begins_pattern(before: &str) -> bool {
    let name = before.strip_suffix('\'').unwrap_or(before).strip_suffix(':');
    name.is_some_and(|name| !name.trim().trim_start_matches(['!', '&']).eq_ignore_ascii_case("xml"))
}

fn target(text: &str) -> Result<RuleTarget, String> {
    let (is_excluded, rest) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    let (is_count, rest) = rest.strip_prefix('&').map_or((false, rest), |rest| (true, rest));
    let (name, selector) = rest.split_once(':').map_or((rest, None), |(name, selector)| (name, Some(selector)));
    let variable = Variable::named(name).ok_or_else(|| format!("nobody knows the variable {name}"))?;
    let selector = match selector.map(|text| text.trim_matches('\'')) {
        None => Selector::All,
        Some(path) if variable == Variable::Xml => Selector::Name(path.to_ascii_lowercase()),
        Some(text) => match text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
            Some(pattern) => Selector::Matches(Pattern::new(&pattern.replace("\\/", "/"), true)?),
            None => Selector::Name(text.to_ascii_lowercase()),
        },
    };
    Ok(RuleTarget { name: name.to_ascii_uppercase().into(), variable, selector, is_excluded, is_count })
}
