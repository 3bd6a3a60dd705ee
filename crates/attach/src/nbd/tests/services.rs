//! Servers that are processes of their own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use strongroom_luks::{Payload, Version};

use super::client::{Client, Style};
use super::*;
use crate::EncryptedContents;
use crate::nbd::wire::*;

const START: u64 = 1 << 20;
const LEN: u64 = 4 << 20;

/// Where a volume lies and its server listens. What a failed test has left running is ended.
struct Fixture {
    directory: tempfile::TempDir,
    address: String,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backing = fs::File::create(directory.path().join("backing")).unwrap();
        backing.set_len(START + LEN).unwrap();
        let address = directory.path().join("nbd").display().to_string();
        Self { directory, address }
    }

    fn path(&self) -> &Path {
        Path::new(&self.address)
    }

    fn backing(&self) -> PathBuf {
        self.directory.path().join("backing")
    }

    fn volume(&self) -> OpenedVolume {
        let encryption =
            "aes-xts-plain64".parse::<CipherSpec>().unwrap().with_key_bits(512).unwrap();
        let payload = Payload {
            offset: START,
            length: LEN,
            encryption,
            sector_size: SectorSize::B4096,
            iv_tweak: 0,
        };
        OpenedVolume {
            name: "data".to_owned(),
            backing: self.backing(),
            encrypted: Some(EncryptedContents {
                version: Version::Luks2,
                uuid: "0b51".to_owned(),
                payload,
                key: VolumeKey::new((0..64).collect()),
            }),
        }
    }

    fn start(&self) -> Result<()> {
        start(&launcher(), &self.volume(), &self.address, &Options::default())
    }

    fn connect(&self) -> Client {
        Client::connect(UnixStream::connect(self.path()).unwrap(), Style::Simple)
    }

    fn pid(&self) -> Pid {
        Address::parse(&self.address).unwrap().server().unwrap().unwrap().pid
    }

    /// What is in the directory besides the backing.
    fn leftovers(&self) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != "backing").collect()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = stop(&self.address);
    }
}

/// Returns how this crate's own service is started: cargo builds it beside the tests.
fn launcher() -> Launcher {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/attachment_service");
    assert!(program.is_file(), "{}: cargo build --examples makes it", program.display());
    Launcher { program, arguments: Vec::new() }
}

#[test]
fn a_server_starts_serves_and_stops() {
    let fixture = Fixture::new();
    assert!(!serves(&fixture.address).unwrap());
    fixture.start().unwrap();
    assert!(serves(&fixture.address).unwrap());
    let mode = fs::metadata(fixture.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut client = fixture.connect();
    assert_eq!(client.len, LEN);
    client.send_write(0, 1, 0, &[0x41; 8192]);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, 0);
    // The client stays connected.
    stop(&fixture.address).unwrap();
    stop(&fixture.address).unwrap();
    assert!(client.is_over());
    assert!(!serves(&fixture.address).unwrap());
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());

    let ciphertext = fs::read(fixture.backing()).unwrap();
    let written = &ciphertext[START as usize..START as usize + 8192];
    assert!(written.iter().any(|byte| *byte != 0));
    assert!(!written.windows(16).any(|bytes| bytes == [0x41; 16]));
    fixture.start().unwrap();
    let mut client = fixture.connect();
    client.send(CMD_READ, 0, 2, 0, 8192);
    let reply = client.receive(&mut Vec::new(), |_| 8192);
    assert_eq!(reply.data[0].1, [0x41; 8192]);
}

#[test]
fn two_servers_never_share_an_address() {
    let fixture = Fixture::new();
    fixture.start().unwrap();
    assert_eq!(fixture.start().unwrap_err().kind(), ErrorKind::Busy);
    let mut client = fixture.connect();
    assert_eq!(client.error_of(CMD_READ, 0, 0, 512), 0);
}

#[test]
fn a_server_that_was_killed_is_noticed_and_replaced() {
    let fixture = Fixture::new();
    fixture.start().unwrap();
    let mut client = fixture.connect();
    client.send_write(CMD_FLAG_FUA, 1, 4096, &[0x42; 4096]);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, 0);
    let pid = fixture.pid();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&process, Signal::KILL).unwrap();
    assert!(client.is_over());
    await_end(&process, &Address::parse(&fixture.address).unwrap(), pid).unwrap();
    assert!(!serves(&fixture.address).unwrap());
    assert!(fixture.path().exists());
    fixture.start().unwrap();
    let mut client = fixture.connect();
    client.send(CMD_READ, 0, 2, 4096, 4096);
    assert_eq!(client.receive(&mut Vec::new(), |_| 4096).data[0].1, [0x42; 4096]);
    drop(client);

    let process = pidfd_open(fixture.pid(), PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&process, Signal::KILL).unwrap();
    await_end(&process, &Address::parse(&fixture.address).unwrap(), pid).unwrap();
    stop(&fixture.address).unwrap();
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

#[test]
fn stopping_leaves_the_servers_of_others_alone() {
    let fixture = Fixture::new();
    let listener = UnixListener::bind(fixture.path()).unwrap();
    assert!(!serves(&fixture.address).unwrap());
    stop(&fixture.address).unwrap();
    assert!(fixture.path().exists());
    assert_eq!(fixture.start().unwrap_err().kind(), ErrorKind::Busy);
    drop(listener);
    fixture.start().unwrap();
}

#[test]
fn a_port_is_served_and_found_again() {
    let fixture = Fixture::new();
    let port = strongroom_testkit::free_port();
    let address = format!("127.0.0.1:{port}");
    start(&launcher(), &fixture.volume(), &address, &Options::default()).unwrap();
    let again = start(&launcher(), &fixture.volume(), &address, &Options::default());
    let was_served = serves(&address).unwrap();
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    stop(&address).unwrap();
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Busy);
    assert!(was_served && !serves(&address).unwrap());
    assert!(std::net::TcpStream::connect(&address).is_err());
}

#[test]
fn the_network_is_not_served_without_knowing_the_clients() {
    let fixture = Fixture::new();
    for address in ["0.0.0.0:10809", "[::]:10809", "192.0.2.1:10809"] {
        let error =
            start(&launcher(), &fixture.volume(), address, &Options::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request, "{error}");
    }
}

#[test]
fn a_server_that_cannot_begin_says_why_and_leaves_nothing() {
    let fixture = Fixture::new();
    fs::remove_file(fixture.backing()).unwrap();
    let error = fixture.start().unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("backing"), "{error}: {cause}");
    assert!(fixture.leftovers().is_empty(), "{:?}", fixture.leftovers());
}

#[test]
fn a_read_only_server_opens_its_backing_for_reading() {
    let fixture = Fixture::new();
    let options = Options { read_only: true, ..Options::default() };
    start(&launcher(), &fixture.volume(), &fixture.address, &options).unwrap();
    let mut client = fixture.connect();
    assert_ne!(client.flags & FLAG_READ_ONLY, 0);
    client.send_write(0, 1, 0, &[1; 512]);
    assert_eq!(client.receive(&mut Vec::new(), |_| 0).error, EPERM);
    client.stream.flush().unwrap();
}
