use super::*;

fn response(items: Vec<Item>) -> Vec<u8> {
    let version = [(PROTOCOL_MAJOR, 1), (PROTOCOL_MINOR, 4)]
        .map(|(tag, number)| Item::new(tag, Value::Integer(number)));
    let header = vec![
        structure(PROTOCOL_VERSION, version.to_vec()),
        Item::new(BATCH_COUNT, Value::Integer(1)),
    ];
    let items = [structure(RESPONSE_HEADER, header), structure(BATCH_ITEM, items)];
    structure(RESPONSE_MESSAGE, items.to_vec()).to_bytes().to_vec()
}

fn success(operation: u32, payload: Vec<Item>) -> Answer {
    let items = vec![
        Item::new(OPERATION, Value::Enumeration(operation)),
        Item::new(RESULT_STATUS, Value::Enumeration(SUCCESS)),
        structure(RESPONSE_PAYLOAD, payload),
    ];
    Response::parse(&response(items)).unwrap().outcome.unwrap()
}

fn attribute(name: &str, value: Value) -> Item {
    let items =
        vec![Item::new(ATTRIBUTE_NAME, Value::text(name)), Item::new(ATTRIBUTE_VALUE, value)];
    structure(ATTRIBUTE, items)
}

fn link(kind: u32, to: &str) -> Value {
    Value::Structure(vec![
        Item::new(LINK_TYPE, Value::Enumeration(kind)),
        Item::new(LINKED_OBJECT, Value::text(to)),
    ])
}

fn name(name: &str) -> Value {
    Value::Structure(vec![
        Item::new(NAME_VALUE, Value::text(name)),
        Item::new(NAME_TYPE, Value::Enumeration(UNINTERPRETED_TEXT)),
    ])
}

/// Returns the tags of the payload that a request has, in their order.
fn payload(request: Request<'_>, version: Version) -> Vec<Tag> {
    let message = Item::parse(&request.to_bytes(version)).unwrap();
    let item = message.child(BATCH_ITEM).unwrap();
    item.child(REQUEST_PAYLOAD).unwrap().items().iter().map(|item| item.tag).collect()
}

#[test]
fn fields_stand_in_the_order_of_the_specification() {
    let (data, iv, tag) = (&[1; 16][..], &[2; 12][..], &[3; 16][..]);
    let encrypt = Request::Encrypt { id: "1", cipher: Cipher::Gcm, data, iv: Some(iv) };
    assert_eq!(
        payload(encrypt, Version::new(1, 4)),
        [UNIQUE_IDENTIFIER, CRYPTOGRAPHIC_PARAMETERS, DATA, IV_COUNTER_NONCE]
    );
    let decrypt = Request::Decrypt { id: "1", cipher: Cipher::Gcm, data, iv, tag: Some(tag) };
    assert_eq!(
        payload(decrypt, Version::new(1, 4)),
        [UNIQUE_IDENTIFIER, CRYPTOGRAPHIC_PARAMETERS, DATA, IV_COUNTER_NONCE, ENCRYPTION_TAG]
    );
    let locate = Request::Locate { name: "kek" };
    assert_eq!(payload(locate, Version::new(1, 4)), [ATTRIBUTE, ATTRIBUTE]);
    assert_eq!(payload(locate, Version::new(2, 0)), [ATTRIBUTES]);
}

#[test]
fn a_request_of_one_operation_has_these_bytes() {
    // Taken apart by hand along KMIP 1.4, section 7.1.
    let expected = [
        "42007801 00000070",
        "42007701 00000048",
        "42006901 00000020",
        "42006a02 00000004 00000001 00000000",
        "42006b02 00000004 00000002 00000000",
        "42005002 00000004 00100000 00000000",
        "42000d02 00000004 00000001 00000000",
        "42000f01 00000018",
        "42005c05 00000004 0000001e 00000000",
        "42007901 00000000",
    ]
    .concat()
    .replace(' ', "");
    let bytes = Request::DiscoverVersions.to_bytes(Version::new(1, 2));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, expected);
}

#[test]
fn reads_attributes_in_both_forms() {
    let expected = Attributes {
        state: Some(2),
        algorithm: Some(AES),
        length: Some(256),
        usage: Some(12),
        names: vec!["kek".to_owned(), "other".to_owned()],
        replacement: Some("7".to_owned()),
    };
    let id = || Item::new(UNIQUE_IDENTIFIER, Value::text("1"));
    let first = vec![
        id(),
        attribute("State", Value::Enumeration(2)),
        attribute("Cryptographic Algorithm", Value::Enumeration(AES)),
        attribute("Cryptographic Length", Value::Integer(256)),
        attribute("Cryptographic Usage Mask", Value::Integer(12)),
        attribute("Name", name("kek")),
        attribute("Name", name("other")),
        attribute("x-comment", Value::text("nobody asked")),
        attribute("Link", link(0x107, "replaced")),
        attribute("Link", link(REPLACEMENT_OBJECT, "7")),
    ];
    assert_eq!(success(operation::GET_ATTRIBUTES, first), Answer::Attributes(expected.clone()));
    let second = vec![
        Item::new(STATE, Value::Enumeration(2)),
        Item::new(CRYPTOGRAPHIC_ALGORITHM, Value::Enumeration(AES)),
        Item::new(CRYPTOGRAPHIC_LENGTH, Value::Integer(256)),
        Item::new(CRYPTOGRAPHIC_USAGE_MASK, Value::Integer(12)),
        Item::new(NAME, name("kek")),
        Item::new(NAME, name("other")),
        Item::new(LINK, link(REPLACEMENT_OBJECT, "7")),
    ];
    let second = vec![id(), structure(ATTRIBUTES, second)];
    assert_eq!(success(operation::GET_ATTRIBUTES, second), Answer::Attributes(expected));
}

#[test]
fn a_failure_needs_neither_operation_nor_reason() {
    let items = vec![Item::new(RESULT_STATUS, Value::Enumeration(1))];
    let failure = Response::parse(&response(items)).unwrap().outcome.unwrap_err();
    assert_eq!(failure.to_string(), "the server answers status 0x1");
}

#[test]
fn the_words_of_a_server_are_one_short_line() {
    let items = vec![
        Item::new(RESULT_STATUS, Value::Enumeration(1)),
        Item::new(RESULT_REASON, Value::Enumeration(1)),
        Item::new(
            RESULT_MESSAGE,
            Value::text(&format!("no\nsuch\x1b[31m key.{}", "!".repeat(999))),
        ),
    ];
    let failure = Response::parse(&response(items)).unwrap().outcome.unwrap_err();
    let text = failure.to_string();
    assert!(text.starts_with("the server answers ItemNotFound: no such [31m key.!!!"), "{text}");
    assert!(text.len() < 300, "{text}");
}

#[test]
fn a_success_without_its_data_is_no_response() {
    let items = vec![
        Item::new(OPERATION, Value::Enumeration(operation::ENCRYPT)),
        Item::new(RESULT_STATUS, Value::Enumeration(SUCCESS)),
    ];
    assert!(Response::parse(&response(items)).is_err());
    let request = Request::Query.to_bytes(Version::new(1, 4));
    let error = Response::parse(&request).unwrap_err();
    assert_eq!(error.to_string(), "it is no response of KMIP");
}

#[test]
fn plaintext_is_not_shown() {
    let data = vec![Item::new(DATA, Value::bytes(b"canary"))];
    let answer = success(operation::DECRYPT, data);
    assert_eq!(format!("{answer:?}"), "Decrypted(Plaintext)");
}
