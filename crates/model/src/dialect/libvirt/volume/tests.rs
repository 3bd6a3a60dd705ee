use proptest::prelude::*;

use super::*;
use crate::dialect::libvirt::{EncryptionFormat, SecretName, SecretReference};

const MAX: u64 = (1 << 63) - 1;

fn read(document: &str) -> Volume {
    Volume::read(document.as_bytes()).unwrap()
}

fn refusal(document: &str) -> String {
    Volume::read(document.as_bytes()).unwrap_err().to_string()
}

fn notes(document: &str) -> Vec<String> {
    Volume::read_with_notes(document.as_bytes()).unwrap().1
}

/// Returns a volume of 1 MiB with something in its target.
fn with_target(target: &str) -> String {
    format!(
        "<volume><name>a</name><capacity unit='M'>1</capacity><target>{target}</target></volume>"
    )
}

/// Returns why a volume with something in its target cannot be made.
fn creation_refusal(target: &str) -> String {
    let volume = read(&with_target(target));
    volume.check_creation(Creation::New).unwrap_err().to_string()
}

fn creation_notes(target: &str) -> Vec<String> {
    read(&with_target(target)).check_creation(Creation::New).unwrap()
}

#[test]
fn everything_that_is_known_is_written_as_the_daemon_prints_it() {
    let document = "<volume type='file'>
  <name>disk &amp; more</name>
  <key>/pool/disk</key>
  <capacity unit='bytes'>10737418240</capacity>
  <allocation unit='bytes'>0</allocation>
  <physical unit='bytes'>4096</physical>
  <target>
    <path>/pool/disk</path>
    <format type='qcow2'/>
    <permissions>
      <mode>0600</mode>
      <owner>64055</owner>
      <group>-1</group>
      <label>system_u:object_r:virt_image_t:s0</label>
    </permissions>
    <encryption format='luks'>
      <secret type='passphrase' usage='/pool/disk'/>
    </encryption>
    <compat>1.1</compat>
    <clusterSize unit='B'>65536</clusterSize>
    <features>
      <lazy_refcounts/>
      <extended_l2/>
    </features>
    <nocow/>
    <timestamps>
      <atime>1440000000.000000001</atime>
    </timestamps>
  </target>
  <backingStore>
    <path>/pool/base</path>
    <format type='raw'/>
    <permissions>
      <mode>0444</mode>
    </permissions>
  </backingStore>
</volume>
";
    let volume = read(document);
    assert_eq!((volume.capacity, volume.allocation), (Some(10 << 30), Some(0)));
    assert_eq!(volume.target.permissions.as_ref().unwrap().mode, Some(0o600));
    assert_eq!(volume.write(), document);
    assert_eq!(notes(document), [""; 0]);
}

#[test]
fn only_a_name_is_mandatory_to_be_read() {
    let volume = read("<volume><name>a</name></volume>");
    assert_eq!(volume, Volume { name: "a".to_owned(), ..Volume::default() });
    assert_eq!(volume.write(), "<volume>\n  <name>a</name>\n</volume>\n");
    for document in ["<volume/>", "<volume><name/></volume>"] {
        assert_eq!(refusal(document), "line 1: <volume> has no <name>, or an empty one");
    }
}

#[test]
fn other_documents_and_types_are_refused() {
    assert_eq!(
        refusal("\n<pool/>"),
        "line 2: the document is 'pool': wanted is one that begins with <volume>"
    );
    assert_eq!(
        refusal("<volume type='disk'><name>a</name></volume>"),
        "line 1: type 'disk' of <volume> is not one of file, block, dir, network, netdir, ploop"
    );
    for kind in ["file", "block", "dir", "network", "netdir", "ploop"] {
        let volume = read(&format!("<volume type='{kind}'><name>a</name></volume>"));
        assert_eq!(volume.kind.as_deref(), Some(kind));
    }
}

#[test]
fn sizes_have_the_units_of_the_daemon() {
    for (unit, bytes) in [
        ("", 7),
        ("b", 7),
        ("byte", 7),
        ("Bytes", 7),
        ("k", 7 << 10),
        ("K", 7 << 10),
        ("KiB", 7 << 10),
        ("Kb", 7000),
        ("m", 7 << 20),
        ("mIb", 7 << 20),
        ("MB", 7_000_000),
        ("G", 7 << 30),
        ("GiB", 7 << 30),
        ("gb", 7_000_000_000),
        ("t", 7 << 40),
        ("TiB", 7 << 40),
        ("TB", 7_000_000_000_000),
        ("P", 7 << 50),
        ("PiB", 7 << 50),
        ("PB", 7_000_000_000_000_000),
        ("E", 7 << 60),
        ("eib", 7 << 60),
        ("EB", 7_000_000_000_000_000_000),
    ] {
        let size =
            format!("<capacity unit='{unit}'>7</capacity><allocation unit='{unit}'>7</allocation>");
        let volume = read(&format!("<volume><name>a</name>{size}</volume>"));
        assert_eq!((volume.capacity, volume.allocation), (Some(bytes), Some(bytes)), "{unit}");
    }
}

#[test]
fn bytes_are_kept_as_they_are_given() {
    for (text, bytes) in [("1000", 1000), ("1025", 1025), ("0", 0), ("\n 12 \n", 12)] {
        let volume = read(&format!("<volume><name>a</name><capacity>{text}</capacity></volume>"));
        assert_eq!(volume.capacity, Some(bytes));
    }
    let volume = read("<volume><name>a</name><capacity/></volume>");
    assert_eq!(volume.capacity, None, "an empty one is as none");
}

#[test]
fn sizes_that_are_none_are_refused() {
    for (size, problem) in [
        ("<capacity>-1</capacity>", "<capacity> '-1' is not a whole number"),
        ("<capacity>1.5</capacity>", "<capacity> '1.5' is not a whole number"),
        ("<capacity>abc</capacity>", "<capacity> 'abc' is not a whole number"),
        ("<capacity>0x10</capacity>", "<capacity> '0x10' is not a whole number"),
        ("<capacity>1 G</capacity>", "<capacity> '1 G' is not a whole number"),
        ("<allocation>+1</allocation>", "<allocation> '+1' is not a whole number"),
        ("<capacity unit='Ki'>1</capacity>", "unit 'Ki' of <capacity> is not one of bytes, KB"),
        ("<capacity unit='x'>1</capacity>", "unit 'x' of <capacity> is not one of bytes, KB"),
        ("<capacity unit='ZiB'>1</capacity>", "unit 'ZiB' of <capacity> is not one of bytes"),
        ("<capacity unit='ib'>1</capacity>", "unit 'ib' of <capacity> is not one of bytes, KB"),
        ("<capacity unit='E'>9</capacity>", "<capacity> is too large: the limit is 92233720368"),
        ("<capacity>9223372036854775808</capacity>", "<capacity> is too large: the limit is 92"),
        (
            "<capacity>999999999999999999999999999999999999999999</capacity>",
            "<capacity> is too large: the limit is 9223372036854775807 bytes",
        ),
        ("<capacity>1<b/></capacity>", "<b> stands in <capacity>, which holds text"),
    ] {
        let error = refusal(&format!("<volume><name>a</name>\n{size}</volume>"));
        assert!(error.starts_with(&format!("line 2: {problem}")), "{error}");
    }
    let largest = format!("<volume><name>a</name><capacity>{MAX}</capacity></volume>");
    assert_eq!(read(&largest).capacity, Some(MAX));
}

#[test]
fn permissions_are_octal_and_numbers() {
    let permissions = |inside: &str| {
        let document = with_target(&format!("<permissions>{inside}</permissions>"));
        Volume::read(document.as_bytes()).map(|volume| volume.target.permissions.unwrap())
    };
    assert_eq!(permissions("<mode>777</mode>").unwrap().mode, Some(0o777));
    assert_eq!(permissions("<mode>0</mode>").unwrap().mode, Some(0));
    assert_eq!(permissions("").unwrap(), Permissions::default());
    let all = permissions("<owner>4294967294</owner><group>4294967295</group>").unwrap();
    assert_eq!((all.owner, all.group), (Some(4_294_967_294), Some(-1)));
    for (inside, problem) in [
        ("<mode>01777</mode>", "line 1: <mode> '01777' is not octal, at most 0777"),
        ("<mode>888</mode>", "line 1: <mode> '888' is not octal, at most 0777"),
        ("<mode>+7</mode>", "line 1: <mode> '+7' is not octal, at most 0777"),
        ("<mode>rw</mode>", "line 1: <mode> 'rw' is not octal, at most 0777"),
        ("<owner>-2</owner>", "line 1: <owner> '-2' is not a number or -1"),
        ("<owner>root</owner>", "line 1: <owner> 'root' is not a number or -1"),
        ("<group>4294967296</group>", "line 1: <group> '4294967296' is not a number or -1"),
    ] {
        assert_eq!(permissions(inside).unwrap_err().to_string(), problem);
    }
}

#[test]
fn features_make_the_newer_qcow2() {
    let target =
        read(&with_target("<features><lazy_refcounts/><lazy_refcounts/></features>")).target;
    assert_eq!(target.features, Some(vec!["lazy_refcounts".to_owned()]));
    assert_eq!(target.compat.as_deref(), Some("1.1"));
    assert_eq!(
        refusal(&with_target("<features>\n<bitmaps/></features>")),
        "line 2: <bitmaps> in <features> is not one of lazy_refcounts, extended_l2"
    );
}

#[test]
fn compat_is_a_version() {
    for compat in ["1", "1.", ".1", "1.1.1", "v3", "1,1", "-1.1", " 1.1"] {
        let error = refusal(&with_target(&format!("<compat>{compat}</compat>")));
        assert!(error.contains("is not a version, such as 0.10 or 1.1"), "{error}");
    }
    assert_eq!(read(&with_target("<compat>0.10</compat>")).target.compat.unwrap(), "0.10");
}

#[test]
fn the_first_of_several_counts_and_the_others_are_told() {
    let document = with_target(
        "<encryption format='luks'/>\n<encryption/><format type='qcow2'/><format type='raw'/>",
    );
    let volume = read(&document);
    assert_eq!(volume.target.format, Some(VolumeFormat::Qcow2));
    assert_eq!(volume.target.encryption.as_ref().unwrap().format, EncryptionFormat::Luks);
    assert_eq!(
        notes(&document),
        [
            "line 2: a further <format> in <target> is not read and left out",
            "line 2: a further <encryption> in <target> is not read and left out",
        ]
    );
    // Also where the first says nothing.
    let volume = read(&with_target("<format/><format type='qcow2'/><compat/><compat>1.1</compat>"));
    assert_eq!((&volume.target.format, &volume.target.compat), (&None, &None));
    assert_eq!(read(&volume.write()), volume);
}

#[test]
fn unknown_things_are_kept_and_told() {
    let document = "<volume xmlns:x='urn:x' x:a='1'><name b='2'>a</name>text\n<x:later>kept</x:later>\
                    <target c='3'><x:more/></target><backingStore><x:most/></backingStore></volume>";
    let volume = read(document);
    assert_eq!(
        notes(document),
        [
            "line 1: attribute b of <name> is not read and left out",
            "line 2: attribute c of <target> is not read and left out",
            "line 2: <x:more> in <target> is not read, but kept",
            "line 2: <x:most> in <backingStore> is not read, but kept",
            "line 1: attribute x:a of <volume> is not read, but kept",
            "line 2: <x:later> in <volume> is not read, but kept",
            "line 1: text in <volume> is not read and left out",
        ]
    );
    assert_eq!(volume.unknown_attributes.len(), 2);
    assert_eq!(read(&volume.write()), volume);
}

#[test]
fn a_note_of_the_encryption_comes_with_the_volume() {
    let secret = "<encryption format='luks'><secret type='volume' usage='/a'/></encryption>";
    assert!(notes(&with_target(secret))[0].contains("is read as 'passphrase'"));
}

const SECRET: &str = "<secret type='passphrase' usage='/a'/>";

#[test]
fn every_kind_of_volume_that_there_is_can_be_made() {
    for target in [
        String::new(),
        "<format type='raw'/>".to_owned(),
        "<format type='qcow2'/>".to_owned(),
        format!("<encryption format='luks'>{SECRET}</encryption>"),
        format!("<format type='qcow2'/><encryption format='luks'>{SECRET}</encryption>"),
        // The storage driver looks at no engine.
        format!("<encryption format='luks' engine='librbd'>{SECRET}</encryption>"),
        "<format type='qcow2'/><compat>0.10</compat><clusterSize unit='B'>512</clusterSize>"
            .to_owned(),
        "<format type='qcow2'/><features><extended_l2/></features><nocow/>".to_owned(),
    ] {
        assert_eq!(creation_notes(&target), [""; 0], "{target}");
    }
}

#[test]
fn luks2_is_made_with_a_note() {
    let notes = creation_notes(&format!("<encryption format='luks2'>{SECRET}</encryption>"));
    assert!(notes[0].contains("libvirt's storage driver cannot create luks2"), "{notes:?}");
}

#[test]
fn counter_mode_is_made_with_a_warning() {
    let notes = |mode: &str| {
        let cipher = format!("<cipher name='aes' size='256' mode='{mode}'/>");
        creation_notes(&format!("<encryption format='luks'>{SECRET}{cipher}</encryption>"))
    };
    assert!(notes("ctr")[0].contains("mode='ctr' of <cipher> is weak"), "{:?}", notes("ctr"));
    assert_eq!(notes("xts"), [""; 0]);
    assert_eq!(notes("cbc"), [""; 0]);
}

#[test]
fn a_capacity_may_come_from_another_volume() {
    let check = |inside: &str, creation| {
        read(&format!("<volume><name>a</name>{inside}</volume>")).check_creation(creation)
    };
    let error = check("", Creation::New).unwrap_err().to_string();
    assert_eq!(error, "line 1: <volume> has no <capacity>, or an empty one");
    assert!(check("", Creation::From).is_ok());
    let overlay =
        "<target><format type='qcow2'/></target><backingStore><path>/b</path></backingStore>";
    assert!(check(overlay, Creation::New).is_ok());
    assert!(check(&overlay.replace("<path>/b</path>", ""), Creation::New).is_err());
}

#[test]
fn raw_has_no_backing_store() {
    let volume = read(
        "<volume><name>a</name><capacity>1</capacity><backingStore><path>/b</path></backingStore>\
         </volume>",
    );
    let error = volume.check_creation(Creation::New).unwrap_err().to_string();
    assert!(
        error.starts_with("line 1: <volume> is raw and cannot have a <backingStore>"),
        "{error}"
    );
}

#[test]
fn a_volume_is_made_with_exactly_one_secret() {
    for (count, secrets) in [(0, String::new()), (2, SECRET.repeat(2)), (3, SECRET.repeat(3))] {
        let target = format!("\n<encryption format='luks'>{secrets}</encryption>");
        let problem = format!(
            "line 2: <encryption> has {count} <secret> elements: a volume is made with one"
        );
        assert_eq!(creation_refusal(&target), problem);
    }
}

#[test]
fn what_cannot_be_made_is_refused_with_what_can() {
    let encrypted = |volume: &str, encryption: &str| {
        format!(
            "<format type='{volume}'/>\n<encryption format='{encryption}'>{SECRET}</encryption>"
        )
    };
    for (target, problem) in [
        (
            encrypted("raw", "default"),
            "line 2: format 'default' of <encryption> can only be opened",
        ),
        (encrypted("raw", "qcow"), "line 2: format 'qcow' of <encryption> can only be opened"),
        (encrypted("qcow2", "default"), "line 2: format 'default' of <encryption> can only be"),
        (encrypted("qcow2", "qcow"), "line 2: format 'qcow' of <encryption> can only be opened"),
        (encrypted("raw", "luks-any"), "line 2: format 'luks-any' of <encryption> opens either"),
        (encrypted("qcow2", "luks-any"), "line 2: format 'luks-any' of <encryption> opens either"),
        (encrypted("qcow2", "luks2"), "line 2: qcow2 holds a LUKS1 header alone"),
        (encrypted("vmdk", "luks"), "line 1: <format> 'vmdk' in <target> is not one of raw, qcow2"),
        (
            encrypted("luks", "luks"),
            "line 1: <format> in <target> is not one of raw, qcow2: a LUKS",
        ),
        ("<format type='qed'/>".to_owned(), "line 1: <format> 'qed' in <target> is not one of raw"),
        ("<compat>1.1</compat>".to_owned(), "line 1: <compat> in <target> is for qcow2 alone"),
        ("<clusterSize>512</clusterSize>".to_owned(), "line 1: <clusterSize> in <target> is for"),
        (
            "<format type='qcow2'/><compat>0.11</compat>".to_owned(),
            "line 1: <compat> '0.11' in <target> is not one of 0.10, 1.1",
        ),
        (
            "<format type='qcow2'/><compat>0.10</compat><features><extended_l2/></features>"
                .to_owned(),
            "line 1: <extended_l2/> in <features> needs <compat>1.1</compat>",
        ),
        (
            "<format type='qcow2'/><clusterSize>1000</clusterSize>".to_owned(),
            "line 1: <clusterSize> is not a power of two from 512 bytes to 2 MiB",
        ),
        (
            "<format type='qcow2'/><clusterSize unit='M'>4</clusterSize>".to_owned(),
            "line 1: <clusterSize> is not a power of two from 512 bytes to 2 MiB",
        ),
        (
            format!(
                "<encryption format='luks'>{SECRET}<cipher name='des' size='56'/></encryption>"
            ),
            "line 1: cipher 'des' with 56 bits is not supported: there are aes",
        ),
    ] {
        let error = creation_refusal(&target);
        assert!(error.starts_with(problem), "{target}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_target_is_named_with_its_own_line() {
    for wrong in [
        "<format type='vmdk'/>",
        "<compat>1.1</compat>",
        "<format type='qcow2'/><compat>2.0</compat>",
        "<format type='qcow2'/><clusterSize>1000</clusterSize>",
    ] {
        let volume = format!(
            "<volume>\n <name>a</name>\n <capacity>1</capacity>\n <target>\n  {wrong}\n </target>\n</volume>"
        );
        let error = read(&volume).check_creation(Creation::New).unwrap_err().to_string();
        assert!(error.starts_with("line 5: <"), "{error}");
    }
}

#[test]
fn names_that_are_paths_are_refused() {
    for name in ["a/b", "/", ".", ".."] {
        let volume = read(&format!("<volume><name>{name}</name><capacity>1</capacity></volume>"));
        let error = volume.check_creation(Creation::From).unwrap_err().to_string();
        assert!(error.contains("it holds no / and is not . or .."), "{error}");
    }
}

#[test]
fn errors_about_what_was_never_read_name_no_line() {
    let encryption = Encryption {
        secrets: vec![SecretReference { name: SecretName::Usage("a".to_owned()) }],
        ..Encryption::new(EncryptionFormat::LuksAny)
    };
    let target = Target { encryption: Some(encryption), ..Target::default() };
    let volume = Volume { name: "a".to_owned(), capacity: Some(1), target, ..Volume::default() };
    let error = volume.check_creation(Creation::New).unwrap_err().to_string();
    assert!(error.starts_with("format 'luks-any' of <encryption>"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(volume in volumes()) {
        let written = volume.write();
        prop_assert_eq!(Volume::read(written.as_bytes()), Ok(volume), "{}", written);
    }
}

fn text() -> BoxedStrategy<String> {
    "[ -~\u{e4}\n]{1,12}".boxed()
}

fn size() -> BoxedStrategy<Option<u64>> {
    proptest::option::of(0..=MAX).boxed()
}

fn format() -> BoxedStrategy<Option<VolumeFormat>> {
    let formats = ["raw", "qcow2", "vmdk"].map(VolumeFormat::new);
    proptest::option::of(proptest::sample::select(formats.to_vec())).boxed()
}

fn permissions() -> BoxedStrategy<Option<Permissions>> {
    let id = || proptest::option::of(-1..i64::from(u32::MAX));
    let one = (proptest::option::of(0..=0o777_u32), id(), id(), proptest::option::of(text()))
        .prop_map(|(mode, owner, group, label)| Permissions { mode, owner, group, label });
    proptest::option::of(one).boxed()
}

fn unknown() -> BoxedStrategy<Vec<Element>> {
    let one = ("x:[a-z]{1,3}", text()).prop_map(|(name, text)| Element::new(&name).with_text(text));
    proptest::collection::vec(one, 0..3).boxed()
}

fn targets() -> BoxedStrategy<Target> {
    let encryption =
        proptest::option::of(crate::dialect::libvirt::encryption::tests::encryptions());
    let features = proptest::sample::subsequence(FEATURES.to_vec(), 0..=2);
    let features = proptest::option::of(features);
    let path = proptest::option::of(text());
    let compat = proptest::sample::select(vec![None, Some("0.10".to_owned())]);
    let first = (path, format(), permissions(), encryption);
    (first, compat, size(), features, any::<bool>(), unknown())
        .prop_map(|(first, compat, cluster_size, features, nocow, unknown)| {
            let (path, format, permissions, encryption) = first;
            let features: Option<Vec<String>> =
                features.map(|all| all.into_iter().map(str::to_owned).collect());
            let compat = compat.or_else(|| features.as_ref().map(|_| "1.1".to_owned()));
            Target {
                path,
                format,
                permissions,
                encryption,
                compat,
                cluster_size,
                features,
                nocow,
                unknown,
                lines: TargetLines::default(),
            }
        })
        .boxed()
}

fn volumes() -> BoxedStrategy<Volume> {
    let kind = proptest::option::of(proptest::sample::select(KINDS.to_vec()));
    let backing = (proptest::option::of(text()), format(), permissions(), unknown()).prop_map(
        |(path, format, permissions, unknown)| BackingStore { path, format, permissions, unknown },
    );
    let head = (kind, text(), proptest::option::of(text()));
    let sizes = (size(), size(), size());
    (head, sizes, targets(), proptest::option::of(backing), unknown())
        .prop_map(|(head, (capacity, allocation, physical), target, backing, unknown)| Volume {
            kind: head.0.map(str::to_owned),
            name: head.1,
            key: head.2,
            capacity,
            allocation,
            physical,
            target,
            backing,
            unknown,
            ..Volume::default()
        })
        .boxed()
}
