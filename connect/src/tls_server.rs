//! A TLS server of the unit tests: an authority, certificates of it, and one connection.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
};

use jatis_shared::authorities::Authorities;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned, crypto::ring, pki_types::PrivatePkcs8KeyDer,
};

/// Signs certificates for the tests.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// How long a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Valid {
    Now,
    InThePast,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let signed = CertifiedIssuer::self_signed(params, key());
        Self(signed.expect("an authority can be made"))
    }

    /// It alone, as `ca_file` would name it.
    pub(crate) fn authorities(&self) -> Authorities {
        Authorities::from_pem(&self.0.pem()).expect("it is PEM")
    }

    /// A server with a certificate for this name.
    pub(crate) fn server(&self, name: &str, valid: Valid) -> Arc<ServerConfig> {
        let mut params = params(&[name]);
        if valid == Valid::InThePast {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = key();
        let signed = params.signed_by(&key, &self.0);
        let certificate = signed.expect("it signs").der().clone();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into());
        Arc::new(config.expect("the key fits the certificate"))
    }
}

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("the names are valid");
    params.distinguished_name = DistinguishedName::new();
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

/// Takes one connection on the port it gives, and serves it on a thread of its own.
pub(crate) fn take_one(
    serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
) -> (u16, JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let served = thread::spawn(move || serve(listener.accept()?.0));
    (port, served)
}

/// Shakes hands, and then only listens until the other side hangs up.
///
/// # Errors
/// When the handshake fails, or the connection breaks without a goodbye.
pub(crate) fn listen_only(config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<()> {
    let session = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    stream.flush()?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}
