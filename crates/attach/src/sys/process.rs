//! Processes: descriptors that were inherited.
#![allow(unsafe_code)]

/// Closes everything that was inherited besides standard input, output and error: locks and pipes of
/// whoever started us shall not live as long as we do.
///
/// # Assumptions
///
/// This process has opened nothing yet that it needs.
pub(crate) fn close_inherited() {
    // JUSTIFICATION: no safe library closes descriptors that it does not own.
    // SAFETY: nothing in this process owns a descriptor above 2 yet, as this function demands.
    unsafe {
        // A kernel without the call (before 5.9) leaves them open, which only wastes them.
        let _ = libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32);
    }
}
