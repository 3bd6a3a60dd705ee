//! Volumes over other volumes, each with a secret of its own.

use std::fs;
use std::os::unix::fs::symlink;

use strongroom::Error;
use strongroom::image_size::SizeChange;
use strongroom::libvirt::DiskRequest;
use strongroom_disk::qcow2::Shrinking;
use strongroom_model::dialect::libvirt::BackingChain;
use strongroom_testkit::{Tool, run, skip};

use super::{Rig, document, new};

/// Not whole clusters, so that the last one is cut wherever a volume becomes larger.
const LEN: u64 = (1 << 20) + 1024;

/// What a volume can be below another one, and what that one calls its format.
const KINDS: [(&str, &str); 4] = [
    ("", "raw"),
    ("<target><encryption format='luks'/></target>", "raw"),
    (QCOW2, "qcow2"),
    (ENCRYPTED_QCOW2, "qcow2"),
];

const QCOW2: &str = "<target><format type='qcow2'/></target>";

const ENCRYPTED_QCOW2: &str = "<target><format type='qcow2'/><encryption format='luks'/></target>";

impl Rig {
    /// Makes a volume `plain` of bytes none of which is zero, and returns them.
    fn plain(&self) -> Vec<u8> {
        let bytes: Vec<u8> = (0..LEN).map(|at| (at % 255) as u8 + 1).collect();
        fs::write(self.file("plain"), &bytes).unwrap();
        self.libvirt.adopt(&new(&document("plain", LEN, ""), &self.pool(), None)).unwrap();
        bytes
    }

    /// Makes an encrypted volume over another one, of the path that its document has.
    fn overlay(&self, name: &str, path: &str, format: &str) {
        let rest = format!("{ENCRYPTED_QCOW2}{}", over(path, format));
        self.create_of(&document(name, LEN, &rest)).unwrap();
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        let copy = format!("copy-of-{name}");
        self.copy_of(name, &document(&copy, 0, ""), &())?;
        let bytes = fs::read(self.file(&copy)).unwrap();
        self.delete(&copy, strongroom::libvirt::SecretFate::Keep).unwrap();
        Ok(bytes)
    }

    fn resize(&self, name: &str, to: u64) {
        let change = SizeChange::To(to);
        self.libvirt.resize(&self.name(name), change, Shrinking::Allow).unwrap();
    }

    fn layers(&self, name: &str) -> Result<usize, Error> {
        let request = DiskRequest { target: "vda".to_owned(), bus: "virtio".to_owned() };
        let disk = self.libvirt.domain_disk(&self.name(name), &request)?;
        let mut count = 1;
        let mut backing = &disk.backing;
        while let BackingChain::Layer(layer) = backing {
            (backing, count) = (&layer.backing, count + 1);
        }
        Ok(count)
    }
}

fn over(path: &str, format: &str) -> String {
    format!("<backingStore><path>{path}</path><format type='{format}'/></backingStore>")
}

#[test]
fn a_volume_over_another_one_keeps_its_data_when_it_becomes_larger_and_smaller() {
    for (base, format) in KINDS {
        let rig = Rig::new();
        let plain = rig.plain();
        rig.copy(&document("base", LEN, base), &()).unwrap();
        let path = rig.file("base").display().to_string();
        rig.overlay("middle", &path, format);
        rig.overlay("top", &rig.file("middle").display().to_string(), "qcow2");
        for name in ["middle", "top"] {
            assert!(rig.read(name).unwrap() == plain, "{name} over {base}");
        }
        rig.overlay("beside", &path, format);
        for name in ["beside", "top"] {
            rig.resize(name, 2 << 20);
            let mut larger = plain.clone();
            larger.resize(2 << 20, 0);
            assert!(rig.read(name).unwrap() == larger, "{name} over {base}");
            let less = 512 * 1024 + 512;
            rig.resize(name, less);
            rig.resize(name, 2 << 20);
            larger[less as usize..].fill(0);
            assert!(rig.read(name).unwrap() == larger, "{name} over {base}");
        }
        assert!(rig.read("middle").unwrap() == plain, "{base}");
        assert_eq!(rig.layers("top").unwrap(), 3);
    }
}

#[test]
fn what_a_volume_lies_over_is_found_by_any_path_that_leads_there() {
    let rig = Rig::new();
    let plain = rig.plain();
    rig.copy(&document("base", LEN, super::ENCRYPTED), &()).unwrap();
    symlink("base", rig.file("current")).unwrap();
    symlink(rig.pool(), rig.directory.path().join("images")).unwrap();
    let images = rig.directory.path().join("images/base");
    let paths = ["base", "./base", "../pool/base", "current", images.to_str().unwrap()];
    for (number, path) in paths.into_iter().enumerate() {
        let name = format!("overlay-{number}");
        rig.overlay(&name, path, "raw");
        assert!(rig.read(&name).unwrap() == plain, "{path}");
        assert_eq!(rig.layers(&name).unwrap(), 2, "{path}");
    }
}

#[test]
fn an_image_that_lies_over_something_else_than_its_document_says_is_refused() {
    let test = "libvirt::layers::an_image_that_lies_over_something_else";
    if !Tool::QEMU_IMG.available() {
        return skip(test, "qemu-img is missing");
    }
    let rig = Rig::new();
    rig.plain();
    for name in ["base", "other"] {
        rig.copy(&document(name, LEN, super::ENCRYPTED), &()).unwrap();
    }
    let path = |name: &str| rig.file(name).display().to_string();
    // QEMU needs no key to change what it lies over.
    let top = |rest: &str| document("top", LEN, &format!("{QCOW2}{rest}"));
    rig.create_of(&top(&over(&path("base"), "raw"))).unwrap();
    let rebase = |to: &str, format: &str| {
        let mut command = Tool::QEMU_IMG.command();
        command.args(["rebase", "-u", "-f", "qcow2", "-F", format, "-b", to]);
        command.arg(rig.file("top"));
        run(command, b"").ok();
    };
    let refused = |words: &str| {
        for error in [rig.read("top").unwrap_err(), rig.layers("top").unwrap_err()] {
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(!rig.file("copy-of-top").exists());
    };
    rebase(&path("other"), "raw");
    refused("names the backing file");
    rebase(&path("base"), "qcow2");
    refused("is qcow2");
    rebase("", "raw");
    refused("names no backing file");
    // Nor is it taken over as something that it is not.
    let pool = rig.pool();
    let adopt = |rest: &str| rig.libvirt.adopt(&new(&top(rest), &pool, None)).map(|_| ());
    rebase(&path("other"), "raw");
    for (rest, words) in [
        (over(&path("base"), "raw"), "names the backing file"),
        (over(&path("other"), "qcow2"), "its header that it is raw"),
        (String::new(), "its document none"),
    ] {
        let error = adopt(&rest).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    adopt(&over(&path("other"), "raw")).unwrap();
    assert_eq!(rig.layers("top").unwrap(), 2);
    rig.read("top").unwrap();
}
