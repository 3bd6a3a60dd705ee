//! Tests that need a process of their own, for its environment or its memory.

use std::process::Command;

/// Runs a test of this program once more, alone, in a process with these variables and no other that
/// names a proxy. Nobody else's environment changes.
pub(crate) fn run_child(test: &str, variables: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, "1");
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "no such test: {text}");
}

pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

const CHILD: &str = "STRONGROOM_FETCH_TEST_CHILD";
