//! The certificate authority of a test process, and the gateway's certificate under it.

use std::{
    fs::{self, Permissions},
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, LazyLock},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs};
use rustls_pki_types::CertificateDer;

use crate::{
    tokens,
    world::{GATEWAY_V4, GATEWAY_V6},
};

/// The name in the certificate.
pub const HOST: &str = "api.example.com";

/// The schema that `POST /items` is held against.
pub const SCHEMA: &str = r#"{
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["name"],
  "additionalProperties": false,
  "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 64},
    "price": {"type": "number", "minimum": 0}
  }
}
"#;

/// The authority, and the certificate that it gave to the gateway.
pub struct Pki {
    issuer: CertifiedIssuer<'static, KeyPair>,
    authority: CertificateDer<'static>,
    addresses: Vec<IpAddr>,
    /// PEM.
    pub authority_pem: String,
    /// PEM.
    pub certificate_pem: String,
    /// PEM, PKCS#8.
    pub key_pem: String,
}

/// Of this process.
pub static PKI: LazyLock<Pki> = LazyLock::new(|| Pki::generate(&[GATEWAY_V4, GATEWAY_V6]));

impl Pki {
    /// A new authority, and a certificate for [`HOST`] and `addresses`.
    ///
    /// # Panics
    /// If the machine has no randomness.
    #[must_use]
    pub fn generate(addresses: &[IpAddr]) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "gateway test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

        let (certificate_pem, key_pem) = issue(&authority, addresses);
        Self {
            authority: authority.der().clone(),
            authority_pem: authority.pem(),
            addresses: addresses.to_vec(),
            issuer: authority,
            certificate_pem,
            key_pem,
        }
    }

    /// Another certificate for the same names, and its key: PEM both.
    ///
    /// # Panics
    /// If the machine has no randomness.
    #[must_use]
    pub fn another(&self) -> (String, String) {
        issue(&self.issuer, &self.addresses)
    }

    /// Writes what a configuration names into `folder`: `server.crt`, `server.key`, `ca.crt`, `jwks.json`,
    /// `item.schema.json`.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) {
        for (name, content) in [
            ("ca.crt", self.authority_pem.as_str()),
            ("server.crt", &self.certificate_pem),
            ("server.key", &self.key_pem),
            ("jwks.json", &tokens::ISSUERS.jwks().to_string()),
            ("item.schema.json", SCHEMA),
        ] {
            fs::write(folder.join(name), content).expect(name);
        }
        let private = Permissions::from_mode(0o600);
        fs::set_permissions(folder.join("server.key"), private).expect("server.key");
    }

    /// A client's TLS settings: trusts the authority, speaks `versions`, offers `protocols`.
    ///
    /// # Panics
    /// On no version.
    #[must_use]
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, addresses: &[IpAddr]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([HOST.to_owned(), "localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}
