//! A server that does what a test says, for what no server that is at hand does.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};
use strongroom_crypto::Token;
use strongroom_model::{KmsKind, KmsRequest};
use strongroom_testkit::Authority;

use super::client::Limits;
use super::kek::KmipKek;
use super::messages::{operation, structure};
use super::tag::*;
use super::ttlv::{HEAD_LEN, Item, Value, rest_len};
use crate::Credentials;

/// A server on a port of the loopback.
pub(super) struct Scripted {
    port: u16,
    authority: Arc<Authority>,
    seen: Arc<Mutex<Vec<Asked>>>,
}

/// A request, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) operation: u32,
    /// Major and minor.
    pub(super) version: (i32, i32),
    pub(super) payload: Item,
}

/// What is done about a request.
pub(super) enum Act {
    /// The operation is carried out with this payload.
    Succeed(Vec<Item>),
    /// It fails for a reason.
    Fail(u32),
    /// These bytes are sent, with a pause after each of so many milliseconds.
    Send(Vec<u8>, u64),
    /// Nothing comes.
    Nothing,
    /// The connection is closed.
    Close,
}

pub(super) use Act::{Close, Fail, Nothing, Send, Succeed};

type Script = dyn Fn(usize, &Asked) -> Act + std::marker::Send + Sync;

impl Scripted {
    /// Starts a server that speaks KMIP 1.4 and does for any other request what the script says,
    /// which is told how many such requests came before.
    pub(super) fn start(
        script: impl Fn(usize, &Asked) -> Act + std::marker::Send + Sync + 'static,
    ) -> Self {
        Self::start_bare(move |count, asked| match asked.operation {
            operation::DISCOVER_VERSIONS => Succeed(vec![version(1, 4)]),
            _ => script(count, asked),
        })
    }

    /// Starts a server that does what the script says, whatever is asked.
    pub(super) fn start_bare(
        script: impl Fn(usize, &Asked) -> Act + std::marker::Send + Sync + 'static,
    ) -> Self {
        Self::start_under(Arc::new(Authority::new()), Arc::new(script))
    }

    /// Starts another server of the same authority, which speaks KMIP 1.4 as well.
    pub(super) fn sibling(
        &self,
        script: impl Fn(usize, &Asked) -> Act + std::marker::Send + Sync + 'static,
    ) -> Self {
        let script = move |count, asked: &Asked| match asked.operation {
            operation::DISCOVER_VERSIONS => Succeed(vec![version(1, 4)]),
            _ => script(count, asked),
        };
        Self::start_under(Arc::clone(&self.authority), Arc::new(script))
    }

    fn start_under(authority: Arc<Authority>, script: Arc<Script>) -> Self {
        let tls = Arc::new(authority.server("127.0.0.1"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&seen);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (tls, seen, script) =
                    (Arc::clone(&tls), Arc::clone(&shared), Arc::clone(&script));
                // A client that goes away ends its thread, which is no failure.
                thread::spawn(move || {
                    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
                    serve(StreamOwned::new(connection, stream?), &seen, &*script)
                });
            }
        });
        Self { port, authority, seen }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns who vouches for it.
    pub(super) fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the key `kek` of the server, for a client that does not wait long.
    pub(super) fn kek(&self) -> KmipKek {
        super::kek(&self.request(), &self.credentials(), QUICK).unwrap()
    }

    /// Returns what names the key `kek` of the server.
    pub(super) fn request(&self) -> KmsRequest {
        KmsRequest {
            endpoints: vec![format!("127.0.0.1:{}", self.port)],
            key_id: Some("kek".to_owned()),
            ..KmsRequest::new(KmsKind::Kmip)
        }
    }

    pub(super) fn credentials(&self) -> Credentials {
        let (certificate, key) = self.authority.client_pem("tester");
        Credentials {
            authorities: Some(self.authority.pem().into_bytes()),
            certificate: Some(certificate.into_bytes()),
            private_key: Some(Token::new(key.into_bytes())),
            ..Credentials::default()
        }
    }

    /// Returns what was asked of an operation.
    pub(super) fn asked(&self, operation: u32) -> Vec<Asked> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|asked| asked.operation == operation).cloned().collect()
    }
}

/// Limits that a test waits for.
pub(super) const QUICK: Limits = Limits {
    connect: Duration::from_millis(500),
    exchange: Duration::from_millis(500),
    call: Duration::from_millis(1000),
    pause: Duration::from_millis(5),
};

/// Returns a version in an answer.
pub(super) fn version(major: i32, minor: i32) -> Item {
    let numbers = [(PROTOCOL_MAJOR, major), (PROTOCOL_MINOR, minor)]
        .map(|(tag, number)| Item::new(tag, Value::Integer(number)));
    structure(PROTOCOL_VERSION, numbers.to_vec())
}

/// Returns the response that an operation has this payload.
pub(super) fn success(operation: u32, payload: Vec<Item>) -> Vec<u8> {
    response(vec![
        Item::new(OPERATION, Value::Enumeration(operation)),
        Item::new(RESULT_STATUS, Value::Enumeration(0)),
        structure(RESPONSE_PAYLOAD, payload),
    ])
}

/// Returns a response with these items.
pub(super) fn response(items: Vec<Item>) -> Vec<u8> {
    let header = vec![version(1, 4), Item::new(BATCH_COUNT, Value::Integer(1))];
    let items = [structure(RESPONSE_HEADER, header), structure(BATCH_ITEM, items)];
    structure(RESPONSE_MESSAGE, items.to_vec()).to_bytes().to_vec()
}

fn serve(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    seen: &Mutex<Vec<Asked>>,
    script: &Script,
) -> io::Result<()> {
    loop {
        let mut bytes = vec![0; HEAD_LEN];
        stream.read_exact(&mut bytes)?;
        let head = bytes[..].try_into().unwrap();
        bytes.resize(HEAD_LEN + rest_len(&head).unwrap(), 0);
        stream.read_exact(&mut bytes[HEAD_LEN..])?;
        let asked = take_apart(&Item::parse(&bytes).unwrap());
        let count = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            let others = |asked: &&Asked| asked.operation != operation::DISCOVER_VERSIONS;
            seen.iter().filter(others).count().saturating_sub(1)
        };
        match script(count, &asked) {
            Succeed(payload) => stream.write_all(&success(asked.operation, payload))?,
            Fail(reason) => stream.write_all(&response(vec![
                Item::new(RESULT_STATUS, Value::Enumeration(1)),
                Item::new(RESULT_REASON, Value::Enumeration(reason)),
            ]))?,
            Send(bytes, 0) => stream.write_all(&bytes)?,
            Send(bytes, pause) => {
                for byte in bytes {
                    stream.write_all(&[byte])?;
                    stream.flush()?;
                    thread::sleep(Duration::from_millis(pause));
                }
            }
            Nothing => {}
            Close => return stream.sock.shutdown(Shutdown::Both),
        }
        stream.flush()?;
    }
}

fn take_apart(message: &Item) -> Asked {
    let version = message.child(REQUEST_HEADER).unwrap().child(PROTOCOL_VERSION).unwrap();
    let number = |tag| version.child(tag).unwrap().integer().unwrap();
    let item = message.child(BATCH_ITEM).unwrap();
    Asked {
        operation: item.child(OPERATION).unwrap().enumeration().unwrap(),
        version: (number(PROTOCOL_MAJOR), number(PROTOCOL_MINOR)),
        payload: item.child(REQUEST_PAYLOAD).unwrap().clone(),
    }
}
