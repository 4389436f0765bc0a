//! An authority that nobody trusts but the tests, and the certificate that it gives to the servers.

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose,
};

/// All of it as PEM.
pub(crate) struct Certificates {
    /// What clients are given to trust.
    pub(crate) authority: String,
    /// For 127.0.0.1 and localhost.
    pub(crate) server: String,
    pub(crate) server_key: String,
}

pub(crate) fn make() -> anyhow::Result<Certificates> {
    try_make().context("cannot make the servers' certificates")
}

fn try_make() -> Result<Certificates, Error> {
    let mut authority = CertificateParams::default();
    let name = &mut authority.distinguished_name;
    name.push(DnType::CommonName, "jatis test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut server = CertificateParams::new(names)?;
    let name = &mut server.distinguished_name;
    name.push(DnType::CommonName, "jatis test server");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok(Certificates {
        server: server.signed_by(&key, &authority)?.pem(),
        server_key: key.serialize_pem(),
        authority: authority.pem(),
    })
}
