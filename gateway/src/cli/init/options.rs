//! What `gateway init` is told, by flags or by answers.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

#[derive(Debug, Default, Args)]
#[command(after_help = "\
What is not given is asked on a terminal. Elsewhere --upstream and either
--public or --issuer, --audience and --jwks have to be given. The configuration
is checked before it is written; a file that exists stays, unless --force is
given.

Examples:
  gateway init
  gateway init --upstream 127.0.0.1:9000 --public --listen 127.0.0.1:8080
  gateway init /etc/gateway/gateway.toml --upstream 127.0.0.1:9000 \\
    --interface eth0 --certificate server.crt --private-key server.key \\
    --issuer https://issuer.example --audience api --jwks jwks.json")]
pub(in crate::cli) struct Init {
    /// Where to write it, or - for standard output
    #[arg(default_value = "gateway.toml")]
    pub(super) file: PathBuf,
    /// Where clients connect to [default: 0.0.0.0:443 with a certificate, 127.0.0.1:8080 without]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<SocketAddr>,
    /// The server behind the gateway: an address or a name, and a port
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) upstream: Option<String>,
    /// The certificate chain that clients are shown, PEM
    #[arg(long, value_name = "PATH", requires = "private_key")]
    pub(super) certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "PATH", requires = "certificate")]
    pub(super) private_key: Option<PathBuf>,
    /// The interface that packets come in on, for drops in the kernel; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Vec<String>,
    /// Serve everybody, without tokens
    #[arg(long, conflicts_with_all = ["issuer", "audience", "jwks"])]
    pub(super) public: bool,
    /// Who issues the tokens: their `iss`
    #[arg(long, value_name = "URL", requires = "audience", requires = "jwks")]
    pub(super) issuer: Option<String>,
    /// For whom the tokens are: their `aud`
    #[arg(long, value_name = "NAME", requires = "issuer")]
    pub(super) audience: Option<String>,
    /// The issuer's public keys, a JSON Web Key Set
    #[arg(long, value_name = "PATH", requires = "issuer")]
    pub(super) jwks: Option<PathBuf>,
    /// The user that the proxy runs as
    #[arg(long, value_name = "USER", default_value = "gateway")]
    pub(super) user: String,
    /// The user that the observer runs as [default: gateway-observer where there is such a user, else that of the proxy]
    #[arg(long, value_name = "USER")]
    pub(super) observer_user: Option<String>,
    /// Replace a file that exists
    #[arg(long)]
    pub(super) force: bool,
}

impl Init {
    /// Where clients connect to.
    pub(super) fn listen(&self) -> SocketAddr {
        let usual =
            if self.certificate.is_some() { ([0, 0, 0, 0], 443).into() } else { ([127, 0, 0, 1], 8_080).into() };
        self.listen.unwrap_or(usual)
    }
}
