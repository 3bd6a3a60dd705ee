//! Documents by the commands that talk to a server, which is the real one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::{Outcome, run, skip};

use crate::secrecy::{CANARY, holds_canary};
use crate::workplace::{Workplace, signal};

/// A server, and a directory with its files and those of a test.
struct Served {
    place: Workplace,
    server: Child,
    url: String,
}

impl Served {
    fn start() -> Self {
        let place = Workplace::new();
        let (server, url) = serve(&place);
        Self { place, server, url }
    }

    /// Runs a command that talks to the server, with the token that it has made.
    fn ask(&self, words: &str) -> Outcome {
        self.ask_reading(words, b"")
    }

    fn ask_reading(&self, words: &str, stdin: &[u8]) -> Outcome {
        let mut command = self.place.command(words);
        command.env("STRONGROOM_SERVER", &self.url).env("STRONGROOM_DATA", self.place.path("data"));
        run(command, stdin)
    }

    fn json(&self, words: &str) -> Value {
        serde_json::from_str(&self.ask(words).ok()).unwrap()
    }

    fn lines(&self, words: &str) -> Vec<String> {
        self.ask(words).ok().lines().map(str::to_owned).collect()
    }

    fn fails(&self, words: &str, code: i32) -> String {
        let outcome = self.ask(words);
        assert_eq!(outcome.code, Some(code), "{words}: {}", outcome.stderr);
        outcome.stderr
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        signal(&self.server, Signal::KILL);
        let _ = self.server.wait();
    }
}

fn serve(place: &Workplace) -> (Child, String) {
    let mut command = place.command("serve --data data --listen 127.0.0.1:0");
    let mut server = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(server.stderr.take().unwrap()).lines();
    let url = loop {
        let line = words.next().expect("the server ended").unwrap();
        if let Some(url) = line.strip_prefix("serving ") {
            break url.to_owned();
        }
    };
    // Somebody has to read what it says, or it would wait for that.
    std::thread::spawn(move || words.for_each(drop));
    (server, url)
}

fn class(extra: &str) -> String {
    format!(
        "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: plain\n{extra}\
         provisioner: driver.longhorn.io\nparameters:\n  numberOfReplicas: \"1\"\n"
    )
}

fn secret(value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: key\n  namespace: lab\nstringData:\n  \
         CRYPTO_KEY_VALUE: {value}\n  CRYPTO_KEY_PROVIDER: secret\n"
    )
}

#[test]
fn documents_are_applied_changed_shown_and_deleted() {
    let served = Served::start();
    std::fs::create_dir(served.place.path("docs")).unwrap();
    served.place.write("docs/1.yaml", class("  labels:\n    team: blue\n    tier: gold\n"));
    served.place.write("docs/2.yml", secret(CANARY));
    served.place.write("docs/ignored.txt", "no document");

    assert_eq!(
        served.lines("apply -f docs"),
        ["storageclass.storage.k8s.io/plain created", "secret/key created"]
    );
    assert_eq!(
        served.lines("apply -f docs"),
        ["storageclass.storage.k8s.io/plain unchanged", "secret/key unchanged"]
    );
    let note = "kubectl.kubernetes.io/last-applied-configuration";
    let shown = served.json("get secret key -n lab -o json");
    assert_eq!(shown["metadata"]["annotations"].get(note), None, "{shown}");
    assert!(shown["data"].get("CRYPTO_KEY_VALUE").is_some());

    // One label changes, one goes, and one that somebody else has set stays.
    served.place.write("docs/1.yaml", class("  labels:\n    team: red\n"));
    assert_eq!(
        served.lines("apply -f docs/1.yaml"),
        ["storageclass.storage.k8s.io/plain configured"]
    );
    let labels = served.json("get sc plain --json")["metadata"]["labels"].clone();
    assert_eq!(labels, serde_json::json!({ "team": "red" }));

    // What is shown as YAML is what can be applied.
    let yaml = served.ask("get sc/plain -o yaml").ok();
    // The first time it is noted who wants the defaults.
    served.ask_reading("apply -f -", yaml.as_bytes()).ok();
    let again = served.ask_reading("apply -f -", yaml.as_bytes()).ok();
    assert_eq!(again, "storageclass.storage.k8s.io/plain unchanged\n");

    let table = served.lines("get storageclasses");
    assert!(table[0].starts_with("NAME") && table[1].starts_with("plain"), "{table:?}");
    assert_eq!(served.lines("get sc -o name"), ["storageclass.storage.k8s.io/plain"]);
    let all = served.lines("get secrets -A");
    assert!(all[0].starts_with("NAMESPACE") && all[1].starts_with("lab"), "{all:?}");
    let page = served.lines("describe secret key -n lab").join("\n");
    assert!(page.contains("CRYPTO_KEY_VALUE") && page.contains("Namespace:      lab"), "{page}");

    for words in ["get secrets -A -o yaml", "describe secret key -n lab", "events -A", "jobs list"]
    {
        assert!(!holds_canary(served.ask(words).ok().as_bytes()), "{words}");
    }

    assert_eq!(
        served.lines("delete -f docs"),
        ["secret/key deleted", "storageclass.storage.k8s.io/plain deleted"]
    );
    let words = served.fails("get sc plain", 8);
    assert!(words.contains("plain"), "{words}");
    served.fails("delete sc plain", 8);
    served.ask("delete sc plain --ignore-not-found").ok();
    assert_eq!(
        served.lines("wait sc/plain --for delete"),
        ["storageclass.storage.k8s.io/plain deleted"]
    );
    served.place.strongroom("audit verify --data data").ok();
}

#[test]
fn what_is_refused_is_told_by_file_line_and_field() {
    let served = Served::start();
    let bad = format!(
        "{}---\n{}",
        class(""),
        "apiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata:\n  name: a\nspec:\n  \
         sourceType: teleport\n"
    );
    served.place.write("bad.yaml", &bad);
    let outcome = served.ask("apply -f bad.yaml");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    // The one that is well is applied all the same.
    assert_eq!(outcome.stdout, "storageclass.storage.k8s.io/plain created\n");
    let line = 1 + bad.lines().position(|line| line.contains("teleport")).unwrap();
    let place = format!("bad.yaml:{line}: BackingImage a: spec.sourceType: ");
    assert!(outcome.stderr.contains(&place), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 of 2 documents failed"), "{}", outcome.stderr);

    served.place.write("unknown.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n");
    let words = served.fails("apply -f unknown.yaml", 2);
    assert!(words.contains("unknown.yaml:1: kind: nothing here knows Pod of v1"), "{words}");
    served.place.write("key.yaml", secret(CANARY));
    let words = served.fails("apply -f key.yaml -n other", 2);
    assert!(words.contains("key.yaml:5: metadata.namespace:"), "{words}");
    served.fails("apply -f nothing.yaml", 8);
    served.fails("apply", 2);
    served.fails("get pods", 2);
}

#[test]
fn whoever_has_no_token_or_no_server_is_told_what_to_do() {
    let served = Served::start();
    served.place.write("wrong-token", "not a token of this server");
    let words = served.fails("get sc --token-file wrong-token", 12);
    assert!(words.contains("hint: name the file of a token with --token-file"), "{words}");
    let words = served.fails("get sc --server http://127.0.0.1:1", 11);
    assert!(words.contains("hint: start a server with `strongroom serve`"), "{words}");
    let words = served.fails("get sc --server http://example.org --token-file wrong-token", 2);
    assert!(words.contains("in the clear"), "{words}");
    served.fails("audit verify --data nowhere", 8);
}

#[test]
fn a_directory_that_has_a_server_is_busy() {
    let served = Served::start();
    let words = served.fails("serve --data data --listen 127.0.0.1:0", 7);
    assert!(words.contains("another server works in") && words.contains("--data DIR"), "{words}");
}

#[test]
fn changes_are_watched_and_waited_for() {
    let served = Served::start();
    served.place.write("class.yaml", class(""));
    served.ask("apply -f class.yaml").ok();
    let watching = served
        .place
        .command("get sc -w -o name")
        .env("STRONGROOM_SERVER", &served.url)
        .env("STRONGROOM_DATA", served.place.path("data"))
        .stdout(Stdio::piped())
        .spawn();
    let mut watching = watching.unwrap();
    let mut seen = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(seen.next().unwrap().unwrap(), "storageclass.storage.k8s.io/plain");
    served.place.write("other.yaml", class("").replace("name: plain", "name: other"));
    served.ask("apply -f other.yaml").ok();
    assert_eq!(seen.next().unwrap().unwrap(), "storageclass.storage.k8s.io/other");
    signal(&watching, Signal::KILL);
    watching.wait().unwrap();

    let condition = "jsonpath={.parameters.numberOfReplicas}=1";
    served.ask(&format!("wait sc/plain --for {condition}")).ok();
    let begun = Instant::now();
    let other = "jsonpath={.parameters.numberOfReplicas}=2";
    let words = served.fails(&format!("wait sc/plain --for {other} --timeout 1s"), 1);
    assert!(words.contains("{.parameters.numberOfReplicas} is 1"), "{words}");
    assert!((1..10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    served.fails(&format!("wait sc/nobody --for {other}"), 8);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| served.ask("wait sc/plain --for delete").ok());
        std::thread::sleep(Duration::from_millis(300));
        served.ask("delete sc plain").ok();
        waiting.join().unwrap();
    });
}

#[test]
fn kubectl_and_this_program_apply_in_turn() {
    let test = "kubectl_and_this_program_apply_in_turn";
    if std::process::Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        return skip(test, "kubectl is not installed");
    }
    let served = Served::start();
    let kubectl = |words: &str| {
        let mut command = std::process::Command::new("kubectl");
        command.args(words.split(' ')).current_dir(served.place.path("."));
        command.env("KUBECONFIG", served.place.path("data/kubeconfig"));
        command.env("HOME", served.place.path("."));
        run(command, b"").ok()
    };
    let text = class("  labels:\n    team: blue\n    odd: \"x\"\n");
    served.place.write("class.yaml", &text);
    let title = "storageclass.storage.k8s.io/plain";
    assert_eq!(served.lines("apply -f class.yaml"), [format!("{title} created")]);
    assert_eq!(kubectl("apply -f class.yaml"), format!("{title} unchanged\n"));
    served.place.write("class.yaml", class("  labels:\n    team: red\n"));
    assert_eq!(kubectl("apply -f class.yaml"), format!("{title} configured\n"));
    assert_eq!(served.lines("apply -f class.yaml"), [format!("{title} unchanged")]);
    served.place.write("class.yaml", class(""));
    assert_eq!(served.lines("apply -f class.yaml"), [format!("{title} configured")]);
    assert_eq!(kubectl("apply -f class.yaml"), format!("{title} unchanged\n"));
    let shown = served.json("get sc plain --json");
    assert!(shown["metadata"].get("labels").is_none_or(|labels| labels == &serde_json::json!({})));
}
