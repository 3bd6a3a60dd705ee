//! Options as `mount -o` takes them.

use rustix::mount::MountAttrFlags;

/// How something is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Options of the file system and of the mount, as `mount -o` takes them: `ro`, `noatime`, `discard`.
    /// Those that only `/etc/fstab` knows (`_netdev`, `nofail`, `x-…`) do nothing.
    pub flags: Vec<String>,
}

/// Options in the kernel's terms.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// What holds for this mount.
    pub(super) attributes: MountAttrFlags,
    /// What the file system is told.
    pub(super) settings: Vec<Setting>,
}

/// A parameter of a file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

impl Options {
    /// Splits the words into what the mount and what the file system is told. The last word counts.
    pub(super) fn parse(&self) -> Parsed {
        let mut parsed = Parsed { attributes: MountAttrFlags::empty(), settings: Vec::new() };
        for word in self.flags.iter().flat_map(|flag| flag.split(',')) {
            parsed.take(word);
        }
        if parsed.is_read_only() {
            // The file system too, or it would be written to by the replay of its journal alone.
            parsed.settings.push(Setting { key: "ro".to_owned(), value: None });
        }
        parsed
    }
}

impl Parsed {
    /// Returns whether nothing can be written through the mount.
    pub(super) fn is_read_only(&self) -> bool {
        self.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }

    fn take(&mut self, word: &str) {
        if word.is_empty() || FSTAB_ALONE.contains(&word) || word.starts_with("x-") {
            return;
        }
        if let Some((_, flag)) = ATTRIBUTES.iter().find(|(name, _)| *name == word) {
            self.attributes.insert(*flag);
        } else if let Some((_, flag)) = CLEARED.iter().find(|(name, _)| *name == word) {
            self.attributes.remove(*flag);
        } else if let Some((_, mode)) = ACCESS_TIMES.iter().find(|(name, _)| *name == word) {
            // A number rather than flags: one takes the place of another.
            self.attributes.remove(MountAttrFlags::MOUNT_ATTR__ATIME);
            self.attributes.insert(*mode);
        } else {
            self.settings.push(match word.split_once('=') {
                Some((key, value)) => {
                    Setting { key: key.to_owned(), value: Some(value.to_owned()) }
                }
                None => Setting { key: word.to_owned(), value: None },
            });
        }
    }
}

const ATTRIBUTES: &[(&str, MountAttrFlags)] = &[
    ("ro", MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("nosuid", MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("nodev", MountAttrFlags::MOUNT_ATTR_NODEV),
    ("noexec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("nodiratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
];

const CLEARED: &[(&str, MountAttrFlags)] = &[
    ("rw", MountAttrFlags::MOUNT_ATTR_RDONLY),
    ("suid", MountAttrFlags::MOUNT_ATTR_NOSUID),
    ("dev", MountAttrFlags::MOUNT_ATTR_NODEV),
    ("exec", MountAttrFlags::MOUNT_ATTR_NOEXEC),
    ("diratime", MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ("symfollow", MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
];

const ACCESS_TIMES: &[(&str, MountAttrFlags)] = &[
    ("relatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("atime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("norelatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("nostrictatime", MountAttrFlags::MOUNT_ATTR_RELATIME),
    ("noatime", MountAttrFlags::MOUNT_ATTR_NOATIME),
    ("strictatime", MountAttrFlags::MOUNT_ATTR_STRICTATIME),
];

/// Words for those who read `/etc/fstab`, or that say what is so anyway.
const FSTAB_ALONE: &[&str] = &[
    "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "async", "bind",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Parsed {
        Options { flags: words.iter().map(|word| (*word).to_owned()).collect() }.parse()
    }

    fn setting(key: &str, value: Option<&str>) -> Setting {
        Setting { key: key.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn words_go_to_the_mount_or_to_the_file_system() {
        let parsed = parse(&["noatime,nodev", "discard", "commit=30", "defaults", "x-why", "sync"]);
        let flags = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NODEV;
        assert_eq!(parsed.attributes, flags);
        let settings =
            [setting("discard", None), setting("commit", Some("30")), setting("sync", None)];
        assert_eq!(parsed.settings, settings);
    }

    #[test]
    fn the_last_word_counts() {
        assert!(!parse(&["ro", "rw"]).is_read_only());
        assert!(parse(&["rw", "ro"]).is_read_only());
        let times = parse(&["noatime", "strictatime"]).attributes;
        assert_eq!(times, MountAttrFlags::MOUNT_ATTR_STRICTATIME);
        assert!(parse(&["noatime", "relatime"]).attributes.is_empty());
    }

    #[test]
    fn a_read_only_mount_has_a_read_only_file_system() {
        assert_eq!(parse(&["ro"]).settings, [setting("ro", None)]);
        assert_eq!(parse(&["ro", "rw"]).settings, []);
    }
}
