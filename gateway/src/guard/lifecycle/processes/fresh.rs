//! Puts a fresh proxy and a fresh observer in the place of those that cannot read any more what names are resolved by. A proxy
//! hands over as in a reload: no request fails.

use std::net::SocketAddr;

use tokio::{sync::mpsc, time::Instant};

use crate::{
    guard::{
        lifecycle::{
            files::resolver_files::ResolverFiles,
            service::{Done, Service, in_background},
        },
        processes::observer,
    },
    os::launch::End,
    settings::{
        access_log::{Output, SyslogTransport},
        proxy,
    },
};

impl Service<'_> {
    /// Looks at the files that names are resolved by, beside the loop.
    pub(in crate::guard::lifecycle) fn look_at_resolver(&mut self, beside: &mpsc::Sender<Done>) {
        if !std::mem::replace(&mut self.watched.resolver.is_looking, true) {
            in_background(beside, || Done::Resolver(ResolverFiles::look()));
        }
    }

    /// These files are there now.
    pub(in crate::guard::lifecycle) fn looked_at_resolver(&mut self, files: ResolverFiles) {
        let (newest, serving) = (self.supervisor.newest(), self.supervisor.generation());
        let observer = self.observer.as_ref().and_then(observer::Observer::pid);
        let resolver = &mut self.watched.resolver;
        resolver.is_looking = false;
        let (now, before) = (Instant::now(), resolver.held());
        resolver.proxies.follow(newest, serving);
        resolver.follow_observer(observer);
        let is_other = resolver.held() != before;
        let (is_due, is_observer_due) = (resolver.proxies.is_due(files, now), resolver.observer.is_due(files, now));
        if is_other {
            self.keep_again();
        }
        // One that starts in another way finds the new files as well.
        let may_start = !self.changes() && self.ending.upgrade_at.is_none() && self.supervisor.serves();
        if is_due && may_start && resolves(&self.config.proxy) {
            self.watched.resolver.proxies.replaced(now);
            tracing::info!(
                "files that names are resolved by were replaced: a new proxy takes over, which can read them"
            );
            self.fill_bundle();
            if let Err(error) = self.supervisor.start(None) {
                tracing::error!(%error, "no proxy can be started; trying again");
            }
        }
        if is_observer_due && let Some(pid) = self.observer.as_mut().and_then(observer::Observer::retire) {
            self.watched.resolver.observer.replaced(now);
            tracing::info!(pid, "the observer is replaced: it cannot read the new files that names are resolved by");
            self.supervisor.launcher.end(pid, End::Kill);
        }
    }
}

/// Whether a proxy of these settings may ever resolve a name.
fn resolves(settings: &proxy::Settings) -> bool {
    let servers = settings.upstreams.iter().flat_map(|upstream| &upstream.servers);
    let mut issuers = settings.auth.jwt.iter().flat_map(|jwt| &jwt.issuers);
    servers.map(|server| &server.address).any(|address| address.parse::<SocketAddr>().is_err())
        || issuers.any(|issuer| issuer.keys.fetch().is_some())
        || !settings.auth.introspection.is_empty()
        || settings.cluster.is_some()
        || (!settings.crawlers.crawlers.is_empty() && settings.crawlers.resolvers.is_empty())
        || settings.access_log.outputs.iter().any(is_elsewhere)
}

/// Whether lines leave this host.
fn is_elsewhere(output: &Output) -> bool {
    match output {
        Output::File(_) | Output::Journald(_) | Output::Stdout => false,
        Output::Syslog(syslog) => !matches!(syslog.transport, SyslogTransport::Unix(_)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{config::Config, message::Bundle};

    #[test]
    fn who_resolves_names() {
        for (more, server, expect) in [
            ("", "10.0.0.1:80", false),
            ("", "[2001:db8::1]:80", false),
            ("", "api.internal:80", true),
            (
                "[[access_log.output]]\ntype = \"syslog\"\ntransport = \"udp\"\naddress = \"log.internal:514\"\n",
                "10.0.0.1:80",
                true,
            ),
            ("[[access_log.output]]\ntype = \"syslog\"\n", "10.0.0.1:80", false),
            ("[crawler.one]\nagents = [\"onebot\"]\nhosts = [\".one.example\"]\n", "10.0.0.1:80", true),
            (
                "[crawlers]\nresolvers = [\"10.0.0.2\"]\n[crawler.one]\nagents = [\"onebot\"]\n\
                 hosts = [\".one.example\"]\n",
                "10.0.0.1:80",
                false,
            ),
        ] {
            let text = format!(
                "[[listener]]\naddress = \"127.0.0.1:80\"\n[upstream.items]\nservers = [\"{server}\"]\n[[route]]\n\
                 path = \"/\"\nrequire = [\"public\"]\nupstream = \"items\"\n{more}"
            );
            let bundle = Bundle { path: "gateway.toml".into(), text, ..Bundle::default() };
            let config = Config::load(Path::new("gateway.toml"), &bundle).unwrap();
            assert_eq!(resolves(&config.proxy), expect, "{server} {more}");
        }
    }
}
