//! A driver that runs, with a pool of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::process::{Pid, Signal};
use strongroom_csi::messages::{
    AccessMode, BlockVolume, CapacityRange, CreateVolumeRequest, CreateVolumeResponse, Map,
    MountVolume, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeStageVolumeRequest,
    NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeCapability,
};
use strongroom_testkit::{run, skip, wait};
use tempfile::TempDir;
use tonic::Status;

use crate::client::Client;

/// A driver, its pool and its socket. What it has attached is detached when it is dropped.
pub(crate) struct Driver {
    child: Child,
    directory: TempDir,
    kek: bool,
}

impl Driver {
    /// Starts a driver; `None` where a test cannot attach volumes, and says so.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip(test, "only root can attach and mount volumes");
            return None;
        }
        if !Path::new("/dev/loop-control").exists() || !Path::new("/dev/fuse").exists() {
            skip(test, "this machine has no loop devices or no FUSE");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let kek = directory.path().join("kek");
        run(strongroom(&["kms", "init-local", kek.to_str().unwrap()]), b"").ok();
        for folder in ["staging", "pods"] {
            fs::create_dir(directory.path().join(folder)).unwrap();
        }
        let child = spawn(directory.path());
        let driver = Self { child, directory, kek: true };
        driver.client();
        Some(driver)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("csi.sock")
    }

    /// Everything that the driver has printed.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Connects as soon as the driver listens.
    pub(crate) fn client(&self) -> Client {
        let start = Instant::now();
        loop {
            if let Some(client) = Client::connect(&self.socket()) {
                return client;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "no driver: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the driver as nobody can defend against, and starts another one.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(self.directory.path());
        self.client();
    }

    /// Asks the driver to end, and returns whether it did so in order.
    pub(crate) fn stop(&mut self) -> bool {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        wait(&mut self.child, Duration::from_secs(60)).is_some_and(|status| status.success())
    }

    pub(crate) fn call<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: &str,
        request: Q,
    ) -> Result<A, Status> {
        self.client().call(method, request)
    }

    /// Makes a volume of 64 MiB.
    pub(crate) fn create(&self, name: &str, parameters: Map) -> Result<(), Status> {
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: 64 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![mount()],
            parameters,
            ..CreateVolumeRequest::default()
        };
        self.call("Controller/CreateVolume", request).map(|_: CreateVolumeResponse| ())
    }

    pub(crate) fn stage(
        &self,
        name: &str,
        how: &VolumeCapability,
        secrets: Map,
    ) -> Result<(), Status> {
        let staging = self.path("staging").join(name);
        // The orchestrator makes it.
        fs::create_dir_all(&staging).unwrap();
        let request = NodeStageVolumeRequest {
            volume_id: name.to_owned(),
            staging_target_path: staging.to_str().unwrap().to_owned(),
            volume_capability: Some(how.clone()),
            secrets,
            ..NodeStageVolumeRequest::default()
        };
        self.call("Node/NodeStageVolume", request).map(|_: NodeStageVolumeResponse| ())
    }

    pub(crate) fn unstage(&self, name: &str) -> Result<(), Status> {
        let staging = self.path("staging").join(name);
        let request = NodeUnstageVolumeRequest {
            volume_id: name.to_owned(),
            staging_target_path: staging.to_str().unwrap().to_owned(),
        };
        self.call("Node/NodeUnstageVolume", request).map(|_: NodeUnstageVolumeResponse| ())
    }

    /// Publishes a volume below `pods`, and returns where.
    pub(crate) fn publish(&self, name: &str, how: &VolumeCapability) -> Result<PathBuf, Status> {
        let target = self.path("pods").join(name);
        let request = NodePublishVolumeRequest {
            volume_id: name.to_owned(),
            staging_target_path: self.path("staging").join(name).to_str().unwrap().to_owned(),
            target_path: target.to_str().unwrap().to_owned(),
            volume_capability: Some(how.clone()),
            ..NodePublishVolumeRequest::default()
        };
        self.call("Node/NodePublishVolume", request).map(|_: NodePublishVolumeResponse| target)
    }

    pub(crate) fn unpublish(&self, name: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: name.to_owned(),
            target_path: self.path("pods").join(name).to_str().unwrap().to_owned(),
        };
        self.call("Node/NodeUnpublishVolume", request).map(|_: NodeUnpublishVolumeResponse| ())
    }

    /// Tells whether any file of the pool holds these bytes.
    pub(crate) fn pool_holds(&self, pattern: &[u8]) -> bool {
        let mut folders = vec![self.path("pool")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if holds(&fs::read(entry.path()).unwrap(), pattern) {
                    return true;
                }
            }
        }
        false
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.kek {
            return;
        }
        // A test that failed may have left something attached.
        let pool = self.path("pool").to_str().unwrap().to_owned();
        for folder in ["pods", "staging"] {
            let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
            for entry in entries {
                let _ = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH);
            }
        }
        let listed = run(strongroom(&["volume", "list", "--pool", &pool, "--json"]), b"");
        let names = listed.stdout.split('"').collect::<Vec<_>>();
        for pair in names.windows(3).filter(|words| words[0] == "volume") {
            run(strongroom(&["volume", "detach", pair[2], "--pool", &pool]), b"");
        }
    }
}

/// Returns a capability to mount with the default file system.
pub(crate) fn mount() -> VolumeCapability {
    VolumeCapability {
        block: None,
        mount: Some(MountVolume::default()),
        access_mode: Some(AccessMode { mode: SINGLE_NODE_WRITER }),
    }
}

/// Returns a capability of raw block access.
pub(crate) fn block() -> VolumeCapability {
    VolumeCapability { block: Some(BlockVolume {}), mount: None, ..mount() }
}

/// Returns a map.
pub(crate) fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn holds(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes.windows(pattern.len()).any(|window| window == pattern)
}

fn spawn(directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let text = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    strongroom(&["csi", "--node-id", "node-1", "--driver-name", "csi.example.com"])
        .args(["--pool", &text("pool"), "--kek-file", &text("kek")])
        .env("CSI_ENDPOINT", format!("unix://{}", text("csi.sock")))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn strongroom(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    command.args(words);
    command
}

const SINGLE_NODE_WRITER: i32 = 1;
