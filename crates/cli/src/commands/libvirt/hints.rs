//! What to do about errors of secrets and volumes.

use strongroom::Error;
use strongroom::libvirt::LibvirtProblem as Problem;

/// Returns what to do about an error of a secret or volume of libvirt's, where there is something.
pub(crate) fn hint(error: &Error) -> Option<String> {
    let Error::Libvirt(problem) = error else { return None };
    Some(match &**problem {
        Problem::NoSecret { .. } => "`strongroom libvirt secret-list` shows those that there are; \
                                     `strongroom libvirt secret-define SECRET.xml` defines one"
            .to_owned(),
        Problem::NoValue { uuid } => {
            format!("give it one: strongroom libvirt secret-set-value {uuid} --file FILE")
        }
        Problem::NotForVolumes { .. } => {
            "a secret for a volume has <usage type='volume'><volume>PATH</volume></usage>".to_owned()
        }
        Problem::OtherUsage { uuid, .. } => format!(
            "leave the uuid out, and another secret is made; or take this one away: strongroom libvirt \
             secret-undefine {uuid}"
        ),
        Problem::UsageTaken { uuid, .. } => {
            format!("use that one, or take it away: strongroom libvirt secret-undefine {uuid}")
        }
        Problem::StaysPrivate { .. } => "define another secret".to_owned(),
        Problem::Private { .. } => {
            "it is used here without being told; for another program, keep its value where you made it"
                .to_owned()
        }
        Problem::Ephemeral => "say ephemeral='no', or define it in a server, which keeps it until it \
                               ends: POST /v1/libvirt/secrets"
            .to_owned(),
        Problem::SecretInUse { .. } => {
            "delete them first; with --force they are lost, as nothing else opens them".to_owned()
        }
        Problem::ValueMade { .. } => {
            "define another secret; with --force they are lost, as nothing else opens them".to_owned()
        }
        Problem::NotText { uuid, .. } => format!(
            "encode it, in base64 for instance, and set that: strongroom libvirt secret-set-value {uuid}"
        ),
        Problem::VolumeExists { .. } => {
            "no volume is ever replaced: delete it with `strongroom libvirt vol-delete`, or choose \
             another name"
                .to_owned()
        }
        Problem::NoVolume { .. } => {
            "`strongroom libvirt vol-list` shows those that are known; `strongroom libvirt vol-define \
             VOLUME.xml` takes over one that is there"
                .to_owned()
        }
        Problem::FileGone { path } => format!(
            "if its file system is not mounted, mount it; else forget it, its secret stays: strongroom \
             libvirt vol-delete {path}"
        ),
        Problem::BackingStore { .. } => "delete them first: they read from it".to_owned(),
        Problem::AtWork { .. } => "wait until it is done".to_owned(),
        Problem::Wiped { path } => format!("delete it: strongroom libvirt vol-delete {path}"),
        Problem::NothingToErase { .. } => {
            "overwrite a raw volume with --algorithm zero, or delete it".to_owned()
        }
        Problem::Daemon { problem, .. } if problem.contains("private") => {
            "a private secret stays in its daemon: keep its value here, too, with `strongroom libvirt \
             secret-set-value`, and leave --connect out"
                .to_owned()
        }
        Problem::Daemon { .. } => {
            "`virsh secret-list` shows the secrets of the daemon; see whether it runs, and whether you \
             may ask it"
                .to_owned()
        }
        Problem::DirectoryInUse { .. } => {
            "if it is a server, ask it, at /v1/libvirt; else wait until it is done, or name another \
             directory with --data DIR"
                .to_owned()
        }
        _ => return None,
    })
}
