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

use anyhow::{Context as _, bail};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    admin::{Admin, Own, Socket, serve},
    deliver::deliver,
    store::Store,
    traces::Exporter,
};
use crate::{
    message::{
        channel::Channel,
        observer::{ObserverConfig, ToObserver},
        sealed::unseal,
        telemetry::{Role, Telemetry},
    },
    resident::Resident,
    sandbox,
};

/// How many messages of one proxy are read in a second. It sends one, or as many as its series and traces take.
const PACE: u32 = 1_000;

const SECOND: Duration = Duration::from_secs(1);

/// `gateway observer`: the process that the guard starts, with its [`Channel`] as standard input. Exits with 0 when the
/// guard is gone, with 1 if it cannot start.
pub fn main() -> ExitCode {
    // Libraries warn of what clients do; clients could fill the disk with these lines.
    let filter = tracing_subscriber::EnvFilter::new("info,hyper=error,rustls=error");
    let log = tracing_subscriber::fmt().json().flatten_event(true).with_writer(io::stderr).with_env_filter(filter);
    // A second call in the same process changes nothing.
    log.try_init().unwrap_or_default();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the observer cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    // The kernel names a program that is run by its descriptor after the number.
    rustix::thread::set_name(c"gateway-observe").unwrap_or_default();
    let socket = io::stdin().as_fd().try_clone_to_owned().context("cannot duplicate the channel to the guard")?;
    let resident = Resident::open().ok();
    let report = sandbox::observer().context("cannot give up rights")?;
    tracing::info!("the observer is confined: {report}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let channel = Channel::new(socket)
            .context("standard input is not the channel to the guard; only the guard starts this command")?;
        listen(&channel, Own { sandbox: report, resident }).await
    })
}

/// Carries out what the guard says, until it says no more.
async fn listen(channel: &Channel, own: Own) -> anyhow::Result<()> {
    let Some((ToObserver::Start, descriptors)) = channel.receive::<ToObserver>().await? else {
        bail!("the guard did not say how to start");
    };
    let mut descriptors = descriptors.into_iter();
    let (Some(config), Some(socket)) = (descriptors.next(), descriptors.next()) else {
        bail!("the guard sent no configuration or no socket");
    };
    let config: ObserverConfig = unseal(config).context("cannot read the configuration that the guard sent")?;
    let socket = listener(socket, config.is_unix).context("cannot use the admin listener's socket")?;
    let store = Rc::new(RefCell::new(Store::default()));
    let exporter = Rc::new(Exporter::default());
    let admin = Rc::new(Admin::new(config, Rc::clone(&store), Rc::clone(&exporter), own)?);
    tokio::task::spawn_local(Rc::clone(&exporter).run());
    tokio::task::spawn_local(serve(socket, Rc::clone(&admin)));
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (message, descriptors) = tokio::select! {
            message = channel.receive::<ToObserver>() => match message? {
                Some(message) => message,
                None => return Ok(()),
            },
            _ = second.tick() => {
                admin.measure();
                continue;
            }
        };
        let mut descriptors = descriptors.into_iter();
        let (first, second) = (descriptors.next(), descriptors.next());
        if let (ToObserver::Deliver, Some(sealed), Some(answer)) = (&message, &first, &second) {
            let (sealed, answer) = (sealed.try_clone()?, answer.try_clone()?);
            tokio::task::spawn_local(deliver(sealed, answer));
            continue;
        }
        match (message, first) {
            (ToObserver::Telemetry(telemetry), _) => store.borrow_mut().hear((Role::Guard, 0), telemetry),
            (ToObserver::Proxy { generation }, Some(socket)) => {
                let channel = Channel::new(socket)?;
                tokio::task::spawn_local(hear(channel, generation, Rc::clone(&store), Rc::clone(&exporter)));
            }
            (ToObserver::Configure, Some(config)) => match unseal(config) {
                Ok(config) => admin.configure(config)?,
                Err(error) => tracing::error!("the configuration that the guard sent cannot be read: {error}"),
            },
            (message, _) => tracing::error!(?message, "the guard said what cannot be carried out"),
        }
    }
}

fn listener(socket: OwnedFd, is_unix: bool) -> io::Result<Socket> {
    Ok(if is_unix {
        let socket = UnixListener::from(socket);
        socket.set_nonblocking(true)?;
        Socket::Unix(tokio::net::UnixListener::from_std(socket)?)
    } else {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        Socket::Tcp(tokio::net::TcpListener::from_std(socket)?)
    })
}

/// Listens to one proxy until it is gone, or says what is no message.
async fn hear(channel: Channel, generation: u64, store: Rc<RefCell<Store>>, exporter: Rc<Exporter>) {
    let id = (Role::Proxy, generation);
    let mut left = PACE;
    loop {
        match channel.receive_alone::<Telemetry>().await {
            Ok(Some(mut telemetry)) => {
                let refused = exporter.add(std::mem::take(&mut telemetry.traces));
                let mut store = store.borrow_mut();
                store.refuse(refused);
                store.hear(id, telemetry);
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
