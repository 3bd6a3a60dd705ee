//! Jobs that are killed, interrupted or run out of room, and go on where they stopped.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use strongroom_testkit::{Outcome, Pattern, Tool, run, skip, wait};

use crate::workplace::{BINARY, CHEAP, Workplace, has, signal};

/// A job that is killed again and again, and what its result is compared with.
struct Job {
    name: &'static str,
    seed: u64,
    /// The words that make the target.
    words: String,
    target: &'static str,
    /// Where the LUKS header of the target lies, if `cryptsetup` can read it.
    header: Option<&'static str>,
}

impl Job {
    fn start(&self, place: &Workplace, more: &str) -> Child {
        start(place, &format!("image {} {more}", self.words))
    }

    fn path(&self, ending: &str) -> String {
        format!(".{}.{ending}", self.target)
    }

    /// Returns up to where the journal says that the target is durable.
    fn durable(&self, place: &Workplace) -> u64 {
        durable(place, self.target)
    }

    /// Kills the job at random moments, then lets it end. Returns every journal that was found.
    fn kill_and_resume(&self, place: &Workplace) -> Vec<Vec<u8>> {
        let mut journals = Vec::new();
        let mut random = self.seed;
        for round in 0..KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let moment = Duration::from_millis((random >> 33) % 900);
            let before = self.durable(place);
            let mut child = self.start(place, "--rate-limit 128M");
            std::thread::sleep(moment);
            signal(&child, Signal::STOP);
            let written = written(&child);
            child.kill().unwrap();
            child.wait().unwrap();
            let context = format!("{}, round {round}, {moment:?}", self.name);
            if place.exists(self.target) {
                // It was faster. There is no more to go on with.
                assert!(!place.exists(&self.path("partial")), "{context}");
                for name in place.names().iter().filter(|name| name.starts_with(self.target)) {
                    fs::remove_file(place.path(name)).unwrap();
                }
                continue;
            }
            let durable = self.durable(place);
            assert!(durable >= before, "{context}: {durable} after {before}");
            if let Some(written) = written {
                // Besides the contents, a job writes headers, tables and journals.
                let most = (64 << 20) + (20 << 20);
                let again = written.saturating_sub(durable - before);
                assert!(again <= most, "{context}: {again} bytes would be written again");
            }
            if let Ok(journal) = fs::read(place.path(&self.path("journal"))) {
                journals.push(journal);
            }
            // All is durable then, and what makes it a volume is being written.
            if !is_finishing(place, &self.path("journal")) {
                assert_nothing_opens(place, &context);
            }
        }
        let durable = self.durable(place);
        let report = place.strongroom(&format!("image {} --json", self.words)).ok();
        let report: Value = serde_json::from_str(&report).unwrap();
        let resumed = report["resumed_bytes"].as_u64().unwrap();
        assert!(resumed <= durable && durable - resumed < 2 << 20, "{resumed} of {durable}");
        assert!(!place.exists(&self.path("partial")) && !place.exists(&self.path("journal")));
        journals
    }

    /// Checks that no journal holds the passphrases or the volume key.
    fn assert_silent(&self, place: &Workplace, journals: &[Vec<u8>], key_file: &str) {
        let mut secrets = vec![b"passphrase".to_vec(), b"another".to_vec()];
        if let Some(header) = self.header {
            let words = format!(
                "luksDump -q --dump-volume-key --volume-key-file key --key-file {key_file} {header}"
            );
            place.cryptsetup(&words).ok();
            let key = place.read("key");
            assert!(key.len() >= 32);
            let digits: Vec<String> = key.iter().map(|byte| format!("{byte:02x}")).collect();
            // Half of a key is too much as well.
            secrets.push(key[..16].to_vec());
            secrets.push(digits[..16].concat().into_bytes());
        }
        assert!(!journals.is_empty(), "{}: it was never killed at work", self.name);
        for journal in journals {
            let text = String::from_utf8_lossy(journal).into_owned();
            let found = secrets.iter().any(|secret| {
                journal.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret))
            });
            // Names of files are no secret: the key file of a job is called `pw`.
            assert!(!found, "{}: {text}", self.name);
        }
    }
}

pub(crate) fn start(place: &Workplace, words: &str) -> Child {
    place
        .command(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Returns how many bytes a process has written; `None` where only root may ask.
fn written(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/io", child.id())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
}

pub(crate) fn durable(place: &Workplace, target: &str) -> u64 {
    let Ok(text) = fs::read(place.path(&format!(".{target}.journal"))) else { return 0 };
    let journal: Value = serde_json::from_slice(&text).unwrap();
    journal["durable"][0][1].as_u64().unwrap_or(0)
}

/// Tells whether a job was writing what makes its target one when it was killed.
fn is_finishing(place: &Workplace, journal: &str) -> bool {
    let Ok(text) = fs::read(place.path(journal)) else { return false };
    let journal: Value = serde_json::from_slice(&text).unwrap();
    journal["finishing"].as_bool().unwrap()
}

/// Checks that no file of an unfinished job is anything to any tool.
fn assert_nothing_opens(place: &Workplace, context: &str) {
    for name in place.names().iter().filter(|name| name.ends_with(".partial")) {
        let file = File::open(place.path(name)).unwrap();
        let mut head = vec![0; 8 << 20];
        let length = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0).unwrap();
        let head = &head[..length];
        assert!(!head.starts_with(b"LUKS\xba\xbe") && !head.starts_with(b"QFI\xfb"), "{context}");
        // The second header of LUKS2 may stand at any power of two from 16 KiB to 4 MiB.
        for offset in (14..=22).map(|shift| 1 << shift) {
            let magic = head.get(offset..offset + 6);
            assert!(magic != Some(b"SKUL\xba\xbe"), "{context}: second header at {offset}");
        }
        let key = "--passphrase-file pw";
        assert_eq!(place.strongroom(&format!("luks test-key {name} {key}")).code, Some(4));
        let words = format!("luksDump {name}");
        assert_ne!(place.cryptsetup(&words).code, Some(0), "{context}: {name}");
        let info = place.qemu_img(&format!("info -U --output json {name}")).ok();
        assert!(info.contains("\"format\": \"raw\""), "{context}: {info}");
    }
}

fn tools(name: &str) -> bool {
    has(name, &[Tool::QEMU_IMG, Tool::CRYPTSETUP])
}

fn dense(place: &Workplace) {
    place.image_of("plain", LEN, &Pattern::dense(LEN));
}

#[test]
fn an_encryption_that_is_killed_goes_on() {
    if !tools("resume::encryption") {
        return;
    }
    let place = Workplace::new();
    dense(&place);
    let job = Job {
        name: "raw to LUKS2",
        seed: 11,
        words: format!("encrypt plain target --passphrase-file pw --resume {CHEAP}"),
        target: "target",
        header: Some("target"),
    };
    let journals = job.kill_and_resume(&place);
    job.assert_silent(&place, &journals, "pw");
    place.cryptsetup("open --test-passphrase --key-file pw target").ok();
    place.strongroom("image compare plain target --passphrase-file pw").ok();
}

#[test]
fn an_encryption_inside_of_qcow2_that_is_killed_goes_on() {
    if !tools("resume::qcow2") {
        return;
    }
    let place = Workplace::new();
    place.image("plain", LEN + (100 << 20));
    place.strongroom("image clone plain plain.qcow2").ok();
    let words = format!("encrypt plain.qcow2 target.qcow2 --passphrase-file pw --resume {CHEAP}");
    let job = Job {
        name: "qcow2 to qcow2 with LUKS",
        seed: 12,
        words,
        target: "target.qcow2",
        header: None,
    };
    let journals = job.kill_and_resume(&place);
    job.assert_silent(&place, &journals, "pw");
    let opened = "driver=qcow2,encrypt.key-secret=key,file.filename=target.qcow2";
    let secret = "--object secret,id=key,file=pw";
    place.qemu_img(&format!("check {secret} --image-opts {opened}")).ok();
    place
        .qemu_img(&format!("compare {secret} --image-opts {opened} driver=raw,file.filename=plain"))
        .ok();
}

#[test]
fn a_decryption_that_is_killed_goes_on() {
    if !tools("resume::decryption") {
        return;
    }
    let place = Workplace::new();
    dense(&place);
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    let words = "decrypt volume target --passphrase-file pw --resume".to_owned();
    let job = Job { name: "LUKS2 to raw", seed: 13, words, target: "target", header: None };
    let journals = job.kill_and_resume(&place);
    job.assert_silent(&place, &journals, "pw");
    place.same("target", "plain").unwrap();
}

#[test]
fn a_compression_that_is_killed_goes_on() {
    if !tools("resume::compression") {
        return;
    }
    let place = Workplace::new();
    place.image("plain", LEN + (100 << 20));
    let words = "clone plain target.qcow2 --compress zlib --resume".to_owned();
    let job = Job {
        name: "raw to compressed qcow2",
        seed: 14,
        words,
        target: "target.qcow2",
        header: None,
    };
    let journals = job.kill_and_resume(&place);
    job.assert_silent(&place, &journals, "pw");
    place.qemu_img("check target.qcow2").ok();
    place.qemu_img("compare -f qcow2 -F raw target.qcow2 plain").ok();
}

#[test]
fn a_reencryption_with_detached_headers_that_is_killed_goes_on() {
    if !tools("resume::detached") {
        return;
    }
    let place = Workplace::new();
    dense(&place);
    let words = format!("image encrypt plain data --header head --passphrase-file pw {CHEAP}");
    place.strongroom(&words).ok();
    let words = format!(
        "reencrypt data target --header head --new-header target.head --format luks1 \
         --passphrase-file pw --new-passphrase-file new --resume {CHEAP}"
    );
    let job =
        Job { name: "detached", seed: 15, words, target: "target", header: Some("target.head") };
    let journals = job.kill_and_resume(&place);
    job.assert_silent(&place, &journals, "new");
    let words = "image compare plain target --other-header target.head --passphrase-file new";
    place.strongroom(words).ok();
}

/// Lets a job begin, and interrupts it when its journal tells of something durable.
fn interrupted(place: &Workplace, words: &str, target: &str) -> Outcome {
    let child = start(place, &format!("{words} --rate-limit 200M"));
    let begun = Instant::now();
    while durable(place, target) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing becomes durable: {words}");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, Signal::INT);
    ended(child, words)
}

pub(crate) fn ended(mut child: Child, words: &str) -> Outcome {
    let status = wait(&mut child, Duration::from_secs(60)).unwrap();
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    Outcome { code: status.code(), stdout: String::new(), stderr, command: words.to_owned() }
}

#[test]
fn a_job_that_has_changed_is_refused_by_name_and_nothing_is_lost() {
    let place = Workplace::new();
    dense(&place);
    place.image("other", LEN);
    let words = format!("image encrypt plain target --passphrase-file pw --resume {CHEAP}");
    let message = interrupted(&place, &words, "target").fails(130);
    assert!(message.contains("hint: ") && message.contains("--resume"), "{message}");
    let left = place.read(".target.journal");
    let durable = durable(&place, "target");
    let digest = |place: &Workplace| {
        strongroom_crypto::Hash::Sha256.digest(&[&place.read(".target.partial")])
    };
    let partial = digest(&place);
    let refused = |words: &str, code: i32, reason: &str| {
        let message = place.strongroom(words).fails(code);
        assert!(message.contains(reason), "{words}: {reason}: {message}");
        assert!(place.read(".target.journal") == left && digest(&place) == partial, "{words}");
        assert!(!place.exists("target"));
        message
    };
    for (more, reason) in [
        ("--format luks1", "target format"),
        ("--format qcow2-luks", "target format"),
        ("--cipher aes-cbc-plain64", "cipher"),
        ("--key-size 256", "key size"),
        ("--hash sha512", "hash"),
        ("--sector-size 4096", "sector size"),
        ("--data-offset 8388608", "data offset"),
        ("--label name", "label"),
        ("--uuid 01234567-89ab-4cde-8f01-23456789abcd", "UUID"),
        ("--header apart", "header of the target"),
        (&format!("--checksum sha256:{}", "0".repeat(64)), "checksum"),
    ] {
        let message = refused(&format!("{words} {more}"), 2, reason);
        assert!(message.contains("hint: ") && message.contains("start over"), "{message}");
    }
    refused("image clone plain target --resume", 2, "operation");
    let replaced = words.replace("plain", "other");
    refused(&replaced, 2, "the source was ");
    refused(&words.replace("--passphrase-file pw", "--passphrase-file wrong"), 3, "passphrase");

    let source = File::options().write(true).open(place.path("plain")).unwrap();
    let modified = source.metadata().unwrap().modified().unwrap();
    source.set_modified(modified + Duration::from_nanos(4_000_000)).unwrap();
    refused(&words, 2, "modification time of the source");
    source.set_len(LEN + 4096).unwrap();
    refused(&words, 2, "length of the source");
    source.set_len(LEN).unwrap();
    fs::rename(place.path("plain"), place.path("kept")).unwrap();
    place.image("plain", LEN);
    refused(&words, 2, "inode of the source");
    fs::rename(place.path("kept"), place.path("plain")).unwrap();
    source.set_modified(modified).unwrap();

    // With everything as it was it goes on.
    let report: Value =
        serde_json::from_str(&place.strongroom(&format!("{words} --json")).ok()).unwrap();
    let resumed = report["resumed_bytes"].as_u64().unwrap();
    assert!(resumed > 0 && resumed <= durable, "{resumed} of {durable}");
    place.strongroom("image compare plain target --passphrase-file pw").ok();
}

#[test]
fn a_backing_file_that_has_changed_is_refused_by_name() {
    if !tools("resume::backing") {
        return;
    }
    let place = Workplace::new();
    place.image_of("base", LEN, &Pattern::dense(3));
    place.qemu_img("create -q -f qcow2 -b base -F raw top.qcow2").ok();
    let words = "image clone top.qcow2 target --resume --backing-from .";
    interrupted(&place, words, "target").fails(130);
    let base = File::options().write(true).open(place.path("base")).unwrap();
    let modified = base.metadata().unwrap().modified().unwrap();
    base.set_modified(modified + Duration::from_secs(1)).unwrap();
    let message = place.strongroom(words).fails(2);
    assert!(message.contains("below the source") && message.contains("base"), "{message}");
    base.set_modified(modified).unwrap();
    place.strongroom(words).ok();
    place.same("target", "base").unwrap();
}

#[test]
fn journals_and_parts_without_each_other_are_not_gone_on_with() {
    let place = Workplace::new();
    dense(&place);
    let words = "image clone plain target --resume --format raw";
    interrupted(&place, words, "target").fails(130);
    place.copy(".target.partial", "kept.partial");
    let journal = String::from_utf8(place.read(".target.journal")).unwrap();
    for damaged in [
        String::new(),
        "nonsense".to_owned(),
        journal[..journal.len() / 2].to_owned(),
        journal.replace("\"strongroom_journal\": 1", "\"strongroom_journal\": 2"),
        journal.replace("\"durable\"", "\"endurable\""),
    ] {
        assert_ne!(damaged, journal);
        place.write(".target.journal", &damaged);
        let message = place.strongroom(words).fails(1);
        assert!(message.contains(".target.journal") && message.contains("hint: "), "{message}");
        place.same(".target.partial", "kept.partial").unwrap();
        assert_eq!(place.read(".target.journal"), damaged.as_bytes());
    }
    let resumed = || {
        let report = place.strongroom(&format!("{words} --json")).ok();
        let report: Value = serde_json::from_str(&report).unwrap();
        place.same("target", "plain").unwrap();
        fs::remove_file(place.path("target")).unwrap();
        assert_eq!(place.names(), ["kept.partial", "new", "plain", "pw", "wrong"]);
        report["resumed_bytes"].as_u64().unwrap()
    };
    // A journal that says more than there is.
    place.write(".target.journal", journal.replace(&durable_text(&journal), "99999999999999"));
    let outcome = place.strongroom(words);
    assert!(outcome.code != Some(0) && !place.exists("target"), "{}", outcome.describe());
    place.copy("kept.partial", ".target.partial");

    fs::remove_file(place.path(".target.journal")).unwrap();
    assert_eq!(resumed(), 0, "nobody knows what of it is durable");
    place.write(".target.journal", &journal);
    assert_eq!(resumed(), 0, "there is nothing to go on with");
    place.write(".target.journal", &journal);
    place.copy("kept.partial", ".target.partial");
    let message = place.strongroom(words).fails(1);
    assert!(message.contains("about another file than the unfinished one"), "{message}");
    place.bind_journal(".target");
    assert!(resumed() > 0);
}

/// Returns the end of what a journal calls durable.
fn durable_text(journal: &str) -> String {
    let value: Value = serde_json::from_str(journal).unwrap();
    value["durable"][0][1].to_string()
}

#[test]
fn a_detached_header_without_its_data_is_made_anew() {
    let place = Workplace::new();
    dense(&place);
    let words =
        format!("image encrypt plain target --header head --passphrase-file pw --resume {CHEAP}");
    interrupted(&place, &words, "target").fails(130);
    assert!(place.exists(".head.partial"));
    fs::remove_file(place.path(".target.partial")).unwrap();
    let report = place.strongroom(&format!("{words} --json")).ok();
    assert!(report.contains("\"resumed_bytes\": 0"), "{report}");
    assert_eq!(place.names(), ["head", "new", "plain", "pw", "target", "wrong"]);
    let words = "image compare target plain --header head --passphrase-file pw";
    place.strongroom(words).ok();
}

#[test]
fn two_jobs_do_not_work_on_one_target() {
    let place = Workplace::new();
    dense(&place);
    let words = "image clone plain target --resume --format raw";
    let child = start(&place, &format!("{words} --rate-limit 100M"));
    let begun = Instant::now();
    while durable(&place, "target") == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing becomes durable");
        std::thread::sleep(Duration::from_millis(2));
    }
    let message = place.strongroom(words).fails(7);
    assert!(message.contains("target"), "{message}");
    let outcome = ended(child, words);
    assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
    place.same("target", "plain").unwrap();
    assert_eq!(place.names(), ["new", "plain", "pw", "target", "wrong"]);
}

#[test]
fn an_interruption_says_how_to_go_on_where_much_was_done() {
    let place = Workplace::new();
    place.image_of("plain", LEN + (64 << 20), &Pattern::dense(5));
    let words = "image clone plain target.qcow2";
    let names = place.names();
    // Little was done: nothing is left.
    let child = start(&place, &format!("{words} --rate-limit 20M"));
    std::thread::sleep(Duration::from_millis(400));
    signal(&child, Signal::INT);
    let message = ended(child, words).fails(130);
    assert!(message.contains("nothing was left behind"), "{message}");
    assert_eq!(place.names(), names);
    // Much was done.
    let child = start(&place, &format!("{words} --rate-limit 100M"));
    let begun = Instant::now();
    let enough = |child: &Child| match written(child) {
        Some(written) => written > 100 << 20,
        None => begun.elapsed() > Duration::from_millis(1500),
    };
    while !enough(&child) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not move on");
        std::thread::sleep(Duration::from_millis(2));
    }
    signal(&child, Signal::INT);
    let message = ended(child, words).fails(130);
    let hint = message.lines().find(|line| line.starts_with("hint: ")).unwrap();
    assert!(hint.contains("--resume") && hint.contains(".target.qcow2.partial"), "{message}");
    assert_nothing_opens(&place, words);
    // A job that was not asked to go on does not, says so, and leaves it alone.
    let outcome = place.strongroom(&format!("{words} --json"));
    assert!(outcome.stderr.contains("warning: ") && outcome.stderr.contains("--resume"));
    assert!(outcome.ok().contains("\"resumed_bytes\": 0"));
    assert!(place.exists(".target.qcow2.partial"));
    fs::remove_file(place.path("target.qcow2")).unwrap();
    let report = place.strongroom(&format!("{words} --resume --json")).ok();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["resumed_bytes"].as_u64().unwrap() >= 64 << 20, "{report}");
    place.strongroom("image compare plain target.qcow2").ok();
    place.strongroom("image check target.qcow2").ok();
}

#[test]
fn a_job_that_runs_out_of_room_goes_on_when_there_is_more() {
    let place = Workplace::new();
    place.image_of("plain", 96 << 20, &Pattern::dense(6));
    place.strongroom(&format!("image encrypt plain volume --passphrase-file pw {CHEAP}")).ok();
    fs::create_dir(place.path("small")).unwrap();
    let options = ["--mount", "--mount --map-root-user"]
        .into_iter()
        .find(|options| run(mounted(&place, options, "true"), b"").code == Some(0));
    let Some(options) = options else {
        return skip("resume::room", "no file system may be mounted here");
    };
    for (target, words) in [
        ("out", format!("encrypt plain small/out --passphrase-file pw {CHEAP}")),
        ("out", "decrypt volume small/out --passphrase-file pw".to_owned()),
        ("out.qcow2", "clone plain small/out.qcow2".to_owned()),
        ("out.qcow2", format!("encrypt plain small/out.qcow2 --passphrase-file pw {CHEAP}")),
    ] {
        let command = format!("{BINARY} image {words} --resume --json");
        let script = format!(
            "{command} && exit 98
             test -e small/.{target}.partial || exit 97
             mount -o remount,size=256m small || exit 99
             {command} > report || exit 96
             {BINARY} image compare plain small/{target} --passphrase-file pw >&2 || exit 95
             ls -A small; cat report >&2"
        );
        let outcome = run(mounted(&place, options, &script), b"");
        assert_eq!(outcome.code, Some(0), "{}", outcome.describe());
        assert_eq!(outcome.stdout.trim(), target, "{}", outcome.describe());
        let hint = "hint: small/.";
        assert!(outcome.stderr.contains(hint), "{}", outcome.describe());
        assert!(!outcome.stderr.contains("\"resumed_bytes\": 0"), "{}", outcome.describe());
        assert!(outcome.stderr.contains("\"resumed_bytes\": "), "{}", outcome.describe());
    }
}

/// Returns a command that runs a script with a small file system on `small`, which nobody else
/// sees and which ends with it.
fn mounted(place: &Workplace, options: &str, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(options.split(' ')).args(["sh", "-c"]);
    command.arg(format!("mount -t tmpfs -o size=72m tmpfs small || exit 99; {script}"));
    command.current_dir(place.path("."));
    command
}

/// How often each job is killed: 30 times altogether.
const KILLS: u32 = 6;

/// The length of images: some checkpoints.
const LEN: u64 = 160 << 20;
