use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::{super::service::tests::front_within, *};

/// Longest wait of a test for something that must happen.
const SOON: Duration = Duration::from_secs(10);

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(header_timeout: Duration, max_connections: u32) -> Self {
        let http = Http {
            listen: "127.0.0.1:0".parse().unwrap(),
            max_body_bytes: 1024,
            request_timeout: Duration::from_secs(5),
            header_timeout,
            max_connections,
            cors_origins: Vec::new(),
        };
        let server = Server::bind(&http).await.unwrap();
        let (address, shutdown) = (server.local_addr(), CancellationToken::new());
        let front = front_within(http.request_timeout);
        let serving = tokio::spawn(server.serve_front(front, shutdown.clone()));
        Self {
            address,
            shutdown,
            serving,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        timeout(SOON, self.serving).await.unwrap().unwrap();
    }
}

/// Everything the server sends until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    timeout(SOON, reading).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One answer's head and body, by its Content-Length.
async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let byte = timeout(SOON, stream.read_u8()).await.unwrap().unwrap();
        text.push(char::from(byte));
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        if length.is_some_and(|length| length.parse() == Ok(body.len())) {
            return text;
        }
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_a_way_out() {
    let running = Running::start(SOON, 8).await;
    let mut http = Http {
        listen: running.address,
        max_body_bytes: 1024,
        request_timeout: SOON,
        header_timeout: SOON,
        max_connections: 8,
        cors_origins: Vec::new(),
    };
    let error = Server::bind(&http).await.unwrap_err().to_string();
    let port = running.address.port();
    assert!(
        error.contains(&format!("port {port} of 127.0.0.1 is taken")),
        "{error}"
    );
    assert!(
        error.contains("--set http.listen=127.0.0.1:9090"),
        "{error}"
    );
    assert!(
        error.contains("JATIS__HTTP__LISTEN=127.0.0.1:9090"),
        "{error}"
    );
    running.stop().await;
    http.listen = "192.0.2.1:1".parse().unwrap();
    let error = Server::bind(&http).await.unwrap_err();
    assert!(matches!(error, BindError::Other { .. }), "{error}");
}

#[tokio::test]
async fn a_connection_is_kept_until_the_stop_and_closed_then() {
    let running = Running::start(SOON, 8).await;
    let mut stream = running.connect().await;
    for _ in 0..2 {
        stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let told = answer(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        assert!(told.contains("x-request-id: "), "{told}");
    }
    let mut silent = running.connect().await;
    running.stop().await;
    assert_eq!(rest(&mut stream).await, "");
    // Closed, or reset if it was still in the kernel's queue.
    let mut byte = [0];
    let end = timeout(SOON, silent.read(&mut byte)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_request_under_way_is_finished_by_the_stop() {
    let running = Running::start(SOON, 8).await;
    let mut stream = running.connect().await;
    let body = "{\"payload\": 1}";
    let head = format!(
        "POST /nowhere/7 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 404"), "{told}");
    running.stop().await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_says_nothing_or_half_is_not_kept() {
    let running = Running::start(Duration::from_millis(100), 8).await;
    for said in [
        &b""[..],
        b"P",
        b"PRI * HTTP/2.0\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut stream = running.connect().await;
        stream.write_all(said).await.unwrap();
        let told = rest(&mut stream).await;
        assert!(!told.contains("200 OK"), "{told}");
    }
    running.stop().await;
}

#[tokio::test]
async fn no_more_connections_are_served_than_allowed() {
    let running = Running::start(SOON, 1).await;
    let mut first = running.connect().await;
    first
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    answer(&mut first).await;
    let mut second = running.connect().await;
    second
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let early = timeout(Duration::from_millis(100), second.read_u8()).await;
    assert!(early.is_err(), "served beyond the limit");
    drop(first);
    let told = answer(&mut second).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    running.stop().await;
}
