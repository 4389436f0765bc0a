//! TLS as both programs speak it: what a server must prove, and why it did not.
//!
//! The provider of the cryptography is named in every configuration, so that nothing hangs on a
//! default of the process. Nothing is read: the authorities come with the configuration, or are
//! those that Mozilla trusts and that are built in.

use std::{error::Error, io, iter::successors, sync::Arc};

use jatis_shared::authorities::Authorities;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme, WantsVerifier,
    client::{
        Resumption, WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

/// The driver's word for a server that answers a request for TLS with no; it has no type.
const NOT_OFFERED: &str = "server does not support TLS";

/// Why there is no TLS with a server. For strangers: names neither the server nor a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    #[error("it speaks no TLS")]
    NotOffered,
    #[error("its certificate comes from no authority that is trusted")]
    UnknownIssuer,
    #[error("its certificate is for another name")]
    WrongName,
    #[error("its certificate has expired or is not valid yet")]
    OutOfTime,
    #[error("its certificate cannot be verified")]
    BadCertificate,
    #[error("the handshake failed")]
    Handshake,
}

impl TlsFault {
    /// The fault of TLS that this error comes from, if it comes from one.
    #[must_use]
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        successors(Some(error), |&error| error.source()).find_map(Self::of)
    }

    fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        // An I/O error shows what is in it and passes over it as its source.
        let inner = error.downcast_ref().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref());
        match inner.or_else(|| error.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(problem)) => Some(Self::of_certificate(problem)),
            Some(_) => Some(Self::Handshake),
            None if error.to_string() == NOT_OFFERED => Some(Self::NotOffered),
            None => None,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the library's many problems, those that an operator can tell apart"
    )]
    const fn of_certificate(problem: &CertificateError) -> Self {
        match problem {
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::OutOfTime,
            _ => Self::BadCertificate,
        }
    }
}

/// The server must prove to be the host it was reached as, by a certificate of these authorities.
///
/// # Errors
/// When a certificate of theirs cannot be read.
pub(crate) fn verified(authorities: &Authorities) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    if authorities.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in authorities.certificates() {
        roots.add(certificate.clone())?;
    }
    Ok(finish(builder()?.with_root_certificates(roots)))
}

/// The server need not prove who it is: whoever only listens is kept out, and nobody else.
///
/// # Errors
/// As [`verified`].
pub(crate) fn unverified() -> Result<ClientConfig, rustls::Error> {
    let any = AnyServer(ring::default_provider().signature_verification_algorithms);
    let builder = builder()?.dangerous();
    Ok(finish(
        builder.with_custom_certificate_verifier(Arc::new(any)),
    ))
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
}

fn finish(builder: ConfigBuilder<ClientConfig, WantsClientCert>) -> ClientConfig {
    let mut config = builder.with_no_client_auth();
    // Sessions are few and long, and neither server resumes them by default: the memory is spared.
    config.resumption = Resumption::disabled();
    config
}

/// Takes whatever certificate comes. The server must hold its key, though: a login that is bound to
/// the channel (SCRAM-SHA-256-PLUS) is bound to the certificate.
#[derive(Debug)]
struct AnyServer(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
