//! What every pool must do, as a suite that each implementation runs in its tests.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use strongroom_disk::{Access, Disk};

use crate::{
    CopyProgress, Entry, ErrorKind, FormatMark, FormatStage, Item, ItemGuard, Pool, Result,
};

/// Puts a pool through everything that [`Pool`] promises. `open` opens the same pool each time; before
/// the first time it is empty. It needs a few MiB of room.
///
/// # Panics
///
/// When the pool breaks a promise; the message says which one.
pub fn run(open: &dyn Fn() -> Box<dyn Pool>) {
    let pool = &*open();
    knows_no_item_at_first(pool);
    has_a_label_and_room(pool);
    makes_items_that_read_as_zeros_and_take_no_room(pool);
    keeps_bytes_marks_and_lengths(open);
    tells_kinds_apart(pool);
    grows_and_never_shrinks(pool);
    refuses_lengths_that_cannot_be(pool);
    notices_every_write(pool);
    copies_with_marks_and_holes(pool);
    copies_whole_or_not_at_all(pool);
    forgets_what_is_deleted(pool);
    marks_once(pool);
    lists_in_order(open);
    locks_between_everybody(open);
    lets_one_of_many_win(open);
    bears_changes_while_it_is_listed(open);
    assert_eq!(must(pool.list()), [], "something is left that nobody has made");
}

fn knows_no_item_at_first(pool: &dyn Pool) {
    assert_eq!(must(pool.list()), [], "a new pool is not empty");
    let (item, other) = (volume("none"), volume("other"));
    assert_eq!(must(pool.entry(&item)), None, "there is an entry of what is not there");
    must(pool.delete(&item));
    for (what, result) in [
        ("path", pool.path(&item).map(drop)),
        ("open", pool.open(&item, Access::ReadOnly).map(drop)),
        ("grow", pool.grow(&item, 1 << 20)),
        ("copy", pool.copy(&item, &other, &())),
        ("mark_format", pool.mark_format(&item, &mark("a", FormatStage::Begun))),
        ("format_mark", pool.format_mark(&item).map(drop)),
        ("is_untouched", pool.is_untouched(&item).map(drop)),
    ] {
        fails(ErrorKind::NotFound, result, what);
    }
    assert_eq!(must(pool.entry(&other)), None, "a copy of nothing has made something");
}

fn has_a_label_and_room(pool: &dyn Pool) {
    assert!(!pool.label().is_empty(), "the pool has no label");
    let space = must(pool.space());
    assert!(space.available > 0 && space.available <= space.total, "no such room: {space:?}");
    must(pool.copies_at_once());
}

fn makes_items_that_read_as_zeros_and_take_no_room(pool: &dyn Pool) {
    for item in [volume("new"), snapshot("new")] {
        let entry = made(pool, &item, LARGE);
        assert_eq!((&entry.item, entry.len), (&item, LARGE), "the entry is of something else");
        assert!(entry.allocated <= SLACK, "what is new takes {} bytes", entry.allocated);
        assert_eq!(must(pool.format_mark(&item)), None, "what is new bears a mark");
        assert!(read(pool, &item, LARGE - 4096, 4096) == [0; 4096], "what is new is no zeros");
        fails(ErrorKind::AlreadyExists, pool.create(&item, 512), "create again");
        assert_eq!(must(pool.entry(&item)), Some(entry), "create again has changed it");
        must(pool.delete(&item));
    }
}

fn keeps_bytes_marks_and_lengths(open: &dyn Fn() -> Box<dyn Pool>) {
    let item = volume("kept");
    let begun = mark("11", FormatStage::Begun);
    made(&*open(), &item, 1 << 20);
    write(&*open(), &item, 8192, &[7; 100]);
    must(open().mark_format(&item, &begun));
    let pool = &*open();
    assert_eq!(read(pool, &item, 8190, 104), [&[0; 2][..], &[7; 100], &[0; 2]].concat());
    assert_eq!(must(pool.entry(&item)).map(|entry| entry.len), Some(1 << 20));
    assert_eq!(must(pool.format_mark(&item)), Some(begun), "the mark was lost");
    let path = must(pool.path(&item));
    let found = std::fs::read(&path).expect("the path names what bears the bytes");
    assert!(found[8192..8292] == [7; 100], "the path names something else: {}", path.display());
    let read_only = must(pool.open(&item, Access::ReadOnly));
    assert!(read_only.write_at(&[1], 0).is_err(), "what is open for reading was written");
    must(pool.delete(&item));
}

fn tells_kinds_apart(pool: &dyn Pool) {
    let items = [volume("same"), snapshot("same")];
    made(pool, &items[0], 8192);
    assert_eq!(must(pool.entry(&items[1])), None, "a volume is taken for a snapshot");
    made(pool, &items[1], 4096);
    write(pool, &items[0], 0, &[1; 4096]);
    assert_eq!(read(pool, &items[1], 0, 4096), [0; 4096], "two items share their bytes");
    must(pool.delete(&items[0]));
    assert_eq!(must(pool.entry(&items[1])).map(|entry| entry.len), Some(4096));
    must(pool.delete(&items[1]));
}

fn grows_and_never_shrinks(pool: &dyn Pool) {
    let item = volume("growing");
    made(pool, &item, 8192);
    let untouched = must(pool.is_untouched(&item));
    must(pool.grow(&item, 16384));
    assert_eq!(must(pool.is_untouched(&item)), untouched, "growing counts as writing");
    write(pool, &item, 0, &[3; 16384]);
    for (asked, then) in [(LARGE, LARGE), (LARGE, LARGE), (4096, LARGE), (0, LARGE)] {
        must(pool.grow(&item, asked));
        let len = must(pool.entry(&item)).map(|entry| entry.len);
        assert_eq!(len, Some(then), "grown to {asked} it has another length");
    }
    assert_eq!(read(pool, &item, 0, 16384), [3; 16384], "growing has changed the bytes");
    assert_eq!(read(pool, &item, LARGE - 512, 512), [0; 512], "what was added is no zeros");
    assert!(!must(pool.is_untouched(&item)), "growing has made what was written untouched");
    must(pool.delete(&item));
}

fn refuses_lengths_that_cannot_be(pool: &dyn Pool) {
    let item = volume("endless");
    fails(ErrorKind::Request, pool.create(&item, u64::MAX), "create what has no end");
    assert_eq!(must(pool.entry(&item)), None, "what was refused is there");
    made(pool, &item, 4096);
    fails(ErrorKind::Request, pool.grow(&item, u64::MAX), "grow without an end");
    assert_eq!(must(pool.entry(&item)).map(|entry| entry.len), Some(4096));
    must(pool.delete(&item));
}

fn notices_every_write(pool: &dyn Pool) {
    for (name, bytes) in [("nought", [0; 4096]), ("one", [1; 4096])] {
        let item = volume(name);
        made(pool, &item, LARGE);
        write(pool, &item, LARGE / 2, &bytes);
        assert!(!must(pool.is_untouched(&item)), "a write of {name} went unnoticed");
        must(must(pool.open(&item, Access::ReadWrite)).discard(0..LARGE).or_else(refused));
        assert!(!must(pool.is_untouched(&item)), "what was written and discarded is untouched");
        must(pool.delete(&item));
    }
}

fn copies_with_marks_and_holes(pool: &dyn Pool) {
    let (from, to, blank) = (volume("from"), snapshot("to"), volume("blank"));
    made(pool, &from, LARGE);
    let untouched = must(pool.is_untouched(&from));
    must(pool.copy(&from, &blank, &()));
    assert_eq!(must(pool.is_untouched(&blank)), untouched, "a copy of nothing is something");
    assert_eq!(must(pool.format_mark(&blank)), None, "a copy bears a mark of nobody");

    let finished = mark("22", FormatStage::Finished);
    must(pool.mark_format(&from, &finished));
    for (offset, byte) in [(0, 1), (LARGE / 2 - 100, 2), (LARGE - 4096, 3)] {
        write(pool, &from, offset, &[byte; 4096]);
    }
    let progress = Counting::default();
    must(pool.copy(&from, &to, &progress));
    assert_eq!(progress.done.into_inner(), LARGE, "the progress does not end at the end");
    let entry = must(pool.entry(&to)).expect("what was copied is there");
    assert_eq!((entry.len, &entry.item), (LARGE, &to), "a copy has another length");
    assert!(entry.allocated <= SLACK, "holes were filled: {} bytes", entry.allocated);
    assert_eq!(must(pool.format_mark(&to)), Some(finished), "a copy lacks its mark");
    assert!(!must(pool.is_untouched(&to)), "a copy of something is untouched");
    assert!(everything(pool, &from) == everything(pool, &to), "a copy has other bytes");

    write(pool, &from, 0, &[8; 4096]);
    write(pool, &to, LARGE / 2, &[9; 512]);
    assert_eq!(read(pool, &to, 0, 4096), [1; 4096], "a copy changes with its source");
    assert_eq!(read(pool, &from, LARGE / 2, 512), [2; 512], "a source changes with its copy");
    for item in [from, to, blank] {
        must(pool.delete(&item));
    }
}

fn copies_whole_or_not_at_all(pool: &dyn Pool) {
    let (from, to) = (volume("from"), volume("to"));
    made(pool, &from, LARGE);
    write(pool, &from, 0, &[1; 8192]);
    fails(ErrorKind::Interrupted, pool.copy(&from, &to, &Cancelled), "a copy that is cancelled");
    assert_eq!(must(pool.entry(&to)), None, "a copy that was cancelled is there");
    made(pool, &to, 4096);
    fails(ErrorKind::AlreadyExists, pool.copy(&from, &to, &()), "a copy over something");
    fails(ErrorKind::AlreadyExists, pool.copy(&from, &from, &()), "a copy over itself");
    assert_eq!(read(pool, &to, 0, 4096), [0; 4096], "a copy has written over something");
    assert_eq!(read(pool, &from, 0, 8192), [1; 8192], "a copy has changed its source");
    must(pool.delete(&from));
    must(pool.delete(&to));
}

fn forgets_what_is_deleted(pool: &dyn Pool) {
    let item = volume("again");
    made(pool, &item, LARGE);
    write(pool, &item, 0, &[5; 4096]);
    must(pool.mark_format(&item, &mark("33", FormatStage::Finished)));
    let open = must(pool.open(&item, Access::ReadWrite));
    for _ in 0..2 {
        must(pool.delete(&item));
        assert_eq!(must(pool.entry(&item)), None, "what was deleted is there");
    }
    made(pool, &item, LARGE);
    must(open.write_at(&[6; 4096], 0));
    assert_eq!(read(pool, &item, 0, 4096), [0; 4096], "an item has the bytes of a deleted one");
    assert_eq!(must(pool.format_mark(&item)), None, "an item has the mark of a deleted one");
    must(pool.delete(&item));
}

fn marks_once(pool: &dyn Pool) {
    let item = volume("marked");
    made(pool, &item, 8192);
    let [begun, finished] =
        [FormatStage::Begun, FormatStage::Finished].map(|stage| mark(ODD, stage));
    let other = mark("44", FormatStage::Finished);
    for _ in 0..2 {
        must(pool.mark_format(&item, &begun));
        assert_eq!(must(pool.format_mark(&item)).as_ref(), Some(&begun), "another mark is there");
        fails(ErrorKind::AlreadyExists, pool.mark_format(&item, &other), "another mark");
    }
    for _ in 0..2 {
        must(pool.mark_format(&item, &finished));
        for refused in [&begun, &other] {
            fails(ErrorKind::AlreadyExists, pool.mark_format(&item, refused), "a mark too late");
        }
        assert_eq!(must(pool.format_mark(&item)), Some(finished.clone()), "a mark was replaced");
    }
    must(pool.delete(&item));
}

fn lists_in_order(open: &dyn Fn() -> Box<dyn Pool>) {
    let items = ["b", "a", "B", "a-1", "a.1", "a_1", "10", "9"];
    let mut items: Vec<_> = items.iter().flat_map(|name| [snapshot(name), volume(name)]).collect();
    let pool = &*open();
    for (index, item) in items.iter().enumerate() {
        made(pool, item, 512 * (index as u64 + 1));
    }
    let mut wanted: Vec<Entry> =
        items.iter().map(|item| must(pool.entry(item)).expect("it was just made")).collect();
    wanted.sort_by(|one, other| one.item.cmp(&other.item));
    assert_eq!(must(open().list()), wanted, "the list is not what was made, in its order");
    items.iter().for_each(|item| must(pool.delete(item)));
    items.clear();
}

fn locks_between_everybody(open: &dyn Fn() -> Box<dyn Pool>) {
    let (pool, other) = (&*open(), &*open());
    let item = volume("locked");
    let held = |_: ItemGuard| ();
    let guard = must(pool.try_lock(&item));
    for pool in [pool, other] {
        fails(ErrorKind::Busy, pool.try_lock(&item).map(held), "a lock that somebody has");
        drop(must(pool.try_lock(&volume("locked-not"))));
        drop(must(pool.try_lock(&snapshot("locked"))));
    }
    // Whoever holds an item works on it.
    made(pool, &item, 4096);
    must(pool.mark_format(&item, &mark("55", FormatStage::Begun)));
    must(pool.grow(&item, 8192));
    must(pool.delete(&item));
    fails(ErrorKind::Busy, other.try_lock(&item).map(held), "a lock that outlives its item");
    drop(guard);
    let guard = must(other.try_lock(&item));
    fails(ErrorKind::Busy, pool.try_lock(&item).map(held), "a lock that somebody has");
    drop(guard);
}

fn lets_one_of_many_win(open: &dyn Fn() -> Box<dyn Pool>) {
    let pools: Vec<_> = (0..THREADS).map(|_| open()).collect();
    let (item, from) = (volume("contested"), volume("source"));
    made(&*pools[0], &from, 1 << 20);
    let winners = |action: &(dyn Fn(&dyn Pool, usize) -> Result<()> + Sync)| {
        let won = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for (number, pool) in pools.iter().enumerate() {
                let won = &won;
                scope.spawn(move || match action(&**pool, number) {
                    Ok(()) => drop(won.fetch_add(1, Ordering::Relaxed)),
                    lost => fails(ErrorKind::AlreadyExists, lost, "to come second"),
                });
            }
        });
        won.into_inner()
    };
    for _ in 0..ROUNDS {
        assert_eq!(winners(&|pool, _| pool.create(&item, 4096)), 1, "not one has made it");
        let marked = winners(&|pool, number| {
            pool.mark_format(&item, &mark(&number.to_string(), FormatStage::Begun))
        });
        assert_eq!(marked, 1, "not one has marked it");
        must(pools[0].delete(&item));
        assert_eq!(winners(&|pool, _| pool.copy(&from, &item, &())), 1, "not one has copied it");
        must(pools[1].delete(&item));
        let locked = winners(&|pool, _| match pool.try_lock(&item) {
            Err(error) if error.kind() == ErrorKind::Busy => Ok(()),
            other => other.map(drop),
        });
        assert_eq!(locked, THREADS, "a lock fails in another way than by being taken");
    }
    must(pools[0].delete(&from));
}

fn bears_changes_while_it_is_listed(open: &dyn Fn() -> Box<dyn Pool>) {
    std::thread::scope(|scope| {
        let (pool, reader) = (open(), open());
        let changing = scope.spawn(move || {
            let item = volume("fleeting");
            for _ in 0..ROUNDS * 4 {
                made(&*pool, &item, 1 << 20);
                must(pool.mark_format(&item, &mark("66", FormatStage::Begun)));
                must(pool.delete(&item));
            }
        });
        while !changing.is_finished() {
            for entry in must(reader.list()) {
                assert_eq!(entry.len, 1 << 20, "a part of an item is listed");
            }
            match reader.format_mark(&volume("fleeting")) {
                Ok(_) => {}
                gone => fails(ErrorKind::NotFound, gone, "the mark of what may be gone"),
            }
        }
    });
}

/// Makes an item, and returns its entry.
fn made(pool: &dyn Pool, item: &Item, len: u64) -> Entry {
    must(pool.create(item, len));
    must(pool.entry(item)).expect("what was made is there")
}

fn write(pool: &dyn Pool, item: &Item, offset: u64, bytes: &[u8]) {
    let disk = must(pool.open(item, Access::ReadWrite));
    must(disk.write_at(bytes, offset));
    must(disk.flush());
}

fn read(pool: &dyn Pool, item: &Item, offset: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; length];
    must(must(pool.open(item, Access::ReadOnly)).read_at(&mut bytes, offset));
    bytes
}

fn everything(pool: &dyn Pool, item: &Item) -> Vec<u8> {
    read(pool, item, 0, LARGE as usize)
}

fn must<T, E: Debug>(result: std::result::Result<T, E>) -> T {
    result.expect("nothing is in the way")
}

fn fails<T: Debug>(kind: ErrorKind, result: Result<T>, what: &str) {
    let found = result.expect_err(what);
    assert_eq!(found.kind(), kind, "{what} fails with {found}");
}

/// Lets a disk refuse to discard.
fn refused(error: strongroom_disk::Error) -> strongroom_disk::Result<()> {
    match error.kind() {
        strongroom_disk::ErrorKind::Unsupported => Ok(()),
        _ => Err(error),
    }
}

fn volume(name: &str) -> Item {
    Item::Volume(name.parse().expect("a name of a volume"))
}

fn snapshot(name: &str) -> Item {
    Item::Snapshot(name.parse().expect("a name of a snapshot"))
}

fn mark(uuid: &str, stage: FormatStage) -> FormatMark {
    FormatMark { uuid: uuid.to_owned(), stage }
}

/// Checks that a copy only comes forward.
#[derive(Default)]
struct Counting {
    done: AtomicU64,
}

impl CopyProgress for Counting {
    fn copied(&self, done: u64, of: u64) {
        assert_eq!(of, LARGE, "a copy has another length");
        assert!(self.done.swap(done, Ordering::Relaxed) <= done, "a copy goes backwards");
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

struct Cancelled;

impl CopyProgress for Cancelled {
    fn copied(&self, _: u64, _: u64) {}

    fn is_cancelled(&self) -> bool {
        true
    }
}

const LARGE: u64 = 64 << 20;

/// What an item of that size with a few blocks of data may take.
const SLACK: u64 = 1 << 20;

/// A mark is the text that it is.
const ODD: &str = "8c1d \"x\"\n\u{e4}";

const THREADS: usize = 4;
const ROUNDS: usize = 8;
