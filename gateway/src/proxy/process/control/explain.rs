//! Explains to operators what would become of a request or a token, with all that has to be looked up for it. The guard is
//! heard meanwhile.

use std::{
    future::{Future, poll_fn},
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use gateway_common::source::Source;

use crate::{
    os::clock::Now,
    policy::auth::Lookup,
    proxy::{generation::Compiled, lookup::Requester, worker::shared::WorkersShared},
    settings::auth::Method,
    snapshot::explain::{self, ExplainQuestion, Explanation, explain},
    web::request_id::RequestId,
};

/// The most questions at once.
const MOST: usize = 8;

/// Why more cannot be told: for the operator.
const PASSWORD: &str = "a password would have to be compared";

type Running<'a> = Pin<Box<dyn Future<Output = (u64, Explanation)> + 'a>>;

/// The questions that are being answered.
#[derive(Default)]
pub(super) struct Explaining<'a>(Vec<Running<'a>>);

impl<'a> Explaining<'a> {
    /// Begins to answer a question by a configuration.
    pub(super) fn begin(
        &mut self,
        number: u64,
        question: Box<ExplainQuestion>,
        by: Arc<Compiled>,
        shared: &'a WorkersShared,
    ) {
        self.0.push(if self.0.len() < MOST {
            Box::pin(async move { (number, answer(&question, &by, shared).await) })
        } else {
            let busy = Explanation::Refused("too many such questions at once: try again".to_owned());
            Box::pin(std::future::ready((number, busy)))
        });
    }

    /// The next that is answered, with its number; none, as long as there is none.
    pub(super) async fn next(&mut self) -> (u64, Explanation) {
        poll_fn(|cx| {
            let polled = self.0.iter_mut().enumerate().find_map(|(at, running)| match running.as_mut().poll(cx) {
                Poll::Ready(answered) => Some((at, answered)),
                Poll::Pending => None,
            });
            let Some((at, answered)) = polled else { return Poll::Pending };
            drop(self.0.swap_remove(at));
            Poll::Ready(answered)
        })
        .await
    }
}

async fn answer(question: &ExplainQuestion, by: &Compiled, shared: &WorkersShared) -> Explanation {
    let (mut answers, mut unknown) = (Vec::new(), None);
    // No method asks twice.
    for _ in 0..=Method::ALL.len() {
        match explain(&by.snapshot, question, &answers, unknown, Now::read()) {
            explain::Explaining::Done(explanation) => return explanation,
            explain::Explaining::Needs(lookup) => match find(lookup, by, shared).await {
                Ok(answer) => answers.push(answer),
                Err(why) => unknown = Some(why),
            },
        }
    }
    Explanation::Refused("it has to know too much".to_owned())
}

async fn find(
    lookup: Lookup,
    by: &Compiled,
    shared: &WorkersShared,
) -> Result<crate::policy::auth::LookupAnswer, &'static str> {
    let wait = match &lookup {
        Lookup::Introspection(question) => question.timeout(),
        Lookup::Keys(keys) => keys.timeout(),
        Lookup::Password(_) => return Err(PASSWORD),
    };
    // As of a trusted proxy: nothing is held against whoever it would be.
    let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let source = Source::of(address, by.snapshot.settings.ipv6_prefix);
    let asker = Requester { source, address, relay: None, id: RequestId(0), ja4: None, is_trusted: true };
    shared.lookups.find(lookup, asker, wait).await
}
