//! Secrets and volumes of a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::{Pattern, Tool, wait};

use super::store::{ONE, OTHER, Store, encrypted, volume};
use crate::secrecy::{CANARY, holds_canary};
use crate::workplace::{has, signal};

/// Starts a server on the data directory of a store, and returns it with where it listens.
pub(crate) fn start(store: &Store) -> (Child, String) {
    let mut command = store.place.command("serve --data data --listen 127.0.0.1:0");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("it says where it listens").unwrap();
        if let Some(at) = line.find("http://") {
            let address = line[at + 7..].to_owned();
            break address.trim_end().trim_end_matches('/').to_owned();
        }
    };
    // Nobody waits for room in a pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

/// Asks a server with a token. Returns status and body.
fn ask(address: &str, token: &str, method: &str, path: &str, body: &[u8]) -> (u16, String) {
    let answer = ask_for_all(address, token, method, path, body);
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (code, body)
}

/// Asks a server with a token. Returns all of the answer.
fn ask_for_all(address: &str, token: &str, method: &str, path: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(!holds_canary(answer.as_bytes()), "a secret was told: {answer}");
    answer
}

#[test]
fn a_server_keeps_secrets_and_makes_volumes_of_them() {
    if !has("libvirt::served", &[Tool::QEMU_IMG]) {
        return;
    }
    let store = Store::new();
    let (mut server, address) = start(&store);
    let token = String::from_utf8(store.place.read("data/admin.token")).unwrap();
    let token = token.trim_end();
    let ask = |method: &str, path: &str, body: &str| {
        ask(&address, token, method, &format!("/v1/libvirt/{path}"), body.as_bytes())
    };
    let secret = format!(
        "<secret ephemeral='yes'><uuid>{ONE}</uuid><usage type='volume'><volume>/a</volume></usage></secret>"
    );
    assert_eq!(ask("POST", "secrets", &secret).0, 201);
    assert_eq!(ask("PUT", &format!("secrets/{ONE}/value"), CANARY).0, 200);
    assert_eq!(ask("GET", &format!("secrets/{ONE}/value"), "").0, 405);
    assert!(ask("GET", &format!("secrets/{ONE}"), "").1.contains("ephemeral='yes'"));
    let target = encrypted("luks", ONE, "");
    let (code, body) = ask("POST", "volumes", &volume("a", 4 << 20, &target));
    assert_eq!((code, body.contains(ONE)), (201, true), "{body}");
    assert_eq!(ask("POST", "volumes", &volume("a", 4 << 20, &target)).0, 409);
    assert_eq!(ask("POST", "volumes", &volume("../b", 4 << 20, "")).0, 422);
    let outside = "<volume><name>b</name><target><format type='qcow2'/></target><backingStore>\
                   <path>/etc/passwd</path><format type='raw'/></backingStore></volume>";
    assert_eq!(ask("POST", "volumes", outside).0, 422);
    store.place.image_of("contents", 4 << 20, &Pattern::dense(9));
    store
        .place
        .qemu_img(
            "convert -f raw contents -n --object secret,id=s,file=pw --target-image-opts \
             driver=luks,file.filename=data/libvirt/a,key-secret=s",
        )
        .ok();
    let (code, body) =
        ask("POST", "volumes?from=a", &volume("b", 0, &encrypted("luks", OTHER, "")));
    assert_eq!(code, 202, "{body}");
    let begun = Instant::now();
    while ask("GET", "volumes/b/info", "").0 != 200 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the copy is not made");
        std::thread::sleep(Duration::from_millis(50));
    }
    let document = volume("c", 4 << 20, "<nocow/>");
    let made = ask_for_all(&address, token, "POST", "/v1/libvirt/volumes", document.as_bytes());
    let head = made.split_once("\r\n\r\n").unwrap().0.to_lowercase();
    assert!(head.starts_with("http/1.1 201") && head.contains("\r\nwarning: 299 - "), "{made}");
    let (_, listed) = ask("GET", "volumes", "");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    assert!(ask("GET", "volumes/b/disk?target=vdb", "").1.contains("dev='vdb'"));
    assert_eq!(ask("POST", "volumes/a/resize", "{\"capacity\":8388608}").0, 200);
    assert_eq!(ask("POST", "volumes/c/wipe", "").0, 422);
    store.place.write("data/libvirt/c", vec![7; 4 << 20]);
    assert_eq!(ask("POST", "volumes/c/wipe?algorithm=nnsa", "").0, 400);
    assert_eq!(ask("POST", "volumes/b/wipe?algorithm=zero", "").0, 422);
    assert_eq!(ask("POST", "volumes/c/wipe?algorithm=zero", "").0, 202);
    let begun = Instant::now();
    while store.place.read("data/libvirt/c") != [0; 4 << 20] {
        assert!(begun.elapsed() < Duration::from_secs(120), "it is not overwritten");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ask("POST", "volumes/b/wipe", "").0, 200);
    assert_eq!(ask("DELETE", "volumes/b?withSecret=true", "").0, 200);
    assert!(!ask("GET", "secrets", "").1.contains(OTHER));
    assert_eq!(ask("DELETE", &format!("secrets/{ONE}"), "").0, 409);
    assert_eq!(ask("GET", "volumes/not-there", "").0, 404);
    signal(&server, Signal::TERM);
    assert!(wait(&mut server, Duration::from_secs(60)).is_some(), "it does not stop");
    // What was in memory is gone with it, and was nowhere else.
    assert!(!store.json("secret-list").to_string().contains(ONE));
}

/// A server on a store, with the tokens of an admin and of an operator.
struct Served {
    _store: Store,
    server: Child,
    address: String,
    tokens: [String; 2],
}

impl Served {
    fn new() -> Self {
        let store = Store::new();
        let (server, address) = start(&store);
        let words = format!(
            "token create op --role operator --all-namespaces --out op --token-file data/admin.token --server \
             http://{address}"
        );
        store.place.strongroom(&words).ok();
        let token = |file| String::from_utf8(store.place.read(file)).unwrap().trim_end().to_owned();
        let tokens = [token("data/admin.token"), token("op")];
        Self { _store: store, server, address, tokens }
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(&self.address, &self.tokens[0], method, &format!("/v1/libvirt/{path}"), body.as_bytes())
    }

    fn operator(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        ask(&self.address, &self.tokens[1], method, &format!("/v1/libvirt/{path}"), body.as_bytes())
    }

    /// Returns the secrets that are for a use.
    fn secrets_for(&self, usage: &str) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.admin("GET", "secrets", "").1).unwrap();
        let mut items = listed["items"].as_array().unwrap().clone();
        items.retain(|item| item["usage"] == usage);
        items
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        signal(&self.server, Signal::TERM);
        let ended = wait(&mut self.server, Duration::from_secs(60)).is_some();
        assert!(ended || std::thread::panicking(), "it does not stop");
    }
}

fn for_use(usage: &str) -> String {
    format!("<secret ephemeral='no'><usage type='volume'><volume>{usage}</volume></usage></secret>")
}

/// Posts several documents at once, and returns the statuses.
fn at_once(served: &Served, path: &str, body: impl Fn(usize) -> String + Sync) -> [u16; 8] {
    let (address, token, path) =
        (&*served.address, &*served.tokens[1], format!("/v1/libvirt/{path}"));
    let start = std::sync::Barrier::new(8);
    let one = |number| {
        start.wait();
        ask(address, token, "POST", &path, body(number).as_bytes()).0
    };
    std::thread::scope(|scope| {
        let one = &one;
        let asked = std::array::from_fn::<_, 8, _>(|number| scope.spawn(move || one(number)));
        asked.map(|asked| asked.join().unwrap())
    })
}

#[test]
fn a_use_has_one_secret_whoever_asks_at_once() {
    let served = Served::new();
    for round in 0..8 {
        let usage = format!("/use-{round}");
        let codes = at_once(&served, "secrets", |_| for_use(&usage));
        assert_eq!(codes.iter().filter(|code| **code == 201).count(), 1, "{codes:?}");
        assert_eq!(served.secrets_for(&usage).len(), 1);
    }
    let target = "<encryption format='luks'><secret type='passphrase' usage='/all'/></encryption>";
    let codes =
        at_once(&served, "volumes", |number| volume(&format!("v{number}"), 1 << 20, target));
    assert_eq!(codes, [201; 8]);
    let secrets = served.secrets_for("/all");
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    // It opens all of them.
    let uuid = secrets[0]["uuid"].as_str().unwrap();
    let (code, said) = served.admin("DELETE", &format!("secrets/{uuid}"), "");
    let named = (0..8).all(|number| said.contains(&format!("/v{number}")));
    assert!(code == 409 && named, "{said}");
}

#[test]
fn what_is_destroyed_is_destroyed_by_admins() {
    let served = Served::new();
    let (code, body) =
        served.operator("POST", "volumes", &volume("a", 4 << 20, "<encryption format='luks'/>"));
    assert_eq!(code, 201, "{body}");
    let at = body.find("uuid='").unwrap() + 6;
    let uuid = &body[at..at + 36];
    let value = format!("secrets/{uuid}/value");
    let refused = |answer: (u16, String), code| assert_eq!(answer.0, code, "{}", answer.1);
    refused(served.operator("PUT", &value, "another"), 409);
    refused(served.operator("PUT", &format!("{value}?force=true"), "another"), 403);
    let document = served.operator("GET", &format!("secrets/{uuid}"), "").1;
    let in_memory = document.replace("ephemeral='no'", "ephemeral='yes'");
    assert!(in_memory != document, "{document}");
    refused(served.operator("POST", "secrets", &in_memory), 409);
    refused(served.operator("POST", "secrets?force=true", &in_memory), 403);
    let shrink = "{\"capacity\":512,\"shrink\":true}";
    refused(served.operator("POST", "volumes/a/resize", shrink), 403);
    // What loses nothing is an operator's.
    assert_eq!(served.operator("POST", "secrets", &document).0, 201);
    assert_eq!(served.operator("POST", "volumes/a/resize", "{\"capacity\":8388608}").0, 200);
    assert_eq!(
        served.admin("POST", "volumes/a/resize", "{\"capacity\":4194304,\"shrink\":true}").0,
        200
    );
    assert_eq!(served.admin("PUT", &format!("{value}?force=true"), "another").0, 200);
}

#[test]
fn a_document_that_would_not_be_read_again_is_not_kept() {
    let served = Served::new();
    let long = format!("<description>{}</description>", ">".repeat(700_000));
    let document = for_use("/long").replace("</secret>", &format!("{long}</secret>"));
    let (code, said) = served.operator("POST", "secrets", &document);
    assert!(code == 422 && said.contains("written anew"), "{said}");
    assert_eq!(served.operator("GET", "secrets", "").0, 200);
    let document = volume("a", 1 << 20, "").replace("<name>", &format!("{long}<name>"));
    assert_eq!(served.operator("POST", "volumes", &document).0, 422);
    assert_eq!(served.operator("GET", "volumes", "").0, 200);
}

#[test]
fn what_no_file_system_has_is_the_fault_of_who_asks() {
    let served = Served::new();
    for document in [volume(&"n".repeat(300), 1 << 20, ""), volume("a", i64::MAX as u64, "")] {
        let (code, said) = served.operator("POST", "volumes", &document);
        assert_eq!(code, 422, "{said}");
    }
    assert_eq!(served.operator("GET", &format!("volumes/{}", "n".repeat(300)), "").0, 404);
}
