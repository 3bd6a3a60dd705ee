//! The kinds of documents that people apply, and how Kubernetes' API names them.

/// A kind of document, of one group and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `v1 Secret`.
    Secret,
    /// `v1 PersistentVolumeClaim`.
    PersistentVolumeClaim,
    /// `v1 PersistentVolume`, made when a claim is bound.
    PersistentVolume,
    /// `v1 Event`, made by the server.
    Event,
    /// `v1 Namespace`: any name is one without it, as far as this house is concerned.
    Namespace,
    /// `storage.k8s.io/v1 StorageClass`.
    StorageClass,
    /// `snapshot.storage.k8s.io/v1 VolumeSnapshot`.
    VolumeSnapshot,
    /// `snapshot.storage.k8s.io/v1 VolumeSnapshotClass`.
    VolumeSnapshotClass,
    /// `longhorn.io/v1beta2 BackingImage`.
    BackingImage,
    /// `longhorn.io/v1beta2 Volume`.
    LonghornVolume,
    /// `harvesterhci.io/v1beta1 VirtualMachineImage`.
    VirtualMachineImage,
    /// `kubevirt.io/v1 VirtualMachine`, of which nothing but the volumes is looked at.
    VirtualMachine,
}

/// Whether the names of a kind are unique in a namespace, or everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// Everywhere.
    Cluster,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Secret,
        Self::PersistentVolumeClaim,
        Self::PersistentVolume,
        Self::Event,
        Self::Namespace,
        Self::StorageClass,
        Self::VolumeSnapshot,
        Self::VolumeSnapshotClass,
        Self::BackingImage,
        Self::LonghornVolume,
        Self::VirtualMachineImage,
        Self::VirtualMachine,
    ];

    /// Returns the API group, empty for Kubernetes' core.
    pub fn group(self) -> &'static str {
        self.names().0
    }

    /// Returns the version of the group.
    pub fn version(self) -> &'static str {
        self.names().1
    }

    /// Returns what stands in a document as its `kind`.
    pub fn kind(self) -> &'static str {
        self.names().2
    }

    /// Returns the name in paths, which is the plural in lower case.
    pub fn plural(self) -> &'static str {
        self.names().3
    }

    /// Returns the short names that people type.
    pub fn short_names(self) -> &'static [&'static str] {
        match self {
            Self::PersistentVolumeClaim => &["pvc"],
            Self::PersistentVolume => &["pv"],
            Self::Event => &["ev"],
            Self::Namespace => &["ns"],
            Self::StorageClass => &["sc"],
            Self::VolumeSnapshot => &["vs"],
            Self::VolumeSnapshotClass => &["vsclass", "vsclasses"],
            Self::BackingImage => &["lhbi"],
            Self::LonghornVolume => &["lhv"],
            Self::VirtualMachineImage => &["vmimage", "vmimages"],
            Self::VirtualMachine => &["vm", "vms"],
            Self::Secret => &[],
        }
    }

    /// Returns whether its names are unique in a namespace or everywhere.
    pub fn scope(self) -> Scope {
        match self {
            Self::PersistentVolume
            | Self::Namespace
            | Self::StorageClass
            | Self::VolumeSnapshotClass => Scope::Cluster,
            _ => Scope::Namespaced,
        }
    }

    /// Returns what stands in a document as its `apiVersion`.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// Returns the kind of a document.
    pub fn of_document(api_version: &str, kind: &str) -> Option<Self> {
        let is = |found: &Self| found.kind() == kind && found.api_version() == api_version;
        Self::ALL.into_iter().find(is)
    }

    /// Returns the kind that a path names.
    pub fn of_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        let is = |found: &Self| found.names() == (group, version, found.kind(), plural);
        Self::ALL.into_iter().find(is)
    }

    /// Returns the kind that a word of the command line names: plural, singular, short name, or either of
    /// the first two with the group behind it (`volumes.longhorn.io`).
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (name, group) = match word.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (word.as_str(), None),
        };
        Self::ALL.into_iter().find(|found| {
            let singular = found.kind().to_ascii_lowercase();
            (found.plural() == name || singular == name || found.short_names().contains(&name))
                && group.is_none_or(|group| group == found.group())
        })
    }

    fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::PersistentVolumeClaim => {
                ("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
            }
            Self::PersistentVolume => ("", "v1", "PersistentVolume", "persistentvolumes"),
            Self::Event => ("", "v1", "Event", "events"),
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::StorageClass => ("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
            Self::VolumeSnapshot => {
                ("snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots")
            }
            Self::VolumeSnapshotClass => {
                ("snapshot.storage.k8s.io", "v1", "VolumeSnapshotClass", "volumesnapshotclasses")
            }
            Self::BackingImage => ("longhorn.io", "v1beta2", "BackingImage", "backingimages"),
            Self::LonghornVolume => ("longhorn.io", "v1beta2", "Volume", "volumes"),
            Self::VirtualMachineImage => {
                ("harvesterhci.io", "v1beta1", "VirtualMachineImage", "virtualmachineimages")
            }
            Self::VirtualMachine => ("kubevirt.io", "v1", "VirtualMachine", "virtualmachines"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_each_of_its_names() {
        for resource in Resource::ALL {
            let (group, version, kind, plural) = resource.names();
            assert_eq!(Resource::of_path(group, version, plural), Some(resource));
            assert_eq!(Resource::of_document(&resource.api_version(), kind), Some(resource));
            assert_eq!(Resource::of_word(plural), Some(resource));
            assert_eq!(Resource::of_word(kind), Some(resource));
            assert_eq!(Resource::of_word(&format!("{plural}.{group}")), Some(resource));
            for short in resource.short_names() {
                assert_eq!(Resource::of_word(short), Some(resource));
            }
        }
        assert_eq!(Resource::of_word("volumes.example.org"), None);
        assert_eq!(Resource::of_path("longhorn.io", "v1beta1", "volumes"), None);
    }
}
