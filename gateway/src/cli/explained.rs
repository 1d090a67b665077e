//! Has a request or a token explained: by the running gateway, which has fetched keys and can ask servers, or by the
//! configuration file where it is not asked.

use super::{context::Context, exit::Exit};
use crate::{
    config::{Config, Diagnostics, Disk},
    guard::control::{
        ControlAnswer, ControlRequest,
        client::{self, Unreachable},
    },
    os::clock::Now,
    policy::auth::ensure_crypto,
    snapshot::{
        Snapshot,
        explain::{self, ExplainQuestion, Explanation, LONGEST_TOKEN, SecretToken, Verdict},
    },
};

/// Why the file alone does not say it.
const NOT_FETCHED: &str = "its keys, or an answer about it, have to be fetched, which the running gateway alone does";

/// What was explained, and by what.
pub(super) struct ExplainedBy {
    pub(super) explanation: Explanation,
    /// `daemon` or `file`.
    pub(super) by: &'static str,
    /// The same for people.
    pub(super) by_text: String,
}

/// Asks the running gateway unless `offline`, else the configuration file.
///
/// # Errors
/// How the command ends, which was said.
pub(super) fn explained(context: &Context, question: &ExplainQuestion, offline: bool) -> Result<ExplainedBy, Exit> {
    let fail = |message: &str, exit| Err(context.out.fail(message, exit));
    if let ExplainQuestion::Request(asked) = question
        && asked.token.as_ref().is_some_and(is_too_long)
    {
        return fail("the token is too long", Exit::Usage);
    }
    let why = if offline { Err("--offline".to_owned()) } else { ask_running(context, question) };
    let told = match why {
        Ok(explanation) => ExplainedBy { explanation, by: "daemon", by_text: "the running gateway".to_owned() },
        Err(why) => {
            let explanation = by_file(context, question).map_err(|(message, exit)| context.out.fail(&message, exit))?;
            let file = context.config().display();
            ExplainedBy {
                explanation,
                by: "file",
                by_text: format!("{file}; the running gateway was not asked: {why}"),
            }
        }
    };
    match told.explanation {
        Explanation::Refused(why) => fail(&why, Exit::Usage),
        _ => Ok(told),
    }
}

fn is_too_long(token: &SecretToken) -> bool {
    token.0.len() > LONGEST_TOKEN
}

/// What the running gateway says.
///
/// # Errors
/// Why it says nothing.
fn ask_running(context: &Context, question: &ExplainQuestion) -> Result<Explanation, String> {
    let socket = match &context.socket {
        Some(socket) => socket.clone(),
        None => match context.locations() {
            Ok(locations) => locations.control_socket,
            Err(_errors) => return Err("its socket is not known without the configuration".to_owned()),
        },
    };
    match client::ask(&socket, &ControlRequest::Explain { question: Box::new(question.clone()) }) {
        Ok(ControlAnswer::Explained { explanation }) => Ok(*explanation),
        Ok(ControlAnswer::Refused { message, .. }) => Err(message),
        Ok(_) => Err("it answered something else".to_owned()),
        Err(Unreachable::Missing(_) | Unreachable::Gone(_)) => Err("none runs".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What the configuration file says by itself.
///
/// # Errors
/// What is wrong with it. That is no answer, so it never ends as a denial does.
fn by_file(context: &Context, question: &ExplainQuestion) -> Result<Explanation, (String, Exit)> {
    ensure_crypto().map_err(|error| (error.to_string(), Exit::Usage))?;
    let wrong = |errors: Diagnostics| (errors.to_string(), Exit::Usage);
    let config = Config::load(context.config(), &Disk).map_err(wrong)?;
    let snapshot = Snapshot::new(config.proxy)
        .map_err(|diagnostics| wrong(Diagnostics::from_diagnostics(&config.document, diagnostics)))?;
    match explain::explain(&snapshot, question, &[], Some(NOT_FETCHED), Now::read()) {
        explain::Explaining::Done(explanation) => Ok(explanation),
        // Nothing is looked up where it is said why not.
        explain::Explaining::Needs(_) => Ok(Explanation::Refused(NOT_FETCHED.to_owned())),
    }
}

/// How a command ends that was told this.
pub(super) const fn exit(verdict: Verdict) -> Exit {
    match verdict {
        Verdict::Allowed => Exit::Done,
        Verdict::Denied => Exit::Refused,
        Verdict::Unknown => Exit::Unknown,
    }
}
