//! PyKMIP, a server that speaks KMIP, started for one test.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Authority, free_port, run, server_program};

/// A server on a port of the loopback that keeps its keys in a file. It ends when it is dropped.
pub struct PyKmip {
    child: Option<Child>,
    python: PathBuf,
    port: u16,
    authority: Authority,
    /// The versions that it is limited to, in Python; empty for all that it has.
    versions: String,
    directory: TempDir,
}

/// A client of it: the certificate and key, in PEM form. The certificate's common name owns keys.
#[derive(Debug, Clone)]
pub struct KmipClient {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl PyKmip {
    /// Starts a server, `None` where the machine has none: the test skips itself then.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Option<Self> {
        Self::speaking(&[])
    }

    /// Starts a server that speaks these versions of KMIP alone, all that it has when there are
    /// none.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn speaking(versions: &[(u32, u32)]) -> Option<Self> {
        let script = server_program("pykmip-server")?;
        // The program lies among those of its environment, maybe behind a link.
        let script = script.canonicalize().expect("the program is there");
        let python = script.with_file_name("python");
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let authority = Authority::new();
        let mut server = Self {
            child: None,
            python,
            port: free_port(),
            authority,
            versions: listed(versions),
            directory,
        };
        let (certificate, key) = server.authority.server_pem("127.0.0.1");
        server.write("server.crt", &certificate);
        server.write("server.key", &key);
        server.write("serve.py", SERVE);
        server.write("settings", &server.settings());
        std::fs::create_dir(server.path("policies")).expect("there is room for a directory");
        server.restart();
        Some(server)
    }

    /// Returns where it is.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns who vouches for it and for its clients.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns a client that owns what it makes.
    pub fn client(&self, name: &str) -> KmipClient {
        let (certificate, key) = self.authority.client_pem(name);
        KmipClient { certificate, key }
    }

    /// Restarts it with the same keys, to speak these versions of KMIP.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn speak(&mut self, versions: &[(u32, u32)]) {
        self.versions = listed(versions);
        self.restart();
    }

    /// Kills it at once.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It takes ten seconds to end when it is asked.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it if it runs, and starts it with the same keys.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let log = std::fs::File::create(self.path("output")).expect("there is room for a file");
        let child = Command::new(&self.python)
            .arg(self.path("serve.py"))
            .arg(&self.versions)
            .args(["-f".as_ref(), self.path("settings").as_os_str()])
            .args(["-l".as_ref(), self.path("log").as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be written from two places"))
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let output = || std::fs::read_to_string(self.path("output"));
            assert!(begun.elapsed() < LIMIT, "the server does not start: {:?}", output());
            std::thread::sleep(POLL);
        }
    }

    /// Creates an active AES key of 256 bits and returns its identifier.
    pub fn create_key(&self, owner: &KmipClient, name: &str) -> String {
        self.manage(owner, &format!("uid = create({name:?}); client.activate(uid); print(uid)"))
    }

    /// Creates an AES key of 256 bits that is not active yet, and returns its identifier.
    pub fn create_inactive_key(&self, owner: &KmipClient, name: &str) -> String {
        self.manage(owner, &format!("print(create({name:?}))"))
    }

    /// Brings an AES key in from outside, activates it, and returns its identifier.
    pub fn import_key(&self, owner: &KmipClient, bytes: &[u8]) -> String {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.manage(owner, &format!("uid = bring({hex:?}); client.activate(uid); print(uid)"))
    }

    /// Activates a key.
    pub fn activate(&self, owner: &KmipClient, id: &str) {
        self.manage(owner, &format!("client.activate({id:?})"));
    }

    /// Revokes a key, which deactivates it.
    pub fn revoke(&self, owner: &KmipClient, id: &str) {
        let reason = "enums.RevocationReasonCode.CESSATION_OF_OPERATION";
        self.manage(owner, &format!("client.revoke({reason}, {id:?})"));
    }

    /// Destroys a key that is not active.
    pub fn destroy(&self, owner: &KmipClient, id: &str) {
        self.manage(owner, &format!("client.destroy({id:?})"));
    }

    /// Creates an active key that takes over the name of another, and returns its identifier.
    pub fn replace_key(&self, owner: &KmipClient, id: &str, name: &str) -> String {
        let take =
            format!("client.delete_attribute({id:?}, attribute_name='Name', attribute_index=0)");
        self.manage(owner, &take);
        self.create_key(owner, name)
    }

    /// Returns the bytes of a key, to look for them where they must not be.
    pub fn key_bytes(&self, owner: &KmipClient, id: &str) -> Vec<u8> {
        let hex = self.manage(owner, &format!("print(client.get({id:?}).value.hex())"));
        let pairs = hex.as_bytes().chunks_exact(2);
        let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        pairs.map(|pair| byte(pair).expect("Python prints digits")).collect()
    }

    /// Runs a line of Python with `client`, PyKMIP's own, and returns what it prints.
    fn manage(&self, who: &KmipClient, line: &str) -> String {
        self.write("client.crt", &who.certificate);
        self.write("client.key", &who.key);
        let mut command = Command::new(&self.python);
        command.arg("-Wignore").arg("-c").arg(format!("{MANAGE}    {line}\n"));
        command.arg(self.port.to_string());
        command.args([self.path("client.crt"), self.path("client.key")]);
        command.arg(self.authority.ca_file());
        run(command, b"").ok().trim().to_owned()
    }

    fn settings(&self) -> String {
        let path = |name| self.path(name).display().to_string();
        format!(
            "[server]\nhostname=127.0.0.1\nport={}\ncertificate_path={}\nkey_path={}\nca_path={}\n\
             auth_suite=TLS1.2\npolicy_path={}\nenable_tls_client_auth=True\ndatabase_path={}\n\
             logging_level=INFO\n",
            self.port,
            path("server.crt"),
            path("server.key"),
            self.authority.ca_file().display(),
            path("policies"),
            path("database"),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("there is room for a file");
    }
}

impl Drop for PyKmip {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Returns versions in Python.
fn listed(versions: &[(u32, u32)]) -> String {
    let listed = versions.iter().map(|(major, minor)| format!("V({major}, {minor})"));
    listed.collect::<Vec<_>>().join(", ")
}

/// Starts the server as its own command does, after limiting the versions of the protocol.
const SERVE: &str = "\
import sys
from kmip.core.messages.contents import ProtocolVersion as V
from kmip.services.server import engine, server

versions = eval('[' + sys.argv.pop(1) + ']')
create = engine.KmipEngine.__init__

def limited(self, *args, **kwargs):
    create(self, *args, **kwargs)
    if versions:
        self._protocol_versions = versions
        self.default_protocol_version = self._protocol_version = versions[-1]

engine.KmipEngine.__init__ = limited
server.main()
";

/// Connects with PyKMIP's own client.
const MANAGE: &str = "\
import sys
from kmip.core import enums
from kmip.pie import objects
from kmip.pie.client import ProxyKmipClient

port, cert, key, ca = sys.argv[1:]
client = ProxyKmipClient(
    hostname='127.0.0.1', port=int(port), cert=cert, key=key, ca=ca,
    ssl_version='PROTOCOL_TLSv1_2', config_file='/dev/null',
    kmip_version=enums.KMIPVersion.KMIP_1_2)

aes = enums.CryptographicAlgorithm.AES
usage = [enums.CryptographicUsageMask.ENCRYPT, enums.CryptographicUsageMask.DECRYPT]

def create(name):
    return client.create(aes, 256, name=name, cryptographic_usage_mask=usage)

def bring(key):
    key = bytes.fromhex(key)
    return client.register(objects.SymmetricKey(aes, 8 * len(key), key, usage))

with client:
";

/// How long the start may take, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);
