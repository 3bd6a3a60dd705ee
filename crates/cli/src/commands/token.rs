//! `strongroom token …`

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use strongroom_server::client::{Action, Request};
use zeroize::Zeroizing;

use crate::arguments::OutputArgs;
use crate::command_error::CommandError;
use crate::server_arguments::{ServerArgs, ask};
use crate::ui::{Output, Ui};

/// What can be done with the tokens of a server. All of it takes the token of an admin.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and write it to a file
    Create(Box<CreateArgs>),

    /// Take a token away: whoever has it is let in no more
    Delete(DeleteArgs),

    /// List the tokens, but the one in admin.token
    List(ListArgs),
}

/// Which token
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its name, which the audit log calls whoever has it
    name: String,

    /// What its owner may do
    #[arg(long)]
    role: Role,

    /// In which namespace; several times for several
    #[arg(
        short,
        long = "namespace",
        value_name = "NAMESPACE",
        required_unless_present = "all_namespaces"
    )]
    namespaces: Vec<String>,

    /// In all namespaces; admins are in any case
    #[arg(short = 'A', long, conflicts_with = "namespaces")]
    all_namespaces: bool,

    /// The file that it is written to, for its owner alone; it must not be there yet
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// Which token
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    name: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// How tokens are printed
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,

    #[command(flatten)]
    server: ServerArgs,
}

/// What the owner of a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Everything
    Admin,
    /// Everything in its namespaces, but what is about tokens
    Operator,
    /// Read everything in its namespaces but Secrets
    Viewer,
}

impl TokenCommand {
    /// Carries the command out.
    ///
    /// # Errors
    ///
    /// What the server says, and when the file cannot be written.
    pub(crate) fn run(self, ui: &mut Ui) -> Result<(), CommandError> {
        match self {
            Self::Create(args) => create(ui, &args),
            Self::Delete(args) => {
                let path = format!("/v1/tokens/{}", args.name);
                ask(ui, &args.server.client()?, &Request::new(Action::Delete, path))?;
                ui.data(&format!("token/{} deleted", args.name))
            }
            Self::List(args) => list(ui, &args),
        }
    }
}

fn create(ui: &mut Ui, args: &CreateArgs) -> Result<(), CommandError> {
    let client = args.server.client()?;
    let failed = |source| CommandError::io(format!("cannot write {}", args.out.display()), source);
    // Before the token is made: nobody could see it a second time.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&args.out)
        .map_err(failed)?;
    let role = args.role.to_possible_value().map(|role| role.get_name().to_owned());
    let mut wanted = json!({ "name": args.name, "role": role, "namespaces": args.namespaces });
    if args.all_namespaces {
        wanted["allNamespaces"] = true.into();
    }
    let made = ask(ui, &client, &Request::new(Action::Post(wanted), "/v1/tokens"));
    let written = made.map_err(CommandError::from).and_then(|answer| {
        let mut value = answer.value;
        let token = Zeroizing::new(value["token"].take().as_str().unwrap_or_default().to_owned());
        let line = Zeroizing::new(format!("{}\n", *token));
        file.write_all(line.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    });
    if written.is_err() {
        // It holds nothing that is of use.
        let _ = std::fs::remove_file(&args.out);
        return written;
    }
    match args.output.output() {
        Output::Json => ui.json(&json!({ "name": args.name, "role": role, "file": args.out })),
        Output::Text => {
            ui.data(&format!("token/{} created", args.name))?;
            ui.status(&format!("it is in {}, and nowhere else", args.out.display()));
            Ok(())
        }
    }
}

fn list(ui: &mut Ui, args: &ListArgs) -> Result<(), CommandError> {
    let answer = ask(ui, &args.server.client()?, &Request::new(Action::Get, "/v1/tokens"))?;
    if args.output.output() == Output::Json {
        return ui.json(&answer.value);
    }
    let items = answer.value["items"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for token in &items {
        let namespaces: Vec<String> =
            token["namespaces"].as_array().into_iter().flatten().map(text).collect();
        let namespaces = match namespaces.is_empty() {
            true => "all namespaces".to_owned(),
            false => namespaces.join(", "),
        };
        ui.data(&format!("{}  {}  {namespaces}", text(&token["name"]), text(&token["role"])))?;
    }
    if items.is_empty() {
        ui.status("there are none but the one in admin.token");
    }
    Ok(())
}
