//! What a document names in other namespaces: whoever applies it must reach those as well, or a document would
//! do for its author what its author may not.

use std::collections::BTreeSet;

use serde_json::Value;
use strongroom_model::dialect::admission::Known;
use strongroom_model::dialect::longhorn::LonghornVolume;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

use super::Caller;

/// Something in a namespace that a document names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    /// In which field.
    field: &'static str,
    /// In which namespace; `None` where nobody knows yet: it may be somebody else's when it comes.
    namespace: Option<String>,
}

/// Returns why a caller may not apply a document, `None` when he may. What the document named before does not
/// count again.
///
/// What a StorageClass names is for whoever uses the class: nobody who reaches some namespaces alone can
/// make one.
pub(crate) fn denied(
    caller: &Caller,
    new: &Object,
    old: Option<&Object>,
    known: &dyn Known,
) -> Option<String> {
    if caller.reaches_everything() {
        return None;
    }
    let before = old.map(|old| references(old, known)).unwrap_or_default();
    let found = references(new, known);
    let reached = |found: &Reference| {
        found.namespace.as_deref().is_some_and(|namespace| caller.reaches(namespace))
    };
    let foreign = found.difference(&before).find(|found| !reached(found))?;
    let field = foreign.field;
    Some(match &foreign.namespace {
        Some(namespace) => format!(
            "the token {} cannot use what is in the namespace {namespace}, to which {field} leads",
            caller.name
        ),
        None => format!(
            "{field} names nothing that is there, and the token {} is not for whatever may come",
            caller.name
        ),
    })
}

fn references(object: &Object, known: &dyn Known) -> BTreeSet<Reference> {
    let mut found = Found(BTreeSet::new());
    match object.resource() {
        Some(Resource::BackingImage) => {
            found.name("spec.secretNamespace", object.text(&["spec", "secretNamespace"]));
            let parameter = |key| object.text(&["spec", "sourceParameters", key]);
            found.name("spec.sourceParameters.secret-namespace", parameter("secret-namespace"));
            found.volume("spec.sourceParameters.volume-name", parameter("volume-name"), known);
        }
        Some(Resource::VirtualMachineImage) => {
            let source = ["spec", "securityParameters", "sourceImageNamespace"];
            found.name("spec.securityParameters.sourceImageNamespace", object.text(&source));
            found.name("spec.pvcNamespace", object.text(&["spec", "pvcNamespace"]));
            let parameters = object.at(&["spec", "storageClassParameters"]);
            for (key, value) in parameters.and_then(Value::as_object).into_iter().flatten() {
                if key.ends_with("secret-namespace") {
                    found.name("spec.storageClassParameters", value.as_str());
                }
            }
        }
        Some(Resource::LonghornVolume) => volume(object, known, &mut found),
        Some(Resource::PersistentVolumeClaim) => {
            let name = object.text(&["spec", "volumeName"]).unwrap_or_default();
            let bound = known.object(Resource::PersistentVolume, None, name);
            found.name("spec.volumeName", bound.as_deref().and_then(|bound| bound.text(&OF_CLAIM)));
            let class = object.text(&["spec", "storageClassName"]).unwrap_or_default();
            let class = known.object(Resource::StorageClass, None, class);
            let image = class.as_deref().and_then(|class| class.annotation(OF_IMAGE));
            let namespace = image.and_then(|image| image.split_once('/')).map(|(name, _)| name);
            found.name("spec.storageClassName", namespace);
        }
        _ => {}
    }
    found.0
}

/// What was found so far.
struct Found(BTreeSet<Reference>);

impl Found {
    fn name(&mut self, field: &'static str, namespace: Option<&str>) {
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            self.0.insert(Reference { field, namespace: Some(namespace.to_owned()) });
        }
    }

    /// Finds those whose volume that is.
    fn volume(&mut self, field: &'static str, name: Option<&str>, known: &dyn Known) {
        let Some(name) = name.filter(|name| !name.is_empty()) else { return };
        let bound = known.object(Resource::PersistentVolume, None, name);
        let claimed = bound.as_deref().and_then(|bound| bound.text(&OF_CLAIM)).map(str::to_owned);
        let by_hand = known.objects(Resource::LonghornVolume, None);
        let by_hand = by_hand
            .iter()
            .filter(|volume| volume.name() == name && LonghornVolume::stands_for(volume).is_none());
        let mut owners: Vec<Option<String>> = by_hand
            .map(|volume| volume.namespace().map(str::to_owned))
            .chain(claimed.map(Some))
            .collect();
        if owners.is_empty() {
            owners.push(None);
        }
        self.0.extend(owners.into_iter().map(|namespace| Reference { field, namespace }));
    }
}

fn volume(object: &Object, known: &dyn Known, found: &mut Found) {
    if object.at(&["spec", "encrypted"]) == Some(&Value::Bool(true)) {
        let named = object.annotation(SECRET).and_then(|named| named.split_once('/'));
        let namespace = named.map_or(LONGHORN, |(namespace, _)| namespace);
        found.name("the Secret of the volume", Some(namespace));
    }
    if let Some(image) = object.text(&["spec", "backingImage"]).filter(|name| !name.is_empty()) {
        let own = known.object(Resource::BackingImage, object.namespace(), image);
        found.name("spec.backingImage", own.is_none().then_some(LONGHORN));
    }
    let source = object.text(&["spec", "dataSource"]).unwrap_or_default();
    let source = source.split_once("://").map(|(_, rest)| rest);
    let name = source.and_then(|source| source.split('/').next());
    found.volume("spec.dataSource", name, known);
}

/// Where a PersistentVolume tells to whose claim it is bound.
const OF_CLAIM: [&str; 3] = ["spec", "claimRef", "namespace"];

/// The namespace of Longhorn's own, where it looks for what is named without one.
const LONGHORN: &str = "longhorn-system";

/// Names the image, as NAMESPACE/NAME, with which the volumes of a class begin.
const OF_IMAGE: &str = "harvesterhci.io/imageId";

/// Names the Secret of a volume that was applied by hand.
const SECRET: &str = "strongroom.io/secret";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use strongroom_model::dialect::admission::SecretValues;

    use super::super::Role;
    use super::*;

    struct Others(Vec<Object>);

    impl Known for Others {
        fn object(
            &self,
            resource: Resource,
            namespace: Option<&str>,
            name: &str,
        ) -> Option<Arc<Object>> {
            self.objects(resource, namespace).into_iter().find(|object| object.name() == name)
        }

        fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
            let is = |object: &&Object| {
                object.resource() == Some(resource)
                    && namespace.is_none_or(|namespace| object.namespace() == Some(namespace))
            };
            self.0.iter().filter(is).cloned().map(Arc::new).collect()
        }

        fn secret(&self, _namespace: &str, _name: &str) -> Option<SecretValues> {
            None
        }
    }

    fn document(resource: Resource, path: &[&str], value: impl Into<Value>) -> Object {
        let mut object = Object::new(resource, Some("own"), "new");
        object.set(path, value);
        object
    }

    #[test]
    fn what_leads_into_another_namespace_needs_a_token_for_it() {
        let mut volume = Object::new(Resource::PersistentVolume, None, "pvc-1");
        volume.set(&["spec", "claimRef", "namespace"], "other");
        let by_hand = Object::new(Resource::LonghornVolume, Some("other"), "scratch");
        let mut class = Object::new(Resource::StorageClass, None, "lh-1");
        class.set(&["metadata", "annotations", OF_IMAGE], "other/base");
        let known = Others(vec![volume, by_hand, class]);
        let image = |key: &str, value: &str| {
            document(Resource::BackingImage, &["spec", "sourceParameters", key], value)
        };
        let foreign = [
            image("secret-namespace", "other"),
            image("volume-name", "pvc-1"),
            image("volume-name", "scratch"),
            document(Resource::BackingImage, &["spec", "secretNamespace"], "other"),
            document(
                Resource::VirtualMachineImage,
                &["spec", "securityParameters"],
                json!({ "sourceImageNamespace": "other" }),
            ),
            document(Resource::VirtualMachineImage, &["spec", "pvcNamespace"], "other"),
            document(Resource::LonghornVolume, &["spec", "encrypted"], true),
            document(Resource::LonghornVolume, &["spec", "backingImage"], "base"),
            document(Resource::LonghornVolume, &["spec", "dataSource"], "vol://pvc-1"),
            document(Resource::LonghornVolume, &["spec", "dataSource"], "snap://scratch/monday"),
            document(Resource::PersistentVolumeClaim, &["spec", "volumeName"], "pvc-1"),
            document(Resource::PersistentVolumeClaim, &["spec", "storageClassName"], "lh-1"),
            document(
                Resource::VirtualMachineImage,
                &["spec", "storageClassParameters"],
                json!({ "csi.storage.k8s.io/node-stage-secret-namespace": "other" }),
            ),
        ];
        let caller = |namespaces: &[&str]| Caller {
            name: "t".to_owned(),
            role: Role::Operator,
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
        };
        for object in &foreign {
            let why = denied(&caller(&["own"]), object, None, &known);
            assert!(why.is_some_and(|why| why.contains("namespace")), "{:?}", object.fields());
            assert_eq!(denied(&caller(&["own", "other", LONGHORN]), object, None, &known), None);
            assert_eq!(denied(&caller(&[]), object, None, &known), None);
            assert_eq!(denied(&caller(&["own"]), object, Some(object), &known), None);
        }
        let unknown = image("volume-name", "later");
        let why = denied(&caller(&["own"]), &unknown, None, &known);
        assert!(why.is_some_and(|why| why.contains("nothing that is there")));
        let mut own = document(Resource::LonghornVolume, &["spec", "encrypted"], true);
        own.set(&["metadata", "annotations", SECRET], "own/key");
        assert_eq!(denied(&caller(&["own"]), &own, None, &known), None);
    }
}
