//! Images as other programs and crashes see them.

#[cfg(test)]
mod crash;
#[cfg(test)]
mod folders;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod overlay;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod unfinished;
