use std::path::PathBuf;

use strongroom_crypto::{Hash, Kdf, Passphrase};
use strongroom_disk::Memory;
use strongroom_luks::{FormatOptions, Version};
use strongroom_testkit::Pattern;
use tempfile::TempDir;

use super::*;
use crate::system_rng;

const MIB: u64 = 1 << 20;

/// The object size of images.
const BLOCK: u64 = 4 * MIB;

/// A folder with the layers of an image, named by letters.
struct Stack {
    folder: TempDir,
}

impl Stack {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes an ordinary volume that `secret` opens, with `len` bytes of data, and returns its UUID.
    fn volume(&self, name: &str, version: Version, secret: &Passphrase, len: u64) -> String {
        let start = if version == Version::Luks1 { 4 * MIB } else { 16 * MIB };
        let options = FormatOptions {
            kdf: Kdf::Pbkdf2 { hash: Hash::Sha256, iterations: 1000 },
            data_offset: Some(start),
            ..FormatOptions::new(version)
        };
        let formatted = options.format(secret, &CostPolicy::default(), &mut system_rng()).unwrap();
        let (raw, permit) = Raw::create_new(self.path(name)).unwrap();
        raw.set_len(start + len).unwrap();
        device::write_new_header(&raw, &formatted, permit).unwrap();
        formatted.header.uuid().to_owned()
    }

    /// Makes a clone of `parent` that holds nothing yet, with a map beside it, as librbd marks one.
    fn clone(&self, (name, parent): (&str, &str), version: Version, secret: &Passphrase, len: u64) {
        let uuid = self.volume(name, version, secret, len);
        self.mark(name);
        let raw = Raw::open(self.path(name), Access::ReadWrite).unwrap();
        let (map, _permit) = Raw::create_new(self.path(&format!("{name}.map"))).unwrap();
        map.set_len(Mapped::<Raw, Raw>::map_len(raw.len(), BLOCK).unwrap()).unwrap();
        let parent = Raw::open(self.path(parent), Access::ReadOnly).unwrap();
        let below = match device::read_header(&parent) {
            Ok(found) => found.header,
            Err(_) => read_clone_header(&parent).unwrap(),
        };
        let identity = LayerIdentity { layer: &uuid, parent: Some(below.uuid()) };
        drop(Mapped::create(raw, map, BLOCK, identity).unwrap());
    }

    /// Changes the magic of a volume to that of a clone.
    fn mark(&self, name: &str) {
        let raw = Raw::open(self.path(name), Access::ReadWrite).unwrap();
        let header = device::read_header(&raw).unwrap().header;
        raw.write_at(b"RBDL\xba\xbe", 0).unwrap();
        if let Some((offset, _)) = header.second_magic() {
            raw.write_at(b"LDBR\xba\xbe", offset).unwrap();
        }
    }

    /// Opens layers for writing: names of clones, then that of the oldest layer.
    fn open(&self, names: &[&str], secrets: &[&Passphrase]) -> Result<Box<dyn Disk>> {
        let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
        let maps: Vec<_> = names.iter().map(|name| self.path(&format!("{name}.map"))).collect();
        let oldest = names.len() - 1;
        let layers: Vec<_> = (0..names.len())
            .map(|number| LayerFile {
                path: &paths[number],
                contents: match number == oldest {
                    true => LayerContents::Encrypted,
                    false => LayerContents::Mapped(&maps[number]),
                },
            })
            .collect();
        let secrets: Vec<_> = secrets.iter().map(|secret| Opener::Passphrase(secret)).collect();
        open(&layers, &secrets, Access::ReadWrite, &CostPolicy::default())
    }
}

fn secret(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes().to_vec())
}

/// The error of what must not open.
fn refused(result: Result<Box<dyn Disk>>) -> Error {
    result.err().expect("it is refused")
}

fn contents(disk: &dyn Disk) -> Vec<u8> {
    let mut bytes = vec![0; disk.len() as usize];
    disk.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn pattern(seed: u64, len: u64) -> Vec<u8> {
    let memory = Memory::new(len);
    Pattern::sparse(seed, 4096).write_to(&memory).unwrap();
    memory.to_vec()
}

#[test]
fn three_layers_with_headers_of_different_sizes_are_one_disk() {
    let stack = Stack::new();
    let (top, middle, root) = (secret("top"), secret("middle"), secret("root"));
    stack.volume("root", Version::Luks2, &root, 21 * MIB + 512);
    stack.clone(("middle", "root"), Version::Luks1, &middle, 24 * MIB);
    stack.clone(("top", "middle"), Version::Luks2, &top, 26 * MIB);
    let mut expected = pattern(1, 21 * MIB + 512);
    stack.open(&["root"], &[&root]).unwrap().write_at(&expected, 0).unwrap();
    let before = std::fs::read(stack.path("root")).unwrap();
    // Each layer changes something, across the borders of blocks and behind the end of its parent.
    expected.resize(24 * MIB as usize, 0);
    let disk = stack.open(&["middle", "root"], &[&middle, &root]).unwrap();
    for (offset, len) in [(4 * MIB - 700, 1400), (21 * MIB, 3000), (23 * MIB, MIB)] {
        let change = pattern(offset, len);
        disk.write_at(&change, offset).unwrap();
        expected[offset as usize..(offset + len) as usize].copy_from_slice(&change);
    }
    assert!(contents(&*disk) == expected);
    drop(disk);
    let middle_before = std::fs::read(stack.path("middle")).unwrap();
    expected.resize(26 * MIB as usize, 0);
    let disk = stack.open(&["top", "middle", "root"], &[&top, &middle, &root]).unwrap();
    for (offset, len) in [(0, 9), (4 * MIB + 100, 50), (22 * MIB, 4 * MIB)] {
        let change = pattern(offset, len);
        disk.write_at(&change, offset).unwrap();
        expected[offset as usize..(offset + len) as usize].copy_from_slice(&change);
    }
    disk.flush().unwrap();
    assert!(contents(&*disk) == expected);
    drop(disk);
    let again = stack.open(&["top", "middle", "root"], &[&top, &middle, &root]).unwrap();
    assert!(contents(&*again) == expected);
    assert!(std::fs::read(stack.path("root")).unwrap() == before, "a parent was written");
    assert!(std::fs::read(stack.path("middle")).unwrap() == middle_before, "a parent was written");
}

#[test]
fn the_order_and_the_number_of_secrets_count() {
    let stack = Stack::new();
    let (child, parent) = (secret("child"), secret("parent"));
    stack.volume("parent", Version::Luks2, &parent, 4 * MIB);
    stack.clone(("child", "parent"), Version::Luks1, &child, 4 * MIB);
    let names = ["child", "parent"];
    let told = |secrets: &[&Passphrase]| {
        let error = refused(stack.open(&names, secrets));
        (error.kind(), error.to_string())
    };
    let (kind, text) = told(&[&parent, &child]);
    assert_eq!(kind, ErrorKind::Request);
    assert!(text.contains("another order") && text.contains("layer 2, and secret 1"), "{text}");
    let (kind, text) = told(&[&child]);
    assert_eq!(kind, ErrorKind::Request);
    assert!(text.starts_with("too few secrets: 1 for 2"), "{text}");
    let (kind, text) = told(&[&child, &parent, &parent]);
    assert_eq!(kind, ErrorKind::Request);
    assert!(text.starts_with("too many secrets: 3 for 2"), "{text}");
    assert_eq!(told(&[&child, &secret("?")]).0, ErrorKind::WrongPassphrase);
    assert_eq!(told(&[&secret("?"), &parent]).0, ErrorKind::WrongPassphrase);
    assert!(stack.open(&names, &[&child, &parent]).is_ok());
}

#[test]
fn only_a_clone_lies_over_another_layer() {
    let stack = Stack::new();
    let (one, other) = (secret("one"), secret("other"));
    stack.volume("parent", Version::Luks2, &one, 4 * MIB);
    stack.clone(("child", "parent"), Version::Luks1, &other, 4 * MIB);
    // Alone, a clone is noise but for the blocks that it holds.
    let alone = refused(stack.open(&["child"], &[&other]));
    let Error::Luks { source, .. } = &alone else { panic!("{alone}") };
    assert_eq!(*source, strongroom_luks::Error::FormattedClone);
    // An ordinary volume is whole.
    std::fs::copy(stack.path("child.map"), stack.path("parent.map")).unwrap();
    let error = refused(stack.open(&["parent", "parent"], &[&one, &one])).to_string();
    assert!(error.contains("is an ordinary LUKS volume, which has no parent"), "{error}");
    let (child, parent) = (stack.path("child"), stack.path("parent"));
    let layer = |path, contents| LayerFile { path, contents };
    let both = [layer(&child, LayerContents::Encrypted), layer(&parent, LayerContents::Encrypted)];
    let keys = [Opener::Passphrase(&other), Opener::Passphrase(&one)];
    let policy = CostPolicy::default();
    let error = refused(open(&both, &keys, Access::ReadOnly, &policy)).to_string();
    assert!(error.contains("holds all there is"), "{error}");
    assert!(open(&[], &[], Access::ReadOnly, &policy).is_err());
}

#[test]
fn a_map_of_another_clone_is_refused() {
    let stack = Stack::new();
    let key = secret("key");
    stack.volume("parent", Version::Luks2, &key, 4 * MIB);
    stack.clone(("one", "parent"), Version::Luks1, &key, 4 * MIB);
    stack.clone(("two", "parent"), Version::Luks1, &key, 4 * MIB);
    std::fs::copy(stack.path("two.map"), stack.path("one.map")).unwrap();
    let error = refused(stack.open(&["one", "parent"], &[&key, &key])).to_string();
    assert!(error.contains("it is the map of"), "{error}");
}

#[test]
fn a_parent_that_a_clone_was_not_made_of_is_refused() {
    let stack = Stack::new();
    let key = secret("key");
    stack.volume("parent", Version::Luks2, &key, 4 * MIB);
    stack.volume("other", Version::Luks2, &key, 4 * MIB);
    stack.clone(("child", "parent"), Version::Luks1, &key, 4 * MIB);
    assert!(stack.open(&["child", "parent"], &[&key, &key]).is_ok());
    let error = refused(stack.open(&["child", "other"], &[&key, &key])).to_string();
    assert!(error.contains("it is the map of"), "{error}");
    let (child, map) = (stack.path("child"), stack.path("child.map"));
    let child = LayerFile { path: &child, contents: LayerContents::Mapped(&map) };
    let plain = stack.path("other");
    let plain = LayerFile { path: &plain, contents: LayerContents::Plain };
    for layers in [&[child][..], &[child, plain]] {
        let keys = [Opener::Passphrase(&key)];
        let opened = open(layers, &keys, Access::ReadOnly, &CostPolicy::default());
        let error = refused(opened).to_string();
        assert!(error.contains("it is the map of"), "{error}");
    }
}

#[test]
fn a_sparse_clone_over_a_plain_parent_is_read() {
    let stack = Stack::new();
    let key = secret("key");
    stack.volume("child", Version::Luks1, &key, 12 * MIB);
    let written = pattern(5, BLOCK);
    stack.open(&["child"], &[&key]).unwrap().write_at(&written, BLOCK).unwrap();
    stack.mark("child");
    let mut expected = pattern(6, 9 * MIB);
    std::fs::write(stack.path("plain"), &expected).unwrap();
    expected.resize(12 * MIB as usize, 0);
    expected[BLOCK as usize..2 * BLOCK as usize].copy_from_slice(&written);
    let (child, plain) = (stack.path("child"), stack.path("plain"));
    let layers = [
        LayerFile { path: &child, contents: LayerContents::Sparse { block_size: BLOCK } },
        LayerFile { path: &plain, contents: LayerContents::Plain },
    ];
    let open = |keys: &[Opener<'_>]| open(&layers, keys, Access::ReadWrite, &CostPolicy::default());
    let disk = open(&[Opener::Passphrase(&key)]).unwrap();
    assert!(contents(&*disk) == expected);
    assert!(disk.write_at(&[1], 0).is_err());
    drop(disk);
    assert!(open(&[Opener::Passphrase(&key), Opener::Passphrase(&key)]).is_err());
    // A copy whose holes became zeros is noticed, not decrypted.
    let bytes = std::fs::read(&child).unwrap();
    std::fs::remove_file(&child).unwrap();
    std::fs::write(&child, bytes).unwrap();
    let disk = open(&[Opener::Passphrase(&key)]).unwrap();
    let error = disk.read_at(&mut [0; 4096], 0).unwrap_err();
    assert!(error.to_string().contains("zeros where ciphertext belongs"), "{error}");
}
