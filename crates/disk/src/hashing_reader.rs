//! A stream whose checksum is taken while it is read.

use std::io::{self, Read};

use strongroom_crypto::{Hash, Hasher};

/// A reader that hashes every byte it gives away, once and in order.
#[derive(Debug)]
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    /// Returns a reader of the same bytes.
    pub fn new(inner: R, hash: Hash) -> Self {
        Self { inner, hasher: Hasher::new(hash), count: 0 }
    }

    /// Returns how many bytes were read.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads what is left, and returns the digest of all bytes.
    ///
    /// # Errors
    ///
    /// Those of the reader below.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut buf = vec![0; BUFFER];
        loop {
            match self.read(&mut buf) {
                Ok(0) => return Ok(self.hasher.finish()),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        self.hasher.update(&buf[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

/// Bytes read at once when nobody wants them.
const BUFFER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives few bytes at a time, and is interrupted before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = buf.len().min(777);
            self.0.read(&mut buf[..most])
        }
    }

    #[test]
    fn the_digest_is_that_of_what_was_read_and_the_rest() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|index| (index / 7) as u8).collect();
        for taken in [0, 1, 777, 100_000, 200_000] {
            let mut reader = HashingReader::new(Slow(&bytes, false), Hash::Sha512);
            let mut found = vec![0; taken];
            reader.read_exact(&mut found).unwrap();
            assert!(found == bytes[..taken]);
            assert_eq!(reader.count(), taken as u64);
            assert_eq!(reader.finish().unwrap(), Hash::Sha512.digest(&[&bytes]));
        }
    }

    #[test]
    fn an_error_leaves_no_digest() {
        let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
        reader.set_nonblocking(true).unwrap();
        let error = HashingReader::new(reader, Hash::Sha256).finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
