//! Images over a real connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use strongroom_crypto::Hash;
use strongroom_model::dialect::resource::Resource;
use strongroom_testkit::Pattern;

use crate::access::{Caller, Role};
use crate::controllers::stage::{Stage, claim, class, clone, image, secret};

/// A stage whose images can be reached.
struct Face {
    stage: Stage,
    port: u16,
    _runtime: tokio::runtime::Runtime,
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Face {
    fn new() -> Self {
        Self::for_so_many(super::AT_ONCE)
    }

    fn for_so_many(at_once: usize) -> Self {
        let stage = Stage::new();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let admin = Caller { name: "admin".to_owned(), role: Role::Admin, namespaces: Vec::new() };
        let routes =
            super::routes_for(stage.context().clone(), at_once).layer(axum::Extension(admin));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(routes.clone());
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { stage, port, _runtime: runtime }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    fn ask(&self, method: &str, name: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
        self.ask_at(method, &format!("images/lab/{name}/data"), headers, body)
    }

    fn ask_at(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        send(&mut stream, method, path, headers, body, body.len());
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: bytes[end + 4..].to_vec() }
    }

    fn offset(&self, name: &str) -> u64 {
        self.ask("HEAD", name, &[], &[]).header("upload-offset").unwrap().parse().unwrap()
    }
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request, with so many bytes of its body.
fn send(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, String)],
    body: &[u8],
    sent: usize,
) {
    let mut head = format!(
        "{method} /v1/{path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(&body[..sent]).unwrap();
}

fn contents() -> Vec<u8> {
    let mut bytes = vec![0; 5 << 20];
    Pattern::sparse(3, 64 << 10).fill(&mut bytes, 0);
    bytes
}

fn sha512(bytes: &[u8]) -> String {
    Hash::Sha512.digest(&[bytes]).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_put_whole_comes_back_whole_and_in_parts() {
    let (face, bytes) = (Face::new(), contents());
    face.stage.apply(image("disk", "upload", &json!({})));
    assert_eq!(face.ask("GET", "disk", &[], &[]).status, 409);
    let headers = [("X-Checksum-SHA512", sha512(&bytes))];
    let put = face.ask("PUT", "disk", &headers, &bytes);
    assert_eq!(put.status, 200, "{}", put.text());
    let ready = face.stage.wait_for_image("disk", "ready");
    assert_eq!(ready.text(&["status", "checksum"]), Some(&*sha512(&bytes)));
    assert_eq!(ready.at(&["status", "size"]).unwrap(), bytes.len());

    let whole = face.ask("GET", "disk", &[], &[]);
    assert_eq!((whole.status, whole.body == bytes), (200, true));
    let tag = whole.header("etag").unwrap().to_owned();
    let part = face.ask("GET", "disk", &[("Range", "bytes=1000000-1999999".to_owned())], &[]);
    assert_eq!((part.status, part.body == bytes[1_000_000..2_000_000]), (206, true));
    assert_eq!(part.header("content-range"), Some("bytes 1000000-1999999/5242880"));
    assert_eq!(face.ask("GET", "disk", &[("If-None-Match", tag)], &[]).status, 304);
    let other = [("If-Range", "\"other\"".to_owned()), ("Range", "bytes=0-9".to_owned())];
    assert_eq!(face.ask("GET", "disk", &other, &[]).body.len(), bytes.len());
    assert_eq!(face.ask("GET", "disk", &[("Range", "bytes=9999999-".to_owned())], &[]).status, 416);

    // The answer may have been lost, but the image does not change any more.
    assert_eq!(face.ask("PUT", "disk", &headers, &bytes).status, 200);
    assert_eq!(face.ask("PUT", "disk", &[], &bytes[1..]).status, 409);
}

#[test]
fn an_upload_goes_on_where_its_connection_broke() {
    let (face, bytes) = (Face::new(), contents());
    face.stage.apply(image("disk", "upload", &json!({})));
    let total = bytes.len();
    let range = |from: usize| [("Content-Range", format!("bytes {from}-{}/{total}", total - 1))];
    let mut stream = face.connect();
    send(&mut stream, "PUT", "images/lab/disk/data", &range(0), &bytes, 3 << 20);
    stream.flush().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    stream.shutdown(Shutdown::Both).unwrap();
    drop(stream);
    let begun = Instant::now();
    let mut offset = 0;
    while offset < 3 << 20 && begun.elapsed() < Duration::from_secs(20) {
        offset = usize::try_from(face.offset("disk")).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(offset, 3 << 20);
    let wrong = face.ask("PATCH", "disk", &range(0), &bytes);
    assert_eq!((wrong.status, wrong.header("upload-offset")), (409, Some("3145728")));
    let rest = face.ask("PATCH", "disk", &range(offset), &bytes[offset..]);
    assert_eq!(rest.status, 200, "{}", rest.text());
    face.stage.wait_for_image("disk", "ready");
    assert_eq!(face.stage.checksum("disk"), sha512(&bytes));
}

#[test]
fn an_upload_in_the_manner_of_tus_survives_a_restart_of_its_parts() {
    let (face, bytes) = (Face::new(), contents());
    face.stage.apply(image("disk", "upload", &json!({})));
    let length = [("Upload-Length", bytes.len().to_string())];
    assert_eq!(face.ask("POST", "disk", &length, &[]).status, 201);
    let mut offset = 0;
    for part in bytes.chunks(2 << 20) {
        assert_eq!(face.offset("disk"), offset as u64);
        let headers = [("Upload-Offset", offset.to_string())];
        let answer = face.ask("PATCH", "disk", &headers, part);
        offset += part.len();
        let wanted = if offset == bytes.len() { 200 } else { 204 };
        assert_eq!(answer.status, wanted, "{}", answer.text());
    }
    face.stage.wait_for_image("disk", "ready");
    assert_eq!(face.ask("GET", "disk", &[], &[]).body, bytes);
}

#[test]
fn bytes_with_another_checksum_are_refused_and_can_be_brought_again() {
    let (face, bytes) = (Face::new(), contents());
    let mut document = image("disk", "upload", &json!({}));
    document["spec"]["checksum"] = sha512(&bytes).into();
    face.stage.apply(document);
    let mut broken = bytes.clone();
    broken[4096] ^= 1;
    let refused = face.ask("PUT", "disk", &[], &broken);
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("checksum"), "{}", refused.text());
    let failed = face.stage.wait_for_image("disk", "failed");
    assert!(failed.text(&["status", "message"]).unwrap().contains("checksum"));
    assert_eq!(failed.at(&["status", "progress"]).unwrap(), 0);
    let disk = failed.at(&["status", "diskFileStatusMap", "pool"]).unwrap();
    assert_eq!((disk["state"].as_str(), disk["progress"].as_u64()), (Some("failed"), Some(0)));
    assert_eq!(disk["message"], *failed.at(&["status", "message"]).unwrap());
    face.stage.wait_for_event("disk", "UploadFailed");
    assert_eq!(face.ask("PUT", "disk", &[], &bytes).status, 200);
    face.stage.wait_for_image("disk", "ready");
}

#[test]
fn encrypted_images_leave_and_come_back_and_open_with_the_same_key() {
    let (face, bytes) = (Face::new(), contents());
    face.stage.apply(secret("key", "canary passphrase"));
    face.stage.apply(image("plain", "upload", &json!({})));
    assert_eq!(face.ask("PUT", "plain", &[], &bytes).status, 200);
    face.stage.apply(clone("locked", "plain", "encrypt", "key"));
    face.stage.wait_for_image("locked", "ready");
    let locked = face.ask("GET", "locked", &[], &[]);
    assert!(locked.header("content-disposition").unwrap().contains("locked.luks"));
    assert!(locked.body.starts_with(b"LUKS\xba\xbe"));
    face.stage.apply(image("back", "upload", &json!({})));
    assert_eq!(face.ask("PUT", "back", &[], &locked.body).status, 200);
    let back = face.stage.wait_for_image("back", "ready");
    assert_eq!(back.at(&["status", "encrypted"]).unwrap(), true);
    face.stage.apply(clone("unlocked", "back", "decrypt", "key"));
    face.stage.wait_for_image("unlocked", "ready");
    assert_eq!(face.stage.checksum("unlocked"), sha512(&bytes));
}

#[test]
fn what_does_not_wait_for_bytes_takes_none() {
    let face = Face::new();
    assert_eq!(face.ask("PUT", "nothing", &[], b"x").status, 404);
    let url = json!({ "url": "http://127.0.0.1:1/disk" });
    face.stage.apply(image("fetched", "download", &url));
    let refused = face.ask("PUT", "fetched", &[], b"x");
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("sourceType"), "{}", refused.text());
    face.stage.apply(image("empty", "upload", &json!({})));
    assert_eq!(face.ask("PUT", "empty", &[], &[]).status, 422);
    face.stage.delete(Resource::BackingImage, Some("lab"), "fetched");
    face.stage.wait_until_gone(Resource::BackingImage, Some("lab"), "fetched");
}

#[test]
fn the_volume_of_a_claim_appears_on_this_machine_without_anybody_typing_a_key() {
    let test = "the_volume_of_a_claim_appears_on_this_machine_without_anybody_typing_a_key";
    if !rustix::process::geteuid().is_root() {
        return strongroom_testkit::skip(test, "loop devices need root");
    }
    let (face, path) = (Face::new(), "volumes/lab/data/attachment");
    assert_eq!(face.ask_at("GET", path, &[], &[]).status, 409);
    face.stage.apply(class("plain", None, json!({})));
    face.stage.apply(claim("data", "plain", "64Mi"));
    face.stage.wait_for_claim("data", "Bound");
    for wrong in ["", "{}", "{\"mount\": \"here\"}", "{\"device\": true, \"nbd\": \"/s\"}"] {
        assert_eq!(face.ask_at("PUT", path, &[], wrong.as_bytes()).status, 400, "{wrong}");
    }
    let put = face.ask_at("PUT", path, &[], b"{\"device\": true}");
    assert_eq!(put.status, 200, "{}", put.text());
    let shown: serde_json::Value = serde_json::from_slice(&put.body).unwrap();
    let device = shown["device"].as_str().unwrap();
    assert!(std::path::Path::new(device).exists(), "{shown}");
    let again = face.ask_at("PUT", path, &[], b"{\"device\": true}");
    assert_eq!((again.status, again.text()), (200, put.text()));

    // What is attached is not deleted below whoever uses it.
    face.stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "data");
    face.stage.wait_for_event(&volume_of(&shown), "Failed");
    assert_eq!(face.ask_at("DELETE", path, &[], &[]).status, 200);
    face.stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "data");
    let log = std::fs::read_to_string(face.stage.directory.path().join("audit.log")).unwrap();
    assert!(log.contains("\"attach\"") && log.contains("token admin"), "{log}");
}

fn volume_of(shown: &serde_json::Value) -> String {
    shown["volume"].as_str().unwrap().to_owned()
}

#[test]
fn one_too_many_is_told_to_come_again_later() {
    let face = Face::for_so_many(0);
    for method in ["GET", "PUT"] {
        let answer = face.ask(method, "ubuntu", &[], b"abc");
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    assert_eq!(face.ask("HEAD", "ubuntu", &[], &[]).status, 404);
}
