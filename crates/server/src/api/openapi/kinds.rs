//! The paths of documents. Which there are, and what can be done there, is what [`Target`] says.

use axum::http::Method;
use serde_json::{Map, Value, json};
use strongroom_model::dialect::resource::{Resource, Scope};

use super::schemas::{list_name, name};
use super::{answer, failures, json_body, reference};
use crate::api::discovery::has_status;
use crate::api::target::{Parameters, Target, Verb};
use crate::store::Part;

/// Returns the paths of a kind with what can be done there.
pub(super) fn paths(resource: Resource) -> Map<String, Value> {
    templates(resource).into_iter().map(|path| item(resource, path)).collect()
}

/// Returns where the paths of a kind begin.
pub(super) fn root(resource: Resource) -> String {
    match resource.group() {
        "" => format!("api/{}", resource.version()),
        group => format!("apis/{group}/{}", resource.version()),
    }
}

/// Returns what a kind is called in the descriptions that kubectl reads.
pub(super) fn group_version_kind(resource: Resource) -> Value {
    json!({
        "group": resource.group(),
        "version": resource.version(),
        "kind": resource.kind(),
    })
}

/// Returns the paths of a kind, with braces around what stands for names.
fn templates(resource: Resource) -> Vec<String> {
    let all = format!("/{}/{}", root(resource), resource.plural());
    let (collection, mut templates) = match resource.scope() {
        Scope::Cluster => (all.clone(), vec![all]),
        Scope::Namespaced => {
            let own = format!("/{}/namespaces/{{namespace}}/{}", root(resource), resource.plural());
            (own.clone(), vec![all, own])
        }
    };
    templates.push(format!("{collection}/{{name}}"));
    if has_status(resource) {
        templates.push(format!("{collection}/{{name}}/status"));
    }
    templates
}

fn item(resource: Resource, path: String) -> (String, Value) {
    let target = Target::of(&path).expect("braces are as good a name as any");
    let mut item = Map::new();
    let names: Vec<Value> =
        ["namespace", "name"].into_iter().filter(|name| has(&path, name)).map(in_path).collect();
    item.insert("parameters".to_owned(), names.into());
    for method in METHODS {
        let Ok(verb) = target.verb(&method, &Parameters::default()) else { continue };
        // A document is put into a namespace, although it may be looked for in all of them.
        let is_homeless = resource.scope() == Scope::Namespaced && target.namespace.is_none();
        if verb == Verb::Create && is_homeless {
            continue;
        }
        item.insert(method.as_str().to_lowercase(), operation(resource, &target, verb));
    }
    (path, Value::Object(item))
}

fn has(path: &str, name: &str) -> bool {
    path.contains(&format!("{{{name}}}"))
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
}

fn operation(resource: Resource, target: &Target, verb: Verb) -> Value {
    let parameters: Vec<Value> = parameters(verb).iter().map(in_query).collect();
    let mut operation = json!({
        "operationId": identifier(resource, target, verb),
        "summary": summary(resource, target, verb),
        "tags": [root(resource)],
        "parameters": parameters,
        "responses": responses(resource, verb),
        "x-kubernetes-action": action(verb),
        "x-kubernetes-group-version-kind": group_version_kind(resource),
    });
    if let Some(body) = body(resource, verb) {
        operation["requestBody"] = body;
    }
    operation
}

fn summary(resource: Resource, target: &Target, verb: Verb) -> String {
    let kind = resource.kind();
    let part = match target.part {
        Part::Document => "",
        Part::Status => "the status of ",
    };
    let where_to = match (&target.namespace, resource.scope()) {
        (None, Scope::Namespaced) => " in all namespaces that the caller reaches",
        _ => "",
    };
    match verb {
        Verb::Get => format!("Read {part}one {kind}"),
        Verb::List | Verb::Watch => {
            format!("List documents of the kind {kind}{where_to}, or watch them")
        }
        Verb::Create => format!("Put a {kind} in"),
        Verb::Update => format!("Replace {part}one {kind}"),
        Verb::Patch => format!("Change {part}one {kind}"),
        Verb::Delete => format!("Delete one {kind}, with the data that it stands for"),
        Verb::DeleteCollection => format!("Delete documents of the kind {kind}{where_to}"),
    }
}

fn identifier(resource: Resource, target: &Target, verb: Verb) -> String {
    let group = match resource.group() {
        "" => "core",
        group => group,
    };
    let of: Vec<&str> = group.split('.').chain([resource.version(), resource.kind()]).collect();
    let of: String = of.into_iter().map(capitalized).collect();
    let reach = match (&target.namespace, resource.scope()) {
        (None, Scope::Namespaced) => "ForAllNamespaces",
        _ => "",
    };
    let part = match target.part {
        Part::Document => "",
        Part::Status => "Status",
    };
    format!("{}{of}{part}{reach}", verb.word())
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// Returns what Kubernetes calls a verb in descriptions.
fn action(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "post",
        Verb::Update => "put",
        other => other.word(),
    }
}

fn parameters(verb: Verb) -> &'static [Parameter] {
    match verb {
        Verb::Get => &[],
        Verb::List | Verb::Watch => LIST,
        Verb::Create | Verb::Update | Verb::Patch => WRITE,
        Verb::Delete => DELETE,
        Verb::DeleteCollection => DELETE_ALL,
    }
}

fn in_query((name, kind, meaning): &Parameter) -> Value {
    json!({
        "name": name,
        "in": "query",
        "description": meaning,
        "schema": { "type": kind, "uniqueItems": true },
    })
}

fn body(resource: Resource, verb: Verb) -> Option<Value> {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => None,
        Verb::Create | Verb::Update => Some(json_body(&reference(&name(resource)))),
        Verb::Patch => {
            // Strategic merge patches of Kubernetes' own kinds are taken, but not named: kubectl would take
            // their being named for a promise that the schemas say how each list is merged.
            let mapping = json!({ "schema": { "type": "object" } });
            let operations =
                json!({ "schema": { "type": "array", "items": { "type": "object" } } });
            let content = json!({
                "application/merge-patch+json": mapping,
                "application/json-patch+json": operations,
            });
            Some(json!({ "required": true, "content": content }))
        }
        Verb::Delete | Verb::DeleteCollection => {
            let options = json!({ "schema": reference("DeleteOptions") });
            Some(json!({ "required": false, "content": { "application/json": options } }))
        }
    }
}

fn responses(resource: Resource, verb: Verb) -> Value {
    let (one, many) = (reference(&name(resource)), reference(&list_name(resource)));
    let mut responses = failures();
    let table = json!({ "schema": reference("Table") });
    match verb {
        Verb::Get => {
            responses["200"] = answer("the document, or a table with a row for it", &one);
            responses["200"]["content"][TABLE] = table;
        }
        Verb::List | Verb::Watch => {
            let meaning = "the documents, or a table with a row for each; with watch=true WatchEvents, \
                           one on each line, until the stream ends";
            let either = json!({ "anyOf": [many, reference("WatchEvent")] });
            responses["200"] = answer(meaning, &either);
            responses["200"]["content"][TABLE] = table;
        }
        Verb::Create => responses["201"] = answer("the document as it is kept", &one),
        Verb::Update | Verb::Patch => {
            responses["200"] = answer("the document as it is kept", &one);
        }
        Verb::Delete => {
            let either = json!({ "anyOf": [reference("Status"), one] });
            let meaning = "it is gone; or the document, which goes once its data is gone";
            responses["200"] = answer(meaning, &either);
        }
        Verb::DeleteCollection => {
            responses["200"] = answer("the documents that go, or are gone", &many);
        }
    }
    responses
}

/// A parameter in a query: its name, its type, and what it is for.
type Parameter = (&'static str, &'static str, &'static str);

/// The methods that are asked about. HEAD is answered as GET, without the body.
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// In which shape people see documents.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The parameters of lists.
const LIST: &[Parameter] = &[
    ("labelSelector", "string", "Which labels the documents have."),
    ("fieldSelector", "string", "Which values the fields of the documents have."),
    ("limit", "integer", "The most documents to return."),
    ("continue", "string", "What came with the page before this one."),
    ("watch", "boolean", "Whether changes are wanted, one after the other."),
    ("resourceVersion", "string", "After which version changes are wanted."),
    ("allowWatchBookmarks", "boolean", "Whether to tell of the version now and then."),
    ("sendInitialEvents", "boolean", "Whether what is there comes first."),
    ("timeoutSeconds", "integer", "How long a watch lasts, at most an hour."),
];

/// The parameters of what writes.
const WRITE: &[Parameter] = &[
    ("dryRun", "string", "All: nothing is kept."),
    ("fieldManager", "string", "Who writes. It is not kept."),
    ("fieldValidation", "string", "Strict, Warn or Ignore: what becomes of unknown fields."),
];

/// The parameters of what deletes one document.
const DELETE: &[Parameter] = &[
    ("dryRun", "string", "All: nothing is deleted."),
    ("propagationPolicy", "string", "It changes nothing here."),
    ("force", "boolean", "Whether it goes although it is in use."),
];

/// The parameters of what deletes several.
const DELETE_ALL: &[Parameter] = &[
    ("labelSelector", "string", "Which labels the documents have."),
    ("fieldSelector", "string", "Which values the fields of the documents have."),
    ("dryRun", "string", "All: nothing is deleted."),
    ("force", "boolean", "Whether they go although they are in use."),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every path of up to five words that anybody could make up below a root.
    fn made_up(resource: Resource) -> Vec<String> {
        let words = ["namespaces", "{namespace}", "{name}", "status", "scale", resource.plural()];
        let mut paths = vec![format!("/{}", root(resource))];
        let mut longest = paths.clone();
        for _ in 0..5 {
            let longer = longest.iter().flat_map(|path| words.map(|word| format!("{path}/{word}")));
            longest = longer.collect();
            paths.extend(longest.iter().cloned());
        }
        paths
    }

    /// Returns a path with the names that stand in it in braces.
    fn template(target: &Target) -> String {
        let mut path = format!("/{}", root(target.resource));
        if target.namespace.is_some() {
            path.push_str("/namespaces/{namespace}");
        }
        path.push_str(&format!("/{}", target.resource.plural()));
        if target.name.is_some() {
            path.push_str("/{name}");
        }
        if target.part == Part::Status {
            path.push_str("/status");
        }
        path
    }

    #[test]
    fn what_is_described_is_known_and_what_is_known_is_described() {
        for resource in Resource::ALL {
            let described = paths(resource);
            for (path, item) in &described {
                let target = Target::of(path).unwrap();
                for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                    let method: Method = method.to_uppercase().parse().unwrap();
                    target.verb(&method, &Parameters::default()).unwrap();
                }
            }
            let mut known = 0;
            for path in made_up(resource) {
                let Some(target) = Target::of(&path) else { continue };
                let is_own = target.resource == resource;
                for method in METHODS.into_iter().filter(|_| is_own) {
                    let Ok(verb) = target.verb(&method, &Parameters::default()) else { continue };
                    let homeless =
                        resource.scope() == Scope::Namespaced && target.namespace.is_none();
                    let item = &described[&template(&target)];
                    let is_there = item.get(method.as_str().to_lowercase()).is_some();
                    assert_eq!(is_there, verb != Verb::Create || !homeless, "{method} {path}");
                    known += 1;
                }
            }
            assert!(known > 7, "{resource:?}");
        }
    }

    #[test]
    fn no_two_operations_have_one_identifier() {
        let all: Vec<Value> = Resource::ALL.into_iter().flat_map(paths).map(|(_, v)| v).collect();
        let mut found: Vec<&str> = all
            .iter()
            .flat_map(|item| item.as_object().unwrap().values())
            .filter_map(|operation| operation.get("operationId")?.as_str())
            .collect();
        let count = found.len();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), count);
    }
}
