//! More certificate authorities, for tests of several names, client certificates and revocation.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// One authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Issued {
    /// The chain, leaf first.
    pub certificate: String,
    /// PKCS#8.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Panics
    /// If the machine has no randomness.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    /// Its key, PEM: for programs that sign in its name.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Its own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server with these names.
    ///
    /// # Panics
    /// On a name that is none.
    #[must_use]
    pub fn server(&self, names: &[&str]) -> Issued {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.issue(CertificateParams::new(names).unwrap())
    }

    /// A certificate for a client, with this serial number, which ends in `last`.
    ///
    /// # Panics
    /// As rcgen.
    #[must_use]
    pub fn client(&self, name: &str, serial: u8, last: i32) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(vec![serial].into());
        params.not_after = rcgen::date_time_ymd(last, 1, 1);
        self.issue(params)
    }

    /// A certificate of these parameters.
    ///
    /// # Panics
    /// As rcgen.
    #[must_use]
    pub fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list that revokes these serial numbers, PEM; the next one is due in `next`.
    ///
    /// # Panics
    /// As rcgen.
    #[must_use]
    pub fn crl(&self, revoked: &[u8], next: i32) -> String {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: vec![*serial].into(),
            revocation_time: rcgen::date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2025, 1, 1),
            next_update: rcgen::date_time_ymd(next, 1, 1),
            crl_number: vec![1].into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key`, each as a whole.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) {
        for (end, content) in [("crt", &self.certificate), ("key", &self.key)] {
            let (path, new) = (folder.join(format!("{name}.{end}")), folder.join(format!("{name}.{end}.new")));
            fs::write(&new, content).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
            fs::rename(new, path).unwrap();
        }
    }
}

/// How a client speaks TLS.
#[derive(Default)]
pub struct Speaks<'a> {
    /// Authorities, PEM.
    pub trusts: &'a [&'a str],
    /// What it shows of itself.
    pub shows: Option<&'a Issued>,
    /// None: 1.3 and 1.2.
    pub versions: &'a [&'static SupportedProtocolVersion],
    /// ALPN.
    pub protocols: &'a [&'a [u8]],
}

impl Speaks<'_> {
    /// The settings of one client, who remembers sessions.
    ///
    /// # Panics
    /// On PEM that is none.
    #[must_use]
    pub fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for pem in self.trusts {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        }
        let versions = if self.versions.is_empty() { rustls::ALL_VERSIONS } else { self.versions };
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.shows {
            Some(Issued { certificate, key }) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>().unwrap();
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}
