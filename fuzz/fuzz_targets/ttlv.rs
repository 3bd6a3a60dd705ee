//! TTLV, and responses of KMIP in it: bounded, never a panic; what was read is written the same
//! but for padding, and nothing secret or unprintable is shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_kms::kmip::messages::Response;
use strongroom_kms::ttlv::{HEAD_LEN, Item, MAX_DEPTH, MAX_ITEMS, Value, rest_len};

fuzz_target!(|bytes: &[u8]| {
    match Item::parse(bytes) {
        Ok(item) => check_item(&item, bytes),
        Err(error) => assert!(!error.to_string().ends_with('.')),
    }
    match Response::parse(bytes) {
        Ok(response) => check_response(&response),
        Err(error) => assert!(!error.to_string().ends_with('.')),
    }
});

fn check_item(item: &Item, bytes: &[u8]) {
    let (depth, items) = measure(item);
    assert!(depth <= MAX_DEPTH && items <= MAX_ITEMS, "{depth} deep, {items} items");
    let head = bytes.first_chunk::<HEAD_LEN>().expect("an item has a head");
    assert_eq!(rest_len(head), Ok(bytes.len() - HEAD_LEN), "the head tells the length");
    let written = item.to_bytes();
    assert_eq!(written.len(), bytes.len(), "no byte is lost");
    assert_eq!(Item::parse(&written).as_ref(), Ok(item), "what was written is read the same");
    // A key of some length, no byte of which may be seen.
    let shown = format!("{item:?}");
    assert!(shown.len() < 100 * items, "Debug shows values that have a length");
}

/// Returns how many structures are in each other, and how many items there are.
fn measure(item: &Item) -> (usize, usize) {
    let Value::Structure(items) = &item.value else { return (0, 1) };
    let inner = items.iter().map(measure);
    let (depth, count) =
        inner.fold((0, 1), |(deepest, sum), (depth, count)| (deepest.max(depth), sum + count));
    (depth + 1, count)
}

fn check_response(response: &Response) {
    let _ = format!("{response:?}");
    if let Err(failure) = &response.outcome {
        let text = failure.to_string();
        assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
    }
}
