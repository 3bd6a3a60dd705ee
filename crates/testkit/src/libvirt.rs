//! A libvirt daemon of its own for one test.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{Outcome, Tool, measured, run};

/// A daemon for QEMU, with its drivers of storage and secrets, as the system's own one would be. Its
/// configuration, state, secrets and sockets lie below a temporary directory, since it runs in a mount
/// namespace where that directory takes the place of libvirt's, and in a network namespace without any
/// network. It ends when it is dropped, and any number of them run at once.
pub struct Libvirt {
    child: Option<Child>,
    directory: TempDir,
}

impl Libvirt {
    /// Starts a daemon without pools and secrets, `None` where the machine has none or lets nobody make
    /// namespaces, which takes root: the test skips itself then.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start() -> Option<Self> {
        let tools = [LIBVIRTD, Tool::VIRSH, UNSHARE, Tool::QEMU_IMG];
        if !tools.into_iter().all(Tool::available) {
            return None;
        }
        let mut command = UNSHARE.command();
        command.args(NAMESPACES).arg("true");
        run(command, b"").success().ok()?;
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let mut daemon = Self { child: None, directory };
        daemon.restart();
        Some(daemon)
    }

    /// Returns what names it to clients of libvirt.
    pub fn uri(&self) -> String {
        format!("qemu:///system?socket={}", self.path("run/libvirt-sock").display())
    }

    /// Runs a command of `virsh` against it.
    pub fn virsh<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Outcome {
        let words: Vec<S> = words.into_iter().collect();
        measured(|| {
            let mut command = Tool::VIRSH.command();
            // The history of commands and the like belong to the test as well.
            command.env("HOME", self.directory.path());
            command.env("XDG_RUNTIME_DIR", self.directory.path());
            command.arg("--quiet").arg("--connect").arg(self.uri()).args(&words);
            run(command, b"")
        })
    }

    /// Defines and starts a pool in a directory, which is made, and returns where its volumes lie.
    ///
    /// # Panics
    ///
    /// When the daemon refuses.
    pub fn define_pool(&self, name: &str) -> PathBuf {
        let folder = self.path(&format!("pools/{name}"));
        std::fs::create_dir_all(&folder).expect("there is room for a directory");
        let target = folder.display().to_string();
        self.virsh(["pool-define-as", name, "dir", "--target", &target]).ok();
        self.virsh(["pool-start", name]).ok();
        folder
    }

    /// Defines a secret for a volume, and gives it a value. `usage` is the path of the volume.
    ///
    /// # Panics
    ///
    /// When the daemon refuses.
    pub fn define_secret(&self, uuid: &str, usage: &Path, value: &[u8]) {
        let xml = format!(
            "<secret ephemeral='no' private='no'><uuid>{uuid}</uuid>\
             <usage type='volume'><volume>{}</volume></usage></secret>",
            usage.display()
        );
        let document = self.write(&format!("{uuid}.xml"), xml.as_bytes());
        let text = self.write(&format!("{uuid}.value"), value);
        self.virsh(["secret-define".as_ref(), document.as_os_str()]).ok();
        let words = ["secret-set-value", uuid, "--plain", "--file"].map(AsRef::as_ref);
        self.virsh(words.into_iter().chain([text.as_os_str()])).ok();
    }

    /// Has it create a volume as a document says, which is kept in a file of that name, and returns how
    /// that went.
    pub fn create_volume(&self, pool: &str, file: &str, document: &str) -> Outcome {
        let document = self.write(file, document.as_bytes());
        self.virsh(["vol-create".as_ref(), pool.as_ref(), document.as_os_str()])
    }

    /// Has it create a volume as a document says out of another one of the same pool, and returns how
    /// that went.
    pub fn create_volume_from(
        &self,
        pool: &str,
        file: &str,
        document: &str,
        source: &str,
    ) -> Outcome {
        let document = self.write(file, document.as_bytes());
        let words = ["vol-create-from", "--inputpool", pool, "--pool", pool, "--vol", source];
        let words = words.map(AsRef::as_ref);
        let words = words.into_iter().chain(["--file".as_ref(), document.as_os_str()]);
        self.virsh(words)
    }

    /// Ends it, and starts it with the configuration, pools and secrets that it had.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let log = std::fs::File::create(self.path("output")).expect("there is room for a file");
        let mut command = UNSHARE.command();
        command.args(NAMESPACES).args(["sh", "-euc", START, "sh"]).arg(self.directory.path());
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be written from two places"))
            .stderr(log)
            .spawn()
            .expect("the daemon can be started");
        self.child = Some(child);
        let begun = Instant::now();
        // Not the hypervisor's version, for which the daemon asks each emulator what it can do.
        while self.virsh(["secret-list"]).code != Some(0) {
            let read = |name| std::fs::read_to_string(self.path(name)).unwrap_or_default();
            let told = [read("output"), read("log/daemon")].concat();
            let ended = self.child.as_mut().map(Child::try_wait);
            let runs = matches!(ended, Some(Ok(None)));
            assert!(runs && begun.elapsed() < LIMIT, "the daemon does not start: {told}");
            std::thread::sleep(POLL);
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).expect("there is room for a file");
        path
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The daemon that has all drivers in one process.
const LIBVIRTD: Tool = Tool::named("libvirtd");

/// Starts a program in namespaces of its own.
const UNSHARE: Tool = Tool::named("unshare");

/// Mounts and network.
const NAMESPACES: [&str; 2] = ["--mount", "--net"];

/// Puts directories of the test in the place of libvirt's own and becomes the daemon. Its driver for
/// QEMU does not start without the user `libvirt-qemu`, which these packages of Debian's do not make: in
/// this namespace alone there is one, and nothing runs as that user.
const START: &str = "
home=$1
for pair in /etc/libvirt:etc /var/lib/libvirt:lib /run/libvirt:run /var/cache/libvirt:cache \\
    /var/log/libvirt:log; do
    mkdir -p ${pair%%:*} $home/${pair##*:}
    mount --bind $home/${pair##*:} ${pair%%:*}
done
for list in passwd group; do
    grep -v ^libvirt-qemu: /etc/$list > $home/$list
done
echo libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin >> $home/passwd
echo libvirt-qemu:x:64055: >> $home/group
for list in passwd group; do
    mount --bind $home/$list /etc/$list
done
cat > $home/etc/libvirtd.conf <<END
unix_sock_dir = \"$home/run\"
auth_unix_ro = \"none\"
auth_unix_rw = \"none\"
log_outputs = \"3:file:$home/log/daemon\"
END
cat > $home/etc/qemu.conf <<END
user = \"root\"
group = \"root\"
security_driver = \"none\"
cgroup_controllers = []
namespaces = []
stdio_handler = \"file\"
END
exec libvirtd -f $home/etc/libvirtd.conf -p $home/run/pid
";

/// How long the start may take, on a machine however busy.
const LIMIT: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);
