//! A server behind the gateway that speaks TLS: who it says it is, and what it remembers of its client.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream, crypto::aws_lc_rs, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{authority::Issued, world::Namespace};

/// What was seen of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The name it asked for.
    pub name: Option<String>,
    /// What was agreed on by ALPN.
    pub protocol: Option<String>,
    /// Whether it showed a certificate.
    pub certificate: bool,
    /// How many requests it carried.
    pub requests: usize,
}

/// A server that answers every request with 200. Dropped: gone.
pub struct TlsUpstream {
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    address: SocketAddr,
    namespace: std::path::PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl TlsUpstream {
    /// Serves as `issued` says, asking for certificates of `clients` (PEM) if that is given.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, address: &str, issued: &Issued, clients: Option<&str>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let chain = CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (config, address): (_, SocketAddr) = (Arc::new(config), address.parse().unwrap());
        let listener = namespace.enter(|| TcpListener::bind(address).unwrap());
        let (seen, over) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let (record, stop) = (Arc::clone(&seen), Arc::clone(&over));
        let thread = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (config, record) = (Arc::clone(&config), Arc::clone(&record));
                thread::spawn(move || serve(stream, config, &record));
            }
        });
        Self { seen, over, address, namespace: namespace.path(), thread: Some(thread) }
    }

    /// Every connection whose handshake was done.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TlsUpstream {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let address = self.address;
        // Accepting ends with one more connection.
        let file = std::fs::File::open(&self.namespace);
        let knock = thread::spawn(move || {
            if file.is_ok_and(|file| nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).is_ok()) {
                drop(TcpStream::connect(address));
            }
        });
        drop(knock.join());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn serve(mut tcp: TcpStream, config: Arc<ServerConfig>, record: &Mutex<Vec<Seen>>) {
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap_or_default();
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut tcp).is_err() {
            return;
        }
    }
    let place = {
        let mut seen = record.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen {
            name: tls.server_name().map(str::to_owned),
            protocol: tls.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
            certificate: tls.peer_certificates().is_some(),
            requests: 0,
        });
        seen.len() - 1
    };
    let mut stream = Stream::new(&mut tls, &mut tcp);
    let (mut received, mut piece) = (Vec::new(), [0; 4_096]);
    loop {
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => received.extend_from_slice(&piece[..read]),
            _ => return,
        }
        if !received.ends_with(b"\r\n\r\n") {
            continue;
        }
        received.clear();
        record.lock().unwrap_or_else(PoisonError::into_inner)[place].requests += 1;
        let body = "x".repeat(40_000);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).is_err() {
            return;
        }
    }
}
