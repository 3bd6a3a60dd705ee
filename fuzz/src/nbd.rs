//! NBD: a server that is given whatever a client may send.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use strongroom_attach::nbd::{Export, Server};
use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Discards, Encrypted, Memory};

/// Serves one connection over which all of `input` comes, and reads the replies to their end.
///
/// The first byte says what goes before it: a handshake with simple replies (1), one with structured
/// replies and block status (2), or nothing.
///
/// # Panics
///
/// When the server does not begin with its greeting.
pub fn serve_nbd(input: &[u8]) {
    let Some((style, bytes)) = input.split_first() else { return };
    // More would not fit into the socket at once.
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let (mut client, server) = UnixStream::pair().expect("there are descriptors left");
    let handshake: &[u8] = match style {
        1 => SIMPLE,
        2 => STRUCTURED,
        _ => b"",
    };
    client.write_all(&[handshake, bytes].concat()).expect("it fits into the socket");
    client.shutdown(Shutdown::Write).expect("it is connected");
    let mut replies = Vec::new();
    let others = threads();
    std::thread::scope(|scope| {
        scope.spawn(|| Server::new(export()).serve_connection(server));
        // A server that ends the connection early resets it.
        let _ = client.read_to_end(&mut replies);
    });
    // A scope ends before its threads have freed all that they have, which would look like a leak.
    let begun = Instant::now();
    while threads() > others && begun.elapsed() < LIMIT {
        std::thread::yield_now();
    }
    assert!(replies.starts_with(b"NBDMAGICIHAVEOPT\0\x03"), "no greeting");
}

/// Returns how many threads this process has.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Returns an encrypted export that is small enough for any number of requests.
fn export() -> Export {
    let key = VolumeKey::new((0..64).collect());
    let encryption = CipherSpec::AES_XTS_PLAIN64.with_largest_key();
    let cipher = SectorCipher::new(encryption, &key, SectorSize::B512, IvUnit::Bytes512);
    let cipher = cipher.expect("the key is one of that cipher");
    let disk = Encrypted::new(Memory::new(LEN), 0..LEN, cipher, 0).expect("it is whole sectors");
    let disk = disk.with_discards(Discards::Pass);
    Export::new(Box::new(disk), "data").with_discards(Discards::Pass)
}

/// The client's flags, and `NBD_OPT_GO` for the default export.
pub const SIMPLE: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";

/// The client's flags, `NBD_OPT_STRUCTURED_REPLY`, `NBD_OPT_SET_META_CONTEXT`, and `NBD_OPT_GO`.
pub const STRUCTURED: &[u8] = b"\0\0\0\x03IHAVEOPT\0\0\0\x08\0\0\0\0\
    IHAVEOPT\0\0\0\x0a\0\0\0\x1b\0\0\0\0\0\0\0\x01\0\0\0\x0fbase:allocation\
    IHAVEOPT\0\0\0\x07\0\0\0\x06\0\0\0\0\0\0";

const LEN: u64 = 64 << 10;

const LONGEST: usize = 64 << 10;

/// How long threads may take to end.
const LIMIT: Duration = Duration::from_secs(1);
