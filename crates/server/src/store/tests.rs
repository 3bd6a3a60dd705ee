use std::time::Instant;

use serde_json::json;
use strongroom::catalog::{MemoryCatalog, SqliteCatalog};
use strongroom::sealing::Sealer;

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> Store {
        let catalog = SqliteCatalog::open(&self.directory.path().join("catalog.sqlite")).unwrap();
        let sealer = Sealer::open(&self.directory.path().join("kek"), &catalog).unwrap();
        Store::open(Arc::new(catalog), sealer).unwrap()
    }
}

fn image(name: &str) -> Object {
    let mut object = Object::new(Resource::BackingImage, Some("lab"), name);
    object.set(&["spec", "sourceType"], "upload");
    object
}

fn secret(value: &str) -> Object {
    let mut object = Object::new(Resource::Secret, Some("lab"), "key");
    object.set(&["stringData", "CRYPTO_KEY_VALUE"], value);
    object
}

fn at(store: &Store, name: &str) -> Option<Arc<Object>> {
    store.read(Resource::BackingImage, Some("lab"), name)
}

#[test]
fn a_document_gets_what_the_server_knows_and_is_there_after_a_restart() {
    let place = Place::new();
    let made = {
        let store = place.store();
        let mut new = image("ubuntu");
        new.set(&["metadata", "managedFields"], json!([{ "manager": "somebody" }]));
        store.create(new).unwrap()
    };
    assert_eq!(made.uid().len(), 36);
    assert_eq!(made.at(&["metadata", "generation"]), Some(&json!(1)));
    assert_eq!(made.at(&["metadata", "managedFields"]), None);
    assert!(made.text(&["metadata", "creationTimestamp"]).unwrap().ends_with('Z'));
    let store = place.store();
    assert!(*at(&store, "ubuntu").unwrap() == *made);
    let version: u64 = made.resource_version().parse().unwrap();
    let next = store.create(image("debian")).unwrap();
    assert!(next.resource_version().parse::<u64>().unwrap() > version);
    assert!(matches!(store.create(image("debian")), Err(Error::Exists { .. })));
}

#[test]
fn versions_never_go_back_even_when_the_newest_documents_are_gone() {
    let place = Place::new();
    let mut newest = 0;
    for _ in 0..3 {
        let store = place.store();
        assert!(store.version() >= newest);
        let made = store.create(image("ubuntu")).unwrap();
        let version: u64 = made.resource_version().parse().unwrap();
        assert!(version > newest);
        let gone = store.delete(Resource::BackingImage, Some("lab"), "ubuntu", None).unwrap();
        newest = gone.resource_version().parse().unwrap();
        assert!(newest > version);
    }
}

#[test]
fn a_document_that_was_changed_meanwhile_is_not_replaced() {
    let store = Place::new().store();
    let first = store.create(image("ubuntu")).unwrap();
    let mut change = (*first).clone();
    change.set(&["spec", "checksum"], "abc");
    let second = store.replace(change.clone(), Part::Document).unwrap();
    assert_eq!(second.at(&["metadata", "generation"]), Some(&json!(2)));
    assert!(matches!(store.replace(change.clone(), Part::Document), Err(Error::Conflict { .. })));
    change.take(&["metadata", "resourceVersion"]);
    let same = store.replace(change, Part::Document).unwrap();
    assert_eq!(same.resource_version(), second.resource_version());
    assert!(matches!(store.replace(image("none"), Part::Document), Err(Error::NotFound { .. })));
}

#[test]
fn each_part_leaves_the_other_as_it_was() {
    let store = Place::new().store();
    store.create(image("ubuntu")).unwrap();
    let mut status = image("ubuntu");
    status.set(&["spec", "sourceType"], "download");
    status.set(&["status", "progress"], 7);
    let with_status = store.replace(status, Part::Status).unwrap();
    assert_eq!(with_status.text(&["spec", "sourceType"]), Some("upload"));
    assert_eq!(with_status.at(&["status", "progress"]), Some(&json!(7)));
    assert_eq!(with_status.at(&["metadata", "generation"]), Some(&json!(1)));
    let mut document = image("ubuntu");
    document.set(&["status", "progress"], 100);
    document.set(&["metadata", "labels", "a"], "b");
    let labelled = store.replace(document, Part::Document).unwrap();
    assert_eq!(labelled.at(&["status", "progress"]), Some(&json!(7)));
    assert_eq!(labelled.at(&["metadata", "generation"]), Some(&json!(1)));
    assert_eq!(labelled.uid(), with_status.uid());
}

#[test]
fn a_document_with_finalizers_waits_until_the_last_one_is_gone() {
    let store = Place::new().store();
    let mut new = image("ubuntu");
    new.set(&["metadata", "finalizers"], json!(["strongroom.io/bytes"]));
    let made = store.create(new).unwrap();
    let other = store.delete(Resource::BackingImage, Some("lab"), "ubuntu", Some("another"));
    assert!(matches!(other, Err(Error::Conflict { .. })));
    let uid = made.uid().to_owned();
    store.delete(Resource::BackingImage, Some("lab"), "ubuntu", Some(&uid)).unwrap();
    let waits = at(&store, "ubuntu").unwrap();
    assert!(waits.is_being_deleted());
    let edited = store
        .edit(Resource::BackingImage, Some("lab"), "ubuntu", Part::Document, &mut |object| {
            object.take(&["metadata", "finalizers"]);
        })
        .unwrap();
    assert!(edited.is_some());
    assert!(at(&store, "ubuntu").is_none());
    let happened: Vec<_> = store
        .changes(made.resource_version().parse::<u64>().unwrap() - 1, Duration::ZERO)
        .unwrap()
        .iter()
        .map(|event| event.happened)
        .collect();
    assert_eq!(happened, [Happened::Added, Happened::Modified, Happened::Deleted]);
}

#[test]
fn changes_wake_those_who_wait_and_old_ones_are_forgotten() {
    let store = Place::new().store();
    let start = store.version();
    assert!(store.changes(start, Duration::from_millis(1)).unwrap().is_empty());
    let waiting = store.clone();
    let waiter = std::thread::spawn(move || waiting.changes(start, Duration::from_secs(60)));
    store.create(image("ubuntu")).unwrap();
    let heard = waiter.join().unwrap().unwrap();
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].object.name(), "ubuntu");
    assert_eq!(heard[0].version, store.version());
    assert!(matches!(store.changes(start - 1, Duration::ZERO), Err(Error::Expired { .. })));
}

#[test]
fn the_ring_is_bounded_by_bytes_too() {
    let events = Events::after(0);
    for version in 1..=80 {
        let mut object = image("large");
        object.set(&["spec", "text"], "x".repeat(1 << 20));
        events.push(Event {
            version,
            resource: Resource::BackingImage,
            happened: Happened::Added,
            object: Arc::new(object),
            before: None,
        });
    }
    assert!(matches!(events.changes(0, Duration::ZERO), Err(Error::Expired { .. })));
    let left = events.changes(60, Duration::ZERO).unwrap();
    assert_eq!(left.len(), 20);
}

#[test]
fn the_ring_counts_what_documents_were_before() {
    let events = Events::after(0);
    let mut large = image("large");
    large.set(&["spec", "text"], "x".repeat(1 << 20));
    let large = Arc::new(large);
    for version in 1..=80 {
        events.push(Event {
            version,
            resource: Resource::BackingImage,
            happened: Happened::Modified,
            object: Arc::new(image("large")),
            before: Some(Arc::clone(&large)),
        });
    }
    assert!(matches!(events.changes(0, Duration::ZERO), Err(Error::Expired { .. })));
}

#[test]
fn many_threads_change_one_document_and_no_change_is_lost() {
    let store = Place::new().store();
    store.create(image("ubuntu")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    store
                        .edit(
                            Resource::BackingImage,
                            Some("lab"),
                            "ubuntu",
                            Part::Status,
                            &mut |object| {
                                let count = object.at(&["status", "count"]);
                                let count = count.and_then(serde_json::Value::as_u64);
                                object.set(&["status", "count"], count.unwrap_or(0) + 1);
                            },
                        )
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(at(&store, "ubuntu").unwrap().at(&["status", "count"]), Some(&json!(100)));
}

#[test]
fn the_values_of_a_secret_are_sealed_and_never_shown() {
    let place = Place::new();
    let store = place.store();
    let mut new = secret("canary-one");
    new.set(&["data", "CRYPTO_KEY_CIPHER"], "YWVzLXh0cy1wbGFpbjY0");
    let applied =
        r#"{"kind":"Secret","stringData":{"CRYPTO_KEY_VALUE":"canary-one"},"data":"canary-one"}"#;
    new.set(&secrets::LAST_APPLIED, applied);
    let made = store.create(new).unwrap();
    assert_eq!(
        made.at(&["data"]),
        Some(&json!({ "CRYPTO_KEY_CIPHER": "", "CRYPTO_KEY_VALUE": "" }))
    );
    assert_eq!(made.at(&["stringData"]), None);
    let kept = made.text(&secrets::LAST_APPLIED).unwrap();
    assert_eq!(kept, r#"{"kind":"Secret","stringData":{"CRYPTO_KEY_VALUE":""}}"#);

    // Whoever has read it writes it back, and changes one value.
    let same = store.replace((*made).clone(), Part::Document).unwrap();
    assert_eq!(same.resource_version(), made.resource_version());
    let mut change = (*made).clone();
    change.set(&["data", "CRYPTO_KEY_CIPHER"], "YWVzLWNiYy1wbGFpbg==");
    store.replace(change, Part::Document).unwrap();
    drop(store);

    let store = place.store();
    let values = store.secret("lab", "key").unwrap();
    assert_eq!(**values["CRYPTO_KEY_VALUE"], *b"canary-one");
    assert_eq!(**values["CRYPTO_KEY_CIPHER"], *b"aes-cbc-plain");
    assert!(store.secret("lab", "none").is_none());
    let shown = serde_json::to_string(&*store.read(Resource::Secret, Some("lab"), "key").unwrap());
    assert!(!shown.unwrap().contains("canary"));
    for entry in std::fs::read_dir(place.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for canary in ["canary-one", "Y2FuYXJ5LW9uZQ"] {
            let found = bytes.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "{} has the value of a Secret", path.display());
        }
    }
}

#[test]
fn a_value_that_is_no_base64_is_refused_without_being_quoted() {
    let store = Place::new().store();
    let mut new = Object::new(Resource::Secret, Some("lab"), "key");
    new.set(&["data", "CRYPTO_KEY_VALUE"], "canary one");
    let error = store.create(new).unwrap_err();
    let Error::Refused { refused, .. } = &error else { panic!("{error}") };
    assert_eq!(refused.causes[0].field, "data.CRYPTO_KEY_VALUE");
    assert!(!format!("{error:?}").contains("canary"));
}

#[test]
fn names_are_made_and_bad_ones_refused() {
    let store = Place::new().store();
    let mut new = image("");
    new.set(&["metadata", "generateName"], "ubuntu-");
    let made = store.create(new).unwrap();
    assert_eq!(made.name().len(), "ubuntu-".len() + 5);
    for name in ["", "a/b", "../x", ".x", "a b"] {
        assert!(matches!(store.create(image(name)), Err(Error::Refused { .. })), "{name}");
    }
    let mut elsewhere = Object::new(Resource::Namespace, Some("odd"), "lab");
    elsewhere.set(&["metadata", "uid"], "mine");
    let made = store.create(elsewhere).unwrap();
    assert_eq!(made.namespace(), None);
    assert_ne!(made.uid(), "mine");
}

#[test]
fn ten_thousand_documents_are_opened_and_listed_soon() {
    let place = Place::new();
    let kek = place.directory.path().join("kek");
    let catalog = Arc::new(MemoryCatalog::default());
    {
        let store =
            Store::open(Arc::clone(&catalog) as _, Sealer::open(&kek, &*catalog).unwrap()).unwrap();
        for number in 0..10_000 {
            store.create(image(&format!("image-{number:05}"))).unwrap();
        }
    }
    let sealer = Sealer::open(&kek, &*catalog).unwrap();
    let begun = Instant::now();
    let store = Store::open(catalog, sealer).unwrap();
    let opened = begun.elapsed();
    let begun = Instant::now();
    let (found, version) = store.list(Resource::BackingImage, None);
    let listed = begun.elapsed();
    assert_eq!(found.len(), 10_000);
    assert_eq!(version, store.version());
    println!("10,000 documents: opened in {opened:?}, listed in {listed:?}");
    assert!(opened < Duration::from_secs(10) && listed < Duration::from_secs(1));
}

#[test]
fn a_document_that_could_not_be_read_again_is_refused() {
    let place = Place::new();
    let store = place.store();
    let nested = |levels: usize| (0..levels).fold(json!(0), |value, _| json!([value]));
    let mut deep = image("deep");
    // The document, `spec` and the lists below it.
    deep.set(&["spec", "deep"], nested(62));
    store.create(deep.clone()).unwrap();
    deep.set(&["spec", "deep"], nested(63));
    let refused = |result: Result<Arc<Object>>| match result {
        Err(Error::Refused { refused, .. }) => refused.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(refused(store.replace(deep.clone(), Part::Document)).contains("64 levels"));
    deep.set(&["metadata", "name"], "deeper");
    assert!(refused(store.create(deep)).contains("64 levels"));
    let mut long = image("long");
    long.set(&["spec", "text"], "x".repeat(3 << 19));
    assert!(refused(store.create(long.clone())).contains("1572864 are the most"));
    store.create(image("long")).unwrap();
    assert!(refused(store.replace(long, Part::Document)).contains("1572864 are the most"));
    drop(store);
    assert!(at(&place.store(), "deep").is_some());
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_with_its_name() {
    let place = Place::new();
    place.store().create(image("good")).unwrap();
    let id = "backingimages.longhorn.io/lab/bad";
    let text = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let catalog = SqliteCatalog::open(&place.directory.path().join("catalog.sqlite")).unwrap();
    catalog.insert(Kind::Object, id, &text).unwrap();
    let store = place.store();
    assert!(at(&store, "good").is_some());
    let aside: Vec<_> = store.set_aside().iter().map(|aside| aside.id.as_str()).collect();
    assert_eq!(aside, [id]);
    assert!(matches!(store.create(image("bad")), Err(Error::Exists { .. })));
    assert_eq!(catalog.load(Kind::Object, id).unwrap().unwrap().json, text);
}

#[test]
fn the_server_alone_lets_a_document_go_whose_data_is_there() {
    let store = Place::new().store();
    let mut new = image("ubuntu");
    new.set(&["metadata", "finalizers"], json!([DATA_FINALIZER, "example.com/mine"]));
    store.create(new).unwrap();
    let finalizers = || {
        let object = at(&store, "ubuntu").unwrap();
        object.finalizers().map(str::to_owned).collect::<Vec<_>>()
    };
    store.replace_by(image("ubuntu"), Part::Document, Author::Client).unwrap();
    assert_eq!(finalizers(), [DATA_FINALIZER]);
    store.delete(Resource::BackingImage, Some("lab"), "ubuntu", None).unwrap();
    store.replace_by(image("ubuntu"), Part::Document, Author::Client).unwrap();
    assert_eq!(finalizers(), [DATA_FINALIZER]);
    store.replace(image("ubuntu"), Part::Document).unwrap();
    assert!(at(&store, "ubuntu").is_none());
    let mut made = image("debian");
    made.set(&["metadata", "finalizers"], json!([DATA_FINALIZER]));
    keep_hold(None, &mut made);
    assert_eq!(made.at(&["metadata", "finalizers"]), None);
}
