mod client;
mod clients_of_others;
mod hostile;
mod model;
mod services;

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use strongroom_crypto::{CipherSpec, IvUnit, SectorCipher, SectorSize, VolumeKey};
use strongroom_disk::{Disk, Encrypted, Memory};

use super::*;

/// Returns a view through a cipher of memory that holds noise.
fn encrypted(len: u64, sector_size: SectorSize) -> Encrypted<Memory> {
    let key = VolumeKey::new((0..64).collect());
    let encryption = "aes-xts-plain64".parse::<CipherSpec>().unwrap().with_key_bits(512).unwrap();
    let cipher = SectorCipher::new(encryption, &key, sector_size, IvUnit::Bytes512).unwrap();
    Encrypted::new(Memory::new(len), 0..len, cipher, 0).unwrap()
}

/// A server in threads of this process, on a socket of its own.
struct Local {
    directory: tempfile::TempDir,
    server: Arc<Server>,
    stop: UnixStream,
    thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl Local {
    fn new(server: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("nbd")).unwrap();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let server = Arc::new(server);
        let serving = Arc::clone(&server);
        let thread = std::thread::spawn(move || serving.serve(listener, stopped));
        Self { directory, server, stop, thread: Some(thread) }
    }

    fn of(disk: impl Disk + 'static) -> Self {
        Self::new(Server::new(Export::new(Box::new(disk), "data")))
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("nbd")
    }

    fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.path().display())
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.path()).unwrap()
    }

    /// Ends the server and returns how that went.
    fn end(&mut self) -> std::io::Result<()> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        self.stop.write_all(b"x").unwrap();
        thread.join().unwrap()
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // A test that has failed already shall not fail twice.
        let _ = self.end();
        assert!(std::thread::panicking() || self.server.is_idle());
    }
}
