//! Where lines go: one output, and how a block of lines is written to it.
//!
//! *Invariant:* an output waits for nothing but what it writes to, in a thread of its own; every line that it does not
//! get rid of is told with the reason.

use std::{fs::File, sync::Arc};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use self::{
    datagram::DatagramOutput,
    file::FileOutput,
    frame::{Frame, Journald, SyslogFrame},
    stream::StreamOutput,
};
use super::drops::Dropped;
use crate::{
    diagnostic::Diagnostic,
    settings::{
        access_log::{self as settings, SyslogTransport},
        tls::UpstreamTls,
    },
    tls,
};

mod backoff;
mod datagram;
mod file;
mod frame;
mod stream;

/// An output as it is configured, with what has to be compiled of it.
#[derive(Clone, Debug)]
pub struct CompiledOutput {
    pub(super) settings: settings::Output,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Something that blocks of lines are written to.
pub(super) enum OutputTarget {
    Datagram(Box<DatagramOutput>),
    File(FileOutput),
    Stream(Box<StreamOutput>),
}

impl CompiledOutput {
    /// Compiles one output.
    ///
    /// # Errors
    /// `tls`: files that are not what they should be, or no name for the server.
    pub(super) fn new(settings: &settings::Output) -> Result<Self, Vec<Diagnostic>> {
        let tls = match settings {
            settings::Output::Syslog(syslog) => match &syslog.transport {
                SyslogTransport::Tls(address, client) => Some(compiled(address, client)?),
                SyslogTransport::Tcp(_) | SyslogTransport::Udp(_) | SyslogTransport::Unix(_) => None,
            },
            settings::Output::File(_) | settings::Output::Journald(_) | settings::Output::Stdout => None,
        };
        Ok(Self { settings: settings.clone(), tls })
    }

    /// Makes it ready to be written to. `opened`: what the guard has opened for it; `None`: it was to, and has not.
    pub(super) fn target(&self, opened: Option<File>) -> Option<OutputTarget> {
        Some(match &self.settings {
            settings::Output::File(_) | settings::Output::Stdout => OutputTarget::File(FileOutput::new(opened?)),
            settings::Output::Journald(path) => {
                OutputTarget::Datagram(Box::new(DatagramOutput::unix(path.clone(), Frame::Journald(Journald))))
            }
            settings::Output::Syslog(syslog) => {
                let frame = SyslogFrame::new(syslog);
                match &syslog.transport {
                    SyslogTransport::Unix(path) => {
                        OutputTarget::Datagram(Box::new(DatagramOutput::unix(path.clone(), Frame::Syslog(frame))))
                    }
                    SyslogTransport::Udp(address) => {
                        OutputTarget::Datagram(Box::new(DatagramOutput::udp(address.clone(), Frame::Syslog(frame))))
                    }
                    SyslogTransport::Tcp(address) | SyslogTransport::Tls(address, _) => {
                        OutputTarget::Stream(Box::new(StreamOutput::new(address.clone(), self.tls.clone(), frame)))
                    }
                }
            }
        })
    }
}

fn compiled(address: &str, client: &UpstreamTls) -> Result<(Arc<ClientConfig>, ServerName<'static>), Vec<Diagnostic>> {
    let under = |faults: Vec<Diagnostic>| faults.into_iter().map(|fault| fault.under("tls")).collect::<Vec<_>>();
    let config = tls::client_config(client).map_err(under)?;
    let name = tls::server_name(client, address).ok_or_else(|| {
        let fault = Diagnostic::new("tls.server_name", "no certificate can have the name of this server");
        vec![fault.hint("write `server_name`, the name that its certificate has")]
    })?;
    Ok((config, name))
}

impl OutputTarget {
    /// Writes a block of whole lines.
    pub(super) fn write(&mut self, block: &[u8]) -> Dropped {
        match self {
            Self::Datagram(datagrams) => datagrams.write(block),
            Self::File(file) => file.write(block),
            Self::Stream(stream) => stream.write(block),
        }
    }

    /// Goes on with another file.
    pub(super) fn reopen(&mut self, file: File) -> Dropped {
        match self {
            Self::File(output) => output.reopen(file),
            Self::Datagram(_) | Self::Stream(_) => None,
        }
    }
}
