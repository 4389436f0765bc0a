//! What jatis publishes and over which connections, read off the wire.
//!
//! The proxy in front of the broker shows the clients' bytes to a [`ClientTap`] per connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
};

use bytes::{Buf, Bytes};
use jatis_shared::{envelope, ids::TenantId, topology::main_queue_name};

use super::frames::{Frame, Frames, HEADER, METHOD, short_text};

/// What was published on all connections of a proxy.
#[derive(Debug, Default)]
pub(crate) struct Publications {
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Connections by name, with the AMQP messages of each queue.
    connections: BTreeMap<String, BTreeMap<String, u64>>,
    batches: u64,
    channels_opened: u64,
    channels_open: u64,
}

impl Publications {
    /// How many AMQP messages were published to a tenant over the connection of this name.
    pub(crate) fn over(&self, connection: &str, tenant: TenantId) -> u64 {
        let book = self.book();
        let queues = book.connections.get(connection);
        let count = queues.and_then(|queues| queues.get(&main_queue_name(tenant)));
        count.copied().unwrap_or(0)
    }

    /// The names of the connections over which anything was published.
    pub(crate) fn connections(&self) -> BTreeSet<String> {
        self.book().connections.keys().cloned().collect()
    }

    /// All AMQP messages that were published.
    pub(crate) fn amqp_messages(&self) -> u64 {
        let book = self.book();
        let queues = book.connections.values().flat_map(BTreeMap::values);
        queues.sum()
    }

    /// Batches among all that was published.
    pub(crate) fn batches(&self) -> u64 {
        self.book().batches
    }

    /// Channels that publishers have opened so far.
    pub(crate) fn channels_opened(&self) -> u64 {
        self.book().channels_opened
    }

    /// Channels that publishers have open now.
    pub(crate) fn channels_open(&self) -> u64 {
        self.book().channels_open
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book
            .lock()
            .expect("nobody panics while holding the book")
    }
}

/// Reads a client's side of one connection.
#[derive(Debug)]
pub(crate) struct ClientTap {
    publications: Arc<Publications>,
    frames: Frames,
    name: Arc<OnceLock<String>>,
    channels_open: u64,
}

const CONNECTION_START_OK: u32 = 10 << 16 | 11;
const CHANNEL_OPEN: u32 = 20 << 16 | 10;
const CHANNEL_CLOSE: u32 = 20 << 16 | 40;
const BASIC_PUBLISH: u32 = 60 << 16 | 40;
/// The connections that publish are named so, and a number.
const PUBLISHER: &str = "jatis publisher ";

impl ClientTap {
    /// `name` is told when the client says how it calls this connection.
    pub(crate) fn new(publications: Arc<Publications>, name: Arc<OnceLock<String>>) -> Self {
        Self {
            publications,
            frames: Frames::default(),
            name,
            channels_open: 0,
        }
    }

    /// Takes the next bytes from the client; how many batches begin in them.
    pub(crate) fn observe(&mut self, bytes: &[u8]) -> u64 {
        let mut batches = 0;
        self.frames.push(bytes);
        while let Some(Frame { kind, payload }) = self.frames.next() {
            match kind {
                METHOD => self.method(payload),
                HEADER if is_of_a_batch(&payload) => batches += 1,
                _ => {}
            }
        }
        self.publications.book().batches += batches;
        batches
    }

    fn method(&mut self, mut payload: Bytes) {
        match payload.get_u32() {
            CONNECTION_START_OK => {
                if let Some(name) = connection_name(&payload) {
                    self.name.set(name).expect("it is said once");
                }
            }
            CHANNEL_OPEN if self.is_publisher() => {
                self.channels_open += 1;
                let mut book = self.publications.book();
                book.channels_open += 1;
                book.channels_opened += 1;
            }
            CHANNEL_CLOSE if self.is_publisher() => {
                self.channels_open -= 1;
                self.publications.book().channels_open -= 1;
            }
            BASIC_PUBLISH => {
                let (_ticket, _exchange) = (payload.get_u16(), short_text(&mut payload));
                let queue = short_text(&mut payload);
                let name = self.name.get().cloned().unwrap_or_default();
                let mut book = self.publications.book();
                let queues = book.connections.entry(name).or_default();
                *queues.entry(queue).or_default() += 1;
            }
            _ => {}
        }
    }

    fn is_publisher(&self) -> bool {
        let name = self.name.get();
        name.is_some_and(|name| name.starts_with(PUBLISHER))
    }
}

impl Drop for ClientTap {
    /// The connection is gone, and its channels with it.
    fn drop(&mut self) {
        if let Ok(mut book) = self.publications.book.lock() {
            book.channels_open -= self.channels_open;
        }
    }
}

/// Whether these are the properties of a batch. Only `type` is looked for.
fn is_of_a_batch(properties: &[u8]) -> bool {
    let kind = envelope::BATCH.as_bytes();
    properties.windows(kind.len()).any(|text| text == kind)
}

/// The value of `connection_name` among a client's properties: a long text behind its name.
fn connection_name(properties: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"connection_nameS";
    let key = properties.windows(KEY.len()).position(|text| text == KEY)?;
    let mut value = properties.get(key + KEY.len()..)?;
    let length = usize::try_from(value.get_u32()).ok()?;
    Some(String::from_utf8_lossy(value.get(..length)?).into_owned())
}
