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
    let code = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    (code, body)
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
    assert_eq!(ask("POST", "volumes", &volume("c", 4 << 20, "")).0, 201);
    let (_, listed) = ask("GET", "volumes", "");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 3, "{listed}");
    assert!(ask("GET", "volumes/b/disk?target=vdb", "").1.contains("dev='vdb'"));
    assert_eq!(ask("POST", "volumes/a/resize", "{\"capacity\":8388608}").0, 200);
    assert_eq!(ask("POST", "volumes/c/wipe", "").0, 422);
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
