//! The documents that `kubectl create` sends in Kubernetes' protocol buffers, whatever is said to it:
//! Secrets and Namespaces. The numbers of the fields are those of `k8s.io/api/core/v1/generated.proto` and
//! `k8s.io/apimachinery/pkg/{runtime,apis/meta/v1}/generated.proto`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde_json::{Map, Value};
use strongroom_model::dialect::object::Object;
use strongroom_model::dialect::resource::Resource;
use zeroize::Zeroize;

/// The content type of such a document.
pub(super) const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// Reads a document; `None` when it is none of those that are known, or has what none of them has here.
pub(super) fn document(bytes: &[u8]) -> Option<Object> {
    let unknown = Unknown::decode(bytes.strip_prefix(MAGIC)?).ok()?;
    let kind = unknown.kind.unwrap_or_default();
    match Resource::of_document(&kind.api_version, &kind.kind)? {
        Resource::Secret => Secret::decode(unknown.raw.as_slice()).ok()?.document(),
        Resource::Namespace => {
            let namespace = Namespace::decode(unknown.raw.as_slice()).ok()?;
            Some(namespace.metadata.unwrap_or_default().document(Resource::Namespace))
        }
        _ => None,
    }
}

#[derive(Message)]
#[prost(skip_debug)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    kind: Option<Kind>,
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

#[derive(Message)]
struct Kind {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    generate_name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "14")]
    finalizers: Vec<String>,
}

/// A Secret. What it holds is wiped.
#[derive(Message)]
#[prost(skip_debug)]
struct Secret {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(btree_map = "string, bytes", tag = "2")]
    data: BTreeMap<String, Vec<u8>>,
    #[prost(string, tag = "3")]
    kind: String,
    #[prost(btree_map = "string, string", tag = "4")]
    texts: BTreeMap<String, String>,
    #[prost(bool, optional, tag = "5")]
    immutable: Option<bool>,
}

#[derive(Message)]
struct Namespace {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
}

impl Metadata {
    fn document(self, resource: Resource) -> Object {
        let namespace = Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let mut object = Object::new(resource, namespace, &self.name);
        if self.name.is_empty() {
            object.take(&["metadata", "name"]);
            object.set(&["metadata", "generateName"], self.generate_name);
        }
        for (key, values) in [("labels", self.labels), ("annotations", self.annotations)] {
            if !values.is_empty() {
                let values = values.into_iter().map(|(key, value)| (key, value.into()));
                object.set(&["metadata", key], Value::Object(values.collect()));
            }
        }
        if !self.finalizers.is_empty() {
            object.set(&["metadata", "finalizers"], self.finalizers);
        }
        object
    }
}

impl Secret {
    fn document(mut self) -> Option<Object> {
        let mut object = self.metadata.take().unwrap_or_default().document(Resource::Secret);
        let data =
            self.data.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value).into()));
        let data: Map<String, Value> = data.collect();
        if !data.is_empty() {
            object.set(&["data"], Value::Object(data));
        }
        let texts = self.texts.iter().map(|(key, text)| (key.clone(), text.as_str().into()));
        let texts: Map<String, Value> = texts.collect();
        if !texts.is_empty() {
            object.set(&["stringData"], Value::Object(texts));
        }
        if !self.kind.is_empty() {
            object.set(&["type"], self.kind.as_str());
        }
        if let Some(immutable) = self.immutable {
            object.set(&["immutable"], immutable);
        }
        self.data.values_mut().for_each(Zeroize::zeroize);
        self.texts.values_mut().for_each(Zeroize::zeroize);
        Some(object)
    }
}

impl fmt::Debug for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unknown")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What stands before every document of that sort.
const MAGIC: &[u8] = b"k8s\0";

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(kind: &str, raw: Vec<u8>) -> Vec<u8> {
        let kind = Kind { api_version: "v1".to_owned(), kind: kind.to_owned() };
        let unknown = Unknown { kind: Some(kind), raw };
        [MAGIC, &unknown.encode_to_vec()].concat()
    }

    #[test]
    fn a_secret_is_read_with_its_values() {
        let metadata = Metadata { name: "key".to_owned(), ..Metadata::default() };
        let secret = Secret {
            metadata: Some(metadata),
            data: [("a".to_owned(), b"\0\xff".to_vec())].into(),
            kind: "Opaque".to_owned(),
            ..Secret::default()
        };
        let read = document(&sent("Secret", secret.encode_to_vec())).unwrap();
        assert_eq!(read.resource(), Some(Resource::Secret));
        assert_eq!(read.name(), "key");
        assert_eq!(read.text(&["data", "a"]), Some("AP8="));
        assert_eq!(read.text(&["type"]), Some("Opaque"));
    }

    #[test]
    fn anything_else_is_nothing() {
        let whole = sent("Namespace", Namespace::default().encode_to_vec());
        assert!(document(&whole).is_some());
        assert!(document(&whole[1..]).is_none());
        assert!(document(&sent("Secret", vec![0xff; 9])).is_none());
        assert!(document(&sent("PersistentVolumeClaim", Vec::new())).is_none());
        assert!(document(b"").is_none());
    }
}
