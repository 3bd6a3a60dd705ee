use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;

use super::*;

/// Answers requests one after the other with these texts; what was asked is returned by the thread.
fn server(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            let mut piece = [0; 4096];
            loop {
                let read = stream.read(&mut piece).unwrap();
                text.extend_from_slice(&piece[..read]);
                if is_whole(&text) {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).unwrap();
            asked.push(String::from_utf8(text).unwrap());
        }
        asked
    });
    (url, thread)
}

fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let len = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= len.unwrap_or(0)
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn client(url: &str) -> Client {
    Client::new(url, Some(&Token::new(b"canary-token\n".to_vec())), None).unwrap()
}

#[test]
fn a_request_has_the_token_and_its_answer_the_warnings() {
    let warnings =
        "200 OK\r\nWarning: 299 - \"unknown field \\\"spec.x\\\"\"\r\nWarning: 299 - \"two\"";
    let (url, thread) = server(vec![answer(warnings, "{\"kind\":\"Secret\"}")]);
    let patch = Action::Patch(json!({ "data": { "KEY": "canary" } }));
    let client = client(&url);
    let request = Request::new(patch, "/api/v1/namespaces/lab/secrets/key?x=1");
    let answer = client.ask(&request).unwrap();
    assert_eq!(answer.value["kind"], "Secret");
    assert_eq!(answer.warnings, ["unknown field \"spec.x\"", "two"]);
    let asked = thread.join().unwrap().remove(0);
    assert!(
        asked.starts_with("PATCH /api/v1/namespaces/lab/secrets/key?x=1 HTTP/1.1\r\n"),
        "{asked}"
    );
    for line in
        ["authorization: Bearer canary-token\r\n", "content-type: application/merge-patch+json\r\n"]
    {
        assert!(asked.contains(line), "{asked}");
    }
    assert!(!format!("{client:?} {request:?} {answer:?}").contains("canary"));
}

#[test]
fn what_a_server_refuses_is_told_with_its_causes() {
    let status = json!({
        "kind": "Status", "status": "Failure", "code": 422, "reason": "Invalid",
        "message": "BackingImage lab/a is refused",
        "details": { "causes": [{ "field": "spec.sourceType", "message": "is missing" }] }
    });
    let exists = json!({ "reason": "AlreadyExists", "message": "it is there" });
    let (url, thread) = server(vec![
        answer("422 Unprocessable Entity", &status.to_string()),
        answer("409 Conflict", &exists.to_string()),
        answer("502 Bad Gateway", "<html>"),
    ]);
    let client = client(&url);
    let ask = || client.ask(&Request::new(Action::Get, "/x")).unwrap_err();
    let failure = ask();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.to_string(), "BackingImage lab/a is refused");
    let cause =
        FailureCause { field: "spec.sourceType".to_owned(), message: "is missing".to_owned() };
    assert_eq!(failure.causes, [cause]);
    assert_eq!(ask().kind, FailureKind::Exists);
    let failure = ask();
    assert_eq!(failure.kind, FailureKind::Server);
    assert_eq!(failure.to_string(), format!("{url} answers with status 502"));
    thread.join().unwrap();
    assert_eq!(ask().kind, FailureKind::Unreachable);
}

#[test]
fn changes_come_until_the_stream_ends_or_tells_of_an_error() {
    let body = "{\"type\":\"ADDED\",\"object\":{\"n\":1}}\n{\"type\":\"ERROR\",\"object\":{\"code\":410,\
                \"message\":\"too old\"}}\n";
    let (url, thread) = server(vec![answer("200 OK", body)]);
    let mut changes = client(&url).watch(&Request::new(Action::Get, "/x?watch=true")).unwrap();
    assert_eq!(changes.next(), Some(Ok(("ADDED".to_owned(), json!({ "n": 1 })))));
    assert_eq!(changes.next().unwrap().unwrap_err().kind, FailureKind::Expired);
    assert_eq!(changes.next(), None);
    thread.join().unwrap();
}

/// Shows a certificate to one who asks for one.
fn show(
    certificate: &rcgen::Certificate,
    key: &rcgen::KeyPair,
) -> (String, std::thread::JoinHandle<()>) {
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        // The other end does not like what it sees.
        let _ = connection.complete_io(&mut stream);
    });
    (url, thread)
}

#[test]
fn whoever_shows_the_certificate_of_an_authority_is_told_which_to_make() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = parameters.self_signed(&key).unwrap();
    let (url, thread) = show(&certificate, &key);
    let client = Client::new(&url, None, Some(certificate.pem().as_bytes())).unwrap();
    let failure = client.ask(&Request::new(Action::Get, "/version")).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Certificate);
    let text = failure.to_string();
    assert!(text.contains("basicConstraints=CA:FALSE") && text.contains("--ca-file"), "{text}");
    thread.join().unwrap();
}

#[test]
fn an_answer_that_comes_before_the_body_is_sent_is_what_counts() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for turn in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece).unwrap();
                head.extend_from_slice(&piece[..count]);
            }
            let said = json!({ "reason": "InsufficientStorage", "message": "there is no room" });
            let answer = match turn {
                0 => answer("200 OK", ""),
                _ => answer("507 Insufficient Storage", &said.to_string()),
            };
            stream.write_all(answer.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // What still comes is taken, as our server does, and not looked at.
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let file = tempfile::tempfile().unwrap();
    file.set_len(64 << 20).unwrap();
    let told: Arc<dyn Fn(u64, u64) + Send + Sync> = Arc::new(|_, _| {});
    let place = ImagePlace { namespace: "lab".to_owned(), name: "disk".to_owned() };
    let failure = client(&url).upload(&place, &file, &told).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Server);
    assert_eq!(failure.to_string(), "there is no room");
    thread.join().unwrap();
}

#[test]
fn a_token_does_not_leave_the_machine_in_the_clear() {
    let token = Token::new(b"canary".to_vec());
    let new = |url: &str| Client::new(url, Some(&token), None);
    for url in
        ["http://127.0.0.1:1", "http://[::1]:1/below", "http://localhost", "https://example.org"]
    {
        assert!(new(url).is_ok(), "{url}");
    }
    for url in [
        "http://example.org",
        "http://127.0.0.1.example.org",
        "ftp://127.0.0.1",
        "127.0.0.1:7480",
        "https://canary:canary@example.org",
        "https://example.org?canary",
    ] {
        let failure = new(url).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Request, "{url}");
        assert!(!failure.to_string().contains("canary"), "{failure}");
    }
    assert!(Client::new("http://example.org", None, None).is_ok());
    assert!(Client::new("https://example.org", None, Some(b"no PEM")).is_err());
}
