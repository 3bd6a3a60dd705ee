//! `strongroom apply`

mod merge;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};
use strongroom_server::client::{Action, Client, Failure, FailureKind, Place, Request};

use self::merge::three_way;
use super::document_arguments::{CallArgs, title};
use super::manifests::{self, FileArgs, Manifest};
use crate::command_error::CommandError;
use crate::server_arguments::ask;
use crate::ui::{Output, Ui};

/// Make documents what files say
///
/// What is not there is created. Of what is there, those fields are changed that the file says otherwise,
/// and those taken out that an earlier file had; what others have added stays. `kubectl apply` does the same
/// and keeps the same notes, so both may be used in turn. Of a Secret nothing is taken out: no note of it is
/// kept.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,

    /// Let the server check everything, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// What is done about fields that nobody knows
    #[arg(long, value_name = "HOW", default_value = "strict")]
    validate: Validate,

    #[command(flatten)]
    call: CallArgs,
}

/// What is done about fields that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Validate {
    /// Nothing is applied
    Strict,
    /// They are told of
    Warn,
    /// Nothing
    Ignore,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

/// Applies all documents of all files, even where one fails.
///
/// # Errors
///
/// When a file cannot be read: then nothing is applied. When the only document fails.
pub(crate) fn run(ui: &mut Ui, args: &ApplyArgs) -> Result<ExitCode, CommandError> {
    if !args.files.are_given() {
        return Err(CommandError::request("no file is named").hinted("name one with -f FILE"));
    }
    let manifests = manifests::read(&args.files)?;
    check_fields(ui, args.validate, &manifests)?;
    let places: Vec<Place> = manifests
        .iter()
        .map(|manifest| manifest.place(args.call.namespace.named()))
        .collect::<Result<_, _>>()?;
    let client = args.call.client()?;
    let (mut results, mut failed) = (Vec::new(), 0);
    for (manifest, place) in manifests.iter().zip(&places) {
        let applied = Applying { args, client: &client, place }.apply(ui, manifest);
        let name = place.name.as_deref().unwrap_or_default();
        let word = match &applied {
            Ok(outcome) => outcome.word(),
            Err(_) => "failed",
        };
        results.push(json!({
            "kind": place.resource.kind(), "name": name, "namespace": place.namespace,
            "result": word,
        }));
        match applied {
            Ok(outcome) if args.call.output() == Output::Text => {
                let dry = if args.dry_run { " (dry run)" } else { "" };
                ui.data(&format!("{} {}{dry}", title(place.resource, name), outcome.word()))?;
            }
            Ok(_) => {}
            Err(failure) => {
                failed += 1;
                // It is about no document, and nothing that follows would reach the server either.
                if failure.kind == FailureKind::Unreachable {
                    return Err(failure.into());
                }
                let error = manifest.refused(failure);
                if manifests.len() == 1 {
                    return Err(error);
                }
                error.print(ui);
            }
        }
    }
    if args.call.output() == Output::Json {
        ui.json(&json!({ "results": results }))?;
    }
    if failed > 0 {
        ui.status(&format!("{failed} of {} documents failed", manifests.len()));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses fields that nobody knows, or tells of them: a misspelt one is none, and what it should have said
/// has its default.
fn check_fields(
    ui: &mut Ui,
    validate: Validate,
    manifests: &[Manifest],
) -> Result<(), CommandError> {
    let unknown: Vec<String> = manifests.iter().flat_map(Manifest::unknown_fields).collect();
    match validate {
        Validate::Strict if !unknown.is_empty() => {
            Err(CommandError::request(unknown.join("\nerror: "))
                .hinted("correct them; with --validate warn they are kept and mean nothing"))
        }
        Validate::Warn => {
            unknown.iter().for_each(|field| ui.warning(field));
            Ok(())
        }
        Validate::Strict | Validate::Ignore => Ok(()),
    }
}

struct Applying<'a> {
    args: &'a ApplyArgs,
    client: &'a Client,
    place: &'a Place,
}

impl Applying<'_> {
    fn apply(&self, ui: &mut Ui, manifest: &Manifest) -> Result<Outcome, Failure> {
        let wanted = self.wanted(manifest);
        loop {
            let current = match self.client.ask(&Request::new(Action::Get, self.place.path(&[]))) {
                Ok(answer) => answer.value,
                Err(failure) if failure.kind == FailureKind::NotFound => {
                    match self.create(ui, &wanted) {
                        // Somebody else was faster: then it is changed.
                        Err(failure) if failure.kind == FailureKind::Exists => continue,
                        created => return created,
                    }
                }
                Err(failure) => return Err(failure),
            };
            return self.change(ui, &current, &wanted);
        }
    }

    fn create(&self, ui: &mut Ui, wanted: &Value) -> Result<Outcome, Failure> {
        let all = Place { name: None, ..self.place.clone() };
        let request = Request::new(Action::Post(wanted.clone()), all.path(self.query()));
        ask(ui, self.client, &request)?;
        Ok(Outcome::Created)
    }

    fn change(&self, ui: &mut Ui, current: &Value, wanted: &Value) -> Result<Outcome, Failure> {
        let patch = three_way(&last_applied(current), current, wanted);
        if patch.as_object().is_none_or(serde_json::Map::is_empty) {
            return Ok(Outcome::Unchanged);
        }
        let request = Request::new(Action::Patch(patch), self.place.path(self.query()));
        let changed = ask(ui, self.client, &request)?.value;
        let version = |document: &Value| document["metadata"]["resourceVersion"].clone();
        // The values of a Secret are always sent: only the server knows whether they are new.
        match version(&changed) == version(current) {
            true => Ok(Outcome::Unchanged),
            false => Ok(Outcome::Configured),
        }
    }

    /// Returns the document as it is sent: with its namespace, and with a note of what it was.
    fn wanted(&self, manifest: &Manifest) -> Value {
        let mut object = manifest.located.object.clone();
        // What a server has said before is no wish: it alone knows how the document stands.
        object.take(&["status"]);
        for key in BOOKKEEPING {
            object.take(&["metadata", key]);
        }
        object.take(&["metadata", "annotations", LAST_APPLIED]);
        if self.place.resource.scope() == Scope::Namespaced {
            object.set(&["metadata", "namespace"], self.place.namespace.clone());
        }
        if self.place.resource != Resource::Secret {
            let note = note(&object.clone().into_value());
            object.set(&["metadata", "annotations", LAST_APPLIED], note);
        }
        object.into_value()
    }

    fn query(&self) -> &'static [(&'static str, &'static str)] {
        match self.args.dry_run {
            true => &[("dryRun", "All"), CHECKED, ("fieldManager", "strongroom")],
            false => &[CHECKED, ("fieldManager", "strongroom")],
        }
    }
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Returns what was applied last, as the document itself notes it; nothing where it does not.
fn last_applied(current: &Value) -> Value {
    let note = current["metadata"]["annotations"][LAST_APPLIED].as_str();
    note.and_then(|note| serde_json::from_str(note).ok()).unwrap_or_default()
}

/// Returns the note of a document, letter for letter as kubectl writes it, so that neither tool takes the
/// other's for a change: keys in order, annotations even if there are none, and what HTML knows escaped.
fn note(document: &Value) -> String {
    let mut document = document.clone();
    if let Some(metadata) = document["metadata"].as_object_mut() {
        metadata.entry("annotations").or_insert_with(|| json!({}));
    }
    let text = in_order(&document).to_string();
    let mut note = String::with_capacity(text.len() + 1);
    for letter in text.chars() {
        match letter {
            '<' => note.push_str("\\u003c"),
            '>' => note.push_str("\\u003e"),
            '&' => note.push_str("\\u0026"),
            '\u{2028}' => note.push_str("\\u2028"),
            '\u{2029}' => note.push_str("\\u2029"),
            other => note.push(other),
        }
    }
    note.push('\n');
    note
}

/// Returns a value with the keys of its mappings in order.
fn in_order(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            fields.into_iter().map(|(key, value)| (key.clone(), in_order(value))).collect()
        }
        Value::Array(items) => items.iter().map(in_order).collect(),
        other => other.clone(),
    }
}

/// Unknown fields were seen to here, where their lines are known.
const CHECKED: (&str, &str) = ("fieldValidation", "Ignore");

/// What a server puts into the metadata of its own accord.
const BOOKKEEPING: [&str; 6] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink"];

/// The annotation in which it is noted what was applied last.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_is_what_kubectl_writes() {
        let document = json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": { "name": "a", "namespace": "default" }, "data": { "b": "<&>", "a": "1" }
        });
        assert_eq!(
            note(&document),
            "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"1\",\"b\":\"\\u003c\\u0026\\u003e\"},\"kind\":\
             \"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"a\",\"namespace\":\"default\"}}\n"
        );
        let current = json!({ "metadata": { "annotations": { LAST_APPLIED: note(&document) } } });
        assert_eq!(last_applied(&current)["data"], document["data"]);
        assert_eq!(last_applied(&json!({})), Value::Null);
    }
}
