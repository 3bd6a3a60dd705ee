mod crash;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::PathBuf;

use super::*;
use crate::catalog::{self, StoreCause};

fn place() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("catalog.sqlite");
    (place, path)
}

fn open(path: &Path) -> SqliteCatalog {
    SqliteCatalog::open(path).unwrap()
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        Error::Store { problem, cause: StoreCause::Other | StoreCause::Full, .. } => problem,
        other => panic!("{other}"),
    }
}

#[test]
fn keeps_every_promise_of_a_catalog() {
    let (_place, path) = place();
    catalog::conformance(&|| Box::new(open(&path)));
}

#[test]
fn one_connection_is_shared_by_threads() {
    let (_place, path) = place();
    let shared = std::sync::Arc::new(open(&path));
    catalog::conformance(&|| Box::new(std::sync::Arc::clone(&shared)));
}

#[test]
fn only_the_owner_can_read_the_files() {
    let (place, path) = place();
    let catalog = open(&path);
    catalog.insert(Kind::Key, "a", "{}").unwrap();
    let mut names: Vec<_> = fs::read_dir(place.path())
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o600, "{entry:?}");
            entry.file_name().into_string().unwrap()
        })
        .collect();
    names.sort();
    assert_eq!(names, ["catalog.sqlite", "catalog.sqlite-shm", "catalog.sqlite-wal"]);
}

#[test]
fn writes_ahead_and_to_the_medium() {
    let (_place, path) = place();
    let catalog = open(&path);
    let connection = catalog.connection();
    let setting = |name| -> String {
        connection
            .pragma_query_value(None, name, |row| row.get_ref(0).map(|value| format!("{value:?}")))
            .unwrap()
    };
    assert_eq!(setting("journal_mode"), "Text([119, 97, 108])");
    assert_eq!(setting("synchronous"), "Integer(2)");
    assert_eq!(setting("secure_delete"), "Integer(1)");
}

#[test]
fn what_was_taken_out_is_overwritten() {
    let (place, path) = place();
    let envelope = "wrapped-0123456789abcdef";
    let count = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(envelope.len()).filter(|window| *window == envelope.as_bytes()).count()
    };
    let catalog = open(&path);
    catalog.insert(Kind::Key, "a", &format!("\"{envelope}\"")).unwrap();
    drop(catalog);
    assert_eq!(count(&path), 1);
    let catalog = open(&path);
    catalog.remove(Kind::Key, "a", 1).unwrap();
    drop(catalog);
    assert_eq!(count(&path), 0);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "a log is left");
}

#[test]
fn many_make_one_database_at_once() {
    for _ in 0..5 {
        let (_place, path) = place();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d", "e", "f"] {
                let path = &path;
                scope.spawn(move || open(path).insert(Kind::Volume, name, "{}").unwrap());
            }
        });
        assert_eq!(open(&path).list(Kind::Volume, None, 10).unwrap().len(), 6);
    }
}

#[test]
fn refuses_what_is_no_catalog_and_leaves_it_alone() {
    let (place, path) = place();
    for bytes in [vec![b'x'; 5000], b"SQLite format 3".to_vec(), b"short".to_vec()] {
        fs::write(&path, &bytes).unwrap();
        assert!(problem(SqliteCatalog::open(&path)).contains("no SQLite database"));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    let other = place.path().join("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE songs (title)").unwrap();
    let before = fs::read(&other).unwrap();
    assert!(problem(SqliteCatalog::open(&other)).contains("another application"));
    assert_eq!(fs::read(&other).unwrap(), before);
    Connection::open(&other).unwrap().pragma_update(None, "application_id", 77).unwrap();
    assert!(problem(SqliteCatalog::open(&other)).contains("another application"));
}

#[test]
fn refuses_the_database_of_a_newer_program() {
    let (_place, path) = place();
    open(&path).insert(Kind::Volume, "a", "{}").unwrap();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let problem = problem(SqliteCatalog::open(&path));
    assert!(problem.contains("version 99") && problem.contains("newer"), "{problem}");
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 3).unwrap();
    assert_eq!(open(&path).list(Kind::Volume, None, 10).unwrap().len(), 1);
}

#[test]
fn says_when_the_database_is_damaged() {
    let (_place, path) = place();
    let catalog = open(&path);
    for index in 0..200 {
        let json = format!("\"{}\"", "y".repeat(300));
        catalog.insert(Kind::Volume, &format!("volume-{index}"), &json).unwrap();
    }
    drop(catalog);
    let whole = fs::read(&path).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0xa5; whole.len() - 8192], 8192).unwrap();
    drop(file);
    let said = problem(open(&path).list(Kind::Volume, None, 1000));
    assert!(said.contains("damaged") && said.contains("backup"), "{said}");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let read = SqliteCatalog::open(&path)
        .and_then(|catalog| catalog.list(Kind::Volume, None, 1000).map(drop));
    assert!(problem(read).contains("damaged"));
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(&path).list(Kind::Volume, None, 1000).unwrap().len(), 200);
}

#[test]
fn says_when_there_is_no_place_for_it() {
    let (place, path) = place();
    for path in [place.path().join("none/catalog"), place.path().to_owned(), "/".into()] {
        problem(SqliteCatalog::open(&path));
    }
    symlink("elsewhere.sqlite", &path).unwrap();
    problem(SqliteCatalog::open(&path));
    assert!(!place.path().join("elsewhere.sqlite").exists());
}

#[test]
fn opens_a_path_that_looks_like_a_uri_as_a_path() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file:catalog?mode=memory");
    open(&path).insert(Kind::Volume, "a", "{}").unwrap();
    assert!(open(&path).load(Kind::Volume, "a").unwrap().is_some());
    assert!(path.exists());
}

#[test]
fn says_that_it_is_busy_when_somebody_keeps_on_writing() {
    let (_place, path) = place();
    let (catalog, other) = (open(&path), open(&path));
    catalog.insert(Kind::Volume, "a", "{}").unwrap();
    other.connection().execute_batch("BEGIN IMMEDIATE").unwrap();
    catalog.connection().busy_timeout(std::time::Duration::from_millis(20)).unwrap();
    for result in [
        catalog.insert(Kind::Volume, "b", "{}"),
        catalog.replace(Kind::Volume, "a", 1, "{}"),
        catalog.remove(Kind::Volume, "a", 1),
    ] {
        assert!(matches!(result, Err(Error::Store { cause: StoreCause::Busy, .. })), "{result:?}");
    }
    assert!(catalog.load(Kind::Volume, "a").unwrap().is_some(), "readers do not wait");
    other.connection().execute_batch("ROLLBACK").unwrap();
    catalog.insert(Kind::Volume, "b", "{}").unwrap();
}

#[test]
fn a_full_file_system_is_an_error_that_changes_nothing() {
    let (_place, path) = place();
    let catalog = open(&path);
    catalog.insert(Kind::Volume, "a", "{}").unwrap();
    {
        let connection = catalog.connection();
        let read = |row: &Row<'_>| row.get::<_, i64>(0);
        let pages = connection.pragma_query_value(None, "page_count", read).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, read).unwrap();
    }
    let large = format!("\"{}\"", "z".repeat(1 << 20));
    assert!(problem(catalog.insert(Kind::Volume, "b", &large)).contains("full"));
    assert!(problem(catalog.replace(Kind::Volume, "a", 1, &large)).contains("full"));
    let found = catalog.list(Kind::Volume, None, 10).unwrap();
    assert_eq!((found.len(), found[0].version, &*found[0].json), (1, 1, "{}"));
}

#[test]
fn what_no_program_of_ours_writes_is_malformed() {
    let (_place, path) = place();
    let catalog = open(&path);
    catalog.insert(Kind::Volume, "a", "{}").unwrap();
    for sql in [
        "UPDATE volumes SET version = -1",
        "UPDATE volumes SET version = 1, json = CAST(x'ff' AS TEXT)",
    ] {
        catalog.connection().execute_batch(sql).unwrap();
        for result in [
            catalog.load(Kind::Volume, "a").map(drop),
            catalog.list(Kind::Volume, None, 10).map(drop),
        ] {
            assert!(matches!(result, Err(Error::Malformed { .. })), "{sql}: {result:?}");
        }
    }
}
