//! What is left on the stack.

use zeroize::Zeroize;

/// Does `work`, then overwrites the part of the stack that it may have used: key schedules that were
/// moved, and whatever else libraries copy without wiping it.
pub fn leaving_no_trace<T>(work: impl FnOnce() -> T) -> T {
    let result = apart(work);
    overwrite();
    result
}

/// A frame of its own, below that of the caller: where [`overwrite`] writes afterwards.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite() {
    let mut area = [0_u8; REACH];
    area.zeroize();
    std::hint::black_box(&area);
}

/// How far below its caller `work` may come, in bytes. More than ciphers and parsers use, and far less
/// than any thread has.
const REACH: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_what_the_work_returns() {
        let mut done = 0;
        assert_eq!(
            leaving_no_trace(|| {
                done += 1;
                "result"
            }),
            "result"
        );
        assert_eq!(done, 1);
    }
}
