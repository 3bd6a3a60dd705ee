//! Images with file systems and partitions in them, as people have them.

use std::fs;
use std::path::Path;
use std::process::Command;

use strongroom_testkit::{Outcome, Pattern, Tool, run};

use crate::workplace::{CHEAP, Workplace, has};

fn tool(place: &Workplace, tool: Tool, words: &[&str]) -> Outcome {
    let mut command = tool.command();
    command.args(words).current_dir(place.path("."));
    run(command, b"")
}

/// Makes a tree of files to be found again: small, large, empty, sparse, with names of all kinds.
fn plant(root: &Path) {
    for directory in ["", "etc", "home/someone with spaces", "var/lib/deep/er/still"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    let mut bytes = vec![0; 3 << 20];
    Pattern::sparse(9, 4096).fill(&mut bytes, 0);
    fs::write(root.join("var/lib/large"), &bytes).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    for number in 0..200_usize {
        let name = format!("var/lib/deep/er/still/file {number} mit Übermut");
        fs::write(root.join(name), &bytes[number * 1000..number * 1037]).unwrap();
    }
    fs::write(root.join("etc/passwd"), b"root:x:0:0::/root:/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("../etc/passwd", root.join("home/link")).unwrap();
}

/// Takes the files out of a file system and compares them with those that were planted.
fn assert_files(place: &Workplace, image: &str) {
    let verdict = tool(place, Tool::FSCK_EXT4, &["-fn", image]);
    assert_eq!(verdict.code, Some(0), "{}", verdict.describe());
    let _ = fs::remove_dir_all(place.path("found"));
    fs::create_dir(place.path("found")).unwrap();
    tool(place, Tool::DEBUGFS, &["-R", "rdump / found", image]).ok();
    fs::remove_dir(place.path("found/lost+found")).unwrap();
    let mut command = Command::new("diff");
    command.args(["-r", "--no-dereference", "tree", "found"]).current_dir(place.path("."));
    run(command, b"").ok();
}

/// Encrypts an image to both formats and decrypts it to a raw one again; `check` looks at that.
fn round_trips(place: &Workplace, source: &str, check: impl Fn(&str)) {
    let key = format!("--passphrase-file pw {CHEAP}");
    place.strongroom(&format!("image encrypt {source} a.qcow2 {key}")).ok();
    place.strongroom(&format!("image encrypt {source} b.luks {key} --sector-size 4096")).ok();
    for name in ["a.qcow2", "b.luks"] {
        let words = format!("image decrypt {name} again.img --force --passphrase-file pw");
        place.strongroom(&words).ok();
        check("again.img");
    }
    // All the way round: through qcow2, compressed, and back.
    place.strongroom("image decrypt b.luks c.qcow2 --compress zstd --passphrase-file pw").ok();
    place.qemu_img("check -q c.qcow2").ok();
    place.strongroom("image clone c.qcow2 again.img --force").ok();
    check("again.img");
}

#[test]
fn a_file_system_is_whole_after_encryption_and_decryption() {
    let tools = [Tool::MKFS_EXT4, Tool::FSCK_EXT4, Tool::DEBUGFS, Tool::QEMU_IMG];
    if !has("real_images::file_system", &tools) {
        return;
    }
    let place = Workplace::new();
    plant(&place.path("tree"));
    place.sized("disk.img", 64 << 20);
    tool(&place, Tool::MKFS_EXT4, &["-q", "-d", "tree", "disk.img"]).ok();
    assert_files(&place, "disk.img");
    place.qemu_img("convert -c -f raw -O qcow2 disk.img disk.qcow2").ok();
    round_trips(&place, "disk.qcow2", |name| {
        place.same(name, "disk.img").unwrap();
        assert_files(&place, name);
    });
}

#[test]
fn a_partitioned_disk_is_whole_after_encryption_and_decryption() {
    let tools = [Tool::MKFS_EXT4, Tool::FSCK_EXT4, Tool::DEBUGFS, Tool::QEMU_IMG, Tool::SFDISK];
    if !has("real_images::partitions", &tools) {
        return;
    }
    let place = Workplace::new();
    plant(&place.path("tree"));
    place.sized("disk.img", 96 << 20);
    let mut command = Tool::SFDISK.command();
    command.args(["-q", "disk.img"]).current_dir(place.path("."));
    run(command, b"label: gpt\nsize=8M, type=uefi\nsize=64M, type=linux\n").ok();
    let table = tool(&place, Tool::SFDISK, &["--json", "disk.img"]).ok();
    let table: serde_json::Value = serde_json::from_str(&table).unwrap();
    let partition = &table["partitiontable"]["partitions"][1];
    let start = partition["start"].as_u64().unwrap() * 512;
    let len = partition["size"].as_u64().unwrap() * 512;
    let offset = format!("offset={start}");
    let blocks = format!("{}k", len >> 10);
    let words = ["-q", "-E", &offset, "-d", "tree", "disk.img", &blocks];
    tool(&place, Tool::MKFS_EXT4, &words).ok();
    place.qemu_img("convert -f raw -O qcow2 disk.img disk.qcow2").ok();
    round_trips(&place, "disk.qcow2", |name| {
        place.same(name, "disk.img").unwrap();
        assert_eq!(
            tool(&place, Tool::SFDISK, &["--json", name]).ok().replace(name, "disk.img"),
            tool(&place, Tool::SFDISK, &["--json", "disk.img"]).ok()
        );
        let verdict = tool(&place, Tool::SFDISK, &["--verify", name]);
        assert_eq!(verdict.code, Some(0), "{}", verdict.describe());
        let bytes = place.read(name);
        place.write("partition", &bytes[start as usize..(start + len) as usize]);
        assert_files(&place, "partition");
    });
}
