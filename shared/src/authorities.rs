//! The authorities that sign servers' certificates, as `ca_file` names them.
//!
//! Parsed once, when the configuration is read. What a worker gets is the certificates themselves,
//! not the text around them, so that the largest file fits its frame.

use base64::{Engine, prelude::BASE64_STANDARD};
use rustls_pki_types::{
    CertificateDer,
    pem::{self, PemObject},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The longest file that is taken, bytes.
pub const MAX_FILE_BYTES: usize = 64 * 1024;

/// Certificates of authorities. None: those that Mozilla trusts, which are built in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(Vec<CertificateDer<'static>>);

/// A text that names no authorities.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    #[error("is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("is damaged PEM")]
    Damaged(#[source] pem::Error),
    #[error("holds no PEM certificate")]
    Empty,
    #[error("holds a certificate that cannot be read")]
    Unreadable(#[source] webpki::Error),
}

impl Authorities {
    /// The certificates in a PEM text; whatever else it holds is left out.
    ///
    /// # Errors
    /// There is none, one cannot be read, or the text is too long.
    pub fn from_pem(text: &str) -> Result<Self, AuthoritiesError> {
        if text.len() > MAX_FILE_BYTES {
            return Err(AuthoritiesError::TooLarge);
        }
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
        let certificates: Vec<_> = certificates
            .collect::<Result<_, _>>()
            .map_err(AuthoritiesError::Damaged)?;
        if certificates.is_empty() {
            return Err(AuthoritiesError::Empty);
        }
        for certificate in &certificates {
            webpki::anchor_from_trusted_cert(certificate).map_err(AuthoritiesError::Unreadable)?;
        }
        Ok(Self(certificates))
    }

    /// Mozilla's are meant.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each certificate.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.0.iter()
    }
}

impl Serialize for Authorities {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|der| BASE64_STANDARD.encode(der)))
    }
}

impl<'de> Deserialize<'de> for Authorities {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let certificates = texts.iter().map(|text| {
            let der = BASE64_STANDARD.decode(text).map_err(D::Error::custom)?;
            Ok(CertificateDer::from(der))
        });
        certificates.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::generate_simple_self_signed;

    use super::*;

    fn pem() -> String {
        let signed = generate_simple_self_signed(["test".to_owned()]);
        signed.expect("a certificate can be made").cert.pem()
    }

    #[test]
    fn certificates_are_found_among_other_text_and_survive_a_frame() {
        let text = format!("# ours\n{}# and theirs\n{}", pem(), pem());
        let authorities = Authorities::from_pem(&text).expect("two are there");
        assert_eq!(authorities.certificates().count(), 2);
        let json = serde_json::to_string(&authorities).expect("it can be written");
        let read: Authorities = serde_json::from_str(&json).expect("and read");
        assert_eq!(read, authorities);
    }

    #[test]
    fn what_names_no_authority_is_refused() {
        let whole = pem();
        let no_der = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
        let cut = whole.get(..whole.len() / 2).unwrap_or_default();
        let long = format!("{whole}{}", "#\n".repeat(MAX_FILE_BYTES / 2));
        for (text, expected) in [
            ("", "holds no PEM certificate"),
            ("hello\n", "holds no PEM certificate"),
            (no_der, "holds a certificate that cannot be read"),
            (cut, "is damaged PEM"),
            (&long, "is larger than 65536 bytes"),
        ] {
            let refused = Authorities::from_pem(text).expect_err(expected);
            assert_eq!(refused.to_string(), expected);
        }
    }
}
