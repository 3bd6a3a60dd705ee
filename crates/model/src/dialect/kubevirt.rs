//! KubeVirt's virtual machines, of which nothing but the volumes is looked at.

use std::fmt;

use serde_json::Value;

use super::admission::Refused;
use super::fields::Fields;
use super::object::Object;
use super::resource::Resource;

/// A `kubevirt.io/v1 VirtualMachine`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualMachine {
    /// Its name.
    pub name: String,
    /// Its namespace, empty when it has none yet.
    pub namespace: String,
    /// The claims of its volumes, in their order, each once: those that a volume names, and those of
    /// DataVolumes, which have the DataVolume's name. They are in its namespace.
    pub claims: Vec<String>,
}

/// How many of a virtual machine's volumes are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EncryptionSummary {
    /// All of them, and there is at least one.
    All,
    /// Some of them.
    Some,
    /// None, or there are no volumes.
    None,
}

impl VirtualMachine {
    /// Returns how many of the volumes are encrypted. `is_encrypted` tells that of a claim.
    pub fn encryption(&self, is_encrypted: impl FnMut(&str) -> bool) -> EncryptionSummary {
        let encrypted = self.claims.iter().map(String::as_str).map(is_encrypted);
        match encrypted.filter(|encrypted| *encrypted).count() {
            0 => EncryptionSummary::None,
            count if count == self.claims.len() => EncryptionSummary::All,
            _ => EncryptionSummary::Some,
        }
    }
}

impl TryFrom<&Object> for VirtualMachine {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::VirtualMachine);
        let volumes = fields.value(&["spec", "template", "spec", "volumes"]);
        let mut claims: Vec<String> = Vec::new();
        for volume in volumes.and_then(Value::as_array).into_iter().flatten() {
            let named = |kind: &str, field: &str| volume.get(kind)?.get(field)?.as_str();
            let claim = named("persistentVolumeClaim", "claimName").or(named("dataVolume", "name"));
            if let Some(claim) = claim.filter(|claim| !claims.iter().any(|other| other == claim)) {
                claims.push(claim.to_owned());
            }
        }
        let machine = Self {
            name: fields.required(&["metadata", "name"], "a machine needs a name").to_owned(),
            namespace: object.namespace().unwrap_or_default().to_owned(),
            claims,
        };
        fields.finish(machine)
    }
}

impl fmt::Display for EncryptionSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all volumes are encrypted",
            Self::Some => "some volumes are encrypted",
            Self::None => "no volume is encrypted",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn machine(volumes: Value) -> VirtualMachine {
        let mut object = Object::new(Resource::VirtualMachine, Some("lab"), "vm");
        object.set(&["spec", "template", "spec", "volumes"], volumes);
        VirtualMachine::try_from(&object).unwrap()
    }

    #[test]
    fn the_summary_tells_all_from_some_and_from_none() {
        let machine = machine(json!([
            { "name": "root", "persistentVolumeClaim": { "claimName": "a" } },
            { "name": "data", "dataVolume": { "name": "b" } },
            { "name": "again", "persistentVolumeClaim": { "claimName": "a" } },
            { "name": "init", "cloudInitNoCloud": {} },
        ]));
        assert_eq!(machine.claims, ["a", "b"]);
        assert_eq!(machine.encryption(|_| true), EncryptionSummary::All);
        assert_eq!(machine.encryption(|claim| claim == "b"), EncryptionSummary::Some);
        assert_eq!(machine.encryption(|_| false), EncryptionSummary::None);
    }

    #[test]
    fn a_machine_without_volumes_is_not_encrypted() {
        for volumes in [json!([]), Value::Null, json!([{ "name": "init" }])] {
            assert_eq!(machine(volumes).encryption(|_| true), EncryptionSummary::None);
        }
    }
}
