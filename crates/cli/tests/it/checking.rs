//! Damaged qcow2 images, as `qemu-img check` and `image check` see them.

use serde_json::Value;
use strongroom_testkit::{Outcome, Tool};

use crate::workplace::{Workplace, has};

const CLUSTER: usize = 64 << 10;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The bytes of an image, to be damaged.
struct Bytes(Vec<u8>);

impl Bytes {
    fn number(&self, offset: usize) -> u64 {
        u64::from_be_bytes(self.0[offset..offset + 8].try_into().unwrap())
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn l2_table(&self) -> usize {
        let l1 = self.number(40) as usize;
        (self.number(l1) & 0x00ff_ffff_ffff_fe00) as usize
    }

    /// Returns where the entries of the first two clusters with data stand in the L2 table.
    fn data_entries(&self) -> [usize; 2] {
        let table = self.l2_table();
        let mut used = (table..table + CLUSTER).step_by(8).filter(|&at| self.number(at) != 0);
        [used.next().unwrap(), used.next().unwrap()]
    }

    fn data_cluster(&self, entry: usize) -> usize {
        (self.number(entry) & 0x00ff_ffff_ffff_fe00) as usize / CLUSTER
    }

    fn put_count(&mut self, cluster: usize, count: u16) {
        let block = self.number(self.number(48) as usize) as usize;
        self.put(block + cluster * 2, &count.to_be_bytes());
    }
}

fn place() -> Workplace {
    let place = Workplace::new();
    place.image("plain", 1 << 20);
    place.qemu_img("convert -f raw -O qcow2 plain whole.qcow2").ok();
    place
}

fn check(place: &Workplace, options: &str) -> Outcome {
    place.strongroom(&format!("image check image.qcow2 {options}"))
}

/// Returns the numbers of corruptions and leaks that QEMU finds.
fn theirs(place: &Workplace) -> (u64, u64) {
    let outcome = place.qemu_img("check --output json -f qcow2 image.qcow2");
    let report = json(&outcome.stdout);
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    (count("corruptions"), count("leaks"))
}

fn numbers(report: &Value) -> (u64, u64) {
    (report["corruptions"].as_u64().unwrap(), report["leaks"].as_u64().unwrap())
}

#[test]
fn finds_and_repairs_what_qemu_img_finds() {
    if !has("checking::finds_and_repairs", &[Tool::QEMU_IMG]) {
        return;
    }
    type Damage = fn(&mut Bytes);
    let damages: [(&str, Damage, bool); 7] = [
        (
            "a cluster at the end that nobody refers to",
            |bytes| {
                let cluster = bytes.0.len() / CLUSTER;
                bytes.0.resize((cluster + 1) * CLUSTER, 0);
                bytes.put_count(cluster, 1);
            },
            false,
        ),
        (
            "a cluster counted twice",
            |bytes| {
                bytes.put_count(bytes.data_cluster(bytes.data_entries()[0]), 2);
            },
            false,
        ),
        (
            "an entry lost",
            |bytes| {
                let entry = bytes.data_entries()[1];
                bytes.put(entry, &[0; 8]);
            },
            false,
        ),
        (
            "a cluster in use that is counted as free",
            |bytes| {
                bytes.put_count(bytes.data_cluster(bytes.data_entries()[0]), 0);
            },
            true,
        ),
        (
            "two entries for one cluster",
            |bytes| {
                let [one, other] = bytes.data_entries();
                let entry = bytes.number(one).to_be_bytes();
                bytes.put(other, &entry);
            },
            true,
        ),
        (
            "an L2 table that is counted as free",
            |bytes| {
                bytes.put_count(bytes.l2_table() / CLUSTER, 0);
            },
            true,
        ),
        ("the header counted as free", |bytes| bytes.put_count(0, 0), true),
    ];
    let place = place();
    for (what, damage, is_corrupt) in damages {
        let mut bytes = Bytes(place.read("whole.qcow2"));
        damage(&mut bytes);
        place.write("image.qcow2", &bytes.0);
        let (corruptions, leaks) = theirs(&place);
        // A count that is too high contradicts a flag, too, which QEMU counts apart. No data can
        // get lost by that.
        assert!(corruptions > 0 || !is_corrupt, "{what}");
        let code = if is_corrupt { 10 } else { 9 };

        let outcome = check(&place, "--json");
        let ours = numbers(&json(&outcome.stdout));
        assert_eq!((ours.0 > 0, ours.1), (is_corrupt, leaks), "{what}");
        outcome.fails(code);
        let outcome = check(&place, "");
        assert!(outcome.stdout.contains(if is_corrupt { "corruption: " } else { "leak: " }));
        outcome.fails(code);
        assert!(place.read("image.qcow2") == bytes.0, "{what}: a check has changed it");

        let repaired = check(&place, "--repair leaks --json");
        if is_corrupt {
            repaired.fails(10);
            assert!(place.read("image.qcow2") == bytes.0, "{what}: leaks only");
            let report = json(&check(&place, "--repair --json").ok());
            assert!(report["corruptions_fixed"].as_u64().unwrap() > 0, "{what}: {report}");
        } else {
            assert_eq!(json(&repaired.ok())["leaks_fixed"], leaks, "{what}");
        }
        assert_eq!(theirs(&place), (0, 0), "{what}");
        check(&place, "").ok();
    }
}

#[test]
fn a_mark_of_an_image_that_was_not_closed_goes_with_the_repair() {
    if !has("checking::a_mark", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = place();
    let mut bytes = Bytes(place.read("whole.qcow2"));
    bytes.put(72, &1_u64.to_be_bytes());
    place.write("image.qcow2", &bytes.0);
    let info = json(&place.strongroom("image info image.qcow2 --json").ok());
    assert_eq!(info["dirty"], true);
    // It is not written before somebody has looked at it.
    let message = place.strongroom("image resize image.qcow2 +1M").fails(4);
    assert!(message.contains("strongroom image check image.qcow2"), "{message}");
    check(&place, "--repair all").ok();
    let info = json(&place.strongroom("image info image.qcow2 --json").ok());
    assert_eq!(info["dirty"], false);
    place.qemu_img("compare -f qcow2 -F raw image.qcow2 plain").ok();
    place.strongroom("image resize image.qcow2 +1M").ok();
}

#[test]
fn only_images_of_qemu_are_checked() {
    let place = Workplace::new();
    place.image("plain", 64 << 10);
    place.strongroom("image create volume.luks 64K --passphrase-file pw --pbkdf-memory 32").ok();
    let message = place.strongroom("image check volume.luks").fails(2);
    assert!(message.contains("strongroom luks repair"), "{message}");
    let message = place.strongroom("image check plain --source-format luks1").fails(2);
    assert!(message.contains("strongroom luks repair"), "{message}");
    let message = place.strongroom("image check plain").fails(4);
    assert!(message.contains("not a qcow2 image"), "{message}");
    place.strongroom("image check missing").fails(8);
    place.strongroom("image check plain --repair everything").fails(2);
}
