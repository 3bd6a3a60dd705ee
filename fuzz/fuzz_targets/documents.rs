//! Files with documents: bounded, never a panic. What is admitted is admitted again as it is and does not
//! change any more.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use strongroom_model::dialect::admission::{
    self, Change, Known, SecretValues, admit, refuse_deletion, unknown_fields,
};
use strongroom_model::dialect::documents;
use strongroom_model::dialect::kubernetes::secret_values;
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;

fuzz_target!(|text: &[u8]| {
    let located = match documents::read("file", text) {
        Ok(located) => located,
        Err(errors) => return assert!(!errors.is_empty()),
    };
    let mut known = Kept::default();
    for document in located {
        assert!(document.line > 0, "every document stands somewhere");
        for field in unknown_fields(&document.object) {
            assert!(document.line_of(&field) > 0);
        }
        match admit(document.object.clone(), Change::Create, &known) {
            Ok(admitted) => {
                let again =
                    admit(admitted.object.clone(), Change::Update(&admitted.object), &known);
                let again = again.expect("it was admitted before");
                assert!(again.object == admitted.object, "nothing is left to fill in");
                known.0.push(Arc::new(admitted.object));
            }
            Err(admission::Refused { causes }) => assert!(!causes.is_empty()),
        }
    }
    for object in &known.0 {
        if let Err(refused) = refuse_deletion(object, &known) {
            assert!(!refused.to_string().is_empty());
        }
    }
});

/// The documents of the file that were admitted so far.
#[derive(Default)]
struct Kept(Vec<Arc<Object>>);

impl Known for Kept {
    fn object(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        name: &str,
    ) -> Option<Arc<Object>> {
        let all = self.objects(resource, namespace);
        all.into_iter().find(|object| object.name() == name && object.namespace() == namespace)
    }

    fn objects(&self, resource: Resource, namespace: Option<&str>) -> Vec<Arc<Object>> {
        let fits = |object: &&Arc<Object>| {
            object.resource() == Some(resource)
                && namespace.is_none_or(|namespace| object.namespace() == Some(namespace))
        };
        self.0.iter().filter(fits).cloned().collect()
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<SecretValues> {
        secret_values(&*self.object(Resource::Secret, Some(namespace), name)?).ok()
    }
}
