//! Images of volumes that are mounted while they are made.

use std::fs::{self, File};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use strongroom_attach::{Support, fuse, loop_device};
use strongroom_testkit::skip;

use super::{Served, claim, class, secret};
use crate::secrecy::CANARY;
use crate::workplace::CHEAP;

/// A server of whose volumes some are mounted, which they are not any more when it is over.
struct Mounted(Served);

impl Mounted {
    /// Mounts a volume at a folder of the place.
    fn mount(&self, volume: &str, folder: &str) {
        fs::create_dir_all(self.0.place.path(folder)).unwrap();
        let words = format!(
            "volume attach {volume} --pool data/pool --mount {folder} --passphrase-file pw {CHEAP}"
        );
        self.0.place.strongroom(&words).ok();
    }

    fn detach(&self, volume: &str) {
        self.0.place.strongroom(&format!("volume detach {volume} --pool data/pool")).ok();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let all = self.0.place.strongroom("volume list --pool data/pool --json");
        let all: serde_json::Value = serde_json::from_str(&all.stdout).unwrap_or_default();
        for volume in all["volumes"].as_array().into_iter().flatten() {
            let name = volume["volume"].as_str().unwrap_or_default();
            self.0.place.strongroom(&format!("volume detach {name} --pool data/pool"));
        }
    }
}

/// Returns an image of a volume.
fn export(name: &str, volume: &str, encryption: &str) -> String {
    format!(
        "---\napiVersion: longhorn.io/v1beta2\nkind: BackingImage\nmetadata: {{name: {name}, \
         namespace: lab}}\nspec: {{sourceType: export-from-volume, sourceParameters: \
         {{volume-name: {volume}, export-type: raw{encryption}}}}}\n"
    )
}

/// Returns a claim of a volume with a file system.
fn with_file_system(name: &str, class: &str) -> String {
    claim(name, class, "64Mi").replace("volumeMode: Block", "volumeMode: Filesystem")
}

#[test]
fn a_mounted_volume_becomes_an_image_as_it_is_at_one_moment() {
    for support in [loop_device::support(), fuse::support()] {
        if let Support::Missing { what, .. } = support {
            return skip("a_mounted_volume_becomes_an_image_as_it_is_at_one_moment", &what);
        }
    }
    let served = Mounted(Served::new());
    served.0.applied(&secret("lab", "key", CANARY));
    served.0.applied(&class("encrypted", "key", ""));
    served.0.applied(&with_file_system("disk", "encrypted"));
    let volume = served.0.bound("lab", "disk");
    served.mount(&volume, "m");
    served.0.place.write("m/note", "before");
    let state = |wanted: &str| {
        let words = format!("volumes.longhorn.io {volume} -n longhorn-system");
        served.0.until(&words, |found| found["status"]["state"] == wanted);
    };
    state("attached");

    // Somebody goes on writing: each line of one file is durable before that of the other is written.
    let (ended, mounted) = (AtomicBool::new(false), served.0.place.path("m"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut files =
                ["first", "second"].map(|name| File::create(mounted.join(name)).unwrap());
            for line in 0.. {
                for file in &mut files {
                    writeln!(file, "{line}").unwrap();
                    file.sync_data().unwrap();
                }
                if ended.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let decrypt = ", encryption: decrypt, secret: key, secret-namespace: lab";
        served.0.applied(&export("as-it-is", &volume, ""));
        served.0.applied(&export("open", &volume, decrypt));
        let states = ["as-it-is", "open"].map(|name| {
            let image = served.0.until(&format!("backingimage {name} -n lab"), |image| {
                matches!(image["status"]["state"].as_str(), Some("ready" | "failed"))
            });
            image["status"].clone()
        });
        ended.store(true, Ordering::Relaxed);
        for status in states {
            assert_eq!(status["state"], "ready", "{status:#}");
        }
    });
    let lines = |folder: &str, name: &str| -> u64 {
        let text = fs::read_to_string(served.0.place.path(folder).join(name)).unwrap();
        let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{folder}/{name}: {text}");
        numbers.len() as u64
    };
    let all = lines("m", "first");
    served.detach(&volume);
    state("detached");

    for image in ["as-it-is", "open"] {
        let class_name = format!("of-{image}");
        served.0.applied(&class(&class_name, "key", &format!("  backingImage: {image}\n")));
        served.0.applied(&with_file_system(image, &class_name));
        let copy = served.0.bound("lab", image);
        served.mount(&copy, image);
        let note = fs::read_to_string(served.0.place.path(image).join("note")).unwrap();
        assert_eq!(note, "before", "{image}");
        let (first, second) = (lines(image, "first"), lines(image, "second"));
        assert!(first == second || first == second + 1, "{image}: {first} and {second}");
        assert!(first <= all, "{image}: {first} of {all}");
        served.detach(&copy);
    }
}
