//! Many at once.

use std::time::Instant;

use super::{claim, class, clone, download, elsewhere, secret, with_images};
use crate::secrecy::CANARY;

#[test]
fn three_and_thirty_clones_of_one_source_at_once_all_succeed() {
    let served = with_images();
    let source = elsewhere(&served.place, "plain.qcow2");
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&download("qcow2", &source.url("/plain.qcow2")));
    served.image("lab", "qcow2");
    for (round, count) in [("three", 3), ("thirty", 30)] {
        let names: Vec<String> = (0..count).map(|number| format!("{round}-{number}")).collect();
        served.applied(
            &names.iter().map(|name| clone(name, "qcow2", "encrypt", "key")).collect::<String>(),
        );
        for name in &names {
            served.image("lab", name);
        }
        for name in names.iter().take(3) {
            served.download("lab", name, name);
            let words = format!("image compare plain {name} --passphrase-file pw");
            served.place.strongroom(&words).ok();
        }
    }
}

#[test]
fn many_claims_come_about() {
    let served = with_images();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    let count: usize =
        std::env::var("STRONGROOM_CLAIMS").map_or(300, |count| count.parse().unwrap());
    let start = Instant::now();
    for part in (0..count).collect::<Vec<_>>().chunks(100) {
        let claims = part.iter().map(|number| claim(&format!("c{number}"), "encrypted", "64Mi"));
        served.applied(&claims.collect::<String>());
    }
    served.until("pvc -n lab", |claims| {
        let claims = claims["items"].as_array().unwrap();
        claims.len() == count && claims.iter().all(|claim| claim["status"]["phase"] == "Bound")
    });
    println!("{count} claims in {:?}", start.elapsed());
}
