use super::*;
use crate::dialect::libvirt::{SecretName, SecretReference};

const UUID: &str = "0a81f5b2-8403-7b23-c8d6-21ccc2f80d6f";

fn read(document: &str) -> DomainDisk {
    DomainDisk::read(document.as_bytes()).unwrap()
}

fn refusal(document: &str) -> String {
    DomainDisk::read(document.as_bytes()).unwrap_err().to_string()
}

/// Returns a disk of a file, with something in its `<source>`.
fn file(format: &str, source: &str) -> String {
    format!(
        "<disk type='file'><driver type='{format}'/><source file='/a'>\n{source}</source><target \
         dev='vda'/></disk>"
    )
}

/// Returns a disk of an RBD image, with something in its `<source>`.
fn rbd(source: &str) -> String {
    format!(
        "<disk type='network'><driver name='qemu' type='raw'/><source protocol='rbd' \
         name='pool/image'><host name='mon'/>\n{source}</source><target dev='vda'/></disk>"
    )
}

fn encryption(attributes: &str, secrets: usize) -> String {
    let secrets = "<secret type='passphrase' usage='a'/>".repeat(secrets);
    format!("<encryption {attributes}>{secrets}</encryption>")
}

#[test]
fn a_disk_is_written_to_be_pasted() {
    let disk = DomainDisk {
        source: DiskSource::File("/pool/disk & more".to_owned()),
        format: VolumeFormat::Qcow2,
        encryption: Some(Encryption {
            secrets: vec![SecretReference { name: SecretName::Uuid(UUID.to_owned()) }],
            ..Encryption::new(EncryptionFormat::Luks)
        }),
        target: "vda".to_owned(),
        bus: "virtio".to_owned(),
        backing: BackingChain::Unsaid,
        unknown: Vec::new(),
    };
    let document = format!(
        "<disk type='file' device='disk'>\n  <driver name='qemu' type='qcow2'/>\n  <source \
         file='/pool/disk &amp; more'>\n    <encryption format='luks'>\n      <secret \
         type='passphrase' uuid='{UUID}'/>\n    </encryption>\n  </source>\n  <target dev='vda' \
         bus='virtio'/>\n</disk>\n"
    );
    assert_eq!(disk.write(), document);
    assert_eq!(read(&document), disk);
}

#[test]
fn every_source_is_read_back() {
    for (kind, source) in [
        ("file", "file='/a'"),
        ("block", "dev='/dev/a'"),
        ("volume", "pool='p' volume='v'"),
        ("network", "protocol='rbd' name='pool/image'"),
    ] {
        let disk = format!("<disk type='{kind}'><source {source}/><target dev='sda'/></disk>");
        let disk = read(&disk);
        assert_eq!((disk.bus.as_str(), &disk.format), ("scsi", &VolumeFormat::Raw));
        assert!(disk.write().contains(&format!("<source {source}/>")), "{}", disk.write());
        assert_eq!(read(&disk.write()), disk);
    }
}

#[test]
fn each_layer_below_a_disk_has_a_secret_of_its_own() {
    let layered = |below: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/top'/>\
             <backingStore type='file'><format type='qcow2'/><source file='/base'>{}</source>{below}\
             </backingStore><target dev='vda'/></disk>",
            encryption("format='luks'", 1)
        )
    };
    let disk = read(&layered("<backingStore/>"));
    let BackingChain::Layer(layer) = &disk.backing else { panic!("{disk:?}") };
    assert_eq!(layer.source, DiskSource::File("/base".to_owned()));
    assert_eq!(layer.encryption.as_ref().unwrap().secrets.len(), 1);
    assert_eq!(layer.backing, BackingChain::Ends);
    assert_eq!(read(&disk.write()), disk);
    let disk = read(&layered(""));
    assert!(
        matches!(&disk.backing, BackingChain::Layer(layer) if layer.backing == BackingChain::Unsaid)
    );
    assert_eq!(read(&disk.write()), disk);
    let error = DomainDisk::read(layered("").replace("<format type='qcow2'/>", "").as_bytes());
    assert!(error.unwrap_err().to_string().contains("<backingStore> of a disk has no <format>"));
}

#[test]
fn what_a_disk_lacks_is_named() {
    for (document, problem) in [
        ("<volume/>", "the document is 'volume': wanted is one that begins with <disk>"),
        ("<disk type='file'/>", "<disk> has no <source>"),
        (
            "<disk type='dir'><source dir='/a'/></disk>",
            "type 'dir' of <disk> is not one of file, block, volume, network",
        ),
        (
            "<disk type='file'><source dev='/a'/></disk>",
            "<source> of a disk of the type 'file' has no file",
        ),
        (
            "<disk type='volume'><source pool='a'/></disk>",
            "<source> of a disk of the type 'volume' has no volume",
        ),
        ("<disk type='file'><source file='/a'/></disk>", "<disk> has no <target>"),
        (
            "<disk type='file'><source file='/a'/><target/></disk>",
            "<target> has no dev, such as 'vda'",
        ),
        (
            "<disk type='file'><driver name='tap'/><source file='/a'/></disk>",
            "name 'tap' of <driver> is not 'qemu'",
        ),
    ] {
        assert_eq!(refusal(document), format!("line 1: {problem}"));
    }
}

#[test]
fn encryption_stands_in_the_disk_or_in_its_source() {
    let luks = encryption("format='luks'", 1);
    let inner = read(&file("raw", &luks));
    let outer = file("raw", "").replace("<target", &format!("{luks}<target"));
    assert_eq!(read(&outer), inner);
    assert!(inner.encryption.is_some());
    let both = file("raw", &luks).replace("<target", &format!("{luks}<target"));
    let problem =
        "line 2: <encryption> stands in <source> and, in line 2, in <disk>: one of them is enough";
    assert_eq!(refusal(&both), problem);
}

#[test]
fn the_engine_qemu_opens_luks_in_raw_and_qcow2_with_one_secret() {
    for format in ["raw", "qcow2"] {
        for engine in ["", " engine='qemu'"] {
            let document = file(format, &encryption(&format!("format='luks'{engine}"), 1));
            assert_eq!(read(&document).format.name(), format);
        }
    }
    let luks = "format='luks'";
    for (format, encryption, problem) in [
        (
            "vmdk",
            encryption(luks, 1),
            "type 'vmdk' of <driver> cannot be encrypted: the engine qemu",
        ),
        ("raw", encryption(luks, 0), "<encryption> of a disk has no <secret>"),
        (
            "raw",
            encryption(luks, 2),
            "the engine qemu has one <secret>: several, one for each layer",
        ),
        ("raw", encryption("format='luks2'", 1), "format 'luks2' of <encryption> is not opened by"),
        ("raw", encryption("format='luks-any'", 1), "format 'luks-any' of <encryption> is not"),
        ("qcow2", encryption("format='default'", 1), "format 'default' of <encryption>, the old"),
        ("qcow2", encryption("format='qcow'", 1), "format 'qcow' of <encryption>, the old one of"),
        (
            "raw",
            encryption(luks, 1).replace("</e", "<cipher name='aes' size='256'/></e"),
            "<cipher> in the <encryption> of a disk is unnecessary",
        ),
        ("raw", encryption("format='luks' engine='librbd'", 1), "the engine librbd is for <source"),
    ] {
        let error = refusal(&file(format, &encryption));
        assert!(error.starts_with(&format!("line 2: {problem}")), "{error}");
    }
}

#[test]
fn the_engine_librbd_opens_layers_the_child_first() {
    for format in ["luks", "luks2", "luks-any"] {
        let secrets = "<secret type='passphrase' usage='child'/><secret type='passphrase' \
                       usage='parent'/>";
        let source =
            format!("<encryption format='{format}' engine='librbd'>{secrets}</encryption>");
        let disk = read(&rbd(&source));
        let secrets = &disk.encryption.as_ref().unwrap().secrets;
        let names: Vec<_> = secrets.iter().map(|secret| &secret.name).collect();
        let usage = |usage: &str| SecretName::Usage(usage.to_owned());
        assert_eq!(names, [&usage("child"), &usage("parent")]);
        assert_eq!(read(&disk.write()), disk, "hosts are kept");
        assert_eq!(DomainDisk::read_with_notes(disk.write().as_bytes()).unwrap().1, [""; 0]);
    }
    for format in ["default", "qcow"] {
        let source = encryption(&format!("format='{format}' engine='librbd'"), 1);
        assert!(refusal(&rbd(&source)).contains("is opened by no domain"));
    }
}

#[test]
fn only_disks_are_encrypted() {
    let disk = file("raw", &encryption("format='luks'", 1));
    for device in ["lun", "cdrom", "floppy"] {
        let document = disk.replace("type='file'", &format!("type='file' device='{device}'"));
        let problem = format!("line 1: device '{device}' of <disk> cannot be encrypted");
        assert_eq!(refusal(&document), problem);
    }
}

#[test]
fn what_is_not_known_is_kept_or_told() {
    let document = "<disk type='file' snapshot='no'><driver name='qemu' type='raw' cache='none'/><source \
                    file='/a' index='1'/><target dev='vda' bus='sata'/><serial>x</serial></disk>";
    let (disk, notes) = DomainDisk::read_with_notes(document.as_bytes()).unwrap();
    assert_eq!(disk.unknown, [Element::new("serial").with_text("x")]);
    assert_eq!(
        notes,
        [
            "line 1: attribute cache of <driver> is not read and left out",
            "line 1: attribute index of <source> is not read and left out",
            "line 1: attribute snapshot of <disk> is not read and left out",
            "line 1: <serial> in <disk> is not read, but kept",
        ]
    );
    assert_eq!(read(&disk.write()), disk);
}
