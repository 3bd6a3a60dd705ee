use std::time::Duration;

use serde_json::json;
use strongroom_model::dialect::resource::Resource;
use strongroom_testkit::{Reply, Server};

use super::super::stage::{Stage, claim, class, clone, image, secret};

/// A server that takes its time.
fn slow(len: u64) -> Server {
    Server::start(move |request| Reply {
        pace: (256 << 10, Duration::from_millis(5)),
        ..Reply::ranged(request, len, "\"one\"")
    })
}

#[test]
fn what_a_restart_interrupts_is_gone_on_with() {
    let (mut stage, server) = (Stage::new(), slow(48 << 20));
    stage.apply(secret("key", "canary passphrase"));
    stage.apply(image("plain", "download", &json!({ "url": server.url("/disk.raw") })));
    stage.apply(clone("locked", "plain", "encrypt", "key"));
    stage.apply(class("locked", Some("key"), json!({})));
    stage.apply(claim("data", "locked", "64Mi"));
    stage.wait_for_image("plain", "in-progress");
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        stage.stop();
        stage.start();
    }
    stage.wait_for_image("plain", "ready");
    stage.wait_for_image("locked", "ready");
    stage.wait_for_claim("data", "Bound");
}

#[test]
fn a_deletion_that_a_restart_interrupts_ends() {
    let mut stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    stage.apply(claim("data", "plain", "64Mi"));
    stage.wait_for_claim("data", "Bound");
    stage.delete(Resource::PersistentVolumeClaim, Some("lab"), "data");
    stage.stop();
    stage.start();
    stage.wait_until_gone(Resource::PersistentVolumeClaim, Some("lab"), "data");
    assert!(stage.context().volumes.list(None, 10).unwrap().is_empty());
    assert!(stage.context().store.list(Resource::PersistentVolume, None).0.is_empty());
}
