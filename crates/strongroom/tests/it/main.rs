//! The use cases over disks that tests control.

mod crash;
