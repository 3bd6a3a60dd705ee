use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::ErrorKind;
use crate::catalog::MemoryCatalog;

const PLACE: &str = "secrets/lab/key/CRYPTO_KEY_VALUE";

fn kek() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kek");
    (folder, file)
}

fn stored(catalog: &MemoryCatalog) -> String {
    catalog.load(Kind::Setting, SETTING).unwrap().unwrap().json
}

#[test]
fn what_was_sealed_opens_after_a_restart_and_nothing_of_it_shows() {
    let (_folder, file) = kek();
    let catalog = MemoryCatalog::default();
    let sealed = Sealer::open(&file, &catalog).unwrap().seal(PLACE, b"canary\n").unwrap();
    assert!(sealed.starts_with("v1.") && !sealed.contains("canary"));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let again = Sealer::open(&file, &catalog).unwrap();
    assert_eq!(*again.unseal(PLACE, &sealed).unwrap(), b"canary\n");
    assert_eq!(*again.unseal("empty", &again.seal("empty", b"").unwrap()).unwrap(), b"");
    assert_ne!(again.seal(PLACE, b"canary\n").unwrap(), sealed, "the nonce is random");
    assert_eq!(format!("{again:?}"), "Sealer");
}

#[test]
fn it_opens_for_no_other_place_and_not_when_a_letter_was_changed() {
    let (_folder, file) = kek();
    let sealer = Sealer::open(&file, &MemoryCatalog::default()).unwrap();
    let sealed = sealer.seal(PLACE, b"canary").unwrap();
    let error = sealer.unseal("secrets/lab/other/CRYPTO_KEY_VALUE", &sealed).unwrap_err();
    assert_eq!(
        error.to_string(),
        "secrets/lab/other/CRYPTO_KEY_VALUE in the catalog does not open: it was changed, or sealed for \
         something else or by another key"
    );
    assert_eq!(error.kind(), ErrorKind::Image);
    for at in 0..sealed.len() {
        let mut letters = sealed.clone().into_bytes();
        letters[at] = if letters[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(letters).unwrap();
        assert!(sealer.unseal(PLACE, &changed).is_err(), "letter {at}");
        assert!(sealer.unseal(PLACE, &sealed[..at]).is_err(), "{at} letters");
    }
}

#[test]
fn a_rotated_kek_opens_it_and_wraps_it_anew_so_that_the_old_version_may_go() {
    let (_folder, file) = kek();
    let catalog = MemoryCatalog::default();
    let sealed = Sealer::open(&file, &catalog).unwrap().seal(PLACE, b"canary").unwrap();
    let before = stored(&catalog);
    LocalKek::rotate(&file).unwrap();
    let rotated = Sealer::open(&file, &catalog).unwrap();
    assert_eq!(*rotated.unseal(PLACE, &sealed).unwrap(), b"canary");
    assert_ne!(stored(&catalog), before);
    // Without the line of the first version.
    let lines = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, lines.split_once('\n').unwrap().1).unwrap();
    let opened = Sealer::open(&file, &catalog).unwrap();
    assert_eq!(*opened.unseal(PLACE, &sealed).unwrap(), b"canary");
}

#[test]
fn another_kek_or_none_is_refused_by_the_name_of_its_file() {
    let (_folder, file) = kek();
    let catalog = MemoryCatalog::default();
    Sealer::open(&file, &catalog).unwrap();
    let before = stored(&catalog);
    std::fs::remove_file(&file).unwrap();
    let error = Sealer::open(&file, &catalog).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(!file.exists(), "a new KEK would open nothing");
    LocalKek::create(&file).unwrap();
    let error = Sealer::open(&file, &catalog).unwrap_err();
    assert!(matches!(error, Error::SealingKey { .. }), "{error}");
    assert_eq!(stored(&catalog), before, "the key of the catalog is never replaced");
}

#[test]
fn an_envelope_of_something_else_does_not_become_the_sealing_key() {
    let (_folder, file) = kek();
    let catalog = MemoryCatalog::default();
    LocalKek::create(&file).unwrap();
    let kek = Kek::open(&file).unwrap();
    let key = DataKey::new(vec![7; KEY]);
    let envelope = kek.provider.wrap(&key, &Binding::volume(SETTING)).unwrap();
    let record = SealingKey { id: SETTING.to_owned(), envelope: envelope.to_json() };
    Records::of(&catalog).insert(record).unwrap();
    assert!(matches!(Sealer::open(&file, &catalog), Err(Error::SealingKey { .. })));
}

#[test]
fn many_who_open_a_new_catalog_at_once_get_the_same_key() {
    let (_folder, file) = kek();
    LocalKek::create(&file).unwrap();
    let catalog = MemoryCatalog::default();
    let sealed: Vec<String> = std::thread::scope(|scope| {
        let open = || Sealer::open(&file, &catalog).unwrap().seal(PLACE, b"canary").unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sealer = Sealer::open(&file, &catalog).unwrap();
    for text in sealed {
        assert_eq!(*sealer.unseal(PLACE, &text).unwrap(), b"canary");
    }
}

#[test]
fn half_a_kek_that_a_crash_has_left_is_made_anew() {
    let (folder, file) = kek();
    std::fs::write(folder.path().join(".kek.making"), "strongroom-kek 1 ").unwrap();
    Sealer::open(&file, &MemoryCatalog::default()).unwrap();
    let names: Vec<_> =
        folder.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["kek"]);
}
