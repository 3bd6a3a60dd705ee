use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use strongroom_crypto::DataKey;

use super::*;
use crate::{Binding, Credentials, conformance};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        LocalKek::create(&place.path()).unwrap();
        place
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("kek")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn write(&self, text: &str) {
        std::fs::write(self.path(), text).unwrap();
    }

    fn request(&self) -> KmsRequest {
        KmsRequest { kek_file: Some(self.path()), ..KmsRequest::new(KmsKind::Local) }
    }

    fn open(&self) -> Result<Box<dyn KeyProvider>> {
        crate::open(&self.request(), Credentials::default())
    }

    fn refused(&self) -> (ErrorKind, String) {
        let error = self.open().unwrap_err();
        let text = error.to_string();
        let label = format!("local key {}: ", self.path().display());
        (error.kind(), text.strip_prefix(&label).unwrap().to_owned())
    }
}

impl conformance::Harness for Place {
    fn provider(&self) -> Box<dyn KeyProvider> {
        self.open().unwrap()
    }

    fn rotate(&self) -> bool {
        LocalKek::rotate(&self.path()).unwrap();
        true
    }
}

#[test]
fn does_what_every_provider_does() {
    conformance::run(&Place::new());
}

#[test]
fn a_new_file_is_for_its_owner_alone() {
    let place = Place::new();
    assert_eq!(place.path().metadata().unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn refuses_a_file_that_others_may_read() {
    let place = Place::new();
    for mode in [0o640, 0o604, 0o660, 0o610] {
        std::fs::set_permissions(place.path(), PermissionsExt::from_mode(mode)).unwrap();
        let (kind, text) = place.refused();
        assert_eq!(kind, ErrorKind::Misconfigured);
        assert_eq!(text, "others than the owner may read the file of the key");
    }
    let hint = format!("take that from them: chmod 600 {}", place.path().display());
    assert_eq!(place.open().unwrap_err().hint(), Some(hint.as_str()));
}

#[test]
fn refuses_what_is_no_regular_file_and_waits_for_nobody() {
    let place = Place::new();
    let fifo = place.0.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    for path in [&fifo, place.0.path(), Path::new("/dev/null")] {
        let error = LocalKek::read(path).unwrap_err();
        assert!(error.to_string().ends_with("it is no regular file"), "{error}");
    }
}

#[test]
fn a_file_that_is_missing_is_not_found() {
    let error = LocalKek::read(Path::new("/does/not/exist")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let hint = error.hint().unwrap_or_default();
    assert!(hint.starts_with("look whether --kms-kek-file names the right one"), "{hint}");
}

#[test]
fn reads_through_a_link_but_does_not_replace_one() {
    let place = Place::new();
    let link = place.0.path().join("link");
    symlink(place.path(), &link).unwrap();
    assert!(LocalKek::read(&link).is_ok());
    let error = LocalKek::rotate(&link).unwrap_err();
    assert!(error.to_string().contains("the path is a symbolic link"), "{error}");
    assert_eq!(place.text().lines().count(), 1);
}

#[test]
fn never_replaces_a_file_by_a_new_key() {
    let place = Place::new();
    let before = place.text();
    assert!(LocalKek::create(&place.path()).is_err());
    assert_eq!(place.text(), before);
}

#[test]
fn rotation_keeps_what_was_there_and_who_may_read_it() {
    let place = Place::new();
    std::fs::set_permissions(place.path(), PermissionsExt::from_mode(0o400)).unwrap();
    let before = place.text();
    assert_eq!(LocalKek::rotate(&place.path()).unwrap(), 2);
    assert_eq!(LocalKek::rotate(&place.path()).unwrap(), 3);
    let after = place.text();
    assert!(after.starts_with(&before) && after.lines().count() == 3, "{} lines", after.len());
    assert_eq!(place.path().metadata().unwrap().mode() & 0o7777, 0o400);
    let probe = place.open().unwrap().probe().unwrap();
    assert_eq!(probe.key_version.as_deref(), Some("3"));
    assert_eq!(probe.oldest_key_version.as_deref(), Some("1"));
}

#[test]
fn rotation_goes_on_after_a_crash_and_leaves_nothing_behind() {
    let place = Place::new();
    // What is left when the machine stops between writing and renaming.
    std::fs::write(place.0.path().join(".kek.rotating"), "strongroom-kek 1 half a li").unwrap();
    assert_eq!(LocalKek::rotate(&place.path()).unwrap(), 2);
    assert_eq!(std::fs::read_dir(place.0.path()).unwrap().count(), 1);
    assert!(place.open().is_ok());
}

#[test]
fn rotations_at_once_each_add_a_version_and_readers_never_see_half_a_file() {
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).all(|_| LocalKek::rotate(&place.path()).unwrap() > 1));
        }
        scope.spawn(|| (0..200).for_each(|_| drop(LocalKek::read(&place.path()).unwrap())));
    });
    assert_eq!(LocalKek::read(&place.path()).unwrap().versions.newest(), 21);
}

#[test]
fn a_full_file_is_left_as_it_is() {
    let place = Place::new();
    let error = (0..1000).find_map(|_| LocalKek::rotate(&place.path()).err()).unwrap();
    assert!(error.to_string().contains("the file of the key is full"), "{error}");
    assert!(LocalKek::read(&place.path()).unwrap().versions.newest() > 600);
}

#[test]
fn a_torn_file_is_told_at_every_length() {
    let place = Place::new();
    LocalKek::rotate(&place.path()).unwrap();
    let text = place.text();
    let first = text.find('\n').unwrap();
    for len in 0..text.len() {
        place.write(&text[..len]);
        match len {
            // Whole lines are a file, with or without the newline of the last one.
            len if len == first || len == first + 1 || len + 1 == text.len() => {
                assert!(place.open().is_ok(), "{len} bytes");
            }
            0..14 => {
                let foreign = "it is no file that `strongroom kms init-local` makes";
                assert_eq!(place.refused(), (ErrorKind::Misconfigured, foreign.to_owned()));
            }
            _ => {
                let line = if len < first { 1 } else { 2 };
                let damaged = format!("line {line} of the file of the key is damaged");
                assert_eq!(place.refused(), (ErrorKind::Corrupt, damaged), "{len} bytes");
            }
        }
    }
}

#[test]
fn every_changed_letter_is_told() {
    let place = Place::new();
    let text = place.text();
    for index in 0..text.len() - 1 {
        let mut edited = text.clone().into_bytes();
        edited[index] = if edited[index] == b'a' { b'b' } else { b'a' };
        place.write(std::str::from_utf8(&edited).unwrap());
        assert!(place.open().is_err(), "letter {index}");
    }
}

#[test]
fn lines_of_another_key_or_out_of_order_are_refused() {
    let (one, other) = (Place::new(), Place::new());
    LocalKek::rotate(&one.path()).unwrap();
    LocalKek::rotate(&other.path()).unwrap();
    let [ours, theirs] = [&one, &other].map(Place::text);
    let lines: Vec<&str> = ours.lines().chain(theirs.lines()).collect();
    for (chosen, text) in [
        ([0, 3], "line 2 of the file of the key is of another key"),
        ([0, 0], "line 2 of the file of the key is not the next version"),
        ([1, 0], "line 2 of the file of the key is not the next version"),
    ] {
        one.write(&chosen.map(|index| lines[index]).join("\n"));
        assert_eq!(one.refused(), (ErrorKind::Corrupt, text.to_owned()));
    }
}

#[test]
fn a_version_that_was_taken_out_is_not_found() {
    let place = Place::new();
    let binding = Binding::volume("pvc-1");
    let key = DataKey::new(b"text".to_vec());
    let old = place.open().unwrap().wrap(&key, &binding).unwrap();
    LocalKek::rotate(&place.path()).unwrap();
    let text = place.text();
    place.write(text.split_once('\n').unwrap().1);
    let provider = place.open().unwrap();
    let error = provider.unwrap(&old, &binding).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("the file has no version 1 of the key"), "{error}");
    assert_eq!(provider.probe().unwrap().oldest_key_version.as_deref(), Some("2"));
}

#[test]
fn a_file_of_another_key_than_was_asked_for_is_not_found() {
    let place = Place::new();
    let request = KmsRequest { key_id: Some("other".to_owned()), ..place.request() };
    let error = open(&request).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_probe_says_when_others_may_replace_the_file() {
    let place = Place::new();
    assert_eq!(place.open().unwrap().probe().unwrap().findings, Vec::<String>::new());
    std::fs::set_permissions(place.0.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let findings = place.open().unwrap().probe().unwrap().findings;
    assert!(findings[0].contains("others may replace the file of the key"), "{findings:?}");
    std::fs::set_permissions(place.0.path(), PermissionsExt::from_mode(0o1777)).unwrap();
    assert_eq!(place.open().unwrap().probe().unwrap().findings, Vec::<String>::new());
}

#[test]
fn debug_and_errors_hold_no_key() {
    let place = Place::new();
    let kek = LocalKek::read(&place.path()).unwrap();
    let text = place.text();
    let key = text.split(' ').nth(3).unwrap();
    assert!(!format!("{kek:?}").contains(key));
    place.write(&text.replace(" 1 ", " 7x "));
    let error = LocalKek::read(&place.path()).unwrap_err();
    assert!(!format!("{error:?}").contains(key));
}
