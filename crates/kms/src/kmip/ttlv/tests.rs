use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TAG: Tag = Tag::new(0x42_0020);

/// The examples of KMIP 1.4, section 9.1.2.
fn examples() -> Vec<(Value, &'static str)> {
    let big = [0, 0, 0, 0, 3, 0xFD, 0x35, 0xEB, 0x6B, 0xC2, 0xDF, 0x46, 0x18, 8, 0, 0];
    let structure = vec![
        Item::new(Tag::new(0x42_0004), Value::Enumeration(254)),
        Item::new(Tag::new(0x42_0005), Value::Integer(255)),
    ];
    vec![
        (Value::Integer(8), "42002002000000040000000800000000"),
        (Value::LongInteger(123_456_789_000_000_000), "420020030000000801b69b4ba5749200"),
        (
            Value::BigInteger(Zeroizing::new(big.to_vec())),
            "42002004000000100000000003fd35eb6bc2df4618080000",
        ),
        (Value::Enumeration(255), "4200200500000004000000ff00000000"),
        (Value::Boolean(true), "42002006000000080000000000000001"),
        (Value::text("Hello World"), "420020070000000b48656c6c6f20576f726c640000000000"),
        (Value::bytes(&[1, 2, 3]), "42002008000000030102030000000000"),
        (Value::DateTime(1_205_495_800), "42002009000000080000000047da67f8"),
        (Value::Interval(864_000), "4200200a00000004000d2f0000000000"),
        (
            Value::Structure(structure),
            "42002001000000204200040500000004000000fe000000004200050200000004000000ff00000000",
        ),
    ]
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn problem(hex: &str) -> &'static str {
    Item::parse(&unhex(hex)).unwrap_err().problem
}

#[test]
fn reads_and_writes_the_examples_of_the_specification() {
    for (value, hex) in examples() {
        let item = Item::new(TAG, value);
        assert_eq!(Item::parse(&unhex(hex)).as_ref(), Ok(&item));
        assert_eq!(*item.to_bytes(), unhex(hex), "{item:?}");
    }
}

#[test]
fn takes_nothing_that_is_cut_or_too_long() {
    for (value, hex) in examples() {
        let whole = unhex(hex);
        for len in 0..whole.len() {
            assert!(Item::parse(&whole[..len]).is_err(), "{len} bytes of {value:?}");
        }
        let longer = [&whole[..], &[0; 8]].concat();
        assert_eq!(Item::parse(&longer).unwrap_err().problem, "something follows the item");
    }
}

#[test]
fn refuses_lengths_that_do_not_fit_the_type() {
    let wrong = "the length is not the one of its type";
    assert_eq!(problem("42002002000000080000000000000008"), wrong);
    assert_eq!(problem("42002006000000040000000100000000"), wrong);
    let not_whole = "the length of a big integer is no multiple of eight";
    assert_eq!(problem("42002004000000040000000100000000"), not_whole);
    let odd = "the length of a structure is no multiple of eight";
    assert_eq!(problem("42002001000000040000000100000000"), odd);
}

#[test]
fn refuses_types_booleans_and_text_that_do_not_exist() {
    assert_eq!(problem("420020000000000000"), "there is no such type");
    assert_eq!(problem("4200200c00000000"), "there is no such type");
    let unclear = "a boolean is neither true nor false";
    assert_eq!(problem("42002006000000080000000000000002"), unclear);
    assert_eq!(problem("4200200700000001ff00000000000000"), "the text is not UTF-8");
}

#[test]
fn refuses_items_that_reach_out_of_their_structure() {
    // The structure has 16 bytes, the text in it says that it has 9, which is 16 after padding.
    let hex = "42002001000000104200040700000009616263646566676869000000000000004200";
    assert_eq!(problem(hex), PAST_END);
    assert_eq!(problem("42002008ffffffff"), PAST_END);
}

#[test]
fn takes_padding_that_is_not_zero() {
    let item = Item::parse(&unhex("42002002000000040000000801020304")).unwrap();
    assert_eq!(item.value, Value::Integer(8));
}

#[test]
fn bounds_how_deep_structures_go() {
    let nested = |depth: usize| {
        let innermost = Item::new(TAG, Value::Structure(Vec::new()));
        (1..depth).fold(innermost, |item, _| Item::new(TAG, Value::Structure(vec![item])))
    };
    assert!(Item::parse(&nested(MAX_DEPTH).to_bytes()).is_ok());
    let error = Item::parse(&nested(MAX_DEPTH + 1).to_bytes()).unwrap_err();
    assert_eq!(error.problem, "there are too many structures in each other");
}

#[test]
fn bounds_how_many_items_and_bytes_there_are() {
    let many =
        |count| Item::new(TAG, Value::Structure(vec![Item::new(TAG, Value::text("")); count]));
    assert!(Item::parse(&many(MAX_ITEMS - 1).to_bytes()).is_ok());
    let error = Item::parse(&many(MAX_ITEMS).to_bytes()).unwrap_err();
    assert_eq!(error.problem, "there are too many items");
    let long = Item::new(TAG, Value::bytes(&vec![0; MAX_LEN - HEAD_LEN])).to_bytes();
    assert!(Item::parse(&long).is_ok());
    let longer = Item::new(TAG, Value::bytes(&vec![0; MAX_LEN])).to_bytes();
    assert_eq!(Item::parse(&longer).unwrap_err().problem, "the encoding is too long");
}

#[test]
fn tells_from_its_head_how_long_an_item_is() {
    for (_, hex) in examples() {
        let bytes = unhex(hex);
        let (head, rest) = bytes.split_first_chunk().unwrap();
        assert_eq!(rest_len(head), Ok(rest.len()));
    }
    assert!(rest_len(&[0x42, 0, 0x7B, 1, 0, 0x10, 0, 0]).is_err());
    assert!(rest_len(&[0xFF; 8]).is_err());
}

#[test]
fn shows_no_text_and_no_bytes() {
    let item = Item::new(TAG, Value::Structure(vec![Item::new(TAG, Value::bytes(b"canary"))]));
    assert_eq!(
        format!("{item:?}"),
        "Item { tag: 420020, value: [Item { tag: 420020, value: 6 bytes }] }"
    );
    assert_eq!(format!("{:?}", Value::text("canary")), "6 bytes of text");
}

fn any_item() -> impl Strategy<Value = Item> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::Integer),
        any::<i64>().prop_map(Value::LongInteger),
        vec(any::<[u8; 8]>(), 0..4)
            .prop_map(|words| Value::BigInteger(Zeroizing::new(words.concat()))),
        any::<u32>().prop_map(Value::Enumeration),
        any::<bool>().prop_map(Value::Boolean),
        any::<String>().prop_map(|text| Value::text(&text)),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::bytes(&bytes)),
        any::<i64>().prop_map(Value::DateTime),
        any::<u32>().prop_map(Value::Interval),
        any::<i64>().prop_map(Value::DateTimeExtended),
    ];
    let tagged = |value| (0u32..1 << 24, value).prop_map(|(tag, value)| Item::new(Tag(tag), value));
    tagged(leaf.boxed()).prop_recursive(6, 64, 5, move |item| {
        tagged(vec(item, 0..5).prop_map(Value::Structure).boxed())
    })
}

proptest! {
    #[test]
    fn reads_what_it_has_written(item in any_item()) {
        let bytes = item.to_bytes();
        prop_assert_eq!(bytes.len() % 8, 0);
        prop_assert_eq!(bytes.capacity(), bytes.len());
        prop_assert_eq!(Item::parse(&bytes), Ok(item));
    }

    #[test]
    fn reads_what_was_changed_or_refuses_it(
        item in any_item(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = item.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(item) = Item::parse(&bytes) {
            prop_assert_eq!(Item::parse(&item.to_bytes()), Ok(item));
        }
    }
}
