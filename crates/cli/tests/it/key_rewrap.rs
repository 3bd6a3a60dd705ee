//! Many envelopes rewrapped at once: killed, gone on with, told of.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::wait;

use crate::key_rotation::show;
use crate::workplace::{CHEAP, Workplace, signal};

const KMS: &str = "--kms local --kms-kek-file kek";

/// Returns a place with so many copies of an image, under the first version of the key that has two.
fn place(count: usize) -> Workplace {
    let place = Workplace::new();
    place.strongroom("kms init-local kek").ok();
    place.image("plain", 64 << 10);
    let words =
        format!("image encrypt plain 0.luks {KMS} --data-offset 1048576 --envelope-file 0.json");
    place.strongroom(&words).ok();
    for number in 1..count {
        place.copy("0.luks", &format!("{number}.luks"));
    }
    let names: String = (0..count).map(|number| format!("{number}.luks\n")).collect();
    place.write("list", names);
    let rotated = place.strongroom("kms rotate-local kek --json").ok();
    assert!(rotated.contains("\"key_version\": 2"), "{rotated}");
    place
}

fn version(place: &Workplace, file: &str) -> String {
    let shown = show(place, file);
    shown["envelopes"][0]["key_version"].as_str().unwrap().to_owned()
}

fn summary(text: &str) -> [u64; 4] {
    let value: Value = serde_json::from_str(text).unwrap();
    ["rewrapped", "already", "failed", "left"].map(|name| value[name].as_u64().unwrap())
}

#[test]
fn an_image_is_rewrapped_and_its_data_and_keyslots_stay() {
    let place = place(1);
    let before = place.read("0.luks");
    place.strongroom(&format!("key rewrap 0.luks {KMS} --envelope-file 0.json")).ok();
    let after = place.read("0.luks");
    assert!(before[32 << 10..] == after[32 << 10..], "more than the metadata was changed");
    assert_eq!(version(&place, "0.luks"), "2");
    let record: Value = serde_json::from_slice(&place.read("0.json")).unwrap();
    assert_eq!(record["key-version"], "2");
    place.strongroom(&format!("image decrypt 0.luks again {KMS}")).ok();
    place.same("plain", "again").unwrap();
    let again = place.strongroom(&format!("key rewrap 0.luks {KMS} --json")).ok();
    assert!(again.contains("\"already\""), "{again}");
    assert!(place.read("0.luks") == after, "it was written again");
}

#[test]
fn one_that_fails_does_not_stop_the_others() {
    let place = place(6);
    place.strongroom(&format!("image encrypt plain own --passphrase-file pw {CHEAP}")).ok();
    place.write("broken.json", "{\"version\":99}");
    place.write("list0", "3.luks\x004.luks\x00missing\x00own\x00");
    let words = format!(
        "key rewrap 0.luks 1.luks 0.json broken.json plain --files-from list0 -0 {KMS} --json \
         --report report"
    );
    let outcome = place.strongroom(&words);
    assert_eq!(outcome.code, Some(1), "{}", outcome.describe());
    assert_eq!(summary(&outcome.stdout), [5, 0, 4, 0]);
    for (name, problem) in [
        ("missing", "No such file"),
        ("own", "no envelope"),
        ("broken.json", "version 99"),
        ("plain", "not encrypted"),
    ] {
        let told = outcome.stderr.lines().find(|line| line.contains(&format!("error: {name}: ")));
        assert!(told.is_some_and(|line| line.contains(problem)), "{name}: {}", outcome.stderr);
    }
    for name in ["0.luks", "1.luks", "3.luks", "4.luks"] {
        assert_eq!(version(&place, name), "2");
    }
    assert_eq!(version(&place, "5.luks"), "1");
    let report = String::from_utf8(place.read("report")).unwrap();
    let lines: BTreeMap<String, String> = report
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| value[name].as_str().unwrap().to_owned();
            (text("file"), text("outcome"))
        })
        .collect();
    assert_eq!(lines.len(), 9);
    assert_eq!((&lines["own"][..], &lines["0.json"][..]), ("failed", "rewrapped"));
}

#[test]
fn what_was_killed_is_gone_on_with() {
    const COUNT: usize = 400;
    let place = place(COUNT);
    let words = format!("key rewrap --files-from list {KMS} --threads 4 --report report");
    let mut killed = 0;
    for _ in 0..30 {
        let mut child = place.start(&words);
        let (start, lines) = (Instant::now(), || {
            fs::read(place.path("report"))
                .map_or(0, |text| text.iter().filter(|&&b| b == b'\n').count())
        });
        let before = lines();
        // Killed once it is at work, but for those that are faster.
        while lines() < before + 20 && child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < Duration::from_secs(60), "it does not begin");
        }
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        signal(&child, Signal::KILL);
        wait(&mut child, Duration::from_secs(10));
        killed += 1;
        fs::remove_file(place.path("report")).unwrap();
        if killed == 8 {
            break;
        }
    }
    assert!(killed > 0, "it was never killed");
    let outcome = place.strongroom(&format!("key rewrap --files-from list {KMS} --json"));
    let [done, already, failed, left] = summary(&outcome.stdout);
    assert_eq!((done + already, failed, left), (COUNT as u64, 0, 0), "{}", outcome.describe());
    let outcome = place.strongroom(&format!("key rewrap --files-from list {KMS} --json"));
    assert_eq!(summary(&outcome.stdout), [0, COUNT as u64, 0, 0]);
    let leftovers = place.names().into_iter().filter(|name| name.contains("partial")).count();
    assert_eq!(leftovers, 0);
    for number in (0..COUNT).step_by(23) {
        assert_eq!(version(&place, &format!("{number}.luks")), "2");
        place.strongroom(&format!("image decrypt {number}.luks again --force {KMS}")).ok();
        place.same("plain", "again").unwrap();
    }
}

#[test]
fn lists_and_places_that_make_no_sense_are_refused() {
    let place = place(2);
    let none = place.strongroom(&format!("key rewrap {KMS}")).fails(2);
    assert!(none.contains("--files-from"), "{none}");
    place.write("empty", "");
    place.strongroom(&format!("key rewrap {KMS} --files-from empty")).fails(2);
    place.strongroom(&format!("key rewrap {KMS} --files-from missing")).fails(8);
    place.strongroom(&format!("key rewrap {KMS} -0 0.luks")).fails(2);
    place.strongroom(&format!("key rewrap {KMS} --threads 0 0.luks")).fails(2);
    let both = place.strongroom(&format!("key rewrap {KMS} 0.luks 1.luks --envelope-file 0.json"));
    assert!(both.fails(2).contains("goes with one image"));
    let report = place.strongroom(&format!("key rewrap {KMS} 0.luks --report no/such/folder"));
    assert!(report.fails(8).contains("report"));
    assert_eq!(version(&place, "0.luks"), "1");
    let words = format!("key rewrap {KMS} --files-from - --json");
    let outcome = strongroom_testkit::run(place.command(&words), b"0.luks\n1.luks\n");
    assert_eq!(summary(&outcome.ok()), [2, 0, 0, 0]);
}
