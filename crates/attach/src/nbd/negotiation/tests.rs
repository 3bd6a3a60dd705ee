use strongroom_disk::{Access, Memory};

use super::*;

const FLAGS: ClientFlags = ClientFlags { no_zeroes: true };

fn export() -> Export {
    Export::new(Box::new(Memory::new(1 << 20)), "data")
}

/// Sends one option and returns what came of it: the types of the replies, and the end.
fn send(
    negotiation: &mut Negotiation<'_>,
    option: u32,
    data: &[u8],
) -> (Vec<(u32, Vec<u8>)>, Option<End>) {
    let mut bytes = Vec::new();
    let end = negotiation.option(option, data, &mut bytes);
    let mut rest = &bytes[..];
    let mut replies = Vec::new();
    while !rest.is_empty() {
        assert_eq!(rest[..8], OPTION_REPLY[..]);
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(number(8), option);
        let len = number(16) as usize;
        replies.push((number(12), rest[20..20 + len].to_vec()));
        rest = &rest[20 + len..];
    }
    (replies, end)
}

const OPTION_REPLY: [u8; 8] = [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9];

fn info(name: &[u8], infos: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name);
    data.extend_from_slice(&(infos.len() as u16).to_be_bytes());
    data.extend(infos.iter().flat_map(|info| info.to_be_bytes()));
    data
}

fn contexts(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend_from_slice(name);
    data.extend_from_slice(&(queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend_from_slice(&(query.len() as u32).to_be_bytes());
        data.extend_from_slice(query);
    }
    data
}

#[test]
fn go_describes_the_export_and_begins() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::None, FLAGS);
    let (replies, end) = send(&mut negotiation, OPT_GO, &info(b"data", &[INFO_NAME]));
    assert_eq!(end, Some(End::Transmission(Agreed::default())));
    let kinds: Vec<u32> = replies.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [REP_INFO, REP_INFO, REP_INFO, REP_ACK]);
    assert_eq!(replies[0].1[..10], [0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    assert_eq!(replies[1].1, b"\0\x01data");
    assert_eq!(replies[2].1, [0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0]);
}

#[test]
fn an_export_of_another_name_is_unknown() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::None, FLAGS);
    let (replies, end) = send(&mut negotiation, OPT_GO, &info(b"other", &[]));
    assert_eq!((replies[0].0, end), (REP_ERR_UNKNOWN, None));
    let (_, end) = send(&mut negotiation, OPT_INFO, &info(b"", &[]));
    assert_eq!(end, None);
    assert_eq!(send(&mut negotiation, OPT_EXPORT_NAME, b"other"), (Vec::new(), Some(End::Closed)));
}

#[test]
fn the_old_way_to_begin_has_zeros_unless_they_are_unwanted() {
    let export = export().with_access(Access::ReadOnly);
    for (no_zeroes, len) in [(true, 10), (false, 134)] {
        let flags = ClientFlags { no_zeroes };
        let mut bytes = Vec::new();
        let end =
            Negotiation::new(&export, Tls::None, flags).option(OPT_EXPORT_NAME, b"", &mut bytes);
        assert_eq!(end, Some(End::Transmission(Agreed::default())));
        assert_eq!(bytes.len(), len);
        let flags = u16::from_be_bytes([bytes[8], bytes[9]]);
        assert_eq!(
            flags & (FLAG_READ_ONLY | FLAG_SEND_TRIM | FLAG_SEND_WRITE_ZEROES),
            FLAG_READ_ONLY
        );
    }
}

#[test]
fn contexts_come_with_structured_replies_and_for_their_export_alone() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::None, FLAGS);
    let set = contexts(b"data", &[b"x:y", ALLOCATION]);
    assert_eq!(send(&mut negotiation, OPT_SET_META_CONTEXT, &set).0[0].0, REP_ERR_INVALID);
    assert_eq!(send(&mut negotiation, OPT_STRUCTURED_REPLY, b"").0[0].0, REP_ACK);
    let (replies, _) = send(&mut negotiation, OPT_LIST_META_CONTEXT, &contexts(b"", &[]));
    assert_eq!(replies.len(), 2);
    let (replies, _) = send(&mut negotiation, OPT_SET_META_CONTEXT, &set);
    assert_eq!(replies[0], (REP_META_CONTEXT, [&[0, 0, 0, 1], ALLOCATION].concat()));
    // Of the same disk, but under another name.
    let (_, end) = send(&mut negotiation, OPT_GO, &info(b"", &[]));
    assert_eq!(end, Some(End::Transmission(Agreed { structured: true, allocation: false })));
    let (_, end) = send(&mut negotiation, OPT_GO, &info(b"data", &[]));
    assert_eq!(end, Some(End::Transmission(Agreed { structured: true, allocation: true })));
    // A wrong one unsets it.
    send(&mut negotiation, OPT_SET_META_CONTEXT, b"junk");
    let (_, end) = send(&mut negotiation, OPT_GO, &info(b"data", &[]));
    assert_eq!(end, Some(End::Transmission(Agreed { structured: true, allocation: false })));
}

#[test]
fn nothing_is_told_before_tls() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::Wanted, FLAGS);
    for option in [OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_SET_META_CONTEXT, 99] {
        let (replies, end) = send(&mut negotiation, option, &info(b"data", &[]));
        assert_eq!((replies, end), (vec![(REP_ERR_TLS_REQD, Vec::new())], None));
    }
    assert_eq!(send(&mut negotiation, OPT_EXPORT_NAME, b"data"), (Vec::new(), Some(End::Closed)));
    assert_eq!(send(&mut negotiation, OPT_STARTTLS, b"x").0[0].0, REP_ERR_INVALID);
    assert_eq!(send(&mut negotiation, OPT_STARTTLS, b"").1, Some(End::Tls));
}

#[test]
fn tls_that_is_not_offered_or_is_there_is_refused() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::None, FLAGS);
    assert_eq!(send(&mut negotiation, OPT_STARTTLS, b"").0[0].0, REP_ERR_POLICY);
    let mut negotiation = Negotiation::new(&export, Tls::Active, FLAGS);
    assert_eq!(send(&mut negotiation, OPT_STARTTLS, b"").0[0].0, REP_ERR_INVALID);
}

#[test]
fn what_is_unknown_or_malformed_leaves_the_handshake_where_it_was() {
    let export = export();
    let mut negotiation = Negotiation::new(&export, Tls::None, FLAGS);
    assert_eq!(send(&mut negotiation, 4711, b"x").0[0].0, REP_ERR_UNSUP);
    for (option, data) in [(OPT_LIST, &b"x"[..]), (OPT_GO, b""), (OPT_STRUCTURED_REPLY, b"x")] {
        assert_eq!(
            send(&mut negotiation, option, data),
            (vec![(REP_ERR_INVALID, Vec::new())], None)
        );
    }
    assert_eq!(
        send(&mut negotiation, OPT_LIST, b"").0[0],
        (REP_SERVER, b"\0\0\0\x04data".to_vec())
    );
    assert_eq!(send(&mut negotiation, OPT_ABORT, b"").1, Some(End::Closed));
}
