use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioExecutor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::{
    super::service::tests::{admin, front_within},
    *,
};

/// Longest wait of a test for something that must happen.
const SOON: Duration = Duration::from_secs(60);

/// Patient with everything.
fn http() -> Http {
    Http {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_body_bytes: 1024,
        request_timeout: SOON,
        header_timeout: SOON,
        idle_timeout: SOON,
        max_connections: 8,
        protect_system_routes: false,
        cors_origins: Vec::new(),
    }
}

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    async fn start(header_timeout: Duration, max_connections: u32) -> Self {
        let http = Http {
            request_timeout: Duration::from_secs(5),
            header_timeout,
            idle_timeout: SOON,
            max_connections,
            ..http()
        };
        Self::with(http).await
    }

    async fn with(http: Http) -> Self {
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
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    timeout(SOON, reading).await.unwrap().unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One answer's head and body, by its Content-Length.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let byte = timeout(2 * REQUEST_TIMEOUT, stream.read_u8()).await;
        let byte = byte.unwrap().unwrap();
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
        ..http()
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

/// A client that takes no answer, and asks until it is cut off.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answers_is_not_kept() {
    let running = Running::with(Http {
        idle_timeout: Duration::from_millis(200),
        ..http()
    })
    .await;
    let mut stream = running.connect().await;
    let asking = async {
        while stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .is_ok()
        {}
    };
    timeout(SOON, asking).await.expect("it is cut off");
    running.stop().await;
}

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// A connection in memory, whose waits take no time while the clock is paused.
fn carried() -> (DuplexStream, JoinHandle<()>) {
    let http = Http {
        request_timeout: REQUEST_TIMEOUT,
        header_timeout: HEADER_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
        ..http()
    };
    let tasks = Tasks::default();
    let connections = Connections {
        front: Arc::new(front_within(http.request_timeout)),
        builder: builder(&http, tasks.clone()),
        limits: limits(&http),
        shutdown: CancellationToken::new(),
        abort: tasks.abort,
    };
    let (client, server) = duplex(64 * 1024);
    (client, tokio::spawn(connections.carry(server)))
}

async fn ask(stream: &mut DuplexStream) {
    stream
        .write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let told = answer(stream).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
}

/// What the server still sends, and after how many seconds it closes.
async fn end(mut stream: DuplexStream, since: Instant) -> (String, u64) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    (String::from_utf8(bytes).unwrap(), since.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_rests_for_longer_than_a_head_may_take() {
    let (mut stream, carrying) = carried();
    ask(&mut stream).await;
    sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
    ask(&mut stream).await;
    let (told, seconds) = end(stream, Instant::now()).await;
    assert_eq!((told.as_str(), seconds), ("", IDLE_TIMEOUT.as_secs()));
    carrying.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drags_on_is_cut_however_long_the_connection_may_rest() {
    for begun_after in [None, Some(Duration::from_secs(50))] {
        let (mut stream, carrying) = carried();
        if let Some(pause) = begun_after {
            ask(&mut stream).await;
            sleep(pause).await;
        }
        let begun = Instant::now();
        stream.write_all(b"GET /livez HT").await.unwrap();
        sleep(HEADER_TIMEOUT / 2).await;
        stream.write_all(b"TP/1.1\r\n").await.unwrap();
        let (told, seconds) = end(stream, begun).await;
        assert_eq!((told.as_str(), seconds), ("", HEADER_TIMEOUT.as_secs()));
        carrying.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_may_take_longer_than_heads_and_rests() {
    let (mut stream, carrying) = carried();
    ask(&mut stream).await;
    let head = format!(
        "POST /tenants HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\
         Content-Type: application/json\r\nContent-Length: 9\r\n\r\n",
        admin()
    );
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = answer(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 408"), "{told}");
    assert_eq!(begun.elapsed().as_secs(), REQUEST_TIMEOUT.as_secs());
    drop(stream);
    carrying.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pings_do_not_keep_a_connection_of_http_2() {
    let (stream, carrying) = carried();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIMEOUT / 2)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::builder().uri("http://x/livez");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let told = sender.send_request(request).await.unwrap();
    assert_eq!(told.status(), 200);
    told.into_body().collect().await.unwrap();
    let since = Instant::now();
    connection.await.unwrap().unwrap();
    assert_eq!(since.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
    carrying.await.unwrap();
}
