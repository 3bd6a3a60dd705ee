//! The ioctl of device-mapper: one call, which takes and gives a message.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of the head of every message (`struct dm_ioctl`).
pub(crate) const HEAD_LEN: usize = 312;

/// Sends `message` as the command with this number, and leaves the answer in it.
///
/// # Errors
///
/// What the kernel says; `InvalidInput` when the message is not as long as its head says.
pub(crate) fn call(control: &File, command: u8, message: &mut [u8]) -> io::Result<()> {
    let claimed = message.get(LEN_FIELD).and_then(|field| field.try_into().ok());
    let claimed = claimed.map(u32::from_ne_bytes).and_then(|len| usize::try_from(len).ok());
    if claimed != Some(message.len()) || message.len() < HEAD_LEN {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // JUSTIFICATION: device-mapper is driven by this ioctl, and no library here has it.
    // SAFETY: the request encodes that a pointer to a `struct dm_ioctl` is given. The kernel takes from
    // its second field how many bytes it may read and write there, which was compared with the slice;
    // the slice is borrowed mutably as long as the call lasts, and any bytes in it are valid afterwards.
    let result =
        unsafe { libc::ioctl(control.as_raw_fd(), request(command), message.as_mut_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Encodes `_IOWR(0xfd, command, struct dm_ioctl)`.
fn request(command: u8) -> libc::Ioctl {
    const READ_AND_WRITE: u64 = 3;
    const GROUP: u64 = 0xfd;
    let number = READ_AND_WRITE << 30 | (HEAD_LEN as u64) << 16 | GROUP << 8 | u64::from(command);
    number as libc::Ioctl
}

/// Where the head says how long the message is.
const LEN_FIELD: std::ops::Range<usize> = 12..16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_message_that_is_shorter_than_its_head_says() {
        let file = File::open("/dev/null").unwrap();
        let mut message = vec![0; HEAD_LEN];
        message[LEN_FIELD].copy_from_slice(&(HEAD_LEN as u32 + 1).to_ne_bytes());
        let error = call(&file, 0, &mut message).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn another_device_refuses_the_request() {
        let file = File::open("/dev/null").unwrap();
        let mut message = vec![0; HEAD_LEN];
        message[LEN_FIELD].copy_from_slice(&(HEAD_LEN as u32).to_ne_bytes());
        let error = call(&file, 0, &mut message).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    }
}
