//! Processes that are killed at work: what they leave is whole or goes on, and is never taken for whole
//! when it is not.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use strongroom_clone::Progress;
use strongroom_crypto::Passphrase;
use strongroom_disk::{Disk, Slice};
use strongroom_model::ImageFormat;
use strongroom_testkit::{Reply, Server};

use super::rig::{
    Rig, decrypt, encrypt, image_id, key, library, new, pattern, settings, volumes, wanted, work,
};
use crate::images::{self, Keys, Observer, Side, Work};
use crate::library::{Copying, Export, ExportedContents, Image, ImageCondition, Library};
use crate::volumes::{Condition, VolumeEncryption};
use crate::{ErrorKind, Opener, OwnedNewKey, OwnedOpener};

/// More than what is done between two checkpoints.
const LEN: u64 = 72 << 20;

/// All images and volumes.
const ALL: [&str; 9] = [
    "copied",
    "decrypted",
    "encrypted",
    "exported",
    "fetched",
    "filled",
    "plain",
    "rekeyed",
    "uploaded",
];

const FOLDER: &str = "STRONGROOM_LIBRARY_FOLDER";
const URL: &str = "STRONGROOM_LIBRARY_URL";
const KILLS: &str = "STRONGROOM_LIBRARY_KILLS";

/// Serves the contents of every image, as a resource that does not change.
fn server() -> Server {
    let part = |range: std::ops::Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        pattern().fill(&mut bytes, range.start);
        bytes
    };
    Server::serving(part, |request| Reply::ranged(request, LEN, "\"one\""))
}

fn own() -> Passphrase {
    Passphrase::new(b"of the volume".to_vec())
}

/// Makes images and volumes in every way, or what an earlier process has left of that to be done.
fn make_everything(folder: &Path, url: &str) {
    let library = library(folder).with_settings(Some(settings()));
    let volumes = volumes(folder);
    let cancelled = Arc::default();
    let work = work(&cancelled);
    library.fetch(&new("fetched"), url, &work).unwrap();
    let source = image_id("fetched");
    let clone = |id: &str, from: &str, how| {
        library.clone_image(&new(id), &image_id(from), how, &work).unwrap();
    };
    clone("encrypted", "fetched", encrypt());
    clone("decrypted", "encrypted", decrypt());
    clone("copied", "encrypted", Copying::Ignore);
    upload(&library, "uploaded", &folder.join("images/fetched/data"), &work);
    let make = |id: &str, from, encryption, keys| {
        let new = wanted(id, LEN, encryption);
        library.make_volume(from, &volumes, &new, keys, &work).unwrap();
    };
    make("plain", &source, VolumeEncryption::None, Keys::default());
    let target = || Some(OwnedNewKey::Passphrase(own()));
    make("filled", &source, VolumeEncryption::Passphrase, Keys { source: None, target: target() });
    let opener = Some(OwnedOpener::Passphrase(key()));
    let keys = Keys { source: opener, target: target() };
    make("rekeyed", &image_id("copied"), VolumeEncryption::Passphrase, keys);
    let keys = Keys { source: Some(OwnedOpener::Passphrase(own())), target: None };
    let how = Export { format: ImageFormat::Raw, keys, contents: ExportedContents::Decrypted };
    library.export(&new("exported"), &volumes, &"filled".parse().unwrap(), how, &work).unwrap();
}

fn upload(library: &Library, id: &str, from: &Path, work: &Work<'_>) {
    let mut stands = library.begin_upload(&new(id), LEN).unwrap();
    let mut file = File::open(from).unwrap();
    file.seek(SeekFrom::Start(stands)).unwrap();
    while stands < LEN {
        stands = library.append(&image_id(id), stands, &mut (&file).take(5_000_000)).unwrap();
    }
    library.finish_upload(&image_id(id), work).unwrap();
}

#[test]
fn makes_everything_in_a_process_of_its_own() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    make_everything(Path::new(&folder), &std::env::var(URL).unwrap());
}

/// Starts the test above as a process.
fn start(folder: &Path, server: &Server) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--nocapture",
            "--exact",
            "library::tests::killed::makes_everything_in_a_process_of_its_own",
        ])
        .env(FOLDER, folder)
        .env(URL, server.url("/image"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Checks that whatever is ready is whole, and returns what is.
fn look(rig: &Rig) -> Vec<String> {
    let library = library(rig.directory.path());
    let images = library.list(None, 100).unwrap();
    let ready = images.iter().filter(|image| image.condition == ImageCondition::Ready);
    let mut found: Vec<String> = ready
        .map(|image| {
            assert_eq!(image_difference(rig, image), None, "image {} is a part", image.id);
            image.id.to_string()
        })
        .collect();
    for volume in rig.volumes().list(None, 100).unwrap() {
        if volume.condition == Condition::Ready {
            let shown = rig.shown(volume.id.as_str(), own().expose_bytes()).unwrap();
            assert_eq!(difference(&shown), None, "volume {} is a part", volume.id);
            found.push(volume.id.to_string());
        }
    }
    found
}

/// Deletes an image or a volume.
fn delete(rig: &Rig, id: &str) {
    match library(rig.directory.path()).image(&image_id(id)) {
        Ok(image) => rig.library.delete(&image.id).unwrap(),
        Err(_) => rig.volumes().delete(&id.parse().unwrap()).unwrap(),
    }
}

fn difference(disk: &dyn Disk) -> Option<u64> {
    pattern().first_difference(&Slice::new(disk, 0..LEN).unwrap()).unwrap()
}

fn image_difference(rig: &Rig, image: &Image) -> Option<u64> {
    let (path, key) = (rig.data(image.id.as_str()), key());
    let opener = image.encryption.as_ref().map(|_| Opener::from(&key));
    let format = Some(image.format.parse().unwrap());
    let side = Side { path: &path, format, header: None, opener };
    difference(&images::open(side, &[], &rig.work()).unwrap().into_disk())
}

/// Returns every file below a folder that is not what a whole image or volume has.
fn leftovers(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name == ".locks" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(leftovers(&entry.path()));
        } else if !["data", "origin"].contains(&&*name) {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn killed_at_any_moment_everything_is_whole_or_goes_on() {
    let rig = Rig::new();
    let server = server();
    let kills = std::env::var(KILLS).map_or(12, |kills| kills.parse().unwrap());
    // Xorshift (Marsaglia, 2003).
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..kills {
        let mut child = start(rig.directory.path(), &server);
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::thread::sleep(Duration::from_millis(30 + (state >> 11) % 500));
        child.kill().unwrap();
        let ended = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.success() || ended.status.code().is_none(), "{said}");
        // So that there is something to do for the next one.
        let ready = look(&rig);
        if ready.len() > ALL.len() / 2 {
            for choice in [state >> 20, state >> 40] {
                delete(&rig, &ready[choice as usize % ready.len()]);
            }
        }
    }
    let ended = start(rig.directory.path(), &server).wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let mut found = look(&rig);
    found.sort();
    let all = [
        "copied",
        "decrypted",
        "encrypted",
        "exported",
        "fetched",
        "filled",
        "plain",
        "rekeyed",
        "uploaded",
    ];
    assert_eq!(found, all);
    assert_eq!(leftovers(&rig.at("images")), Vec::<PathBuf>::new());
    assert!(rig.volumes().snapshots(None, 10).unwrap().is_empty());
    let library = library(rig.directory.path());
    let checksum = |id: &str| library.image(&image_id(id)).unwrap().checksum;
    for id in ["decrypted", "uploaded", "exported"] {
        assert_eq!(checksum(id), checksum("fetched"), "{id}");
    }
}

/// Tells a job to stop when it has moved so many bytes.
struct StopAt {
    at: u64,
    moved: AtomicU64,
    cancelled: Arc<AtomicBool>,
}

impl Progress for StopAt {
    fn advance(&self, bytes: u64) {
        let moved = self.moved.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if moved >= self.at {
            self.cancelled.store(true, Ordering::Relaxed);
        }
    }
}

impl Observer for StopAt {
    fn begin(&self, _bytes: Option<u64>) {}

    fn as_progress(&self) -> &dyn Progress {
        self
    }
}

#[test]
fn a_fetch_goes_on_where_it_was_stopped() {
    let rig = Rig::new();
    let server = server();
    let cancelled: Arc<AtomicBool> = Arc::default();
    let at = LEN - (16 << 20);
    let stop = StopAt { at, moved: AtomicU64::new(0), cancelled: Arc::clone(&cancelled) };
    let policy = rig.work().policy;
    let stopped = Work { policy, observer: &stop, cancelled: &cancelled };
    let error = rig.library.fetch(&new("f"), &server.url("/x"), &stopped).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
    let before = server.served();
    let image = rig.library.fetch(&new("f"), &server.url("/x"), &rig.work()).unwrap();
    let again = server.served() - before;
    assert!(again < LEN * 3 / 4, "{again} bytes were served again");
    assert_eq!(image_difference(&rig, &image), None);
}
