//! Volumes that we make, in the hands of the daemon and of QEMU.

use strongroom_testkit::Tool;

use super::{Choice, LEN, Rig, SECRET};
use crate::workplace::{CHEAP, has};

/// Makes a volume of the image `plain` in the pool, lets the daemon find it, and returns its secret.
fn hand_over(rig: &Rig, choice: Choice, name: &str, number: usize) -> String {
    let words = format!(
        "image encrypt plain {} --passphrase-file pw {CHEAP} {}",
        rig.volume(name),
        choice.our_options()
    );
    rig.place.strongroom(&words).ok();
    let secret = rig.secret(name, number);
    rig.daemon.virsh(["pool-refresh", "pool"]).ok();
    secret
}

/// Returns the value behind a name in what `virsh vol-info --bytes` prints.
fn told(info: &str, name: &str) -> String {
    let line = info.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default().to_owned()
}

#[test]
fn volumes_that_we_make_are_the_daemons_to_use() {
    let Some(rig) = Rig::new("libvirt::exchange::volumes_that_we_make_are_the_daemons_to_use")
    else {
        return;
    };
    let Rig { daemon, place, .. } = &rig;
    place.image("plain", LEN);
    for (number, format) in ["raw", "qcow2"].into_iter().enumerate() {
        let choice = Choice::usual(format);
        let name = format!("ours.{format}");
        let secret = hand_over(&rig, choice, &name, number);
        let info = daemon.virsh(["vol-info", "--bytes", "--pool", "pool", &name]).ok();
        assert_eq!(told(&info, "Capacity:"), LEN.to_string(), "{format}: {info}");
        let allocated = told(&info, "Allocation:").parse::<u64>().unwrap();
        let path = rig.pool.join(&name);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap());
        assert_eq!(allocated, blocks * 512, "{format}: {info}");
        let document = daemon.virsh(["vol-dumpxml", "--pool", "pool", &name]).ok();
        for told in [
            format!("<capacity unit='bytes'>{LEN}</capacity>"),
            format!("<format type='{format}'/>"),
            "<encryption format='luks'>".to_owned(),
            // It finds the secret by what that is for.
            format!("<secret type='passphrase' uuid='{secret}'/>"),
        ] {
            assert!(document.contains(&told), "{format}: {told} is not in\n{document}");
        }
        // The bytes, as they are.
        let copy = place.path("downloaded").display().to_string();
        daemon.virsh(["vol-download", "--pool", "pool", &name, &copy]).ok();
        assert!(place.read("downloaded") == std::fs::read(&path).unwrap(), "{format}");
        // Decrypted by the daemon, encrypted by it again, and its clone of ours, byte for byte.
        let plain = format!("plain.{format}");
        let document = format!(
            "<volume><name>{plain}</name><capacity unit='bytes'>{LEN}</capacity>\
             <target><format type='raw'/></target></volume>"
        );
        daemon.create_volume_from("pool", "plain.xml", &document, &name).ok();
        assert!(std::fs::read(rig.pool.join(&plain)).unwrap() == place.read("plain"), "{format}");
        let clone = format!("clone.{format}");
        daemon.virsh(["vol-clone", "--pool", "pool", &name, &clone]).ok();
        rig.read_with_ours(choice, &clone, "again").unwrap();
        place.same("again", "plain").unwrap();
    }
}

#[test]
fn the_daemon_turns_a_volume_of_ours_into_one_of_another_format_and_cipher() {
    let Some(rig) = Rig::new(
        "libvirt::exchange::the_daemon_turns_a_volume_of_ours_into_one_of_another_format_and_cipher",
    ) else {
        return;
    };
    let Rig { daemon, place, .. } = &rig;
    place.image("plain", LEN);
    let ours = Choice { cipher: Some(("serpent", 256, "xts")), ..Choice::usual("raw") };
    hand_over(&rig, ours, "ours", 0);
    let theirs = Choice {
        format: "qcow2",
        cipher: Some(("aes", 128, "cbc")),
        ivgen: "essiv:sha256",
        hash: "sha512",
    };
    let document = Rig::document("theirs", LEN, theirs, &rig.secret("theirs", 1));
    daemon.create_volume_from("pool", "theirs.xml", &document, "ours").ok();
    rig.read_with_ours(theirs, "theirs", "again").unwrap();
    place.same("again", "plain").unwrap();
}

#[test]
fn qemu_opens_what_we_make_with_the_same_secret() {
    let name = "libvirt::exchange::qemu_opens_what_we_make_with_the_same_secret";
    let Some(rig) = Rig::new(name) else { return };
    let place = &rig.place;
    place.image("plain", LEN);
    let of = |format, cipher, ivgen, hash| Choice { format, cipher: Some(cipher), ivgen, hash };
    let choices = [
        Choice::usual("raw"),
        Choice::usual("qcow2"),
        of("raw", ("aes", 128, "cbc"), "essiv:sha256", "sha512"),
        of("qcow2", ("aes", 256, "ctr"), "plain", "sha384"),
        of("qcow2", ("serpent", 192, "xts"), "plain64", "sha1"),
        of("raw", ("serpent", 128, "ctr"), "essiv:sha256", "sha224"),
        of("qcow2", ("twofish", 256, "cbc"), "plain64", "ripemd160"),
        of("raw", ("cast5", 128, "cbc"), "plain64", "sha256"),
    ];
    for (number, choice) in choices.into_iter().enumerate() {
        let name = format!("ours-{number}");
        hand_over(&rig, choice, &name, number);
        rig.read_with_qemu(choice, &name, "again").unwrap();
        place.same("again", "plain").unwrap_or_else(|problem| panic!("{choice}: {problem}"));
        // And the other way: what QEMU writes into it, single sectors included, we read.
        let mut command = Tool::QEMU_IO.command();
        command.current_dir(place.path("."));
        let written = "write -P 0x5a 1049088 512";
        let options = choice.qemu_options(&rig.volume(&name));
        command.args(SECRET.split(' ')).args(["--image-opts", &options, "-c", written]);
        strongroom_testkit::run(command, b"").ok();
        rig.read_with_ours(choice, &name, "again").unwrap();
        let mut expected = place.read("plain");
        expected[1_049_088..][..512].fill(0x5a);
        assert!(place.read("again") == expected, "{choice}");
    }
}

#[test]
fn what_qemu_dies_of_works_with_ours() {
    let name = "libvirt::exchange::what_qemu_dies_of_works_with_ours";
    let Some(rig) = Rig::new(name) else { return };
    let place = &rig.place;
    if !has(name, &[Tool::CRYPTSETUP]) {
        return;
    }
    place.image("plain", LEN);
    let of = |cipher, ivgen| Choice { cipher: Some(cipher), ivgen, ..Choice::usual("raw") };
    for (number, choice) in [
        of(("aes", 192, "cbc"), "essiv:sha256"),
        of(("aes", 192, "ctr"), "plain64"),
        of(("serpent", 192, "cbc"), "plain64"),
        of(("twofish", 192, "ctr"), "plain"),
    ]
    .into_iter()
    .enumerate()
    {
        // The daemon's helper dies, and leaves a file behind that nobody can open.
        let document = Rig::document("theirs", LEN, choice, &rig.secret("theirs", 100));
        let died = rig.daemon.create_volume("pool", "theirs.xml", &document);
        assert!(died.code == Some(1) && died.stderr.contains("qemu-img"), "{}", died.describe());
        std::fs::remove_file(rig.pool.join("theirs")).unwrap();
        rig.daemon.virsh(["pool-refresh", "pool"]).ok();
        for format in ["raw", "qcow2"] {
            let choice = Choice { format, ..choice };
            let volume = format!("ours-{number}.{format}");
            hand_over(&rig, choice, &volume, number * 2 + usize::from(format == "raw"));
            let path = rig.volume(&volume);
            rig.read_with_ours(choice, &volume, "again").unwrap();
            place.same("again", "plain").unwrap_or_else(|problem| panic!("{choice}: {problem}"));
            if format == "raw" && choice.spec().starts_with("aes") {
                let opens = format!("open --test-passphrase --key-file pw {path}");
                place.cryptsetup(&opens).ok();
            }
            let info = rig.daemon.virsh(["vol-info", "--bytes", "--pool", "pool", &volume]).ok();
            assert_eq!(told(&info, "Capacity:"), LEN.to_string(), "{choice}: {info}");
        }
    }
}
