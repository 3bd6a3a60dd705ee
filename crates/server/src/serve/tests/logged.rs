use serde_json::{Value, json};
use strongroom_model::Reach;

use super::server::{IMAGES, SECRETS, Server, image, secret, settings};
use crate::logging::LogLevel;
use crate::logging::tests::Page;

/// Starts a server that says so much, does what there is to be told of with something that must not be said,
/// stops it, and returns what it has said.
fn told(level: LogLevel) -> String {
    let folder = tempfile::tempdir().unwrap();
    let page = Page::default();
    let mut settings = settings(folder.path(), None);
    settings.log = page.log(level);
    settings.downloads.reach = Reach::OtherHosts;
    let server = Server::with(settings);
    server.create(SECRETS, &secret("key", "canary-of-secret"));
    let bad = server.ask("canary-of-token", &format!("GET {SECRETS}"), "application/json", "");
    assert_eq!(bad.code, 401);
    let viewer = server.token("eyes", "viewer", &["lab"]);
    let denied = server.ask(&viewer, &format!("GET {SECRETS}"), "application/json", "");
    assert_eq!(denied.code, 403);
    server.get(&format!("{IMAGES}?labelSelector=canary-of-query"));
    let broken = server.ask(server.admin(), &format!("POST {SECRETS}"), "canary-of-type", "canary");
    assert_eq!(broken.code, 415);
    let mistaken = format!("DELETE /v1/tokens/{viewer}");
    assert_eq!(server.admin_asks(&mistaken, &Value::Null).code, 404);
    server.create(IMAGES, &image("sent"));
    let upload = format!("PUT {}", "/v1/images/lab/sent/data?canary-of-query");
    let sent = server.ask(server.admin(), &upload, "", &"canary-of-body".repeat(512));
    assert_eq!(sent.code, 200, "{}", sent.body);
    let mut fetched = image("fetched");
    fetched["spec"] = json!({
        "sourceType": "download",
        "sourceParameters": { "url": "http://canary:canary@127.0.0.1:1/disk.img?token=canary" },
    });
    // Either it is refused, or it fails.
    if server.admin_asks(&format!("POST {IMAGES}"), &fetched).code != 201 {
        fetched["spec"]["sourceParameters"]["url"] =
            "http://127.0.0.1:1/disk.img?token=canary".into();
        server.create(IMAGES, &fetched);
    }
    server.job_that(|job| job["state"] == "failed");
    assert_eq!(server.admin_asks(&format!("DELETE {SECRETS}/key"), &Value::Null).code, 200);
    let admin = server.admin().to_owned();
    server.stop();
    let text = page.text();
    for hidden in ["canary", &admin, &viewer] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
    text
}

#[test]
fn an_operator_is_told_of_changes_refusals_and_jobs_and_of_no_secret() {
    let text = told(LogLevel::Info);
    let secrets = format!("method=POST path={SECRETS} by=admin from=127.0.0.1 status=201 ms=");
    for (begins, wanted) in [
        ("serving", "tls=false"),
        ("request", secrets.as_str()),
        ("login refused", &format!("method=GET path={SECRETS} from=127.0.0.1 status=401")),
        ("request refused", &format!("path={SECRETS} by=eyes from=127.0.0.1 status=403")),
        ("request refused", "status=415"),
        ("request refused", "method=DELETE path=/v1/tokens/TOKEN by=admin"),
        ("request", "method=PUT path=/v1/images/lab/sent/data by=admin from=127.0.0.1 status=200"),
        (
            "job begins",
            "task=download-image about=\"backingimages.longhorn.io lab/fetched\" attempt=1",
        ),
        ("job has failed", "--allow-loopback-downloads"),
        ("request", "method=DELETE"),
        ("stopping", "jobs go on"),
        ("stopped", ""),
    ] {
        let is = |line: &str| {
            let words = line.split(' ').skip(2).collect::<Vec<_>>().join(" ");
            words.starts_with(begins) && words.contains(wanted)
        };
        assert!(text.lines().any(is), "no line {begins} {wanted} in {text}");
    }
    assert!(!text.lines().any(|line| line.contains("method=GET") && line.contains("status=200")));
}

#[test]
fn whoever_wants_to_know_everything_is_told_of_reading_too() {
    let text = told(LogLevel::Debug);
    let read =
        |line: &str| line.contains("debug request method=GET") && line.contains("status=200");
    assert!(text.lines().any(read), "{text}");
}

#[test]
fn whoever_wants_to_know_of_failures_alone_is_told_of_nothing_else() {
    let text = told(LogLevel::Error);
    assert!(text.contains("job has failed"), "{text}");
    assert!(text.lines().all(|line| line.contains(" error ")), "{text}");
}
