//! Killed at any moment, the server goes on where it was.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use super::{Served, claim, class, clone, download, elsewhere, secret, with_images};
use crate::secrecy::CANARY;

#[test]
fn a_server_that_is_killed_under_load_ends_every_job_and_leaks_nothing() {
    let kills: u64 = std::env::var("STRONGROOM_KILLS").map_or(10, |kills| kills.parse().unwrap());
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&download("base", &source.url("/plain.qcow2")));
    served.image("lab", "base");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..kills {
        let url = source.url("/plain.qcow2");
        served.applied(&download(&format!("fetched-{round}"), &url));
        for number in 0..3 {
            served.applied(&clone(&format!("locked-{round}-{number}"), "base", "encrypt", "key"));
        }
        served.applied(&claim(&format!("disk-{round}"), "encrypted", "64Mi"));
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_millis(random >> 32 & 0xff));
        served.kill();
        served.start();
    }
    for round in 0..kills {
        served.image("lab", &format!("fetched-{round}"));
        for number in 0..3 {
            served.image("lab", &format!("locked-{round}-{number}"));
        }
        served.bound("lab", &format!("disk-{round}"));
    }
    let last = format!("locked-{}-2", kills - 1);
    served.download("lab", &last, "last");
    served.place.strongroom("image compare plain last --passphrase-file pw").ok();
    for kind in ["pvc", "backingimage"] {
        delete_all(&served, kind);
    }
    served.stop();
    assert_eq!(names(&served, "data/images"), [""; 0]);
    assert_eq!(names(&served, "data/pool/volumes"), [""; 0]);
    served.place.strongroom("audit verify --data data").ok();
}

fn delete_all(served: &Served, kind: &str) {
    let items = served.json(&format!("{kind} -n lab"));
    let items = items["items"].as_array().unwrap();
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    for item in items {
        served.run(&format!("delete {kind} {} -n lab", name(item))).ok();
    }
    served.until(&format!("{kind} -n lab"), |left| left["items"].as_array().unwrap().is_empty());
}

fn names(served: &Served, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(served.place.path(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // Locks stay, empty.
    names.filter(|name| name != ".locks").collect()
}
