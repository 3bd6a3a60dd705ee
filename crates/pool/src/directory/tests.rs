mod broken;
mod crash;
mod every_call;
mod file_systems;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;
use crate::{ErrorKind, conformance};

fn volume(name: &str) -> Item {
    Item::Volume(name.parse().unwrap())
}

fn pool_in(place: &tempfile::TempDir) -> Directory {
    Directory::open(&place.path().join("pool")).unwrap()
}

fn not_a_pool(path: &Path) -> String {
    match Directory::open(path).unwrap_err() {
        Error::NotAPool { problem, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn keeps_every_promise_of_a_pool() {
    let place = tempfile::tempdir().unwrap();
    conformance::run(&|| Box::new(pool_in(&place)));
}

#[test]
fn makes_parents_and_opens_an_empty_directory() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("a/b/pool");
    let pool = Directory::open(&root).unwrap();
    assert_eq!(pool.root(), fs::canonicalize(&root).unwrap());
    let new_file_system = place.path().join("empty");
    fs::create_dir_all(new_file_system.join("lost+found")).unwrap();
    Directory::open(&new_file_system).unwrap();
}

#[test]
fn nobody_but_the_owner_gets_in() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    pool.create(&volume("a"), 4096).unwrap();
    let mark = FormatMark { uuid: "1".into(), stage: FormatStage::Begun };
    pool.mark_format(&volume("a"), &mark).unwrap();
    let mode = |path: &str| fs::metadata(pool.root().join(path)).unwrap().mode() & 0o7777;
    for directory in ["", "volumes", "snapshots", "locks", "volumes/a"] {
        assert_eq!(mode(directory), 0o700, "{directory}");
    }
    for file in ["pool.json", "volumes/a/data", "volumes/a/format.json"] {
        assert_eq!(mode(file), 0o600, "{file}");
    }
}

#[test]
fn refuses_what_is_no_pool() {
    let place = tempfile::tempdir().unwrap();
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("letter.txt"), "dear").unwrap();
    assert!(not_a_pool(&home).contains("letter.txt"));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 1, "something was made there");
    assert!(not_a_pool(&home.join("letter.txt")).contains("no directory"));
    for (text, says) in [
        ("", "cannot be read"),
        ("{}", "cannot be read"),
        (r#"{"format":"other","version":1}"#, "something else"),
        (r#"{"format":"strongroom-pool","version":2}"#, "version 2"),
    ] {
        fs::write(home.join("pool.json"), text).unwrap();
        let problem = not_a_pool(&home);
        assert!(problem.contains(says), "{text}: {problem}");
    }
}

#[test]
fn goes_on_with_a_pool_of_which_only_the_beginning_was_made() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join(".pool.json.new"), "{\"for").unwrap();
    Directory::open(place.path()).unwrap();
    for directory in ["volumes", "snapshots", "locks"] {
        fs::remove_dir(place.path().join(directory)).unwrap();
        let pool = Directory::open(place.path()).unwrap();
        pool.create(&volume(directory), 4096).unwrap();
        pool.delete(&volume(directory)).unwrap();
    }
}

#[test]
fn many_make_one_pool_at_once() {
    let place = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let place = &place;
            scope.spawn(move || pool_in(place).create(&volume(name), 4096).unwrap());
        }
    });
    assert_eq!(pool_in(&place).list().unwrap().len(), 4);
}

#[test]
fn links_inside_the_pool_are_never_followed() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let (outside, root) = (place.path().join("outside"), pool.root());
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("data"), "precious").unwrap();
    symlink(&outside, root.join("volumes/linked")).unwrap();
    symlink(&outside, root.join("volumes/.gone.old")).unwrap();
    pool.create(&volume("own"), 4096).unwrap();
    fs::remove_file(root.join("volumes/own/data")).unwrap();
    symlink(outside.join("data"), root.join("volumes/own/data")).unwrap();
    for name in ["linked", "own"] {
        let item = volume(name);
        assert_eq!(
            pool.open(&item, Access::ReadWrite).unwrap_err().kind(),
            ErrorKind::Io,
            "{name}"
        );
        assert_eq!(pool.grow(&item, 1 << 20).unwrap_err().kind(), ErrorKind::Io, "{name}");
        assert!(pool.entry(&item).is_err() && pool.path(&item).is_err(), "{name}");
        assert!(pool.copy(&item, &volume("copy"), &()).is_err(), "{name}");
    }
    assert!(pool.delete(&volume("gone")).is_err());
    pool.delete(&volume("own")).unwrap();
    assert_eq!(fs::read(outside.join("data")).unwrap(), b"precious");
    symlink(outside.join("data"), place.path().join("pool.json")).unwrap();
    assert!(Directory::open(place.path()).is_err());
}

#[test]
fn a_lost_file_is_no_empty_item() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let item = volume("a");
    pool.create(&item, 4096).unwrap();
    fs::remove_file(pool.path(&item).unwrap()).unwrap();
    for error in [
        pool.entry(&item).unwrap_err(),
        pool.list().unwrap_err(),
        pool.open(&item, Access::ReadOnly).unwrap_err(),
        pool.is_untouched(&item).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("volumes/a/data is damaged"), "{error}");
    }
    assert_eq!(pool.create(&item, 4096).unwrap_err().kind(), ErrorKind::AlreadyExists);
    pool.delete(&item).unwrap();
    assert_eq!(pool.entry(&item).unwrap(), None);
}

#[test]
fn a_mark_that_cannot_be_read_is_no_missing_mark() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let item = volume("a");
    let wanted = FormatMark { uuid: "1".into(), stage: FormatStage::Begun };
    pool.create(&item, 4096).unwrap();
    let path = pool.root().join("volumes/a/format.json");
    for text in ["", "{", "{\"uuid\":1}", "{\"uuid\":\"1\",\"stage\":\"halfway\"}"] {
        fs::write(&path, text).unwrap();
        assert!(matches!(pool.format_mark(&item), Err(Error::Damaged { .. })), "{text}");
        assert!(pool.mark_format(&item, &wanted).is_err(), "{text}");
        assert!(pool.copy(&item, &volume("b"), &()).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    fs::write(&path, r#"{"uuid":"1","stage":"begun","since":"the next version"}"#).unwrap();
    assert_eq!(pool.format_mark(&item).unwrap(), Some(wanted));
}

#[test]
fn what_was_emptied_by_hand_is_not_untouched() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let item = volume("a");
    pool.create(&item, 1 << 20).unwrap();
    assert!(pool.is_untouched(&item).unwrap());
    let file = fs::OpenOptions::new().write(true).open(pool.path(&item).unwrap()).unwrap();
    file.set_len(0).unwrap();
    file.set_len(1 << 20).unwrap();
    assert!(!pool.is_untouched(&item).unwrap());
    pool.grow(&item, 2 << 20).unwrap();
    assert!(!pool.is_untouched(&item).unwrap());
}

#[test]
fn what_changes_leave_is_removed_but_not_while_they_last() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let shelf = pool.root().join("volumes");
    let leave = || {
        for hidden in [".a.new", ".a.old", ".gone.new", ".gone.old"] {
            fs::create_dir_all(shelf.join(hidden)).unwrap();
            fs::write(shelf.join(hidden).join("data"), "half").unwrap();
        }
    };
    let left = || fs::read_dir(&shelf).unwrap().count();
    leave();
    pool.create(&volume("a"), 4096).unwrap();
    assert_eq!(left(), 3, "creating removes what is left of the same item");
    pool.delete(&volume("gone")).unwrap();
    assert_eq!(left(), 1, "deleting what is not there removes what is left of it");
    leave();
    let change = pool.change(&volume("gone")).map(drop);
    change.unwrap();
    assert_eq!(left(), 3);
    leave();
    let item = volume("a");
    let change = pool.change(&item).unwrap();
    fs::create_dir(shelf.join(".a.new")).unwrap();
    assert_eq!(pool.list().unwrap().len(), 1);
    assert_eq!(left(), 2, "a list removes what nobody works on, and nothing else");
    assert_eq!(pool.grow(&item, 8192).unwrap_err().kind(), ErrorKind::Busy);
    drop(change);
    pool.list().unwrap();
    assert_eq!(left(), 1);
    assert_eq!(fs::read_dir(pool.root().join("locks")).unwrap().count(), 0);
}

#[test]
fn foreign_things_on_a_shelf_are_not_listed() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let shelf = pool.root().join("volumes");
    fs::create_dir(shelf.join(".snapshots")).unwrap();
    fs::create_dir(shelf.join("no name of ours")).unwrap();
    pool.create(&volume("a"), 4096).unwrap();
    assert_eq!(pool.list().unwrap().len(), 1);
    assert_eq!(fs::read_dir(&shelf).unwrap().count(), 3);
}

#[test]
fn an_error_of_the_file_system_names_the_path() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    fs::remove_dir(pool.root().join("locks")).unwrap();
    let error = pool.create(&volume("a"), 4096).unwrap_err();
    assert!(error.to_string().contains("/pool/locks/"), "{error}");
}

#[test]
fn copies_sparse_files_as_sparse_files() {
    let place = tempfile::tempdir().unwrap();
    let pool = pool_in(&place);
    let (from, to) = (volume("from"), volume("to"));
    pool.create(&from, 1 << 30).unwrap();
    let disk = pool.open(&from, Access::ReadWrite).unwrap();
    let bytes: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8 + 1).collect();
    let places = [0, 300 << 20, (1 << 30) - (1 << 20)];
    for offset in places {
        strongroom_disk::Disk::write_at(&disk, &bytes, offset).unwrap();
    }
    pool.copy(&from, &to, &()).unwrap();
    let entry = pool.entry(&to).unwrap().unwrap();
    assert_eq!(entry.len, 1 << 30);
    assert!((3 << 20..4 << 20).contains(&entry.allocated), "{entry:?}");
    let copy = pool.open(&to, Access::ReadOnly).unwrap();
    for offset in places {
        let mut found = vec![0; bytes.len()];
        strongroom_disk::Disk::read_at(&copy, &mut found, offset).unwrap();
        assert!(found == bytes, "the bytes at {offset} differ");
    }
}
