//! What operators ask that the proxy in service alone knows: of limits on requests, and what would become of a request.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use crate::{
    guard::{
        control::ControlAnswer,
        lifecycle::service::{Service, reply},
    },
    message::ToProxy,
    os::clock::Now,
    policy::{
        detect::{Discounted, ProfileRow},
        limit::report::{self, LimitRow},
    },
    snapshot::explain::ExplainQuestion,
};

/// How long a proxy may take over what it alone knows. It is asked while it is attacked, and is busy then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks the proxy in service. Where it does not answer in time, that is said.
pub(in crate::guard::lifecycle) fn ask(
    service: &mut Service<'_>,
    question: report::LimitQuestion,
    to: oneshot::Sender<ControlAnswer>,
) {
    let Some((generation, answer, to)) = whom(service, to) else { return };
    let number = service.commands.waiting.hold(generation, Instant::now() + ANSWER_TIMEOUT, answer, to);
    service.supervisor.tell(&ToProxy::Limits { number, question });
}

/// How long a proxy may take to find out what it has to know first: keys, or what a server says.
const LOOKED_UP: Duration = Duration::from_secs(15);

/// Asks the proxy in service what would become of a request or a token.
pub(in crate::guard::lifecycle) fn explain(
    service: &mut Service<'_>,
    question: Box<ExplainQuestion>,
    to: oneshot::Sender<ControlAnswer>,
) {
    let Some((generation, answer, to)) = whom(service, to) else { return };
    let number = service.commands.waiting.hold_until_told(generation, Instant::now() + LOOKED_UP, answer, to);
    service.supervisor.tell(&ToProxy::Explain { number, question });
}

/// The generation of the proxy in service, and what is answered where it says nothing. Where there is none, that is
/// answered at once.
fn whom(
    service: &Service<'_>,
    to: oneshot::Sender<ControlAnswer>,
) -> Option<(u64, ControlAnswer, oneshot::Sender<ControlAnswer>)> {
    let code = "no_proxy".to_owned();
    let answer = ControlAnswer::Refused { code, message: "the proxy has not answered: try again".to_owned() };
    match service.supervisor.generation() {
        Some(generation) => Some((generation, answer, to)),
        None => {
            reply(Some(to), answer);
            None
        }
    }
}

/// Asks the proxy in service who fails and asks most.
pub(in crate::guard::lifecycle) fn top(service: &mut Service<'_>, most: u16, to: oneshot::Sender<ControlAnswer>) {
    let code = "no_proxy".to_owned();
    let answer = ControlAnswer::Refused { code, message: "the proxy has not answered: try again".to_owned() };
    match service.supervisor.generation() {
        Some(generation) => {
            let number = service.commands.waiting.hold(generation, Instant::now() + ANSWER_TIMEOUT, answer, to);
            service.supervisor.tell(&ToProxy::Profiles { number, most });
        }
        None => reply(Some(to), answer),
    }
}

/// A proxy has said who fails and asks most.
pub(in crate::guard::lifecycle) fn profiled(
    service: &mut Service<'_>,
    asked: (u64, u64),
    rows: Option<Vec<ProfileRow>>,
) {
    service.commands.waiting.told(asked.0, asked.1, |answer| {
        *answer = match rows {
            Some(rows) => ControlAnswer::Profiles { rows },
            None => ControlAnswer::Refused {
                code: "no_profiles".to_owned(),
                message: "no profiles are kept: set detect.profiles, for example to 10000".to_owned(),
            },
        };
    });
}

impl Service<'_> {
    /// Says where the address is that an answer explains, as far as databases know.
    pub(in crate::guard::lifecycle) fn located(&self, answer: ControlAnswer) -> ControlAnswer {
        match answer {
            ControlAnswer::Why(mut why) => {
                let place = self.config.proxy.geo.find(why.address);
                why.country = place.country.map(|country| country.as_str().to_owned());
                why.asn = place.asn;
                ControlAnswer::Why(why)
            }
            answer => answer,
        }
    }
}

/// A proxy, by its generation and the number that it was asked by, has said what rules and limits hold against an address.
pub(in crate::guard::lifecycle) fn scored(
    service: &mut Service<'_>,
    asked: (u64, u64),
    scores: &[(String, u32)],
    (limits, discounted): (Vec<LimitRow>, Option<Discounted>),
    profile: Option<Box<ProfileRow>>,
) {
    let guard = &*service.guard;
    service.commands.waiting.told(asked.0, asked.1, |answer| {
        if let ControlAnswer::Why(why) = answer {
            why.limits = limits;
            why.profile = profile;
            why.discounted = discounted;
            why.score = guard.scores(why.address, scores, Now::read());
        }
    });
}
