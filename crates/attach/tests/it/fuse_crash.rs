//! Servers that are killed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom_attach::{fuse, loop_device};
use strongroom_crypto::SectorSize;
use strongroom_testkit::{Tool, run, skip};

use crate::rig::{Aligned, Random, Rig, kill, processes};

#[test]
fn a_server_that_is_killed_under_load_is_replaced_without_an_error() {
    let test = "a_server_that_is_killed_under_load_is_replaced_without_an_error";
    if kernel() < (6, 9) {
        return skip(test, "the kernel cannot send requests again (Linux 6.9)");
    }
    let Some(rig) = Rig::with_device(test, 256 << 20, SectorSize::B512) else { return };
    let inode = rig.make_file();
    let device = rig.attach();
    make_ext4(&device);
    rig.mount(&device, "ext4");
    let (ended, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut servers = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let path = rig.mount_point().join(format!("file-{writer}"));
                let (ended, written) = (&ended, &written);
                scope.spawn(move || load(&path, writer, ended, written))
            })
            .collect();
        for _ in 0..KILLS {
            let (_, server) = processes(inode);
            servers.push(server);
            let before = written.load(Ordering::Relaxed);
            kill(server);
            // Work has gone on before the next one is killed.
            wait_until("a write succeeds", || written.load(Ordering::Relaxed) > before + 40);
        }
        ended.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    servers.sort_unstable();
    servers.dedup();
    assert_eq!(servers.len(), KILLS, "each was another process");
    rig.unmount();
    run_fsck(&device);
    rig.detach();
}

#[test]
fn without_a_supervisor_everything_fails_at_once_and_is_cleaned_up() {
    let test = "without_a_supervisor_everything_fails_at_once_and_is_cleaned_up";
    let Some(rig) = Rig::with_device(test, 64 << 20, SectorSize::B4096) else { return };
    let inode = rig.make_file();
    let device = rig.attach();
    make_ext4(&device);
    rig.mount(&device, "ext4");
    let durable = rig.mount_point().join("durable");
    fs::write(&durable, "synced before the crash").unwrap();
    File::open(&durable).unwrap().sync_all().unwrap();
    let open = OpenOptions::new().write(true).open(&durable).unwrap();

    let (supervisor, server) = processes(inode);
    kill(supervisor);
    kill(server);
    wait_until("the server is gone", || !fuse::serves(&rig.file()).unwrap());
    let start = Instant::now();
    open.write_all_at(b"lost", 0).and_then(|()| open.sync_all()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "it failed, but not at once");
    let error = fs::metadata(rig.file()).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(107), "transport endpoint is not connected");
    assert!(loop_device::of(&rig.file()).unwrap().is_empty(), "what it leaves is not used again");

    drop(open);
    // That it was not whole is no news.
    let _ = rustix::mount::unmount(rig.mount_point(), rustix::mount::UnmountFlags::empty());
    rig.detach();
    assert!(!rig.file().exists());
    let device = rig.attach();
    rig.mount(&device, "ext4");
    assert_eq!(fs::read(&durable).unwrap(), b"synced before the crash");
    rig.unmount();
    run_fsck(&device);
    rig.detach();
}

#[test]
fn what_a_dead_server_left_is_in_nobodys_way() {
    let test = "what_a_dead_server_left_is_in_nobodys_way";
    let Some(rig) = Rig::with_device(test, 1 << 20, SectorSize::B512) else { return };
    let inode = rig.make_file();
    rig.start_server();
    let (supervisor, server) = processes(inode);
    kill(supervisor);
    kill(server);
    wait_until("the server is gone", || !fuse::serves(&rig.file()).unwrap());
    // Nothing is cleaned up first.
    rig.start_server();
    assert!(fuse::serves(&rig.file()).unwrap());
    fuse::stop(&rig.file()).unwrap();
}

#[test]
fn no_secret_is_told_by_the_processes() {
    let test = "no_secret_is_told_by_the_processes";
    let Some(rig) = Rig::with_device(test, 1 << 20, SectorSize::B512) else { return };
    let inode = rig.make_file();
    rig.start_server();
    let (supervisor, server) = processes(inode);
    let key = rig.volume().encrypted.unwrap().key;
    for pid in [supervisor, server] {
        for name in ["cmdline", "environ"] {
            let told = fs::read(format!("/proc/{pid}/{name}")).unwrap();
            assert!(!told.windows(8).any(|window| window == &key.expose_bytes()[..8]));
            assert!(!told.windows(5).any(|window| window == b"CARGO"), "{name} is inherited");
        }
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(cores.split_ascii_whitespace().nth(4) == Some("0"), "{cores}");
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let targets: Vec<_> =
            open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap()).collect();
        let pipes = targets.iter().filter(|target| target.to_string_lossy().contains("pipe:"));
        assert_eq!(pipes.count(), 0, "{targets:?}");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), Path::new("/"));
    }
    fuse::stop(&rig.file()).unwrap();
}

/// Writes blocks that say what they are, past the cache of pages, and reads them again, until it is
/// told to end.
fn load(path: &Path, writer: usize, ended: &AtomicBool, written: &AtomicU64) {
    let flags = rustix::fs::OFlags::DIRECT.bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .custom_flags(flags)
        .open(path)
        .unwrap();
    let mut generations = vec![0_u64; BLOCKS];
    let (mut buffer, mut random) = (Aligned::new(BLOCK), Random(writer as u64));
    let mut step = 0;
    while !ended.load(Ordering::Relaxed) || step < BLOCKS {
        step += 1;
        let block = random.below(BLOCKS);
        let at = (block * BLOCK) as u64;
        generations[block] += 1;
        fill(buffer.bytes(), writer, block, generations[block]);
        file.write_all_at(buffer.bytes(), at).unwrap();
        if step % 16 == 0 {
            file.sync_data().unwrap();
        }
        let block = random.below(BLOCKS);
        if generations[block] > 0 {
            let mut expected = vec![0; BLOCK];
            fill(&mut expected, writer, block, generations[block]);
            file.read_exact_at(buffer.bytes(), (block * BLOCK) as u64).unwrap();
            assert!(buffer.bytes() == expected, "block {block} of writer {writer}");
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
}

fn fill(bytes: &mut [u8], writer: usize, block: usize, generation: u64) {
    let seed = (writer as u64) << 48 | (block as u64) << 32 | generation;
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at as u64).to_le_bytes());
    }
}

fn make_ext4(device: &Path) {
    let mut command = Tool::MKFS_EXT4.command();
    command.args(["-q", "-F"]).arg(device);
    run(command, b"").ok();
}

fn run_fsck(device: &Path) {
    let mut command = Tool::FSCK_EXT4.command();
    command.args(["-f", "-n"]).arg(device);
    run(command, b"").ok();
}

fn wait_until(what: &str, mut happens: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happens() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: never");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

const KILLS: usize = 12;
const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 256;
