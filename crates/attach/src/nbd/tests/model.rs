//! Random requests, several under way at once, compared with plain memory.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::client::{Client, Reply, Style};
use super::*;
use crate::nbd::wire::*;

/// The disk is cut into as many parts as requests are under way: they never overlap.
const PARTS: u64 = 8;
const PART: u64 = 3 * 512 * 1024 + 512;

enum Expected {
    Done,
    Data { offset: u64, data: Vec<u8> },
    Status { len: u64 },
}

fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    random.next_u64() % bound
}

/// Sends a random request within a part, applies it to the model, and returns what is to come back.
fn step(client: &mut Client, random: &mut ChaCha8Rng, model: &mut [u8], part: u64) -> Expected {
    let longest = if below(random, 4) == 0 { PART } else { 9000 };
    let len = 1 + below(random, longest);
    let offset = part * PART + below(random, PART - len + 1);
    let range = offset as usize..(offset + len) as usize;
    let fua = if below(random, 8) == 0 { CMD_FLAG_FUA } else { 0 };
    match below(random, 10) {
        0..4 => {
            let mut data = vec![0; len as usize];
            random.fill_bytes(&mut data);
            client.send_write(fua, part, offset, &data);
            model[range].copy_from_slice(&data);
            Expected::Done
        }
        4..8 => {
            client.send(CMD_READ, 0, part, offset, len as u32);
            Expected::Data { offset, data: model[range].to_vec() }
        }
        8 => {
            let no_hole = if below(random, 2) == 0 { CMD_FLAG_NO_HOLE } else { 0 };
            client.send(CMD_WRITE_ZEROES, fua | no_hole, part, offset, len as u32);
            model[range].fill(0);
            Expected::Done
        }
        _ if client.style == Style::Structured && below(random, 2) == 0 => {
            client.send(CMD_BLOCK_STATUS, 0, part, offset, len as u32);
            Expected::Status { len }
        }
        _ => {
            client.send(CMD_FLUSH, 0, part, 0, 0);
            Expected::Done
        }
    }
}

fn check(reply: &mut Reply, expected: &Expected, style: Style) {
    assert_eq!(reply.error, 0);
    match expected {
        Expected::Done => assert!(reply.data.is_empty() && reply.extents.is_empty()),
        Expected::Data { offset, data } => {
            reply.data.sort();
            let mut at = *offset;
            for (start, piece) in &reply.data {
                assert!(style == Style::Simple || *start == at, "a gap in the chunks");
                at += piece.len() as u64;
            }
            let bytes: Vec<u8> = reply.data.iter().flat_map(|(_, data)| data).copied().collect();
            assert!(bytes == *data, "{} bytes at {offset} differ", data.len());
        }
        Expected::Status { len } => {
            assert_eq!(reply.extents, [(*len as u32, 0)]);
        }
    }
}

fn compare(seed: u64, style: Style, sector_size: SectorSize) {
    let len = PARTS * PART;
    let disk = encrypted(len, sector_size);
    disk.write_zeroes(0..len).unwrap();
    let local = Local::of(disk);
    let mut client = Client::connect(local.connect(), style);
    assert_eq!(client.len, len);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut model = vec![0; len as usize];
    let mut pending: Vec<Option<Expected>> = (0..PARTS).map(|_| None).collect();
    let mut others = Vec::new();
    for round in 0..1500 {
        let part = below(&mut random, PARTS) as usize;
        // Wait for somebody when this part is taken, and for everybody in the end.
        while pending[part].is_some() || (round >= 1490 && pending.iter().any(Option::is_some)) {
            let mut reply = client.receive(&mut others, |cookie| match &pending[cookie as usize] {
                Some(Expected::Data { data, .. }) => data.len(),
                _ => 0,
            });
            let expected = pending[reply.cookie as usize].take().unwrap();
            check(&mut reply, &expected, style);
        }
        pending[part] = Some(step(&mut client, &mut random, &mut model, part as u64));
    }
    drop(client);
}

#[test]
fn random_requests_read_what_was_written_with_simple_replies() {
    compare(1, Style::Simple, SectorSize::B512);
    compare(2, Style::Simple, SectorSize::B4096);
}

#[test]
fn random_requests_read_what_was_written_with_structured_replies() {
    compare(3, Style::Structured, SectorSize::B4096);
    compare(4, Style::Structured, SectorSize::B512);
}
