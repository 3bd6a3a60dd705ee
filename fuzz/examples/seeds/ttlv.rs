//! Responses of KMIP servers, one for each operation, and items of every type.

use strongroom_kms::ttlv::{Item, Tag, Value};

use crate::Seeds;

/// Returns the seeds.
pub(super) fn seeds() -> Seeds {
    let mut seeds: Seeds = answers()
        .into_iter()
        .map(|(name, operation, payload)| (name.to_owned(), success(operation, payload)))
        .collect();
    seeds.push(("failure".to_owned(), message(failure("no such key"))));
    seeds.push(("failure-unprintable".to_owned(), message(failure("a\nb\x1b[2J\u{202e}"))));
    seeds.push(("silent-failure".to_owned(), message(vec![enumeration(RESULT_STATUS, 2)])));
    seeds.push(("every-type".to_owned(), bytes(&structure(0x42_0001, every_type()))));
    let nested = |depth| {
        (1..depth)
            .fold(structure(0x42_0001, Vec::new()), |item, _| structure(0x42_0001, vec![item]))
    };
    seeds.push(("deep".to_owned(), bytes(&nested(32))));
    seeds.push(("too-deep".to_owned(), bytes(&nested(33))));
    seeds.push(("many".to_owned(), bytes(&structure(0x42_0001, vec![text(0x42_0053, ""); 500]))));
    seeds
}

fn answers() -> Vec<(&'static str, u32, Vec<Item>)> {
    let versions = [(2, 1), (2, 0), (1, 4), (1, 2)].map(|(major, minor)| version(major, minor));
    let server = vec![
        enumeration(OPERATION, 0x1F),
        enumeration(OPERATION, 0x20),
        text(0x42_009D, "A key management server 1.0"),
    ];
    let ids = vec![text(UNIQUE_IDENTIFIER, "1"), text(UNIQUE_IDENTIFIER, "2")];
    let name = || vec![text(0x42_0055, "kek"), enumeration(0x42_0054, 1)];
    let link = || vec![enumeration(0x42_004B, 0x106), text(0x42_004C, "2")];
    let attribute = |label: &str, value| {
        structure(0x42_0008, vec![text(0x42_000A, label), item(0x42_000B, value)])
    };
    let first = vec![
        text(UNIQUE_IDENTIFIER, "1"),
        attribute("State", Value::Enumeration(2)),
        attribute("Cryptographic Algorithm", Value::Enumeration(3)),
        attribute("Cryptographic Length", Value::Integer(256)),
        attribute("Cryptographic Usage Mask", Value::Integer(12)),
        attribute("Name", Value::Structure(name())),
        attribute("Link", Value::Structure(link())),
        attribute("Initial Date", Value::DateTime(1_700_000_000)),
    ];
    let second = vec![
        text(UNIQUE_IDENTIFIER, "1"),
        structure(
            0x42_0125,
            vec![
                enumeration(0x42_008D, 1),
                enumeration(0x42_0028, 3),
                item(0x42_002A, Value::Integer(128)),
                item(0x42_002C, Value::Integer(4)),
                structure(0x42_0053, name()),
                structure(0x42_004A, link()),
            ],
        ),
    ];
    let data = |tag, len| item(tag, Value::bytes(&vec![0xA5; len]));
    let encrypted = vec![
        text(UNIQUE_IDENTIFIER, "1"),
        data(0x42_00C2, 82),
        data(0x42_003D, 12),
        data(0x42_00FF, 16),
    ];
    let decrypted = vec![text(UNIQUE_IDENTIFIER, "1"), data(0x42_00C2, 82)];
    vec![
        ("discover-versions", 0x1E, versions.to_vec()),
        ("query", 0x18, server),
        ("locate", 0x08, ids),
        ("attributes-1", 0x0B, first),
        ("attributes-2", 0x0B, second),
        ("encrypt", 0x1F, encrypted),
        ("decrypt", 0x20, decrypted),
        ("no-data", 0x20, Vec::new()),
        ("destroy", 0x14, vec![text(UNIQUE_IDENTIFIER, "1")]),
    ]
}

fn every_type() -> Vec<Item> {
    [
        Value::Structure(Vec::new()),
        Value::Integer(-1),
        Value::LongInteger(i64::MIN),
        Value::BigInteger(vec![0x7F; 16].into()),
        Value::Enumeration(u32::MAX),
        Value::Boolean(true),
        Value::text("Schlüssel"),
        Value::bytes(&[1, 2, 3]),
        Value::DateTime(0),
        Value::Interval(864_000),
        Value::DateTimeExtended(-1),
    ]
    .map(|value| item(0x54_0001, value))
    .to_vec()
}

fn failure(words: &str) -> Vec<Item> {
    vec![enumeration(RESULT_STATUS, 1), enumeration(0x42_007E, 1), text(0x42_007D, words)]
}

fn success(operation: u32, payload: Vec<Item>) -> Vec<u8> {
    let payload = structure(0x42_007C, payload);
    message(vec![enumeration(OPERATION, operation), enumeration(RESULT_STATUS, 0), payload])
}

fn message(items: Vec<Item>) -> Vec<u8> {
    let count = item(0x42_000D, Value::Integer(1));
    let header = structure(0x42_007A, vec![version(1, 4), count]);
    bytes(&structure(0x42_007B, vec![header, structure(0x42_000F, items)]))
}

fn version(major: i32, minor: i32) -> Item {
    let numbers =
        vec![item(0x42_006A, Value::Integer(major)), item(0x42_006B, Value::Integer(minor))];
    structure(0x42_0069, numbers)
}

fn bytes(item: &Item) -> Vec<u8> {
    item.to_bytes().to_vec()
}

fn structure(tag: u32, items: Vec<Item>) -> Item {
    item(tag, Value::Structure(items))
}

fn enumeration(tag: u32, number: u32) -> Item {
    item(tag, Value::Enumeration(number))
}

fn text(tag: u32, text: &str) -> Item {
    item(tag, Value::text(text))
}

fn item(tag: u32, value: Value) -> Item {
    Item::new(Tag::new(tag), value)
}

const OPERATION: u32 = 0x42_005C;
const RESULT_STATUS: u32 = 0x42_007F;
const UNIQUE_IDENTIFIER: u32 = 0x42_0094;
