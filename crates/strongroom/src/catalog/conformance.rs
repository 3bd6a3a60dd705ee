//! What every catalog must do.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Catalog, Document, Error, Kind, Result};

/// Puts a catalog that `open` opens through everything that [`Catalog`] promises; `open` opens the same
/// store each time, which is empty at first.
///
/// # Panics
///
/// When it does not keep a promise.
pub fn run(open: &dyn Fn() -> Box<dyn Catalog>) {
    let catalog = &*open();
    is_empty_at_first(catalog);
    keeps_what_was_put_in(open);
    replaces_one_version(open);
    takes_out_one_version(open);
    keeps_any_text(open);
    lists_in_order_of_bytes(catalog);
    lets_one_of_many_insert(open);
    lets_one_of_many_replace(open);
    lets_one_of_many_take_out(open);
    loses_no_change_of_many(open);
    shows_whole_documents_while_they_change(open);
    assert_eq!(everything(catalog), [], "something is left that nobody has put in");
}

fn is_empty_at_first(catalog: &dyn Catalog) {
    assert_eq!(everything(catalog), [], "a new catalog is not empty");
    for kind in Kind::ALL {
        assert_eq!(must(catalog.load(kind, "a")), None, "there is a document of nobody");
        changed(catalog.replace(kind, "a", 1, "{}"), "a replacement of nothing");
        changed(catalog.replace(kind, "a", 0, "{}"), "a replacement of no version");
        must(catalog.remove(kind, "a", 1));
    }
    assert_eq!(everything(catalog), [], "what failed has left something");
}

fn keeps_what_was_put_in(open: &dyn Fn() -> Box<dyn Catalog>) {
    for kind in Kind::ALL {
        must(open().insert(kind, "a", &text(kind.name())));
    }
    let catalog = &*open();
    for kind in Kind::ALL {
        let wanted = document("a", 1, &text(kind.name()));
        assert_eq!(
            must(catalog.load(kind, "a")),
            Some(wanted.clone()),
            "another document is there"
        );
        exists(catalog.insert(kind, "a", "{}"), "a second document of one name");
        assert_eq!(must(catalog.load(kind, "a")), Some(wanted), "what was refused was done");
        must(open().remove(kind, "a", 1));
        assert_eq!(must(catalog.load(kind, "a")), None, "what was taken out is there");
    }
}

fn replaces_one_version(open: &dyn Fn() -> Box<dyn Catalog>) {
    let catalog = &*open();
    must(catalog.insert(Kind::Volume, "a", &text("1")));
    for version in 1..5 {
        for wrong in [0, version - 1, version + 1, u64::MAX] {
            if wrong != version {
                changed(catalog.replace(Kind::Volume, "a", wrong, "{}"), "another version");
            }
        }
        changed(catalog.replace(Kind::Job, "a", version, "{}"), "another kind");
        changed(catalog.replace(Kind::Volume, "A", version, "{}"), "another name");
        let new = text(&(version + 1).to_string());
        must(catalog.replace(Kind::Volume, "a", version, &new));
        let found = must(open().load(Kind::Volume, "a"));
        assert_eq!(found, Some(document("a", version + 1, &new)), "it was not replaced");
    }
    must(catalog.remove(Kind::Volume, "a", 5));
}

fn takes_out_one_version(open: &dyn Fn() -> Box<dyn Catalog>) {
    let catalog = &*open();
    must(catalog.insert(Kind::Key, "a", &text("1")));
    must(catalog.replace(Kind::Key, "a", 1, &text("2")));
    for wrong in [0, 1, 3, u64::MAX] {
        changed(catalog.remove(Kind::Key, "a", wrong), "another version");
    }
    must(catalog.remove(Kind::Job, "a", 2));
    must(catalog.remove(Kind::Key, "A", 2));
    assert_eq!(must(catalog.load(Kind::Key, "a")), Some(document("a", 2, &text("2"))));
    for _ in 0..2 {
        must(catalog.remove(Kind::Key, "a", 2));
        assert_eq!(must(open().load(Kind::Key, "a")), None, "what was taken out is there");
    }
    changed(catalog.replace(Kind::Key, "a", 2, "{}"), "what was taken out");
    must(catalog.insert(Kind::Key, "a", &text("new")));
    assert_eq!(must(catalog.load(Kind::Key, "a")), Some(document("a", 1, &text("new"))));
    must(catalog.remove(Kind::Key, "a", 1));
}

fn keeps_any_text(open: &dyn Fn() -> Box<dyn Catalog>) {
    let long = format!("\"{}\"", "x".repeat(1 << 20));
    let ids = ["", " ", "a'b", "a\"b", "%", "_", "a;--", "\u{e9}", "\u{1f511}", "a\nb", "null"];
    for id in ids {
        for json in ["{}", "\"\\u0000 \u{1f511} '\"", " [1.0, 1e400] ", &long] {
            must(open().insert(Kind::Job, id, json));
            let found = must(open().load(Kind::Job, id));
            assert_eq!(found, Some(document(id, 1, json)), "a text comes back as another");
            must(open().remove(Kind::Job, id, 1));
        }
    }
}

fn lists_in_order_of_bytes(catalog: &dyn Catalog) {
    let ids = ["b", "a", "B", "\u{e9}", "a-1", "10", "9", "a.1", "\u{1f511}", "ab", "a b"];
    for id in ids {
        must(catalog.insert(Kind::Snapshot, id, &text(id)));
        must(catalog.insert(Kind::Volume, &format!("of-another-kind-{id}"), "{}"));
    }
    let mut sorted = ids;
    sorted.sort_unstable();
    let wanted: Vec<_> = sorted.iter().map(|id| document(id, 1, &text(id))).collect();
    let list = |after, limit| must(catalog.list(Kind::Snapshot, after, limit));
    assert_eq!(list(None, usize::MAX), wanted, "the list is not what was put in, in its order");
    for limit in [0, 1, 3, ids.len(), 100] {
        assert_eq!(list(None, limit), wanted[..limit.min(ids.len())], "{limit} were asked for");
        for (index, after) in sorted.iter().enumerate() {
            let rest = &wanted[index + 1..];
            let wanted = &rest[..limit.min(rest.len())];
            assert_eq!(list(Some(after), limit), wanted, "{limit} after {after}");
        }
    }
    assert_eq!(list(Some("a-0"), 1), [document("a-1", 1, &text("a-1"))], "after what is not there");
    assert_eq!(list(Some(""), 1), wanted[..1], "after nothing");
    for id in ids {
        must(catalog.remove(Kind::Snapshot, id, 1));
        must(catalog.remove(Kind::Volume, &format!("of-another-kind-{id}"), 1));
    }
}

fn lets_one_of_many_insert(open: &dyn Fn() -> Box<dyn Catalog>) {
    for round in 0..ROUNDS {
        let id = format!("new-{round}");
        let won = winners(open, &|catalog, number| {
            won(catalog.insert(Kind::Volume, &id, &text(&number.to_string())))
        });
        assert_eq!(won.len(), 1, "{won:?} have put in one document");
        let found = must(open().load(Kind::Volume, &id)).map(|found| found.json);
        assert_eq!(found, won.first().map(|number| text(&number.to_string())));
        must(open().remove(Kind::Volume, &id, 1));
    }
}

fn lets_one_of_many_replace(open: &dyn Fn() -> Box<dyn Catalog>) {
    must(open().insert(Kind::Volume, "contested", "{}"));
    for version in 1..=ROUNDS {
        let won = winners(open, &|catalog, number| {
            let new = text(&number.to_string());
            won(catalog.replace(Kind::Volume, "contested", version, &new))
        });
        assert_eq!(won.len(), 1, "{won:?} have replaced version {version}");
        let found = must(open().load(Kind::Volume, "contested"));
        let json = text(&won[0].to_string());
        assert_eq!(found, Some(document("contested", version + 1, &json)));
    }
    must(open().remove(Kind::Volume, "contested", ROUNDS + 1));
}

/// Of those who take out and those who replace one version, either one replaces or some take out.
fn lets_one_of_many_take_out(open: &dyn Fn() -> Box<dyn Catalog>) {
    for _ in 0..ROUNDS {
        must(open().insert(Kind::Key, "contested", "{}"));
        let won = winners(open, &|catalog, number| match number % 2 {
            0 => won(catalog.remove(Kind::Key, "contested", 1)),
            _ => won(catalog.replace(Kind::Key, "contested", 1, "[]")),
        });
        let replaced = won.iter().filter(|number| *number % 2 == 1).count();
        let found = must(open().load(Kind::Key, "contested"));
        match found {
            None => assert!(replaced == 0 && !won.is_empty(), "{won:?} and nothing is there"),
            Some(found) => {
                assert_eq!(
                    (won.len(), replaced, found.version),
                    (1, 1, 2),
                    "{won:?} and it is there"
                );
                must(open().remove(Kind::Key, "contested", 2));
            }
        }
    }
}

fn loses_no_change_of_many(open: &dyn Fn() -> Box<dyn Catalog>) {
    must(open().insert(Kind::Job, "count", "0"));
    let tries = AtomicUsize::new(0);
    winners(open, &|catalog, _| {
        let mut left = ROUNDS;
        while left > 0 {
            let found = must(catalog.load(Kind::Job, "count")).expect("nobody takes it out");
            let count: u64 = found.json.parse().expect("a number was put in");
            assert_eq!(count + 1, found.version, "a version is not of the text beside it");
            let next = (count + 1).to_string();
            left -= u64::from(won(catalog.replace(Kind::Job, "count", found.version, &next)));
            tries.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let all = ROUNDS * THREADS as u64;
    assert!(tries.into_inner() as u64 >= all);
    let found = must(open().load(Kind::Job, "count"));
    assert_eq!(found, Some(document("count", all + 1, &all.to_string())), "a change was lost");
    must(open().remove(Kind::Job, "count", all + 1));
}

fn shows_whole_documents_while_they_change(open: &dyn Fn() -> Box<dyn Catalog>) {
    let of =
        |version: u64| format!("\"{}\"", char::from(b'a' + (version % 26) as u8)).repeat(10_000);
    must(open().insert(Kind::Attachment, "a", &of(1)));
    std::thread::scope(|scope| {
        let (writer, reader) = (open(), open());
        let writing = scope.spawn(move || {
            (1..=ROUNDS).for_each(|version| {
                must(writer.replace(Kind::Attachment, "a", version, &of(version + 1)));
            });
        });
        while !writing.is_finished() {
            let loaded = must(reader.load(Kind::Attachment, "a")).into_iter();
            for found in loaded.chain(must(reader.list(Kind::Attachment, None, 10))) {
                assert!(found.json == of(found.version), "a part of a change is seen");
            }
        }
    });
    must(open().remove(Kind::Attachment, "a", ROUNDS + 1));
}

/// Lets several threads, each with a catalog of its own, do something at once; returns those who say
/// that they have won.
fn winners(
    open: &dyn Fn() -> Box<dyn Catalog>,
    action: &(dyn Fn(&dyn Catalog, usize) -> bool + Sync),
) -> Vec<usize> {
    let catalogs: Vec<_> = (0..THREADS).map(|_| open()).collect();
    let winners = Mutex::new(BTreeSet::new());
    let start = std::sync::Barrier::new(THREADS);
    std::thread::scope(|scope| {
        for (number, catalog) in catalogs.iter().enumerate() {
            let (winners, start) = (&winners, &start);
            scope.spawn(move || {
                start.wait();
                if action(&**catalog, number) {
                    winners.lock().expect("nobody panics with it").insert(number);
                }
            });
        }
    });
    winners.into_inner().expect("nobody panics with it").into_iter().collect()
}

/// Tells whether a change was made; the only other answer is that somebody else was first.
fn won(result: Result<()>) -> bool {
    match result {
        Err(Error::Changed { .. } | Error::Exists { .. }) => false,
        other => {
            must(other);
            true
        }
    }
}

fn everything(catalog: &dyn Catalog) -> Vec<Document> {
    Kind::ALL.into_iter().flat_map(|kind| must(catalog.list(kind, None, usize::MAX))).collect()
}

fn changed(result: Result<()>, what: &str) {
    let error = result.expect_err(what);
    assert!(matches!(error, Error::Changed { .. }), "{what} fails with {error}");
}

fn exists(result: Result<()>, what: &str) {
    let error = result.expect_err(what);
    assert!(matches!(error, Error::Exists { .. }), "{what} fails with {error}");
}

fn must<T>(result: Result<T>) -> T {
    result.expect("nothing is in the way")
}

fn document(id: &str, version: u64, json: &str) -> Document {
    Document { id: id.to_owned(), version, json: json.to_owned() }
}

fn text(of: &str) -> String {
    format!("{{\"of\":{of:?}}}")
}

const THREADS: usize = 4;
const ROUNDS: u64 = 10;

#[cfg(test)]
mod tests;
