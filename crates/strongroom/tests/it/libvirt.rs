//! Volumes of libvirt's whose files somebody else has a hand in.

mod layers;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use strongroom::image_size::SizeChange;
use strongroom::images::{Observer, Work};
use strongroom::libvirt::{Erasure, Libvirt, Made, NewVolume, SecretFate, VolumeName};
use strongroom::{Error, ErrorKind, qcow2_image};
use strongroom_clone::Progress;
use strongroom_crypto::CostPolicy;
use strongroom_disk::qcow2::{Shrinking, Version};
use strongroom_model::EncryptionRequest;
use strongroom_model::dialect::libvirt::Volume;
use strongroom_testkit::{Tool, run};
use tempfile::TempDir;

/// A data directory and a pool.
struct Rig {
    directory: TempDir,
    libvirt: Libvirt,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("pool")).unwrap();
        let libvirt = Libvirt::in_directory(directory.path().join("data"), "test".to_owned());
        Self { directory, libvirt }
    }

    fn pool(&self) -> PathBuf {
        self.directory.path().join("pool")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.pool().join(name)
    }

    fn create(&self, name: &str, rest: &str) -> Result<Made, Error> {
        self.create_of(&document(name, 1 << 20, rest))
    }

    fn create_of(&self, document: &Volume) -> Result<Made, Error> {
        let (pool, cancelled) = (self.pool(), Arc::new(AtomicBool::new(false)));
        self.libvirt.create(&new(document, &pool, None), &work(&(), &cancelled))
    }

    /// Makes a copy of `plain`.
    fn copy(&self, document: &Volume, observer: &dyn Observer) -> Result<Made, Error> {
        self.copy_of("plain", document, observer)
    }

    /// Makes a copy of a volume.
    fn copy_of(
        &self,
        source: &str,
        document: &Volume,
        observer: &dyn Observer,
    ) -> Result<Made, Error> {
        let (pool, cancelled) = (self.pool(), Arc::new(AtomicBool::new(false)));
        let new = new(document, &pool, Some("job"));
        self.libvirt.create_from(&new, &self.name(source), &work(observer, &cancelled))
    }

    fn name(&self, name: &str) -> VolumeName {
        VolumeName::InPool { pool: self.pool(), name: name.to_owned() }
    }

    fn delete(&self, name: &str, fate: SecretFate) -> Result<(), Error> {
        self.libvirt.delete(&self.name(name), fate).map(|_| ())
    }

    fn shrink(&self, name: &str) -> Result<(), Error> {
        let change = SizeChange::To(512);
        self.libvirt.resize(&self.name(name), change, Shrinking::Allow).map(|_| ())
    }

    fn overwrite(&self, name: &str) -> Result<(), Error> {
        let cancelled = Arc::new(AtomicBool::new(false));
        let wiped = self.libvirt.wipe(&self.name(name), Erasure::Zeros, &work(&(), &cancelled));
        wiped.map(|_| ())
    }

    fn known(&self) -> Vec<String> {
        let entries = self.libvirt.volumes(None).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    fn secrets(&self) -> usize {
        self.libvirt.secrets().unwrap().len()
    }
}

fn document(name: &str, capacity: u64, rest: &str) -> Volume {
    let text = format!(
        "<volume><name>{name}</name><capacity>{capacity}</capacity><allocation>0</allocation>{rest}</volume>"
    );
    Volume::read(text.as_bytes()).unwrap()
}

fn new<'a>(document: &'a Volume, pool: &'a Path, job: Option<&'a str>) -> NewVolume<'a> {
    NewVolume { document, pool: Some(pool), derivation: EncryptionRequest::default(), job }
}

fn work<'a>(observer: &'a dyn Observer, cancelled: &'a Arc<AtomicBool>) -> Work<'a> {
    Work { policy: CostPolicy::default(), observer, cancelled }
}

/// Makes a file when the work begins.
struct Intruder(PathBuf);

impl Progress for Intruder {
    fn advance(&self, _bytes: u64) {}
}

impl Observer for Intruder {
    fn begin(&self, _bytes: Option<u64>) {
        fs::write(&self.0, "foreign").unwrap();
    }

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

const ENCRYPTED: &str = "<target><encryption format='luks'/></target>";

#[test]
fn a_copy_that_cannot_become_as_large_as_asked_is_no_volume_and_its_job_is_not_done() {
    let rig = Rig::new();
    rig.create("plain", "").unwrap();
    for rest in ["", ENCRYPTED, "<target><format type='qcow2'/></target>"] {
        let huge = document("huge", i64::MAX as u64, rest);
        for attempt in 1..=2 {
            rig.copy(&huge, &()).expect_err("no file is that large");
            assert!(!rig.file("huge").exists(), "attempt {attempt} of {rest}");
            assert_eq!(rig.known(), ["plain"], "attempt {attempt} of {rest}");
        }
    }
    assert_eq!(rig.secrets(), 0);
    let target = "<target><permissions><mode>0640</mode></permissions></target>";
    let larger = document("larger", 3 << 20, target);
    for _ in 0..2 {
        let made = rig.copy(&larger, &()).unwrap();
        assert_eq!(made.document.capacity, Some(3 << 20));
    }
    assert_eq!(fs::metadata(rig.file("larger")).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn a_copy_in_qcow2_is_laid_out_as_its_document_says() {
    let rig = Rig::new();
    rig.create("plain", "").unwrap();
    let bytes: Vec<u8> = (0..1 << 20_u32).map(|at| (at % 251) as u8).collect();
    fs::write(rig.file("plain"), &bytes).unwrap();
    let encryption = "<encryption format='luks'/>";
    let layouts = [
        ("<compat>0.10</compat>", (Version::V2, 64 << 10, 0)),
        ("<compat>0.10</compat><clusterSize unit='KiB'>4</clusterSize>", (Version::V2, 4 << 10, 0)),
        ("<clusterSize unit='MiB'>2</clusterSize>", (Version::V3, 2 << 20, 0)),
        ("<features><lazy_refcounts/></features>", (Version::V3, 64 << 10, 1)),
        ("<features><extended_l2/></features>", (Version::V3, 64 << 10, 0)),
    ];
    for (number, (layout, expected)) in layouts.into_iter().enumerate() {
        for encryption in ["", encryption] {
            let name = format!("copy-{number}-{}", encryption.len());
            let target = format!("<target><format type='qcow2'/>{encryption}{layout}</target>");
            rig.copy(&document(&name, 3 << 20, &target), &()).unwrap();
            let header = qcow2_image::describe(&rig.file(&name)).unwrap().header;
            let found = (header.version, header.cluster_size(), header.compatible & 1);
            assert_eq!(found, expected, "{target}");
            assert_eq!(header.has_subclusters(), layout.contains("extended"), "{target}");
            rig.copy_of(&name, &document("back", 0, ""), &()).unwrap();
            let back = fs::read(rig.file("back")).unwrap();
            assert!(back[..1 << 20] == bytes && back[1 << 20..] == vec![0; 2 << 20], "{target}");
            rig.delete("back", SecretFate::Keep).unwrap();
            if encryption.is_empty() && Tool::QEMU_IMG.available() {
                let mut compare = Tool::QEMU_IMG.command();
                compare.args(["compare", "-f", "raw", "-F", "qcow2"]);
                compare.args([rig.file("plain"), rig.file(&name)]);
                assert!(run(compare, b"").ok().contains("identical"), "{target}");
            }
        }
    }
    let unfit = "<target><format type='qcow2'/><compat>0.10</compat><features><lazy_refcounts/></features></target>";
    let error = rig.copy(&document("unfit", 0, unfit), &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    assert!(!rig.file("unfit").exists());
}

#[test]
fn a_file_that_somebody_else_makes_meanwhile_is_not_taken_for_the_volume() {
    let rig = Rig::new();
    rig.create("plain", "").unwrap();
    for rest in ["", ENCRYPTED] {
        let target = document("new", 1 << 20, rest);
        let error = rig.copy(&target, &Intruder(rig.file("new"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        assert_eq!(rig.known(), ["plain"]);
        rig.copy(&target, &()).expect_err("the job has not made that file");
        rig.delete("new", SecretFate::Remove).expect_err("there is no such volume");
        assert_eq!(fs::read(rig.file("new")).unwrap(), b"foreign");
        fs::remove_file(rig.file("new")).unwrap();
    }
    assert_eq!(rig.secrets(), 0);
}

#[test]
fn what_stands_in_the_place_of_a_volume_is_neither_changed_nor_deleted() {
    let rig = Rig::new();
    rig.create("plain", "").unwrap();
    let refused = || {
        let problems = [
            rig.delete("plain", SecretFate::Keep).unwrap_err(),
            rig.overwrite("plain").unwrap_err(),
            rig.shrink("plain").unwrap_err(),
        ];
        for problem in problems {
            assert_eq!(problem.kind(), ErrorKind::Request, "{problem}");
        }
    };
    fs::rename(rig.file("plain"), rig.file("aside")).unwrap();
    let victim = rig.directory.path().join("victim");
    fs::write(&victim, [7; 4096]).unwrap();
    symlink(&victim, rig.file("plain")).unwrap();
    refused();
    assert_eq!(fs::read(&victim).unwrap(), [7; 4096]);
    fs::remove_file(rig.file("plain")).unwrap();
    fs::write(rig.file("plain"), [8; 4096]).unwrap();
    refused();
    assert_eq!(fs::read(rig.file("plain")).unwrap(), [8; 4096]);
    // Whoever says that it is the volume has it.
    let (document, pool) = (document("plain", 4096, ""), rig.pool());
    rig.libvirt.adopt(&new(&document, &pool, None)).unwrap();
    rig.delete("plain", SecretFate::Keep).unwrap();
    assert!(!rig.file("plain").exists());
}

#[test]
fn a_key_stays_as_long_as_nobody_knows_what_became_of_its_volume() {
    let rig = Rig::new();
    rig.create("made", ENCRYPTED).unwrap();
    let away = rig.directory.path().join("away");
    fs::rename(rig.pool(), &away).unwrap();
    fs::create_dir(rig.pool()).unwrap();
    let error = rig.delete("made", SecretFate::Remove).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = rig.create("made", "").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(rig.secrets(), 1);
    fs::remove_dir(rig.pool()).unwrap();
    fs::rename(&away, rig.pool()).unwrap();
    assert_eq!(rig.known(), ["made"]);
    rig.delete("made", SecretFate::Remove).unwrap();
    assert_eq!(rig.secrets(), 0);
    // What is forgotten without its file leaves its key.
    rig.create("other", ENCRYPTED).unwrap();
    fs::remove_file(rig.file("other")).unwrap();
    rig.delete("other", SecretFate::Keep).unwrap();
    assert_eq!(rig.secrets(), 1);
    rig.create("other", ENCRYPTED).unwrap();
    assert_eq!(rig.secrets(), 1);
}

#[test]
fn a_backing_store_stays_as_long_as_volumes_are_on_it() {
    let rig = Rig::new();
    rig.create("base", "").unwrap();
    fs::write(rig.file("base"), vec![9; 1 << 20]).unwrap();
    let backing = format!(
        "<target><format type='qcow2'/></target><backingStore><path>{}</path><format type='raw'/></backingStore>",
        rig.file("base").display()
    );
    rig.create("overlay", &backing).unwrap();
    let problems = [
        rig.delete("base", SecretFate::Keep).unwrap_err(),
        rig.overwrite("base").unwrap_err(),
        rig.shrink("base").unwrap_err(),
    ];
    for problem in problems {
        assert_eq!(problem.kind(), ErrorKind::Busy, "{problem}");
        assert!(problem.to_string().contains("overlay"), "{problem}");
    }
    assert_eq!(fs::read(rig.file("base")).unwrap(), vec![9; 1 << 20]);
    rig.delete("overlay", SecretFate::Keep).unwrap();
    rig.shrink("base").unwrap();
    rig.overwrite("base").unwrap();
    rig.delete("base", SecretFate::Keep).unwrap();
}

#[test]
fn a_name_with_control_characters_is_none() {
    let rig = Rig::new();
    for name in ["a\nb", "a\tb", "a\u{7f}b", "a\u{9b}b"] {
        let mut document = document("plain", 1 << 20, "");
        document.name = name.to_owned();
        let (pool, cancelled) = (rig.pool(), Arc::new(AtomicBool::new(false)));
        let new = new(&document, &pool, None);
        let error = rig.libvirt.create(&new, &work(&(), &cancelled)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{name:?}: {error}");
        assert!(!error.to_string().contains(char::is_control), "{error:?}");
    }
    assert_eq!(fs::read_dir(rig.pool()).unwrap().count(), 0);
}
