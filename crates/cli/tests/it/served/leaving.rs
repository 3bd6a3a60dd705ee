//! Documents that something holds while they are being deleted.

use super::{Served, claim, class, secret};
use crate::secrecy::CANARY;

#[test]
fn a_bound_volume_is_deleted_once_its_claim_is() {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    served.applied(&class("encrypted", "key", ""));
    served.applied(&claim("disk", "encrypted", "64Mi"));
    let volume = served.bound("lab", "disk");
    // TO FILL
    let began = served.run(&format!("delete pv {volume} --wait=false"));
    eprintln!("{}", began.describe());
    let late = served.run(&format!("delete pv {volume} --timeout 2s"));
    eprintln!("{}", late.describe());
    panic!("look");
}
