//! Pure. Requests and responses of KMIP 1.2 to 2.1: what is asked, in the order that servers insist
//! on, and what comes back.

use std::fmt;

use zeroize::Zeroizing;

use super::reason;
use super::tag::*;
use super::ttlv::{Item, MAX_LEN, Malformed, Tag, Value};

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// The number before the point.
    pub major: i32,
    /// The number after the point.
    pub minor: i32,
}

/// What is asked of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    /// Which versions of the protocol it speaks.
    DiscoverVersions,
    /// Who it is and what it can do.
    Query,
    /// Which symmetric keys have this name.
    Locate { name: &'a str },
    /// All attributes of an object.
    Attributes { id: &'a str },
    /// To encrypt; without an IV the server makes one.
    Encrypt { id: &'a str, cipher: Cipher, data: &'a [u8], iv: Option<&'a [u8]> },
    /// To decrypt.
    Decrypt { id: &'a str, cipher: Cipher, data: &'a [u8], iv: &'a [u8], tag: Option<&'a [u8]> },
}

/// How AES is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    /// GCM with a tag of 16 bytes, which needs KMIP 1.4.
    Gcm,
    /// CBC, padded as PKCS #5 says.
    Cbc,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The version that the answer is in.
    pub version: Version,
    /// The answer.
    pub outcome: Result<Answer, Failure>,
}

/// What a server answers when it has done what it was asked for. `Debug` shows nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// The versions of the protocol that it speaks.
    Versions(Vec<Version>),
    /// Who it is and what it can do.
    Server {
        /// Its name and version, as it gives them.
        name: Option<String>,
        /// The operations that it knows, by their numbers (KMIP 1.4, section 9.1.3.2.27).
        operations: Vec<u32>,
    },
    /// The objects that it found.
    Identifiers(Vec<String>),
    /// What it knows of an object.
    Attributes(Attributes),
    /// What it has encrypted.
    Encrypted {
        /// The ciphertext.
        data: Vec<u8>,
        /// The IV, when the server has made it.
        iv: Option<Vec<u8>>,
        /// The tag that authenticates the ciphertext.
        tag: Option<Vec<u8>>,
    },
    /// What it has decrypted.
    Decrypted(Plaintext),
}

/// What was decrypted: wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext(pub(crate) Zeroizing<Vec<u8>>);

/// What a server knows of an object, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub(crate) state: Option<u32>,
    pub(crate) algorithm: Option<u32>,
    /// In bits.
    pub(crate) length: Option<i32>,
    pub(crate) usage: Option<i32>,
    pub(crate) names: Vec<String>,
    /// The object that replaces it.
    pub(crate) replacement: Option<String>,
}

/// Why a server has not done what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub(crate) status: u32,
    pub(crate) reason: Option<u32>,
    pub(crate) message: Option<String>,
}

/// The numbers of operations (KMIP 1.4, section 9.1.3.2.27).
pub(crate) mod operation {
    pub(crate) const LOCATE: u32 = 0x08;
    pub(crate) const GET_ATTRIBUTES: u32 = 0x0B;
    pub(crate) const QUERY: u32 = 0x18;
    pub(crate) const DISCOVER_VERSIONS: u32 = 0x1E;
    pub(crate) const ENCRYPT: u32 = 0x1F;
    pub(crate) const DECRYPT: u32 = 0x20;
}

impl Version {
    /// The versions that are spoken here, the newest first.
    pub const SPOKEN: [Self; 5] =
        [Self::new(2, 1), Self::new(2, 0), Self::new(1, 4), Self::new(1, 3), Self::new(1, 2)];

    /// Returns a version.
    pub const fn new(major: i32, minor: i32) -> Self {
        Self { major, minor }
    }

    /// Returns whether encryption can be authenticated in it.
    pub(crate) fn has_tags(self) -> bool {
        self >= Self::new(1, 4)
    }

    fn has_attributes_structure(self) -> bool {
        self.major >= 2
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Request<'_> {
    /// Returns the message that asks for it in a version of the protocol.
    pub(crate) fn to_bytes(self, version: Version) -> Zeroizing<Vec<u8>> {
        let max_response = i32::try_from(MAX_LEN).expect("1 MiB is far less than 2 GiB");
        let header = structure(
            REQUEST_HEADER,
            vec![
                structure(
                    PROTOCOL_VERSION,
                    vec![
                        Item::new(PROTOCOL_MAJOR, Value::Integer(version.major)),
                        Item::new(PROTOCOL_MINOR, Value::Integer(version.minor)),
                    ],
                ),
                Item::new(MAXIMUM_RESPONSE_SIZE, Value::Integer(max_response)),
                Item::new(BATCH_COUNT, Value::Integer(1)),
            ],
        );
        let item = structure(
            BATCH_ITEM,
            vec![
                Item::new(OPERATION, Value::Enumeration(self.operation())),
                structure(REQUEST_PAYLOAD, self.payload(version)),
            ],
        );
        structure(REQUEST_MESSAGE, vec![header, item]).to_bytes()
    }

    fn operation(self) -> u32 {
        match self {
            Self::DiscoverVersions => operation::DISCOVER_VERSIONS,
            Self::Query => operation::QUERY,
            Self::Locate { .. } => operation::LOCATE,
            Self::Attributes { .. } => operation::GET_ATTRIBUTES,
            Self::Encrypt { .. } => operation::ENCRYPT,
            Self::Decrypt { .. } => operation::DECRYPT,
        }
    }

    fn payload(self, version: Version) -> Vec<Item> {
        match self {
            // An empty list asks for all versions.
            Self::DiscoverVersions => Vec::new(),
            Self::Query => [QUERY_OPERATIONS, QUERY_SERVER_INFORMATION]
                .map(|function| Item::new(QUERY_FUNCTION, Value::Enumeration(function)))
                .to_vec(),
            Self::Locate { name } => locate(name, version),
            // Without names of attributes the server sends them all.
            Self::Attributes { id } => vec![Item::new(UNIQUE_IDENTIFIER, Value::text(id))],
            Self::Encrypt { id, cipher, data, iv } => {
                let mut items = vec![
                    Item::new(UNIQUE_IDENTIFIER, Value::text(id)),
                    cipher.parameters(),
                    Item::new(DATA, Value::bytes(data)),
                ];
                items.extend(iv.map(|iv| Item::new(IV_COUNTER_NONCE, Value::bytes(iv))));
                items
            }
            Self::Decrypt { id, cipher, data, iv, tag } => {
                let mut items = vec![
                    Item::new(UNIQUE_IDENTIFIER, Value::text(id)),
                    cipher.parameters(),
                    Item::new(DATA, Value::bytes(data)),
                    Item::new(IV_COUNTER_NONCE, Value::bytes(iv)),
                ];
                items.extend(tag.map(|tag| Item::new(ENCRYPTION_TAG, Value::bytes(tag))));
                items
            }
        }
    }
}

/// Returns what finds the symmetric keys that have a name.
fn locate(name: &str, version: Version) -> Vec<Item> {
    let name = vec![
        Item::new(NAME_VALUE, Value::text(name)),
        Item::new(NAME_TYPE, Value::Enumeration(UNINTERPRETED_TEXT)),
    ];
    let kind = Value::Enumeration(SYMMETRIC_KEY);
    if version.has_attributes_structure() {
        return vec![structure(
            ATTRIBUTES,
            vec![Item::new(OBJECT_TYPE, kind), structure(NAME, name)],
        )];
    }
    let attribute = |label, value| {
        let label = Item::new(ATTRIBUTE_NAME, Value::text(label));
        structure(ATTRIBUTE, vec![label, Item::new(ATTRIBUTE_VALUE, value)])
    };
    vec![attribute("Object Type", kind), attribute("Name", Value::Structure(name))]
}

impl Cipher {
    fn parameters(self) -> Item {
        let mode = |mode| Item::new(BLOCK_CIPHER_MODE, Value::Enumeration(mode));
        let aes = Item::new(CRYPTOGRAPHIC_ALGORITHM, Value::Enumeration(AES));
        let items = match self {
            Self::Gcm => {
                vec![mode(GCM), aes, Item::new(TAG_LENGTH, Value::Integer(Self::TAG_LEN as i32))]
            }
            Self::Cbc => {
                vec![mode(CBC), Item::new(PADDING_METHOD, Value::Enumeration(PKCS5)), aes]
            }
        };
        structure(CRYPTOGRAPHIC_PARAMETERS, items)
    }

    /// The length of GCM's tag in bytes. A shorter one could be forged sooner.
    pub(crate) const TAG_LEN: usize = 16;

    /// Returns how many bytes an IV has that is made here.
    pub(crate) fn iv_len(self) -> usize {
        match self {
            Self::Gcm => 12,
            Self::Cbc => 16,
        }
    }
}

impl Response {
    /// Reads the response to a single request.
    ///
    /// # Errors
    ///
    /// When it is no response, or not one to anything that is asked here.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let message = Item::parse(bytes)?;
        if message.tag != RESPONSE_MESSAGE {
            return Err(Malformed::whole("it is no response of KMIP"));
        }
        let version = message
            .child(RESPONSE_HEADER)
            .and_then(|header| header.child(PROTOCOL_VERSION))
            .and_then(|version| {
                let major = version.child(PROTOCOL_MAJOR)?.integer()?;
                Some(Version::new(major, version.child(PROTOCOL_MINOR)?.integer()?))
            })
            .ok_or(Malformed::whole("the response tells no version of the protocol"))?;
        let mut items = message.children(BATCH_ITEM);
        let (Some(item), None) = (items.next(), items.next()) else {
            return Err(Malformed::whole("the response does not answer one request"));
        };
        let status = item
            .child(RESULT_STATUS)
            .and_then(Item::enumeration)
            .ok_or(Malformed::whole("the response tells no status"))?;
        if status != SUCCESS {
            let reason = item.child(RESULT_REASON).and_then(Item::enumeration);
            let message = item.child(RESULT_MESSAGE).and_then(Item::text).map(printable);
            return Ok(Self { version, outcome: Err(Failure { status, reason, message }) });
        }
        let operation = item
            .child(OPERATION)
            .and_then(Item::enumeration)
            .ok_or(Malformed::whole("the response tells no operation"))?;
        let nothing = structure(RESPONSE_PAYLOAD, Vec::new());
        let payload = item.child(RESPONSE_PAYLOAD).unwrap_or(&nothing);
        Ok(Self { version, outcome: Ok(Answer::read(operation, payload)?) })
    }
}

impl Answer {
    fn read(operation: u32, payload: &Item) -> Result<Self, Malformed> {
        let no_data = Malformed::whole("the response holds no data");
        match operation {
            operation::DISCOVER_VERSIONS => {
                let versions = payload.children(PROTOCOL_VERSION).filter_map(|version| {
                    let major = version.child(PROTOCOL_MAJOR)?.integer()?;
                    Some(Version::new(major, version.child(PROTOCOL_MINOR)?.integer()?))
                });
                Ok(Self::Versions(versions.collect()))
            }
            operation::QUERY => Ok(Self::Server {
                name: payload.child(VENDOR_IDENTIFICATION).and_then(Item::text).map(printable),
                operations: payload.children(OPERATION).filter_map(Item::enumeration).collect(),
            }),
            operation::LOCATE => {
                let found = payload.children(UNIQUE_IDENTIFIER).filter_map(Item::text);
                Ok(Self::Identifiers(found.map(str::to_owned).collect()))
            }
            operation::GET_ATTRIBUTES => Ok(Self::Attributes(Attributes::read(payload))),
            operation::ENCRYPT => Ok(Self::Encrypted {
                data: payload.child(DATA).and_then(Item::bytes).ok_or(no_data)?.to_vec(),
                iv: payload.child(IV_COUNTER_NONCE).and_then(Item::bytes).map(<[u8]>::to_vec),
                tag: payload.child(ENCRYPTION_TAG).and_then(Item::bytes).map(<[u8]>::to_vec),
            }),
            operation::DECRYPT => {
                let data = payload.child(DATA).and_then(Item::bytes).ok_or(no_data)?;
                Ok(Self::Decrypted(Plaintext(Zeroizing::new(data.to_vec()))))
            }
            _ => Err(Malformed::whole("the response is about an operation that was not asked for")),
        }
    }
}

impl Attributes {
    /// Reads attributes in the form of KMIP 1 or 2.
    fn read(payload: &Item) -> Self {
        let mut attributes = Self::default();
        for item in payload.children(ATTRIBUTES).flat_map(Item::items) {
            attributes.add(item.tag, item);
        }
        for item in payload.children(ATTRIBUTE) {
            let tag = match item.child(ATTRIBUTE_NAME).and_then(Item::text) {
                Some("State") => STATE,
                Some("Cryptographic Algorithm") => CRYPTOGRAPHIC_ALGORITHM,
                Some("Cryptographic Length") => CRYPTOGRAPHIC_LENGTH,
                Some("Cryptographic Usage Mask") => CRYPTOGRAPHIC_USAGE_MASK,
                Some("Name") => NAME,
                Some("Link") => LINK,
                _ => continue,
            };
            if let Some(value) = item.child(ATTRIBUTE_VALUE) {
                attributes.add(tag, value);
            }
        }
        attributes
    }

    fn add(&mut self, tag: Tag, item: &Item) {
        match tag {
            STATE => self.state = item.enumeration(),
            CRYPTOGRAPHIC_ALGORITHM => self.algorithm = item.enumeration(),
            CRYPTOGRAPHIC_LENGTH => self.length = item.integer(),
            CRYPTOGRAPHIC_USAGE_MASK => self.usage = item.integer(),
            NAME => {
                self.names.extend(item.child(NAME_VALUE).and_then(Item::text).map(str::to_owned));
            }
            LINK => {
                let kind = item.child(LINK_TYPE).and_then(Item::enumeration);
                let to = item.child(LINKED_OBJECT).and_then(Item::text);
                if let (Some(REPLACEMENT_OBJECT), Some(to)) = (kind, to) {
                    self.replacement = Some(to.to_owned());
                }
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason, self.status) {
            (Some(reason), _) => match reason::name(reason) {
                Some(name) => write!(f, "the server answers {name}")?,
                None => write!(f, "the server answers reason 0x{reason:x}")?,
            },
            (None, PENDING) => f.write_str("the server answers that it will answer later")?,
            (None, status) => write!(f, "the server answers status 0x{status:x}")?,
        }
        match &self.message {
            Some(message) => write!(f, ": {message}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl Item {
    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::Structure(items) => items,
            _ => &[],
        }
    }

    pub(super) fn children(&self, tag: Tag) -> impl Iterator<Item = &Self> {
        self.items().iter().filter(move |item| item.tag == tag)
    }

    pub(super) fn child(&self, tag: Tag) -> Option<&Self> {
        self.children(tag).next()
    }

    pub(super) fn integer(&self) -> Option<i32> {
        if let Value::Integer(number) = self.value { Some(number) } else { None }
    }

    pub(super) fn enumeration(&self) -> Option<u32> {
        if let Value::Enumeration(number) = self.value { Some(number) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Value::TextString(text) = &self.value { Some(text) } else { None }
    }

    pub(super) fn bytes(&self) -> Option<&[u8]> {
        if let Value::ByteString(bytes) = &self.value { Some(bytes) } else { None }
    }
}

pub(super) fn structure(tag: Tag, items: Vec<Item>) -> Item {
    Item::new(tag, Value::Structure(items))
}

/// Returns text of a server in one line, not too long, as it may go into an error.
fn printable(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() || turns(c) { ' ' } else { c };
    let shown: String = text.chars().map(plain).take(MAX_SHOWN).collect();
    shown.trim_matches([' ', '.']).to_owned()
}

/// How many characters of a server's own words are kept.
const MAX_SHOWN: usize = 200;

// Values of enumerations (KMIP 1.4, section 9.1.3.2).
const AES: u32 = 3;
const CBC: u32 = 1;
const GCM: u32 = 9;
const PKCS5: u32 = 3;
const SYMMETRIC_KEY: u32 = 2;
const UNINTERPRETED_TEXT: u32 = 1;
const QUERY_OPERATIONS: u32 = 1;
const QUERY_SERVER_INFORMATION: u32 = 3;
const REPLACEMENT_OBJECT: u32 = 0x106;
const SUCCESS: u32 = 0;
const PENDING: u32 = 2;

#[cfg(test)]
mod tests;
