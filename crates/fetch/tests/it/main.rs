//! Resources as good, bad and hostile servers serve them.

#[cfg(test)]
mod child;
#[cfg(test)]
mod content;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod image;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod ranged;
#[cfg(test)]
mod redirects;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tls;
