use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use super::server::{CLASSES, Server, VOLUMES, class, volume};

/// The lines of a watch, from the first change on.
struct Lines(BufReader<std::net::TcpStream>);

impl Lines {
    fn of(server: &Server, query: &str, accept: &str) -> Self {
        let token = server.admin();
        let headers = format!("Authorization: Bearer {token}\r\nAccept: {accept}\r\n");
        let stream = server.open(&format!("GET {CLASSES}?watch=true&{query}"), &headers, b"");
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(lines.read_line(&mut line).unwrap(), 0);
        }
        Self(lines)
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap())
    }

    fn seen(&mut self) -> (String, String) {
        let line = self.next().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&line["type"]), text(&line["object"]["metadata"]["name"]))
    }
}

fn seen(word: &str, name: &str) -> (String, String) {
    (word.to_owned(), name.to_owned())
}

fn relabel(server: &Server, name: &str, tier: Option<&str>) {
    let patch = json!({ "metadata": { "labels": { "tier": tier } } }).to_string();
    let head = format!("PATCH {CLASSES}/{name}");
    let answer = server.ask(server.admin(), &head, "application/merge-patch+json", &patch);
    assert_eq!(answer.code, 200, "{}", answer.body);
}

#[test]
fn a_watch_tells_what_is_there_and_then_what_changes() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(CLASSES, &class("first"));
    let mut lines = Lines::of(&server, "", "application/json");
    assert_eq!(lines.seen(), seen("ADDED", "first"));
    server.create(VOLUMES, &volume("other-kind"));
    server.create(CLASSES, &class("second"));
    assert_eq!(lines.seen(), seen("ADDED", "second"));
    relabel(&server, "first", Some("gold"));
    assert_eq!(lines.seen(), seen("MODIFIED", "first"));
    server.admin_asks(&format!("DELETE {CLASSES}/first"), &Value::Null);
    assert_eq!(lines.seen(), seen("DELETED", "first"));
}

#[test]
fn a_watch_goes_on_after_a_version_and_sees_what_enters_and_leaves_a_selection() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(CLASSES, &class("ubuntu"));
    let version = server.get(CLASSES).json()["metadata"]["resourceVersion"].clone();
    let query = format!("labelSelector=tier%3Dgold&resourceVersion={}", version.as_str().unwrap());
    relabel(&server, "ubuntu", Some("gold"));
    let mut lines = Lines::of(&server, &query, "application/json");
    assert_eq!(lines.seen(), seen("ADDED", "ubuntu"));
    relabel(&server, "ubuntu", Some("silver"));
    assert_eq!(lines.seen(), seen("DELETED", "ubuntu"));
    relabel(&server, "ubuntu", None);
    relabel(&server, "ubuntu", Some("gold"));
    assert_eq!(lines.seen(), seen("ADDED", "ubuntu"));
}

#[test]
fn a_watch_ends_in_time_with_a_bookmark_and_as_tables_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(CLASSES, &class("ubuntu"));
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let mut lines = Lines::of(&server, "timeoutSeconds=1&allowWatchBookmarks=true", table);
    let first = lines.next().unwrap();
    assert_eq!(first["object"]["kind"], "Table");
    assert_eq!(first["object"]["rows"][0]["cells"][0], "ubuntu");
    let bookmark = lines.next().unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert!(bookmark["object"]["metadata"]["resourceVersion"].is_string());
    assert_eq!(lines.next(), None);

    let all = "sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1";
    let mut lines = Lines::of(&server, all, "application/json");
    assert_eq!(lines.seen(), seen("ADDED", "ubuntu"));
    let end = lines.next().unwrap();
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}

#[test]
fn what_is_forgotten_is_gone_and_a_server_that_stops_ends_its_watches() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.create(CLASSES, &class("ubuntu"));
    server.stop();
    let server = Server::start(folder.path());
    let old = server.get(&format!("{CLASSES}?watch=true&resourceVersion=1"));
    assert_eq!((old.code, old.json()["reason"].as_str()), (410, Some("Expired")));
    let mut lines = Lines::of(&server, "", "application/json");
    assert_eq!(lines.seen(), seen("ADDED", "ubuntu"));
    server.stop();
    assert_eq!(lines.next(), None);
}
