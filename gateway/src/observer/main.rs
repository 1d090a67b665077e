//! `gateway observer`, from start to end: it gives up its rights, then reads what the others measure and serves it.

use std::{
    cell::RefCell,
    io,
    net::TcpListener,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    admin::{Admin, AdminSocket, ObserverState, serve},
    alert::Alerts,
    baseline::Baselines,
    deliver::deliver,
    export::Exports,
    fetch::Fetcher,
    relay::Relay,
    report::said,
    store::Store,
};
use crate::{
    diagnostic::with_causes,
    message::{
        channel::{Channel, is_unreadable, sealed::unseal},
        observer::{
            ObserverConfig, ToObserver,
            alert::{AlertQuestion, ObserverAnswer},
            event::Event,
        },
        telemetry::{MetricRole, Telemetry},
    },
    os,
    os::{
        clock::Now,
        launch, program_log,
        resident::Resident,
        sandbox,
        seqpacket::{FULL_FOR, is_full},
    },
};

/// How many messages of one proxy are read in a second. It sends one, or as many as its series and traces take.
const PACE: u32 = 1_000;

const SECOND: Duration = Duration::from_secs(1);

/// `gateway observer`: the process that the launcher starts for the guard, with its channel as standard input. It serves on
/// without a guard, for the next one. Exits with 0 when the launcher is gone, with 1 if it cannot start.
pub fn main() -> ExitCode {
    // Libraries warn of what clients do; clients could fill the disk with these lines.
    program_log::start(tracing_subscriber::EnvFilter::new("info,hyper=error,rustls=error"));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the observer cannot run: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // The kernel names a program that is run by its descriptor after the number.
    rustix::thread::set_name(c"gateway-observe").unwrap_or_default();
    if let Err(error) = os::begin_under_launcher() {
        tracing::warn!(%error, "the observer may outlive its launcher");
    }
    let launcher = io::stdin().as_fd().try_clone_to_owned().context("cannot duplicate the channel to the launcher")?;
    let guard = launch::wait_for_introduction(&launcher)
        .context("standard input is not the channel to the launcher; only the launcher starts this command")?;
    let resident = Resident::open().ok();
    let report = sandbox::observer().context("cannot give up rights")?;
    tracing::info!("the observer is confined: {report}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let own = ObserverState { sandbox: report, resident };
    tokio::task::LocalSet::new().block_on(&runtime, listen(launcher, guard, own))
}

/// What is served by the socket and the configuration of the last guard.
struct Observer {
    admin: Rc<Admin>,
    store: Rc<RefCell<Store>>,
    exports: Rc<Exports>,
    alerts: Rc<Alerts>,
    baselines: Rc<Baselines>,
    relay: Rc<Relay>,
    fetcher: Rc<Fetcher>,
    accepts: Option<JoinHandle<()>>,
}

/// Carries out what one guard after the other says, until the launcher is gone.
async fn listen(launcher: OwnedFd, guard: OwnedFd, own: ObserverState) -> anyhow::Result<()> {
    rustix::io::ioctl_fionbio(&launcher, true)?;
    #[expect(deprecated, reason = "its successor is unsafe for types that may change their descriptor; ours owns it")]
    let launcher = AsyncFd::with_interest(launcher, Interest::READABLE)?;
    let mut channel = Some(Channel::new(guard)?);
    let store = Rc::new(RefCell::new(Store::default()));
    let exports = Rc::new(Exports::default());
    let relay = Rc::new(Relay::default());
    let (config, own_store) = (ObserverConfig::default(), Rc::clone(&store));
    let alerts = Rc::new(Alerts::new(Now::read()));
    let baselines = Rc::new(Baselines::default());
    let told = (Rc::clone(&exports), Rc::clone(&alerts), Rc::clone(&baselines));
    let admin = Rc::new(Admin::new(config, own_store, told, Rc::clone(&relay), own)?);
    exports.run(&store);
    let fetcher = Rc::new(Fetcher::default());
    let mut observer = Observer { admin, store, exports, alerts, baselines, relay, fetcher, accepts: None };
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut full_until: Option<Instant> = None;
    loop {
        let has_room = full_until.is_none();
        let hear = async {
            match &channel {
                Some(channel) => channel.receive_whole::<ToObserver>().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            introduced = launcher.async_io(Interest::READABLE, |launcher| launch::introduced(launcher)), if has_room => {
                match introduced {
                    Ok(Some(guard)) => {
                        channel = Some(Channel::new(guard)?);
                        // What this guard counts begins anew.
                        observer.store.borrow_mut().forget((MetricRole::Guard, 0));
                    }
                    Ok(None) => return Ok(()),
                    // Nothing is lost: it is heard once a client has gone.
                    Err(error) if is_full(&error) => full_until = Some(Instant::now() + FULL_FOR),
                    Err(error) => return Err(error.into()),
                }
            }
            message = hear, if has_room => match message {
                Ok(Some((message, descriptors))) => observer.handle(message, descriptors)?,
                Ok(None) => channel = None,
                Err(error) if is_full(&error) => full_until = Some(Instant::now() + FULL_FOR),
                Err(error) if is_unreadable(&error) => skip("a message", &error, &observer.store),
                Err(error) => return Err(error.into()),
            },
            () = sleep(FULL_FOR), if !has_room => full_until = full_until.filter(|until| *until > Instant::now()),
            _ = second.tick() => {
                observer.admin.measure();
                let now = Now::read();
                observer.admin.remember(now);
                observer.baselines.tick(|| observer.store.borrow().sums(), now);
                observer.alerts.tick(&observer.store, &observer.baselines.sentences(), now);
            }
        }
    }
}

impl Observer {
    /// Carries out what the guard says.
    fn handle(&mut self, message: ToObserver, descriptors: Vec<OwnedFd>) -> anyhow::Result<()> {
        let mut descriptors = descriptors.into_iter();
        match (message, descriptors.next(), descriptors.next()) {
            (ToObserver::Start, Some(config), Some(socket)) => {
                let config: ObserverConfig =
                    unseal(config).context("cannot read the configuration that the guard sent")?;
                let socket = listener(socket, config.is_unix).context("cannot use the admin listener's socket")?;
                self.fetcher.configure(&config.feeds, config.crowdsec.as_ref());
                self.admin.configure(config)?;
                let accepts = tokio::task::spawn_local(serve(socket, Rc::clone(&self.admin)));
                // Of the guard before. Whoever is connected is served to the end.
                if let Some(before) = self.accepts.replace(accepts) {
                    before.abort();
                }
            }
            (ToObserver::Deliver, Some(sealed), Some(answer)) => {
                tokio::task::spawn_local(deliver(sealed, answer));
            }
            (ToObserver::Fetch, Some(sealed), Some(answer)) => {
                let Some(memory) = descriptors.next() else { return Ok(()) };
                tokio::task::spawn_local(Rc::clone(&self.fetcher).fetch(sealed, answer, memory));
            }
            (ToObserver::Files, Some(one), Some(other)) => {
                self.alerts.restore([one, other], Now::read());
                if let (Some(one), Some(other)) = (descriptors.next(), descriptors.next()) {
                    self.baselines.restore([one, other]);
                }
            }
            (ToObserver::Ask, Some(sealed), Some(answer)) => {
                let (alerts, baselines) = (Rc::clone(&self.alerts), Rc::clone(&self.baselines));
                tokio::task::spawn_local(async move { answer_question(&alerts, &baselines, sealed, answer).await });
            }
            (ToObserver::Telemetry(telemetry), ..) => {
                self.store.borrow_mut().receive((MetricRole::Guard, 0), telemetry)
            }
            (ToObserver::Proxy { generation }, Some(socket), _) => {
                let channel = Channel::new(socket)?;
                self.store.borrow_mut().begin((MetricRole::Proxy, generation));
                tokio::task::spawn_local(receive(
                    channel,
                    generation,
                    Rc::clone(&self.store),
                    Rc::clone(&self.exports),
                ));
            }
            (ToObserver::Relay, Some(socket), _) => self.relay.connect(socket)?,
            (ToObserver::Findings, Some(socket), _) => self.baselines.connect(socket),
            (ToObserver::Contributors(shown), ..) => self.baselines.attribute(*shown),
            (ToObserver::Events, Some(socket), _) => {
                tokio::task::spawn_local(hear_events(
                    Channel::new(socket)?,
                    Rc::clone(&self.exports),
                    Rc::clone(&self.store),
                ));
            }
            (ToObserver::Configure, Some(config), _) => match unseal::<ObserverConfig>(config) {
                Ok(config) => {
                    self.fetcher.configure(&config.feeds, config.crowdsec.as_ref());
                    self.admin.configure(config)?;
                }
                Err(error) => tracing::error!("the configuration that the guard sent cannot be read: {error}"),
            },
            (message, ..) => tracing::error!(?message, "the guard said what cannot be carried out"),
        }
        Ok(())
    }
}

fn listener(socket: OwnedFd, is_unix: bool) -> io::Result<AdminSocket> {
    Ok(if is_unix {
        let socket = UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        AdminSocket::Unix(tokio::net::UnixListener::from_std(socket)?)
    } else {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        AdminSocket::Tcp(tokio::net::TcpListener::from_std(socket)?)
    })
}

/// Answers what an operator asks about alerts and anomalies.
async fn answer_question(alerts: &Rc<Alerts>, baselines: &Baselines, sealed: OwnedFd, answer: OwnedFd) {
    let said = match unseal::<AlertQuestion>(sealed) {
        Ok(AlertQuestion::Anomalies) => said(&baselines.report()),
        Ok(question) => alerts.answer(question).await,
        Err(error) => ObserverAnswer::Refused("unreadable".to_owned(), format!("the question cannot be read: {error}")),
    };
    let told = async { Channel::new(answer)?.send(&said, &[]).await };
    if let Err(error) = told.await {
        tracing::debug!(%error, "nobody waits for the answer to a question");
    }
}

/// One message of the guard cannot be read: it is told and counted, and the next one is heard.
fn skip(what: &str, error: &io::Error, store: &RefCell<Store>) {
    tracing::error!(%error, "{what} of the guard cannot be read, and is left out");
    store.borrow_mut().refuse(1);
}

/// Takes decisions of the guard until it tells no more.
async fn hear_events(channel: Channel, exports: Rc<Exports>, store: Rc<RefCell<Store>>) {
    loop {
        match channel.receive::<Event>().await {
            Ok(Some((event, _none))) => exports.add_event(event),
            Ok(None) => return,
            Err(error) if is_unreadable(&error) => skip("a decision", &error, &store),
            Err(error) => return tracing::error!(%error, "a decision of the guard cannot be read"),
        }
    }
}

/// Listens to one proxy until it is gone, or says what is no message.
async fn receive(channel: Channel, generation: u64, store: Rc<RefCell<Store>>, exports: Rc<Exports>) {
    let id = (MetricRole::Proxy, generation);
    let mut left = PACE;
    loop {
        match channel.receive_alone::<Telemetry>().await {
            Ok(Some(mut telemetry)) => {
                let mut store = store.borrow_mut();
                for trace in std::mem::take(&mut telemetry.traces) {
                    match trace.is_valid() {
                        true => exports.traces.add(trace),
                        false => store.refuse(1),
                    }
                }
                store.receive(id, telemetry);
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(generation, %error, "a proxy broke the rules of its telemetry");
                store.borrow_mut().refuse(1);
                break;
            }
        }
        left -= 1;
        if left == 0 {
            // Whoever talks too much finds the socket full.
            sleep(SECOND).await;
            left = PACE;
        }
    }
    channel.close();
    store.borrow_mut().end(id);
}
