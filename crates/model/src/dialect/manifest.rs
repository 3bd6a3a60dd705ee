//! The text of a manifest, read down to the few fields that a dialect looks at.
//!
//! Everything else is skipped while it is read and never kept, so that aliases cannot multiply it.
//! The parser's error texts may quote the document and are dropped for our own.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{NonFiniteFloatPolicy, Options};
use zeroize::Zeroizing;

use super::kubernetes::is_subdomain;
use super::syntax::{KEY_TWICE, problem};
use crate::Error;

/// The keys that a dialect looks for in the maps of a document.
pub(super) trait Keys: 'static {
    /// Their names.
    const NAMES: &'static [&'static str];

    /// Returns whether a name that is none of them is most likely one of them misspelt.
    fn resembles(name: &str) -> bool;
}

/// Returns the documents of a manifest, those that are no mappings as empty ones.
pub(super) fn read<K: Keys>(manifest: &[u8]) -> Result<Vec<Document<K>>, Error> {
    if manifest.len() > MAX_LEN {
        return Err(Error::ManifestTooLarge { len: manifest.len(), limit: MAX_LEN });
    }
    let text = std::str::from_utf8(manifest)
        .map_err(|_| Error::ManifestBytes { problem: "it is not UTF-8 text" })?;
    // The parser takes NUL for the end of the text and would not see what stands behind.
    if text.contains('\0') {
        return Err(Error::ManifestBytes { problem: "it contains a NUL byte" });
    }
    let documents: Vec<Mapping<Document<K>>> =
        serde_saphyr::from_multiple_with_options(text, options())
            .map_err(|error| unread(&error))?;
    Ok(documents.into_iter().map(|document| document.0).collect())
}

/// What a document holds of a Secret or a StorageClass.
pub(super) struct Document<K> {
    api_version: Option<Scalar>,
    kind: Option<Scalar>,
    metadata: Option<Mapping<Metadata>>,
    data: Option<Mapping<Entries<K>>>,
    string_data: Option<Mapping<Entries<K>>>,
    parameters: Option<Mapping<Entries<K>>>,
}

/// The values of a map.
pub(super) struct Entries<K> {
    /// In the order of [`Keys::NAMES`].
    values: Vec<Option<Scalar>>,
    /// The first key that looks like one of them and is none.
    unknown: Option<String>,
    keys: PhantomData<K>,
}

/// A value that is text, or what it is instead.
pub(super) enum Scalar {
    Text(Zeroizing<String>),
    Null,
    /// The kind of value, with its article.
    Other(&'static str),
}

impl<K: Keys> Document<K> {
    /// Returns whether it is a Secret that has one of the keys.
    pub(super) fn is_secret(&self) -> bool {
        self.is("v1", "Secret")
            && [&self.data, &self.string_data].into_iter().flatten().any(|map| map.0.any())
    }

    /// Returns whether it is a StorageClass, with the keys or without.
    pub(super) fn is_storage_class(&self) -> bool {
        self.is("storage.k8s.io/v1", "StorageClass")
    }

    fn is(&self, api_version: &str, kind: &str) -> bool {
        let is = |scalar: &Option<Scalar>, wanted| {
            scalar.as_ref().and_then(Scalar::text).is_some_and(|text| text == wanted)
        };
        is(&self.api_version, api_version) && is(&self.kind, kind)
    }

    /// Returns whether a StorageClass has one of the keys.
    pub(super) fn has_parameters(&self) -> bool {
        self.parameters.as_ref().is_some_and(|map| map.0.any())
    }

    /// Takes the base64 values out.
    pub(super) fn take_data(&mut self) -> Entries<K> {
        self.data.take().unwrap_or_default().0
    }

    /// Takes the text values out.
    pub(super) fn take_string_data(&mut self) -> Entries<K> {
        self.string_data.take().unwrap_or_default().0
    }

    /// Takes the parameters of a StorageClass out.
    pub(super) fn take_parameters(&mut self) -> Entries<K> {
        self.parameters.take().unwrap_or_default().0
    }

    /// Returns the name, `None` when it is not one that Kubernetes gives to a Secret.
    pub(super) fn name(&self) -> Option<&str> {
        object_name(self.metadata.as_ref()?.0.name.as_ref()?)
    }

    /// Returns the namespace, `None` when there is none.
    pub(super) fn namespace(&self) -> Result<Option<&str>, Error> {
        match self.metadata.as_ref().and_then(|metadata| metadata.0.namespace.as_ref()) {
            None | Some(Scalar::Null) => Ok(None),
            Some(scalar) if scalar.text() == Some("") => Ok(None),
            Some(scalar) => match object_name(scalar) {
                Some(namespace) => Ok(Some(namespace)),
                None => {
                    Err(Error::InvalidNamespace { name: self.name().unwrap_or(UNNAMED).to_owned() })
                }
            },
        }
    }

    /// Returns `namespace/name` for messages.
    pub(super) fn qualified_name(&self) -> String {
        let name = self.name().unwrap_or(UNNAMED);
        match self.namespace() {
            Ok(Some(namespace)) => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        }
    }
}

impl<K: Keys> Entries<K> {
    /// Returns the values of a map that an API server has read already. Names that are none of the keys
    /// are left out.
    pub(super) fn of_texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut entries = Self::default();
        for (name, text) in texts {
            let index = K::NAMES.iter().position(|known| *known == name);
            if let Some(value) = index.and_then(|index| entries.values.get_mut(index)) {
                *value = Some(Scalar::Text(Zeroizing::new(text.to_owned())));
            }
        }
        entries
    }

    /// Takes the value of one of the keys out.
    pub(super) fn take(&mut self, name: &str) -> Option<Scalar> {
        let index = K::NAMES.iter().position(|known| *known == name)?;
        self.values.get_mut(index)?.take()
    }

    /// Takes the unknown key out.
    pub(super) fn take_unknown(&mut self) -> Option<String> {
        self.unknown.take()
    }

    fn any(&self) -> bool {
        self.unknown.is_some() || self.values.iter().any(Option::is_some)
    }
}

impl<K> Default for Document<K> {
    fn default() -> Self {
        Self {
            api_version: None,
            kind: None,
            metadata: None,
            data: None,
            string_data: None,
            parameters: None,
        }
    }
}

impl<K: Keys> Default for Entries<K> {
    fn default() -> Self {
        let values = K::NAMES.iter().map(|_| None).collect();
        Self { values, unknown: None, keys: PhantomData }
    }
}

impl Scalar {
    /// Returns a value of a Secret's `data`. Null is the empty value there, as in Kubernetes.
    pub(super) fn decoded(&self, key: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = match self {
            Self::Text(text) => text,
            Self::Null => return Ok(Zeroizing::default()),
            Self::Other(found) => return Err(Error::DataNotText { key, found }),
        };
        // Room is made once: a vector that grows leaves unwiped pieces behind.
        let mut base64 = Zeroizing::new(Vec::with_capacity(text.len()));
        base64.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')));
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(base64.len())]);
        let len =
            BASE64.decode_slice(&base64, &mut bytes).map_err(|_| Error::DataNotBase64 { key })?;
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Returns a value of a Secret's `stringData`.
    pub(super) fn plain(self, key: &'static str) -> Result<Zeroizing<Vec<u8>>, Error> {
        match self {
            Self::Text(mut text) => Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes())),
            Self::Null => Ok(Zeroizing::default()),
            Self::Other(found) => Err(Error::StringDataNotText { key, found }),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Null | Self::Other(_) => None,
        }
    }
}

#[derive(Default)]
struct Metadata {
    name: Option<Scalar>,
    namespace: Option<Scalar>,
}

/// A type that takes what it wants from the fields of a mapping.
trait Fields: Default {
    /// Reads the value of a field, which must be read in any case.
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error>;
}

impl<K: Keys> Fields for Document<K> {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "apiVersion" => read_once(&mut self.api_version, map),
            "kind" => read_once(&mut self.kind, map),
            "metadata" => read_once(&mut self.metadata, map),
            "data" => read_once(&mut self.data, map),
            "stringData" => read_once(&mut self.string_data, map),
            "parameters" => read_once(&mut self.parameters, map),
            _ => skip_value(map),
        }
    }
}

impl Fields for Metadata {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => read_once(&mut self.name, map),
            "namespace" => read_once(&mut self.namespace, map),
            _ => skip_value(map),
        }
    }
}

impl<K: Keys> Fields for Entries<K> {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        let known = K::NAMES.iter().position(|known| *known == name);
        match known.and_then(|index| self.values.get_mut(index)) {
            Some(value) => read_once(value, map),
            None => {
                if K::resembles(name) && self.unknown.is_none() {
                    self.unknown = Some(shown_key(name));
                }
                skip_value(map)
            }
        }
    }
}

/// Returns as much of an unknown key as a message shows.
pub(super) fn shown_key(name: &str) -> String {
    name.chars().take(MAX_SHOWN_KEY).collect()
}

/// Reads a field. The parser refuses a key that stands twice, but not when the two differ in an
/// odd tag.
fn read_once<'de, A, T>(field: &mut Option<T>, map: &mut A) -> Result<(), A::Error>
where
    A: MapAccess<'de>,
    T: Deserialize<'de>,
{
    if field.is_some() {
        return Err(A::Error::custom(KEY_TWICE));
    }
    *field = Some(map.next_value()?);
    Ok(())
}

fn skip_value<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// A mapping's fields; anything that is no mapping has none.
#[derive(Default)]
struct Mapping<F>(F);

impl<'de, F: Fields> Deserialize<'de> for Mapping<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MappingVisitor(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct MappingVisitor<F>(PhantomData<F>);

struct ScalarVisitor;

/// Writes visitor methods that ignore their value and return one and the same thing.
macro_rules! every {
    ($result:expr, $($method:ident($value:ty)),*) => {
        $(
            fn $method<E: serde::de::Error>(self, _: $value) -> Result<Self::Value, E> {
                Ok($result)
            }
        )*
    };
}

impl<'de, F: Fields> Visitor<'de> for MappingVisitor<F> {
    type Value = F;

    every!(
        F::default(),
        visit_bool(bool),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64),
        visit_str(&str),
        visit_bytes(&[u8])
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_string<E>(self, value: String) -> Result<F, E> {
        drop(Zeroizing::new(value));
        Ok(F::default())
    }

    fn visit_unit<E>(self) -> Result<F, E> {
        Ok(F::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<F, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(F::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<F, A::Error> {
        let mut fields = F::default();
        while let Some(key) = map.next_key::<Scalar>()? {
            match key.text() {
                Some(name) => fields.field(name, &mut map)?,
                None => skip_value(&mut map)?,
            }
        }
        Ok(fields)
    }
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar;

    every!(Scalar::Other("true or false"), visit_bool(bool));
    every!(
        Scalar::Other("a number"),
        visit_i64(i64),
        visit_i128(i128),
        visit_u64(u64),
        visit_u128(u128),
        visit_f64(f64)
    );
    every!(Scalar::Other("binary"), visit_bytes(&[u8]));

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(Zeroizing::new(value)))
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a mapping"))
    }
}

/// Returns the text of a scalar that is a name of a Kubernetes object.
fn object_name(scalar: &Scalar) -> Option<&str> {
    scalar.text().filter(|name| is_subdomain(name))
}

/// Returns what the parser did not like, without its words.
fn unread(error: &serde_saphyr::Error) -> Error {
    let problem = problem(error, &[KEY_TWICE]);
    match error.location() {
        Some(location) if location.line() > 0 => {
            Error::Manifest { line: location.line(), column: location.column(), problem }
        }
        _ => Error::ManifestBytes { problem },
    }
}

/// Limits far above any manifest and far below what hurts.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 64,
            max_documents: 1024,
            max_aliases: 1000,
            max_anchors: 1000,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * MAX_LEN,
            max_merge_keys: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 2000,
            max_replay_stack_depth: 16,
        },
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
}

/// The base64 of Kubernetes, that is of Go: padding required, line ends skipped (by
/// [`Scalar::decoded`]), stray bits behind the last byte ignored.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// What Kubernetes stores at most in a Secret, in bytes.
const MAX_LEN: usize = 1 << 20;
/// How much of an unknown key a message shows, in characters.
const MAX_SHOWN_KEY: usize = 64;
/// Stands for a name in messages about a Secret that has none.
const UNNAMED: &str = "(unnamed)";
