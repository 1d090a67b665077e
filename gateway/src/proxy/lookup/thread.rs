//! The thread that looks things up: it hands each lookup to the task that knows how.

use std::{io, rc::Rc};

use tokio::{sync::mpsc, task::LocalSet};

use super::{
    client::{OutboundClient, RESOLVERS},
    crawlers::Verifier,
    introspection::IntrospectionLookups,
    job::LookupJob,
    keepers::Keepers,
    news::News,
};
use crate::policy::auth::Lookup;

/// The most fetches of keys at once.
const FETCHES: usize = 64;

/// The most questions about tokens at once, over all servers. Each server has a limit of its own besides.
const QUESTIONS: usize = 256;

/// Starts the thread. It ends with the process.
pub(super) fn start(jobs: mpsc::Receiver<LookupJob>, news: mpsc::Sender<News>) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2 * RESOLVERS).build()?;
    let thread = std::thread::Builder::new().name("lookup".to_owned());
    thread.spawn(move || LocalSet::new().block_on(&runtime, run(jobs, news)))?;
    Ok(())
}

async fn run(mut jobs: mpsc::Receiver<LookupJob>, news: mpsc::Sender<News>) {
    // However many tokens are asked about, keys are fetched.
    let client = OutboundClient::new(FETCHES);
    let keepers = Rc::new(Keepers::default());
    let introspection = IntrospectionLookups::new(OutboundClient::new(QUESTIONS), Rc::clone(&keepers));
    let verifier = Rc::new(Verifier::default());
    while let Some(job) = jobs.recv().await {
        match job {
            LookupJob::Keep(sets) => keepers.keep(sets, &client, &news),
            LookupJob::Find(Lookup::Keys(lookup), asker, answer) => keepers.ask(lookup, Some(asker), answer),
            LookupJob::Find(Lookup::Introspection(question), _, answer) => introspection.ask(question, answer),
            LookupJob::Find(..) => {}
            LookupJob::Verify(question) => verifier.verify(question),
        }
    }
}
