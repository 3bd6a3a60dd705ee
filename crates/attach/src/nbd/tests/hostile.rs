//! Clients that break the rules, and requests that cannot be carried out.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use strongroom_disk::{Access, Discards};
use strongroom_testkit::{Fault, FaultyDisk};

use super::client::{Client, Style, request};
use super::*;
use crate::nbd::wire::*;

const LEN: u64 = 4 << 20;

#[test]
fn requests_that_make_no_sense_are_refused_and_the_next_one_is_not() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    for style in [Style::Simple, Style::Structured] {
        let mut client = Client::connect(local.connect(), style);
        assert_eq!(client.error_of(CMD_READ, 0, LEN - 1, 2), EINVAL);
        assert_eq!(client.error_of(CMD_READ, 0, u64::MAX, 2), EINVAL);
        assert_eq!(client.error_of(CMD_READ, 0, 0, 0), EINVAL);
        assert_eq!(client.error_of(CMD_READ, CMD_FLAG_NO_HOLE, 0, 1), EINVAL);
        assert_eq!(client.error_of(CMD_WRITE_ZEROES, 0, LEN, 1), ENOSPC);
        assert_eq!(client.error_of(CMD_WRITE_ZEROES, CMD_FLAG_FAST_ZERO, 0, 1), ENOTSUP);
        assert_eq!(client.error_of(CMD_TRIM, 0, 0, 4096), EINVAL);
        assert_eq!(client.error_of(4711, 0, 0, 1), EINVAL);
        let allocation = if style == Style::Simple { EINVAL } else { 0 };
        assert_eq!(client.error_of(CMD_BLOCK_STATUS, 0, 0, 4096), allocation);
        // Its data is skipped.
        client.send_write(0, 8, LEN - 10, &[7; 3000]);
        assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, ENOSPC);
        assert_eq!(client.error_of(CMD_READ, 0, 0, 4096), 0);
    }
}

#[test]
fn a_read_that_must_not_be_cut_is_refused_when_it_is_large() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    let mut client = Client::connect(local.connect(), Style::Structured);
    assert_eq!(client.error_of(CMD_READ, CMD_FLAG_DF, 0, 2 << 20), EOVERFLOW);
    client.send(CMD_READ, CMD_FLAG_DF, 9, 0, 1 << 20);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).data.len(), 1);
    client.send(CMD_READ, 0, 9, 0, 3 << 20);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).data.len(), 3);
}

#[test]
fn a_read_only_export_takes_no_writes() {
    let disk = encrypted(LEN, SectorSize::B512);
    let export = Export::new(Box::new(disk), "data").with_access(Access::ReadOnly);
    let local = Local::new(Server::new(export.with_discards(Discards::Pass)));
    let mut client = Client::connect(local.connect(), Style::Simple);
    assert_eq!(client.flags & (FLAG_READ_ONLY | FLAG_SEND_TRIM), FLAG_READ_ONLY);
    client.send_write(0, 8, 0, &[7; 3000]);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, EPERM);
    assert_eq!(client.error_of(CMD_WRITE_ZEROES, 0, 0, 1), EPERM);
    assert_eq!(client.error_of(CMD_TRIM, 0, 0, 1), EPERM);
    assert_eq!(client.error_of(CMD_FLUSH, 0, 0, 0), 0);
}

#[test]
fn discards_reach_the_disk_where_they_were_asked_for() {
    let disk = Arc::new(encrypted(LEN, SectorSize::B512).with_discards(Discards::Pass));
    disk.write_zeroes(0..LEN).unwrap();
    let export = Export::new(Box::new(Arc::clone(&disk)), "data").with_discards(Discards::Pass);
    let local = Local::new(Server::new(export));
    let mut client = Client::connect(local.connect(), Style::Simple);
    assert_ne!(client.flags & FLAG_SEND_TRIM, 0);
    let before = disk.inner().allocated();
    assert_eq!(client.error_of(CMD_TRIM, CMD_FLAG_FUA, 0, 1 << 20), 0);
    assert_eq!(disk.inner().allocated(), before - (1 << 20));
    // Zeros are told apart from discards: they are there.
    assert_eq!(client.error_of(CMD_WRITE_ZEROES, 0, 0, 1 << 20), 0);
    assert_eq!(disk.inner().allocated(), before);
}

#[test]
fn holes_are_told_of_a_disk_that_has_them() {
    let disk = Memory::new(LEN);
    disk.write_at(&[1; 8192], 65536).unwrap();
    let local = Local::of(disk);
    let mut client = Client::connect(local.connect(), Style::Structured);
    client.send(CMD_BLOCK_STATUS, 0, 1, 4096, 128 << 10);
    let reply = client.receive(&mut Vec::new(), |_| 0);
    assert_eq!(reply.extents, [(61440, 3), (8192, 0), (61440, 3)]);
    client.send(CMD_BLOCK_STATUS, CMD_FLAG_REQ_ONE, 1, 4096, 128 << 10);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).extents, [(61440, 3)]);
}

#[test]
fn a_disk_that_fails_is_told_as_such() {
    for (style, len) in
        [(Style::Simple, 512), (Style::Structured, 512), (Style::Structured, 3 << 20)]
    {
        let local = Local::of(FaultyDisk::new(Memory::new(LEN), Fault::Io, 0));
        let mut client = Client::connect(local.connect(), style);
        assert_eq!(client.error_of(CMD_READ, 0, 0, len), EIO);
        assert_eq!(client.error_of(CMD_FLUSH, 0, 0, 0), 0);
    }
}

#[test]
fn a_connection_ends_with_the_first_thing_that_is_out_of_step() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    let mut client = Client::connect(local.connect(), Style::Simple);
    client.stream.write_all(&[0; 28]).unwrap();
    assert!(client.is_over());

    let mut client = Client::connect(local.connect(), Style::Simple);
    client.send(CMD_WRITE, 0, 1, 0, u32::MAX);
    assert!(client.is_over());

    let mut client = Client::greet(local.connect());
    client.stream.write_all(&[0; 16]).unwrap();
    assert!(client.is_over());

    let mut client = Client::greet(local.connect());
    client.stream.write_all(b"IHAVEOPT\0\0\0\x07\xff\xff\xff\xff").unwrap();
    assert!(client.is_over());

    let mut stream = local.connect();
    stream.write_all(&[0xff; 4]).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(stream.read(&mut greeting).unwrap_or(0), 0);
}

#[test]
fn an_option_that_is_too_long_is_skipped() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    let mut client = Client::greet(local.connect());
    let replies = client.option(OPT_GO, &vec![0; 100_000]);
    assert_eq!(replies, [(REP_ERR_TOO_BIG, Vec::new())]);
    assert_eq!(client.option(OPT_GO, &[0; 6]).last().unwrap().0, REP_ACK);
}

#[test]
fn options_without_end_end_the_connection() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    let mut client = Client::greet(local.connect());
    for _ in 0..64 {
        client.option(OPT_LIST, b"");
    }
    assert!(client.is_over());
}

#[test]
fn a_client_that_dawdles_is_sent_away() {
    let export = Export::new(Box::new(encrypted(LEN, SectorSize::B512)), "data");
    let limit = Duration::from_millis(300);
    let local = Local::new(Server::new(export).with_handshake_limit(limit));
    let start = Instant::now();
    let mut client = Client::greet(local.connect());
    // A byte now and then does not help.
    for byte in b"IHAVEOPT" {
        if client.stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(60));
    }
    assert!(client.is_over());
    assert!(start.elapsed() < Duration::from_secs(10));
    // Afterwards it may take its time.
    let mut client = Client::connect(local.connect(), Style::Simple);
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(client.error_of(CMD_READ, 0, 0, 4096), 0);
}

#[test]
fn more_clients_than_there_is_room_for_are_sent_away() {
    let local = Local::of(encrypted(LEN, SectorSize::B512));
    let mut clients: Vec<_> =
        (0..64).map(|_| Client::connect(local.connect(), Style::Simple)).collect();
    let mut stream = local.connect();
    assert_eq!(stream.read(&mut [0; 18]).unwrap_or(0), 0);
    for client in &mut clients {
        assert_eq!(client.error_of(CMD_READ, 0, 0, 512), 0);
    }
}

#[test]
fn what_was_asked_for_before_the_end_is_done() {
    let disk = Arc::new(encrypted(LEN, SectorSize::B512));
    let mut local = Local::of(Arc::clone(&disk));
    let mut client = Client::connect(local.connect(), Style::Simple);
    let mut bytes = Vec::new();
    for number in 0..16 {
        bytes.extend(request(CMD_WRITE, 0, number, number * 4096, 4096));
        bytes.extend([number as u8 + 1; 4096]);
    }
    client.stream.write_all(&bytes).unwrap();
    local.end().unwrap();
    for _ in 0..16 {
        assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, 0);
    }
    assert!(client.is_over());
    let mut last = [0; 4096];
    disk.read_at(&mut last, 15 * 4096).unwrap();
    assert_eq!(last, [16; 4096]);
}
