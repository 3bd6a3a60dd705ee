//! `strongroom libvirt …`

mod connection;
mod domain_disk;
mod hints;
mod making;
mod place;
mod printing;
mod secret_define;
mod secret_dumpxml;
mod secret_get_value;
mod secret_list;
mod secret_name;
mod secret_set_value;
mod secret_undefine;
mod vol_create;
mod vol_create_from;
mod vol_define;
mod vol_delete;
mod vol_dumpxml;
mod vol_info;
mod vol_list;
mod vol_resize;
mod vol_wipe;

pub(crate) use hints::hint;

use clap::Subcommand;

use crate::command_error::CommandError;
use crate::ui::Ui;

/// What can be done by libvirt's documents. The commands are called as virsh calls them.
#[derive(Debug, Subcommand)]
pub(crate) enum LibvirtCommand {
    /// Define a secret, or change its definition; prints its UUID
    SecretDefine(secret_define::DefineArgs),

    /// Give a secret its value
    SecretSetValue(Box<secret_set_value::SetValueArgs>),

    /// Write the value of a secret to a new file, for `virsh secret-set-value --file`
    SecretGetValue(secret_get_value::GetValueArgs),

    /// List the secrets
    SecretList(secret_list::ListArgs),

    /// Print the document of a secret
    SecretDumpxml(secret_dumpxml::DumpxmlArgs),

    /// Take a secret away, with its value
    SecretUndefine(secret_undefine::UndefineArgs),

    /// Make the volume of a document; prints its document, with the secret that opens it
    VolCreate(Box<vol_create::CreateArgs>),

    /// Make the volume of a document from another volume: copied, encrypted, decrypted, converted
    VolCreateFrom(Box<vol_create_from::CreateFromArgs>),

    /// Take over a volume that is there, as its document says it is
    VolDefine(vol_define::DefineArgs),

    /// Show the size of a volume
    VolInfo(vol_info::InfoArgs),

    /// Print the document of a volume
    VolDumpxml(vol_dumpxml::DumpxmlArgs),

    /// Make a volume larger, or smaller
    VolResize(vol_resize::ResizeArgs),

    /// Destroy the keys of an encrypted volume, or overwrite a raw one
    VolWipe(vol_wipe::WipeArgs),

    /// Delete a volume
    VolDelete(vol_delete::DeleteArgs),

    /// List the volumes
    VolList(vol_list::ListArgs),

    /// Print the <disk> element of a volume, for the document of a domain
    DomainDisk(domain_disk::DiskArgs),
}

impl LibvirtCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What went wrong.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<(), CommandError> {
        let done = match self {
            Self::SecretDefine(args) => secret_define::run(ui, &args),
            Self::SecretSetValue(args) => secret_set_value::run(ui, &args),
            Self::SecretGetValue(args) => secret_get_value::run(ui, &args),
            Self::SecretList(args) => secret_list::run(ui, &args),
            Self::SecretDumpxml(args) => secret_dumpxml::run(ui, &args),
            Self::SecretUndefine(args) => secret_undefine::run(ui, &args),
            Self::VolCreate(args) => vol_create::run(ui, &args),
            Self::VolCreateFrom(args) => vol_create_from::run(ui, &args),
            Self::VolDefine(args) => vol_define::run(ui, &args),
            Self::VolInfo(args) => vol_info::run(ui, &args),
            Self::VolDumpxml(args) => vol_dumpxml::run(ui, &args),
            Self::VolResize(args) => vol_resize::run(ui, &args),
            Self::VolWipe(args) => vol_wipe::run(ui, &args),
            Self::VolDelete(args) => vol_delete::run(ui, &args),
            Self::VolList(args) => vol_list::run(ui, &args),
            Self::DomainDisk(args) => domain_disk::run(ui, &args),
        };
        done.map_err(CommandError::by_document)
    }
}
