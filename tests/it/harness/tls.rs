//! What tests of TLS need: who is encrypted, an authority of nobody, a name that no certificate has.

use rcgen::generate_simple_self_signed;

use super::{
    database::Database,
    environment::Environment,
    proxy::{Protocol, Proxy},
    stack::Stack,
    url::ServerUrl,
};

/// An address of the loopback that is in no server's certificate.
const ANOTHER_NAME: &str = "127.0.0.2";

/// The file of the authority that the servers' certificates come from.
pub(crate) fn ca_file() -> String {
    Environment::read().ca_file
}

impl Stack {
    /// Sets a key for supervisors that start from now on.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let setting = format!("{key}={value}");
        self.blueprint
            .arguments
            .extend(["--set".to_owned(), setting]);
    }

    /// A file with an authority that no server's certificate comes from.
    pub(crate) fn ca_file_of_nobody(&self) -> String {
        let signed = generate_simple_self_signed(["nobody".to_owned()]);
        let file = self.folder.join("nobody.pem");
        let pem = signed.expect("a certificate can be made").cert.pem();
        std::fs::write(&file, pem).expect("the stack's folder is writable");
        file.display().to_string()
    }

    /// The address of the stack's database.
    pub(crate) fn database_url(&self) -> String {
        self.environment.database.with_path(&self.name)
    }

    /// The same by a name that is not in the server's certificate.
    pub(crate) async fn database_url_by_another_name(&mut self) -> String {
        let server = self.environment.database.clone();
        self.by_another_name(&server, Protocol::Postgres).await
    }

    /// The address of the stack's virtual host, in TLS.
    pub(crate) fn broker_tls_url(&self) -> String {
        self.environment.broker_tls.with_path(&self.name)
    }

    /// The same by a name that is not in the broker's certificate.
    pub(crate) async fn broker_tls_url_by_another_name(&mut self) -> String {
        let server = self.environment.broker_tls.clone();
        self.by_another_name(&server, Protocol::Amqps).await
    }

    async fn by_another_name(&mut self, server: &ServerUrl, protocol: Protocol) -> String {
        let proxy = Proxy::start(ANOTHER_NAME, server, protocol).await;
        let url = proxy.before(server).with_path(&self.name);
        self.further_proxies.push(proxy);
        url
    }

    /// How many of the open connections to the stack's virtual host are in TLS, and how many are not.
    pub(crate) async fn broker_connections(&self) -> (usize, usize) {
        let port = self.environment.broker_tls.port;
        let connections = self.management.in_tls(&self.name, port).await;
        let in_tls = connections.iter().filter(|in_tls| **in_tls).count();
        (in_tls, connections.len() - in_tls)
    }
}

impl Database {
    /// The sessions that jatis has open, by the first two words of their names, and whether each is
    /// encrypted. Without double ones, in order.
    pub(crate) async fn encryption(&self) -> Vec<(String, bool)> {
        const SESSIONS: &str = "
            SELECT DISTINCT substring(application_name FROM '^[a-z]+ [a-z]+'), ssl
              FROM pg_stat_activity
              JOIN pg_stat_ssl USING (pid)
             WHERE datname = current_database()
               AND application_name LIKE 'jatis%'
             ORDER BY 1, 2";
        let rows = self.session.run(|client| client.query(SESSIONS, &[])).await;
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }
}
