//! StorageClasses of every dialect.

use std::collections::BTreeMap;

use serde_json::Value;

use super::template::{self, Named};
use super::{SecretReference, TemplateValues, is_label, is_subdomain};
use crate::dialect::admission::{Reason, Refused};
use crate::dialect::fields::{Fields, shown};
use crate::dialect::object::Object;
use crate::dialect::resource::Resource;
use crate::dialect::volume_class::VolumeParameters;
use crate::{Checksum, Error};

/// A `storage.k8s.io/v1 StorageClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageClass {
    /// Its name.
    pub name: String,
    /// The driver that it was written for. None of them is refused.
    pub provisioner: String,
    /// Its parameters, as they stand there.
    pub parameters: BTreeMap<String, String>,
    /// What becomes of a volume when its claim is deleted.
    pub reclaim: ReclaimPolicy,
    /// When a volume is made for a claim.
    pub binding: BindingMode,
    /// Whether claims can be made larger.
    pub expansion: Expansion,
    /// Whether claims that name no class get this one.
    pub is_default: bool,
}

/// What becomes of a volume when its claim is deleted, or of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReclaimPolicy {
    /// It goes too.
    Delete,
    /// It stays.
    Retain,
}

/// When a volume is made for a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindingMode {
    /// At once.
    Immediate,
    /// When somebody uses it first.
    WaitForFirstConsumer,
}

/// Whether claims can be made larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expansion {
    /// They can.
    Allowed,
    /// They cannot.
    Refused,
}

/// For which call of a driver a class names a Secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretUse {
    /// Making and deleting.
    Provisioner,
    /// Attaching to a node.
    ControllerPublish,
    /// Making larger, in the controller.
    ControllerExpand,
    /// Opening on a node.
    NodeStage,
    /// Mounting for a Pod.
    NodePublish,
    /// Making larger, on the node.
    NodeExpand,
}

/// The image that the volumes of a class begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackingImageUse {
    /// The name of the BackingImage.
    pub name: String,
    /// The source type that the class expects of it, and makes it with when there is none.
    pub source_type: Option<String>,
    /// The parameters of the source.
    pub parameters: BTreeMap<String, String>,
    /// The checksum that it must have.
    pub checksum: Option<Checksum>,
}

impl StorageClass {
    /// Returns whether a document says that it is the default class, without a look at the rest of it.
    pub fn is_marked_default(class: &Object) -> bool {
        DEFAULT.iter().any(|key| class.annotation(key) == Some("true"))
    }

    /// Returns what the parameters say about volumes.
    ///
    /// # Errors
    ///
    /// What is wrong with the parameter that is named.
    pub fn volume_parameters(&self) -> Result<VolumeParameters, Refused> {
        let parameters = VolumeParameters::read(&self.parameters, &BTreeMap::new());
        parameters.map_err(|error| refused(&error))
    }

    /// Returns the Secret that the class names for a use, its templates filled in. `None` when it names none.
    ///
    /// # Errors
    ///
    /// When only its name or only its namespace is given, a template asks for what is not there, or what comes
    /// out is no name.
    pub fn secret(
        &self,
        of: SecretUse,
        values: &TemplateValues<'_>,
    ) -> Result<Option<SecretReference>, Refused> {
        let Some((name, namespace)) = self.secret_parameters(of)? else { return Ok(None) };
        let wrong = |path: &str, problem: String| {
            Refused::one(&["parameters", path], Reason::Invalid, problem)
        };
        let [name_key, namespace_key] = of.parameters();
        let filled = |key: &str, text, named| {
            template::filled(text, named, values).map_err(|problem| wrong(key, problem))
        };
        let namespace = filled(&namespace_key, namespace, Named::Namespace)?;
        let name = filled(&name_key, name, Named::Secret)?;
        if !is_subdomain(&name) {
            let problem = format!("{} is no name of a Secret", shown(&name));
            return Err(wrong(&name_key, problem));
        }
        if !is_label(&namespace) {
            let problem = format!("{} is no name of a namespace", shown(&namespace));
            return Err(wrong(&namespace_key, problem));
        }
        Ok(Some(SecretReference { namespace, name }))
    }

    /// Returns the Secret that opens the volumes: the one for staging; where a class lacks it, the one for
    /// publishing, and then the provisioner's.
    ///
    /// # Errors
    ///
    /// Those of [`secret`](Self::secret).
    pub fn volume_secret(
        &self,
        values: &TemplateValues<'_>,
    ) -> Result<Option<SecretReference>, Refused> {
        for of in [SecretUse::NodeStage, SecretUse::NodePublish, SecretUse::Provisioner] {
            if let Some(secret) = self.secret(of, values)? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    /// Returns the Secrets that the class names for all of its volumes alike, each once. Those with templates
    /// differ from claim to claim and are left out.
    pub fn fixed_secrets(&self) -> Vec<SecretReference> {
        let mut secrets = Vec::new();
        for of in SecretUse::ALL {
            let Ok(Some((name, namespace))) = self.secret_parameters(of) else { continue };
            if !template::is_template(name) && !template::is_template(namespace) {
                let (namespace, name) = (namespace.to_owned(), name.to_owned());
                secrets.push(SecretReference { namespace, name });
            }
        }
        secrets.sort();
        secrets.dedup();
        secrets
    }

    /// Refuses names of Secrets that are incomplete, or have templates that there are none of.
    ///
    /// # Errors
    ///
    /// What is wrong with them, whatever claim it may be.
    pub fn check_secrets(&self) -> Result<(), Refused> {
        for of in SecretUse::ALL {
            let Some((name, namespace)) = self.secret_parameters(of)? else { continue };
            let pairs = [(name, Named::Secret), (namespace, Named::Namespace)];
            for (key, (text, named)) in of.parameters().iter().zip(pairs) {
                let wrong = |problem| Refused::one(&["parameters", key], Reason::Invalid, problem);
                template::check(text, named).map_err(wrong)?;
                let is_name = match named {
                    Named::Secret => is_subdomain(text),
                    Named::Namespace => is_label(text),
                };
                if !template::is_template(text) && !is_name {
                    return Err(wrong(format!("{} is no name of an object", shown(text))));
                }
            }
        }
        Ok(())
    }

    /// Returns the image that the volumes of the class begin with.
    ///
    /// # Errors
    ///
    /// When the parameters about it are no such thing.
    pub fn backing_image(&self) -> Result<Option<BackingImageUse>, Refused> {
        let Some(name) = self.parameter("backingImage") else { return Ok(None) };
        let checksum = match self.parameter(CHECKSUM) {
            None => None,
            Some(digits) => Some(sha512(digits).map_err(|problem| {
                Refused::one(&["parameters", CHECKSUM], Reason::Invalid, problem)
            })?),
        };
        let parameters = match self.parameter(SOURCE_PARAMETERS) {
            None => BTreeMap::new(),
            Some(json) => serde_json::from_str(json).map_err(|_| {
                let message = "use a JSON mapping of texts: '{\"url\": \"https://…\"}'";
                Refused::one(&["parameters", SOURCE_PARAMETERS], Reason::Invalid, message)
            })?,
        };
        let source_type = self.parameter("backingImageDataSourceType").map(str::to_owned);
        Ok(Some(BackingImageUse { name: name.to_owned(), source_type, parameters, checksum }))
    }

    /// Returns a parameter, `None` when it is missing or empty.
    pub fn parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn secret_parameters(&self, of: SecretUse) -> Result<Option<(&str, &str)>, Refused> {
        let [name, namespace] = of.parameters();
        let (missing, given) = match (self.parameter(&name), self.parameter(&namespace)) {
            (Some(name), Some(namespace)) => return Ok(Some((name, namespace))),
            (None, None) => return Ok(None),
            (Some(_), None) => (namespace, name),
            (None, Some(_)) => (name, namespace),
        };
        let message = format!("storage class must contain it, since it contains {given}");
        Err(Refused::one(&["parameters", &missing], Reason::Required, message))
    }
}

impl SecretUse {
    /// Every use.
    pub const ALL: [Self; 6] = [
        Self::Provisioner,
        Self::ControllerPublish,
        Self::ControllerExpand,
        Self::NodeStage,
        Self::NodePublish,
        Self::NodeExpand,
    ];

    /// Returns the parameters with the name of the Secret and with its namespace.
    pub fn parameters(self) -> [String; 2] {
        let of = match self {
            Self::Provisioner => "provisioner",
            Self::ControllerPublish => "controller-publish",
            Self::ControllerExpand => "controller-expand",
            Self::NodeStage => "node-stage",
            Self::NodePublish => "node-publish",
            Self::NodeExpand => "node-expand",
        };
        ["name", "namespace"].map(|what| format!("csi.storage.k8s.io/{of}-secret-{what}"))
    }
}

impl ReclaimPolicy {
    /// Returns the word of the documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }

    /// Its words, for the fields of other documents.
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("Delete", Self::Delete), ("Retain", Self::Retain)];
}

impl TryFrom<&Object> for StorageClass {
    type Error = Refused;

    fn try_from(object: &Object) -> Result<Self, Refused> {
        let mut fields = Fields::of(object, Resource::StorageClass);
        let expansion = match fields.flag(&["allowVolumeExpansion"]) {
            true => Expansion::Allowed,
            false => Expansion::Refused,
        };
        let class = Self {
            name: fields.required(&["metadata", "name"], "a class needs a name").to_owned(),
            provisioner: fields
                .required(&["provisioner"], "name a driver, driver.longhorn.io for instance")
                .to_owned(),
            parameters: parameters(&mut fields),
            reclaim: fields.choice(
                &["reclaimPolicy"],
                &ReclaimPolicy::WORDS,
                ReclaimPolicy::Delete,
            ),
            binding: fields.choice(&["volumeBindingMode"], &BINDINGS, BindingMode::Immediate),
            expansion,
            is_default: Self::is_marked_default(object),
        };
        fields.finish(class)
    }
}

/// Returns the parameters. What is no text has a message of its own: `encrypted: true` is the mistake of all
/// mistakes.
fn parameters(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    match fields.value(&["parameters"]) {
        None | Some(Value::Object(_)) => {}
        Some(_) => {
            fields.note(&["parameters"], Reason::Invalid, "use a mapping of texts");
            return BTreeMap::new();
        }
    }
    fields.texts(&["parameters"])
}

/// Returns the checksum that Longhorn writes: nothing but the 128 digits of SHA-512.
pub(in crate::dialect) fn sha512(digits: &str) -> Result<Checksum, String> {
    let digits = digits.trim();
    let small = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let checksum = format!("sha512:{digits}").parse();
    checksum.ok().filter(|_| digits.bytes().all(small)).ok_or_else(|| {
        "invalid checksum: use the 128 hexadecimal digits of SHA-512, in small letters".to_owned()
    })
}

/// Returns what is wrong with a parameter, with its path.
fn refused(error: &Error) -> Refused {
    let key = match error {
        Error::InvalidValue { key, .. }
        | Error::MissingParameter { key, .. }
        | Error::ParameterNotText { key, .. }
        | Error::TrailingNewline { key } => Some(*key),
        Error::UnknownParameter { key }
        | Error::UnknownVolumeParameter { key, .. }
        | Error::FixedParameter { key }
        | Error::ParameterTooLong { key, .. } => Some(key.as_str()),
        _ => None,
    };
    let path: Vec<&str> = ["parameters"].into_iter().chain(key).collect();
    let reason = match error {
        Error::MissingParameter { .. } => Reason::Required,
        _ => Reason::Invalid,
    };
    Refused::one(&path, reason, error.to_string())
}

const BINDINGS: [(&str, BindingMode); 2] = [
    ("Immediate", BindingMode::Immediate),
    ("WaitForFirstConsumer", BindingMode::WaitForFirstConsumer),
];

/// The annotations that make a class the default one, today's and the one before.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

const CHECKSUM: &str = "backingImageChecksum";
const SOURCE_PARAMETERS: &str = "backingImageDataSourceParameters";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialect::osc::Encryption;

    fn class(parameters: Value) -> Result<StorageClass, Refused> {
        let mut object = Object::new(Resource::StorageClass, None, "vault");
        object.set(&["provisioner"], "driver.longhorn.io");
        object.set(&["parameters"], parameters);
        StorageClass::try_from(&object)
    }

    fn values(annotations: &BTreeMap<String, String>) -> TemplateValues<'_> {
        TemplateValues { claim: "disk", namespace: "lab", annotations, volume: "pvc-1" }
    }

    #[test]
    fn both_numbers_of_secrets_are_taken() {
        let pair = |of: SecretUse| {
            let [name, namespace] = of.parameters();
            [(name, json!("${pvc.name}-key")), (namespace, json!("${pvc.namespace}"))]
        };
        let node = [SecretUse::NodeStage, SecretUse::NodePublish, SecretUse::NodeExpand];
        let mut parameters: serde_json::Map<_, _> = node.into_iter().flat_map(pair).collect();
        parameters.insert("encrypted".to_owned(), json!("true"));
        for _ in 0..2 {
            let class = class(Value::Object(parameters.clone())).unwrap();
            assert_eq!(class.check_secrets(), Ok(()));
            assert_eq!(class.volume_parameters().unwrap().encryption, Encryption::Passphrase);
            let annotations = BTreeMap::new();
            let secret = class.volume_secret(&values(&annotations)).unwrap().unwrap();
            assert_eq!(secret.to_string(), "lab/disk-key");
            assert!(class.fixed_secrets().is_empty());
            parameters.extend(pair(SecretUse::Provisioner));
        }
    }

    #[test]
    fn half_a_reference_names_its_other_half() {
        let [name, namespace] = SecretUse::NodeStage.parameters();
        let class = class(json!({ name.clone(): "key" })).unwrap();
        let refused = class.check_secrets().unwrap_err();
        assert_eq!(refused.causes[0].reason, Reason::Required);
        assert_eq!(refused.causes[0].field, format!("parameters['{namespace}']"));
        assert!(refused.to_string().contains(&name), "{refused}");
    }

    #[test]
    fn a_name_that_comes_out_of_a_template_must_be_one() {
        let [name, namespace] = SecretUse::NodeStage.parameters();
        let class = class(json!({ name: "${pvc.annotations['k']}", namespace: "keys" })).unwrap();
        let annotations = BTreeMap::from([("k".to_owned(), "Not/One".to_owned())]);
        assert!(class.secret(SecretUse::NodeStage, &values(&annotations)).is_err());
        assert_eq!(class.secret(SecretUse::NodePublish, &values(&annotations)), Ok(None));
    }

    #[test]
    fn an_unquoted_true_is_told_to_be_quoted() {
        let refused = class(json!({ "encrypted": true })).unwrap_err();
        assert_eq!(refused.causes[0].field, "parameters.encrypted");
        assert!(refused.to_string().contains("quotes"), "{refused}");
        let refused =
            class(json!({ "encryptd": "true" })).unwrap().volume_parameters().unwrap_err();
        assert!(refused.to_string().contains("encrypted"), "{refused}");
    }

    #[test]
    fn the_image_of_a_class_is_read() {
        let digits = "0f".repeat(64);
        let class = class(json!({
            "backingImage": "jammy", "backingImageDataSourceType": "download",
            "backingImageDataSourceParameters": "{\"url\": \"https://images.example/jammy.img\"}",
            "backingImageChecksum": digits,
        }));
        let image = class.unwrap().backing_image().unwrap().unwrap();
        assert_eq!(image.parameters["url"], "https://images.example/jammy.img");
        assert_eq!(image.checksum.unwrap().to_string(), format!("sha512:{digits}"));
        let bad = self::class(json!({ "backingImage": "a", CHECKSUM: "0F".repeat(64) })).unwrap();
        assert!(bad.backing_image().unwrap_err().to_string().contains("invalid checksum"));
    }
}
