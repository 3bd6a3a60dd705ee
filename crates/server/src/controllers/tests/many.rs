use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use strongroom_model::dialect::resource::Resource;

use super::super::stage::{Stage, claim, class};

/// Ten thousand with `STRONGROOM_CLAIMS=10000`.
#[test]
fn many_claims_are_bound_and_memory_stays_flat() {
    if std::env::var_os(ALONE).is_none() {
        // Memory is a whole process's, and other tests are in this one.
        let name = "controllers::tests::many::many_claims_are_bound_and_memory_stays_flat";
        let mut alone = Command::new(std::env::current_exe().unwrap());
        let ended = alone.args([name, "--exact", "--nocapture"]).env(ALONE, "1").status();
        assert!(ended.unwrap().success());
        return;
    }
    let count = std::env::var("STRONGROOM_CLAIMS").map_or(300, |count| count.parse().unwrap());
    let stage = Stage::new();
    stage.apply(class("plain", None, json!({})));
    let (before, begun) = (resident(), Instant::now());
    for number in 0..count {
        stage.apply(claim(&format!("data-{number}"), "plain", "64Mi"));
    }
    let applied = begun.elapsed();
    loop {
        let claims = stage.context().store.list(Resource::PersistentVolumeClaim, None).0;
        let bound = claims.iter().filter(|one| one.text(&["status", "phase"]) == Some("Bound"));
        if bound.count() == count {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(1200), "not all of them are bound");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let rate = count as f64 / took.as_secs_f64();
    eprintln!(
        "{count} claims: applied in {applied:.1?}, bound in {took:.1?} ({rate:.0} a second), \
         {} KiB more memory for each",
        grown / 1024 / count as u64
    );
    // A claim and its PersistentVolume are a few kilobytes; the ring of events holds some of them twice.
    assert!(grown < (64 << 20) + count as u64 * (64 << 10), "{grown} bytes more");
    let events = stage.context().store.list(Resource::Event, None).0;
    assert!(events.len() <= 2_000, "{} events", events.len());
}

/// Tells the test that it has a process of its own.
const ALONE: &str = "STRONGROOM_TEST_ALONE";

/// Returns how many bytes this process has in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
