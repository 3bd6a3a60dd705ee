#![expect(clippy::single_range_in_vec_init, reason = "a request is a range")]

use super::*;

fn error() -> Error {
    Error::Cut { url: "u".to_owned(), at: 0, end: 1 }
}

fn blocks(count: u64, connections: usize) -> Blocks {
    Blocks::new(count * BLOCK, connections)
}

/// Lets every block of some requests arrive.
fn complete(blocks: &mut Blocks, requests: &[Range<u64>]) {
    for request in requests {
        for index in request.clone() {
            let mut bytes = blocks.buffer();
            bytes.resize(BLOCK as usize, index as u8);
            blocks.arrive(index, bytes);
        }
        blocks.end_request(0..0, &error());
    }
}

fn is_here(blocks: &mut Blocks, index: u64) -> bool {
    matches!(blocks.look_up(index), Lookup::Ready(_))
}

/// Returns how many blocks take memory: those on their way take some that is spare, or new.
fn memory(blocks: &Blocks) -> usize {
    let here = blocks.slots.values().filter(|slot| matches!(slot, Slot::Ready { .. }));
    here.count() + blocks.spare.len()
}

#[test]
fn asks_for_nothing_twice() {
    let mut blocks = blocks(100, 4);
    assert_eq!(blocks.reserve(3..4, 0..0), [3..4]);
    assert!(blocks.reserve(3..4, 0..0).is_empty());
    assert_eq!(blocks.reserve(2..5, 0..0), [2..3, 4..5]);
    assert!(matches!(blocks.look_up(3), Lookup::Missing));
    complete(&mut blocks, &[2..3, 3..4, 4..5]);
    assert!(is_here(&mut blocks, 3));
    assert!(blocks.reserve(2..5, 0..0).is_empty());
}

#[test]
fn keeps_to_the_number_of_connections() {
    let mut blocks = blocks(100, 4);
    assert_eq!(blocks.reserve(0..1, 1..13), [0..1, 1..3, 3..5, 5..7]);
    assert!(blocks.reserve(50..51, 0..0).is_empty());
    complete(&mut blocks, &[1..3]);
    assert_eq!(blocks.reserve(50..51, 0..0), [50..51]);
}

#[test]
fn never_asks_beyond_the_end() {
    let mut blocks = blocks(3, 1);
    assert_eq!(blocks.reserve(1..2, 2..20), [1..2]);
    complete(&mut blocks, &[1..2]);
    assert_eq!(blocks.reserve(1..2, 2..20), [2..3]);
    assert!(blocks.reserve(3..4, 4..5).is_empty());
}

#[test]
fn reads_ahead_only_into_room_that_nobody_needs() {
    let mut blocks = blocks(1000, 8);
    for index in 0..blocks.capacity as u64 {
        let requests = blocks.reserve(index..index + 1, 0..0);
        complete(&mut blocks, &requests);
    }
    assert!(blocks.reserve(0..1, 100..112).is_empty(), "threw away what was not read yet");
    blocks.consume(5, BLOCK as usize);
    blocks.consume(7, BLOCK as usize - 1);
    assert_eq!(blocks.reserve(0..1, 100..112), [100..101]);
    assert!(!is_here(&mut blocks, 5));
    assert!(is_here(&mut blocks, 7));
}

#[test]
fn what_is_wanted_pushes_out_what_was_used_longest_ago() {
    let mut blocks = blocks(1000, 4);
    for index in 0..blocks.capacity as u64 {
        let requests = blocks.reserve(index..index + 1, 0..0);
        complete(&mut blocks, &requests);
    }
    assert!(is_here(&mut blocks, 0));
    let pinned = blocks.look_up(1);
    assert_eq!(blocks.reserve(500..501, 0..0), [500..501]);
    assert!(is_here(&mut blocks, 0));
    assert!(!is_here(&mut blocks, 2));
    assert!(matches!(pinned, Lookup::Ready(bytes) if bytes[0] == 1));
}

#[test]
fn takes_a_fixed_amount_of_memory() {
    let mut blocks = blocks(10_000, 4);
    for start in (0..5000).step_by(7) {
        let requests = blocks.reserve(start..start + 3, start + 3..start + 15);
        assert!(memory(&blocks) <= CAPACITY - 4, "{} blocks", memory(&blocks));
        complete(&mut blocks, &requests);
        blocks.consume(start, BLOCK as usize);
        assert!(memory(&blocks) <= CAPACITY - 4, "{} blocks", memory(&blocks));
    }
}

#[test]
fn a_block_that_failed_can_be_asked_for_again() {
    let mut blocks = blocks(10, 1);
    assert_eq!(blocks.reserve(0..4, 0..0), [0..4]);
    blocks.arrive(0, vec![0; BLOCK as usize]);
    blocks.end_request(1..4, &error());
    assert!(is_here(&mut blocks, 0));
    assert!(matches!(blocks.look_up(1), Lookup::Failed(_)));
    assert!(blocks.reserve(1..2, 0..0).is_empty());
    blocks.forgive(1);
    blocks.forgive(0);
    assert!(is_here(&mut blocks, 0));
    assert_eq!(blocks.reserve(1..2, 0..0), [1..2]);
}

#[test]
fn nothing_is_believed_once_the_resource_has_changed() {
    let mut blocks = blocks(10, 1);
    let requests = blocks.reserve(0..1, 0..0);
    complete(&mut blocks, &requests);
    blocks.fail(error());
    assert!(matches!(blocks.look_up(0), Lookup::Failed(_)));
}
