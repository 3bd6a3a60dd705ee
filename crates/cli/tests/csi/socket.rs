//! The socket: who gets an answer, and what happens to calls when the driver ends.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use strongroom_csi::messages::{
    GetPluginInfoRequest, GetPluginInfoResponse, Map, NodeStageVolumeRequest,
    NodeStageVolumeResponse, ProbeRequest, ProbeResponse,
};
use strongroom_testkit::run;
use tonic::Code;

use crate::driver::{Driver, map, mount};
use crate::kinds::{self, secret};

#[test]
fn a_second_driver_does_not_take_the_socket_of_the_first() {
    let Some(driver) = Driver::start("a_second_driver_does_not_take_the_socket") else { return };
    let mode = std::fs::metadata(driver.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut second = Command::new(env!("CARGO_BIN_EXE_strongroom"));
    second
        .args(["csi", "--node-id", "node-1", "--driver-name", "csi.example.com"])
        .args(["--endpoint", &format!("unix://{}", driver.socket().display())])
        .args(["--pool", driver.path("pool").to_str().unwrap()]);
    let error = run(second, b"").fails(7);
    assert!(error.contains("somebody else serves"), "{error}");
    let info: GetPluginInfoResponse =
        driver.call("Identity/GetPluginInfo", GetPluginInfoRequest {}).unwrap();
    assert_eq!(info.name, "csi.example.com");
}

#[test]
fn what_is_no_call_harms_nobody() {
    let Some(driver) = Driver::start("what_is_no_call_harms_nobody") else { return };
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 100_000], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"]
    {
        let mut stream = UnixStream::connect(driver.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    let large = NodeStageVolumeRequest {
        volume_id: "a".to_owned(),
        secrets: map(&[("canary", &"x".repeat(2 << 20))]),
        ..Default::default()
    };
    let refused =
        driver.call::<_, NodeStageVolumeResponse>("Node/NodeStageVolume", large).unwrap_err();
    assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&refused.code()), "{refused:?}");
    let probe: ProbeResponse = driver.call("Identity/Probe", ProbeRequest {}).unwrap();
    assert!(probe.ready.is_some_and(|ready| ready.value));
    for name in ["../../etc/passwd", "a/b", "a\nb", "ü", &"x".repeat(128)] {
        driver.create(name, Map::new()).unwrap();
    }
    assert_eq!(
        driver.create(&"x".repeat(129), Map::new()).unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[test]
fn a_driver_that_is_told_to_end_answers_the_calls_that_are_there() {
    let Some(mut driver) = Driver::start("a_driver_that_is_told_to_end") else { return };
    let kind = kinds::passphrase();
    driver.create("pvc-1", kind.parameters).unwrap();
    let mut slow = secret("passphrase");
    // A second or so.
    slow.insert("CRYPTO_PBKDF_FORCE_ITERATIONS".to_owned(), "2000000".to_owned());
    let client = driver.client();
    let staging = driver.path("staging/pvc-1");
    std::fs::create_dir(&staging).unwrap();
    let request = NodeStageVolumeRequest {
        volume_id: "pvc-1".to_owned(),
        staging_target_path: staging.to_str().unwrap().to_owned(),
        volume_capability: Some(mount()),
        secrets: slow,
        ..Default::default()
    };
    let call = std::thread::spawn(move || {
        client.call::<_, NodeStageVolumeResponse>("Node/NodeStageVolume", request)
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(driver.stop(), "{}", driver.log());
    call.join().unwrap().unwrap();
    assert!(!driver.socket().exists());
}
