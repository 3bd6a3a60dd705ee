//! Timing work in turns, by the processor time of the thread.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::error::Error;

/// Runs every contender in turn, `ROUNDS` times, and returns for each the median processor time of
/// a call.
///
/// Turns let all of them meet the same disturbance, and processor time leaves out what other
/// processes take of the core.
pub(crate) fn medians(
    contenders: &mut [Box<dyn FnMut() -> Result<(), Error> + '_>],
) -> Result<Vec<Duration>, Error> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=ROUNDS {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let took = per_call(contender)?;
            // The first round only brings memory and clock up.
            if round > 0 {
                times.push(took);
            }
        }
    }
    Ok(times.into_iter().map(median).collect())
}

/// Returns the middle one; of an even number the lower one of the two.
///
/// # Panics
///
/// When there are none.
pub(crate) fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

fn per_call(work: &mut dyn FnMut() -> Result<(), Error>) -> Result<Duration, Error> {
    let start = thread_time()?;
    let mut calls = 0;
    loop {
        work()?;
        calls += 1;
        let took = thread_time()? - start;
        if took >= LEAST {
            return Ok(took / calls);
        }
    }
}

fn thread_time() -> Result<Duration, Error> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).map_err(Error::Resources)
}

/// How often everyone has a turn.
pub(crate) const ROUNDS: usize = 9;

/// How long a turn takes at least.
const LEAST: Duration = Duration::from_millis(15);
