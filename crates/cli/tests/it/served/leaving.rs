//! Documents that something holds while they are being deleted.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use super::{Served, claim, class, secret};
use crate::secrecy::CANARY;

#[test]
fn a_bound_volume_is_deleted_once_its_claim_is() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "encrypted", "64Mi"));
    let volume = served.bound("lab", "disk");
    let title = format!("persistentvolume/{volume}");
    let begun = served.run(&format!("delete pv {volume} --wait=false")).ok();
    assert_eq!(begun, format!("{title} is being deleted\n"));
    let late = served.run(&format!("delete pv {volume} --timeout 2s"));
    assert_eq!((late.code, late.stdout.as_str()), (Some(1), ""), "{}", late.describe());
    let why = "the claim lab/disk is bound to it, and has to be deleted first";
    for words in
        [format!("waiting until {title} is gone: {why}"), format!("{title} is still there: {why}")]
    {
        assert!(late.stderr.contains(&words), "{}", late.describe());
    }
    // It is waited for while the claim goes.
    let mut waiting = served.client(&format!("delete pv {volume} --timeout 2m"));
    let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut words = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(words.any(|line| line.unwrap().starts_with("waiting until")));
    assert_eq!(served.run("delete pvc/disk -n lab").ok(), "persistentvolumeclaim/disk deleted\n");
    let ended = waiting.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), format!("{title} deleted\n"));
}

#[test]
fn what_is_used_is_deleted_after_its_users() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "encrypted", "64Mi"));
    served.bound("lab", "disk");
    // What stands last goes first: both are refused as long as the claim is there.
    let documents = [
        claim("disk", "encrypted", "64Mi"),
        secret("lab", "key", CANARY),
        class("encrypted", "key", ""),
    ];
    let deleted = served.run_reading("delete -f -", documents.concat().as_bytes()).ok();
    let mut gone: Vec<&str> = deleted.lines().collect();
    gone.sort_unstable();
    assert_eq!(gone.len(), 3, "{deleted}");
    assert!(gone[0].starts_with("persistentvolumeclaim/disk"), "{deleted}");
    assert!(gone[1].starts_with("secret/key"), "{deleted}");
}
