//! What a job may take: memory, speed, the page cache, and other jobs' sources.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use strongroom_crypto::Hash;
use strongroom_disk::{Access, Disk, Raw};
use strongroom_testkit::{Pattern, Tool};

use crate::workplace::{CHEAP, Workplace, has};

/// Runs a command and returns the most memory that it had resident, in bytes.
fn peak(place: &Workplace, words: &str) -> u64 {
    let mut child = place
        .command(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let status = loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        most = most.max(kib.unwrap_or(0_u64) << 10);
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success(), "{words}: {status}");
    assert!(most > 1 << 20, "{words}: {most} bytes are no program");
    most
}

/// Makes an image with so many runs of data, each of 8 MiB.
fn spread(place: &Workplace, name: &str, len: u64, runs: u64) {
    place.sized(name, len);
    let disk = Raw::open(place.path(name), Access::ReadWrite).unwrap();
    let mut data = vec![0; 8 << 20];
    for number in 0..runs {
        // Half of it is noise, half of it gets shorter when compressed.
        Pattern::dense(number).fill(&mut data[..4 << 20], 0);
        disk.write_at(&data, number * (len / runs)).unwrap();
        disk.write_at(&[number as u8 + 1; 1 << 20], number * (len / runs) + (5 << 20)).unwrap();
    }
}

#[test]
fn no_job_needs_more_than_64_mib() {
    if !has("limits::memory", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    spread(&place, "plain", 2 << 30, 24);
    place.qemu_img("convert -f raw -O qcow2 -o cluster_size=2M plain large.qcow2").ok();
    place.qemu_img("convert -c -f raw -O qcow2 -o cluster_size=2M plain zipped.qcow2").ok();
    let zstd = "-o cluster_size=2M,compression_type=zstd";
    place.qemu_img(&format!("convert -c -f raw -O qcow2 {zstd} plain zstd.qcow2")).ok();
    let digest: Vec<String> = Hash::Sha256
        .digest(&[&place.read("zipped.qcow2")])
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let key = format!("--passphrase-file pw {CHEAP}");
    // Eight threads are the most that a job takes by itself.
    for words in [
        format!("encrypt plain volume {key}"),
        format!("encrypt plain a.qcow2 --resume {key}"),
        format!("encrypt zipped.qcow2 b.qcow2 {key} --checksum sha256:{}", digest.concat()),
        "clone zstd.qcow2 h.qcow2 --compress zstd --threads 8".to_owned(),
        format!("reencrypt a.qcow2 c.qcow2 {key} --new-passphrase-file new"),
        "decrypt volume d.qcow2 --compress zlib --passphrase-file pw --threads 8".to_owned(),
        "clone large.qcow2 e.qcow2 --compress zstd --resume".to_owned(),
        "clone zipped.qcow2 f --threads 8".to_owned(),
        "decrypt volume g --passphrase-file pw --threads 8".to_owned(),
    ] {
        let peak = peak(&place, &format!("image {words}"));
        println!("{:5.1} MiB: {words}", peak as f64 / f64::from(1 << 20));
        assert!(peak <= 64 << 20, "{words}: {peak} bytes");
    }
    place.strongroom("image compare plain f").ok();
    place.strongroom("image compare d.qcow2 e.qcow2").ok();
    place.strongroom("image compare g e.qcow2").ok();
    place.strongroom("image compare f e.qcow2").ok();
}

#[test]
fn a_limit_of_the_rate_holds() {
    let place = Workplace::new();
    place.image_of("plain", 24 << 20, &Pattern::dense(1));
    for words in [
        "clone plain out.qcow2".to_owned(),
        format!("encrypt plain out --passphrase-file pw {CHEAP}"),
        "clone - out.raw".to_owned(),
    ] {
        let start = Instant::now();
        let bytes = place.read("plain");
        place.strongroom_reading(&format!("image {words} --rate-limit 16M"), &bytes).ok();
        // 24 MiB at 16 MiB a second are 1.5 seconds, less what may come at once.
        let taken = start.elapsed();
        assert!(taken >= Duration::from_millis(1300), "{words}: {taken:?}");
        assert!(taken <= Duration::from_secs(20), "{words}: {taken:?}");
    }
    place.strongroom("image compare out plain --passphrase-file pw").ok();
    for nonsense in ["0", "-1", "fast", "1T", "99999999999999999999"] {
        place.strongroom(&format!("image clone plain no --rate-limit={nonsense}")).fails(2);
    }
}

#[test]
fn images_go_past_the_page_cache_where_that_is_asked_for() {
    if !has("limits::cache", &[Tool::QEMU_IMG]) {
        return;
    }
    let place = Workplace::new();
    for len in [512, (3 << 20) + 512, 20 << 20] {
        place.image("plain", len);
        let key = format!("--passphrase-file pw {CHEAP} --cache none --force");
        place.strongroom(&format!("image encrypt plain volume {key}")).ok();
        place.strongroom(&format!("image encrypt plain one --format luks1 {key} --resume")).ok();
        place.strongroom(&format!("image encrypt plain a.qcow2 {key}")).ok();
        for source in ["volume", "one", "a.qcow2"] {
            let words = format!("image decrypt {source} again --passphrase-file pw --force");
            place.strongroom(&format!("{words} --cache none")).ok();
            place.same("again", "plain").unwrap();
        }
        let words = "image clone plain b.qcow2 --compress zlib --cache none --force --resume";
        place.strongroom(words).ok();
        place.qemu_img("check -q b.qcow2").ok();
        place.strongroom("image clone b.qcow2 again --cache none --force").ok();
        place.same("again", "plain").unwrap();
    }
    // Lengths that no block device has.
    place.image("plain", (1 << 20) + 77);
    place.strongroom("image clone plain again --cache none --force").ok();
    place.same("again", "plain").unwrap();
    place.strongroom("image clone plain again --cache writethrough --force").fails(2);
}

#[test]
fn jobs_on_one_source_do_not_disturb_each_other() {
    let place = Workplace::new();
    place.image("plain", 48 << 20);
    place.strongroom("image clone plain source.qcow2 --compress zstd").ok();
    place.strongroom(&format!("image encrypt plain source --passphrase-file pw {CHEAP}")).ok();
    std::thread::scope(|scope| {
        for number in 0..3 {
            let place = &place;
            scope.spawn(move || {
                let words = format!("image clone source.qcow2 a{number}.raw");
                place.strongroom(&words).ok();
                let words = format!("image decrypt source b{number}.qcow2 --passphrase-file pw");
                place.strongroom(&words).ok();
            });
        }
    });
    for number in 0..3 {
        place.same(&format!("a{number}.raw"), "plain").unwrap();
        place.strongroom(&format!("image compare b{number}.qcow2 plain")).ok();
    }
}
