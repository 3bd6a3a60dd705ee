//! What clients of NBD say: handshakes, and requests after one.

use super::Seeds;

pub(crate) fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |name: &str, parts: &[&[u8]]| seeds.push((name.to_owned(), parts.concat()));
    let flags = b"\0\0\0\x03";
    add("old-name", &[b"\0", flags, &option(1, b"data"), &request(0, 0, 0, 512)]);
    add("name-with-zeros", &[b"\0\0\0\0\x01", &option(1, b"")]);
    add("list-abort", &[b"\0", flags, &option(3, b""), &option(2, b"")]);
    let info = b"\0\0\0\x04data\0\x02\0\x01\0\x03";
    add("info-go", &[b"\0", flags, &option(6, info), &option(7, info)]);
    add("starttls", &[b"\0", flags, &option(5, b"")]);
    let query = b"\0\0\0\0\0\0\0\x02\0\0\0\x05base:\0\0\0\x0fbase:allocation";
    let structured = option(8, b"");
    add("contexts", &[b"\0", flags, &structured, &option(9, query), &option(10, query)]);
    add("unknown-option", &[b"\0", flags, &option(4711, b"words"), &option(2, b"")]);
    for (style, first) in [("simple", b"\x01"), ("structured", b"\x02")] {
        let data = [0x5a; 700];
        let write = [request(1, 1, 1000, 700), data.to_vec()].concat();
        add(&format!("{style}-write-read"), &[first, &write, &request(0, 0, 900, 900)]);
        add(&format!("{style}-df-read"), &[first, &request(0, 4, 0, 4096), &request(2, 0, 0, 0)]);
        let zeroes = request(6, 2, 512, 4096);
        let rest = [request(4, 1, 0, 8192), request(7, 8, 0, 65536), request(3, 0, 0, 0)];
        add(&format!("{style}-zero-trim-status"), &[first, &zeroes, &rest.concat()]);
        add(&format!("{style}-past-end"), &[first, &request(0, 0, u64::MAX, 2)]);
        add(&format!("{style}-cut-off"), &[first, &write[..300]]);
    }
    seeds
}

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let len = data.len() as u32;
    [b"IHAVEOPT", &option.to_be_bytes()[..], &len.to_be_bytes(), data].concat()
}

fn request(command: u16, flags: u16, offset: u64, len: u32) -> Vec<u8> {
    [
        &[0x25, 0x60, 0x95, 0x13],
        &flags.to_be_bytes()[..],
        &command.to_be_bytes(),
        b"cookies!",
        &offset.to_be_bytes(),
        &len.to_be_bytes(),
    ]
    .concat()
}
