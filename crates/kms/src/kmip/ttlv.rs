//! Pure. TTLV (tag, type, length, value), the encoding of KMIP messages (KMIP 1.4, section 9.1).
//!
//! ```text
//! offset  bytes
//!      0      3  tag, big endian
//!      3      1  type
//!      4      4  length of the value in bytes, padding not counted, big endian
//!      8      …  the value, padded to a multiple of eight bytes
//! ```
//!
//! Reading costs bounded time and memory whatever the bytes are: at most [`MAX_LEN`] bytes,
//! [`MAX_DEPTH`] structures in each other and [`MAX_ITEMS`] items.

use std::fmt;

use zeroize::Zeroizing;

/// What a value is for: 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(u32);

/// A value with its tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What the value is for.
    pub tag: Tag,
    /// The value.
    pub value: Value,
}

/// A value of one of the types that there are. Text and bytes may be secret: they are wiped when
/// they are dropped, and `Debug` shows their length alone.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Items, in an order that matters.
    Structure(Vec<Item>),
    /// 32 bits with a sign.
    Integer(i32),
    /// 64 bits with a sign.
    LongInteger(i64),
    /// Two's complement, big endian, a multiple of eight bytes.
    BigInteger(Zeroizing<Vec<u8>>),
    /// One of a list of values.
    Enumeration(u32),
    /// Yes or no.
    Boolean(bool),
    /// UTF-8.
    TextString(Zeroizing<String>),
    /// Bytes.
    ByteString(Zeroizing<Vec<u8>>),
    /// Seconds since 1970.
    DateTime(i64),
    /// Seconds.
    Interval(u32),
    /// Microseconds since 1970 (KMIP 2.0).
    DateTimeExtended(i64),
}

/// Why bytes are no TTLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Where, unless it is about the whole.
    at: Option<usize>,
    problem: &'static str,
}

/// The longest encoding that is read, in bytes.
pub const MAX_LEN: usize = 1 << 20;

/// How many structures may be in each other.
pub const MAX_DEPTH: usize = 32;

/// How many items an encoding may hold.
pub const MAX_ITEMS: usize = 1 << 14;

/// How many bytes come before a value.
pub const HEAD_LEN: usize = 8;

impl Tag {
    /// Returns a tag.
    ///
    /// # Panics
    ///
    /// When it has more than 24 bits, which a constant shows when it is compiled.
    pub const fn new(number: u32) -> Self {
        assert!(number < 1 << 24);
        Self(number)
    }

    /// Returns its number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.0)
    }
}

impl Item {
    /// Returns an item.
    pub fn new(tag: Tag, value: Value) -> Self {
        Self { tag, value }
    }

    /// Reads one item, which takes all of the bytes. Padding may hold anything, as some servers
    /// write it.
    ///
    /// # Errors
    ///
    /// Where the bytes are no TTLV, or exceed a limit.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0, items: 0 };
        if bytes.len() > MAX_LEN {
            return Err(reader.malformed("the encoding is too long"));
        }
        let item = reader.item(0, bytes.len())?;
        if reader.at != bytes.len() {
            return Err(reader.malformed("something follows the item"));
        }
        Ok(item)
    }

    /// Returns its encoding.
    ///
    /// # Panics
    ///
    /// When a value has 4 GiB or more, which its length does not hold.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // With all the room from the start no copy is left behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.encoded_len()));
        self.write(&mut bytes);
        bytes
    }

    fn encoded_len(&self) -> usize {
        HEAD_LEN + self.value.len().next_multiple_of(8)
    }

    fn write(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.value.len()).expect("no message has 4 GiB");
        out.extend_from_slice(&self.tag.0.to_be_bytes()[1..]);
        out.push(self.value.type_code());
        out.extend_from_slice(&len.to_be_bytes());
        match &self.value {
            Value::Structure(items) => items.iter().for_each(|item| item.write(out)),
            Value::Integer(number) => out.extend_from_slice(&number.to_be_bytes()),
            Value::LongInteger(number)
            | Value::DateTime(number)
            | Value::DateTimeExtended(number) => out.extend_from_slice(&number.to_be_bytes()),
            Value::Enumeration(number) | Value::Interval(number) => {
                out.extend_from_slice(&number.to_be_bytes());
            }
            Value::Boolean(yes) => out.extend_from_slice(&u64::from(*yes).to_be_bytes()),
            Value::TextString(text) => out.extend_from_slice(text.as_bytes()),
            Value::BigInteger(bytes) | Value::ByteString(bytes) => out.extend_from_slice(bytes),
        }
        out.resize(out.len().next_multiple_of(8), 0);
    }
}

impl Value {
    /// Returns text.
    pub fn text(text: &str) -> Self {
        Self::TextString(Zeroizing::new(text.to_owned()))
    }

    /// Returns bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self::ByteString(Zeroizing::new(bytes.to_vec()))
    }

    /// Returns how many bytes the value has, without padding at its end.
    fn len(&self) -> usize {
        match self {
            Self::Structure(items) => items.iter().map(Item::encoded_len).sum(),
            Self::Integer(_) | Self::Enumeration(_) | Self::Interval(_) => 4,
            Self::LongInteger(_)
            | Self::Boolean(_)
            | Self::DateTime(_)
            | Self::DateTimeExtended(_) => 8,
            Self::TextString(text) => text.len(),
            Self::BigInteger(bytes) | Self::ByteString(bytes) => bytes.len(),
        }
    }

    fn type_code(&self) -> u8 {
        match self {
            Self::Structure(_) => 0x01,
            Self::Integer(_) => 0x02,
            Self::LongInteger(_) => 0x03,
            Self::BigInteger(_) => 0x04,
            Self::Enumeration(_) => 0x05,
            Self::Boolean(_) => 0x06,
            Self::TextString(_) => 0x07,
            Self::ByteString(_) => 0x08,
            Self::DateTime(_) => 0x09,
            Self::Interval(_) => 0x0A,
            Self::DateTimeExtended(_) => 0x0B,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Structure(items) => f.debug_list().entries(items).finish(),
            Self::Integer(number) => write!(f, "{number}"),
            Self::LongInteger(number) => write!(f, "{number}"),
            Self::Enumeration(number) => write!(f, "#{number:X}"),
            Self::Boolean(yes) => write!(f, "{yes}"),
            Self::DateTime(time) => write!(f, "@{time} s"),
            Self::DateTimeExtended(time) => write!(f, "@{time} µs"),
            Self::Interval(seconds) => write!(f, "{seconds} s"),
            Self::TextString(text) => write!(f, "{} bytes of text", text.len()),
            Self::BigInteger(bytes) | Self::ByteString(bytes) => {
                write!(f, "{} bytes", bytes.len())
            }
        }
    }
}

/// Returns how many bytes follow the first eight of an item, padding included.
///
/// # Errors
///
/// When the item would exceed [`MAX_LEN`].
pub fn rest_len(head: &[u8; HEAD_LEN]) -> Result<usize, Malformed> {
    let [_, _, _, _, len @ ..] = head;
    let len = u32::from_be_bytes(*len) as usize;
    if len > MAX_LEN - HEAD_LEN {
        return Err(Malformed::whole("the encoding is too long"));
    }
    Ok(len.next_multiple_of(8))
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(at) => write!(f, "at byte {at} of the TTLV encoding, {}", self.problem),
            None => f.write_str(self.problem),
        }
    }
}

impl Malformed {
    /// Returns what is wrong with all of it.
    pub(crate) fn whole(problem: &'static str) -> Self {
        Self { at: None, problem }
    }
}

impl std::error::Error for Malformed {}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    items: usize,
}

impl Reader<'_> {
    /// Reads the item that begins here and ends at `end` or before.
    fn item(&mut self, depth: usize, end: usize) -> Result<Item, Malformed> {
        self.items += 1;
        if self.items > MAX_ITEMS {
            return Err(self.malformed("there are too many items"));
        }
        let start = self.at;
        let [t0, t1, t2, code, len @ ..] = self.array::<HEAD_LEN>(end)?;
        let tag = Tag(u32::from_be_bytes([0, t0, t1, t2]));
        let len = u32::from_be_bytes(len) as usize;
        let value = match code {
            0x01 => self.structure(depth, len, end)?,
            code => self.primitive(code, len, end)?,
        };
        debug_assert!(self.at > start);
        Ok(Item { tag, value })
    }

    fn structure(&mut self, depth: usize, len: usize, end: usize) -> Result<Value, Malformed> {
        if depth + 1 > MAX_DEPTH {
            return Err(self.malformed("there are too many structures in each other"));
        }
        if !len.is_multiple_of(8) {
            return Err(self.malformed("the length of a structure is no multiple of eight"));
        }
        if len > end - self.at {
            return Err(self.malformed(PAST_END));
        }
        let end = self.at + len;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.item(depth + 1, end)?);
        }
        Ok(Value::Structure(items))
    }

    fn primitive(&mut self, code: u8, len: usize, end: usize) -> Result<Value, Malformed> {
        let fixed = match code {
            0x02 | 0x05 | 0x0A => Some(4),
            0x03 | 0x06 | 0x09 | 0x0B => Some(8),
            0x04 | 0x07 | 0x08 => None,
            _ => return Err(self.malformed("there is no such type")),
        };
        if fixed.is_some_and(|fixed| fixed != len) {
            return Err(self.malformed("the length is not the one of its type"));
        }
        if code == 0x04 && !len.is_multiple_of(8) {
            return Err(self.malformed("the length of a big integer is no multiple of eight"));
        }
        let value = match code {
            0x02 => Value::Integer(i32::from_be_bytes(self.array(end)?)),
            0x03 => Value::LongInteger(i64::from_be_bytes(self.array(end)?)),
            0x04 => Value::BigInteger(Zeroizing::new(self.take(len, end)?.to_vec())),
            0x05 => Value::Enumeration(u32::from_be_bytes(self.array(end)?)),
            0x06 => match u64::from_be_bytes(self.array(end)?) {
                0 => Value::Boolean(false),
                1 => Value::Boolean(true),
                _ => return Err(self.malformed("a boolean is neither true nor false")),
            },
            0x07 => {
                let at = self.at;
                match std::str::from_utf8(self.take(len, end)?) {
                    Ok(text) => Value::text(text),
                    Err(_) => {
                        return Err(Malformed { at: Some(at), problem: "the text is not UTF-8" });
                    }
                }
            }
            0x08 => Value::bytes(self.take(len, end)?),
            0x09 => Value::DateTime(i64::from_be_bytes(self.array(end)?)),
            0x0A => Value::Interval(u32::from_be_bytes(self.array(end)?)),
            _ => Value::DateTimeExtended(i64::from_be_bytes(self.array(end)?)),
        };
        self.take(len.next_multiple_of(8) - len, end)?;
        Ok(value)
    }

    fn array<const N: usize>(&mut self, end: usize) -> Result<[u8; N], Malformed> {
        let at = self.at;
        let taken = self.take(N, end)?;
        taken.try_into().map_err(|_| Malformed { at: Some(at), problem: PAST_END })
    }

    fn take(&mut self, len: usize, end: usize) -> Result<&[u8], Malformed> {
        let past_end = Malformed { at: Some(self.at), problem: PAST_END };
        let stop = self.at.checked_add(len).filter(|stop| *stop <= end).ok_or(past_end)?;
        let taken = self.bytes.get(self.at..stop).ok_or(past_end)?;
        self.at = stop;
        Ok(taken)
    }

    fn malformed(&self, problem: &'static str) -> Malformed {
        Malformed { at: Some(self.at), problem }
    }
}

const PAST_END: &str = "an item is longer than what it stands in";

#[cfg(test)]
mod tests;
