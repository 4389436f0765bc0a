//! The address of a server, as given to the tests and as handed on to jatis.

/// `scheme://user:password@host:port`, without what follows.
#[derive(Debug, Clone)]
pub(crate) struct ServerUrl {
    scheme: String,
    /// As written, percent-encoding and all.
    credentials: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl ServerUrl {
    /// # Panics
    /// When `text` has no scheme, credentials, host and port.
    pub(crate) fn parse(text: &str) -> Self {
        let parts = || {
            let (scheme, rest) = text.split_once("://")?;
            let authority = rest.split(['/', '?']).next()?;
            let (credentials, address) = authority.rsplit_once('@')?;
            let (host, port) = address.rsplit_once(':')?;
            Some(Self {
                scheme: scheme.to_owned(),
                credentials: credentials.to_owned(),
                host: host.to_owned(),
                port: port.parse().ok()?,
            })
        };
        parts().unwrap_or_else(|| panic!("{text} is not scheme://user:password@host:port"))
    }

    /// The same server behind a proxy at this address.
    pub(crate) fn through(&self, host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            ..self.clone()
        }
    }

    /// With a path (a database, a virtual host) behind it.
    pub(crate) fn with_path(&self, path: &str) -> String {
        let Self {
            scheme,
            credentials,
            host,
            port,
        } = self;
        format!("{scheme}://{credentials}@{host}:{port}/{path}")
    }

    /// Without credentials, with a path behind it.
    pub(crate) fn bare(&self, path: &str) -> String {
        let Self {
            scheme, host, port, ..
        } = self;
        format!("{scheme}://{host}:{port}/{path}")
    }

    /// `user:password`, as written.
    pub(crate) fn credentials(&self) -> &str {
        &self.credentials
    }

    /// The user alone.
    pub(crate) fn user(&self) -> &str {
        self.credentials.split(':').next().unwrap_or_default()
    }
}
