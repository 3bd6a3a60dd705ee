//! Templates in the names of Secrets: `${pvc.name}`, as Kubernetes' external provisioner fills them in.

use std::collections::BTreeMap;

/// What a template may ask for.
#[derive(Debug, Clone, Copy)]
pub struct TemplateValues<'a> {
    /// The name of the claim.
    pub claim: &'a str,
    /// The namespace of the claim.
    pub namespace: &'a str,
    /// The annotations of the claim.
    pub annotations: &'a BTreeMap<String, String>,
    /// The name of the PersistentVolume: `pvc-UID`.
    pub volume: &'a str,
}

/// What is named by a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// A Secret: its name may have every template.
    Secret,
    /// Its namespace, which the owner of a claim must not choose: it may have `${pv.name}` and
    /// `${pvc.namespace}`.
    Namespace,
}

/// Returns whether a text has a template in it.
pub(super) fn is_template(text: &str) -> bool {
    text.contains('$')
}

/// Returns the text with its templates filled in; of what else there is a `$` in, what is wrong with it.
pub(super) fn filled(
    text: &str,
    named: Named,
    values: &TemplateValues<'_>,
) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        filled.push_str(before);
        let (token, after) = after
            .strip_prefix('{')
            .and_then(|token| token.split_once('}'))
            .ok_or_else(|| format!("a template is written ${{…}}, as {}", known(named)))?;
        filled.push_str(value(token, named, values)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Refuses what [`filled`] would refuse whatever the values are.
pub(super) fn check(text: &str, named: Named) -> Result<(), String> {
    let mut annotations = BTreeMap::new();
    for token in text.split("${").skip(1) {
        let key = token.split_once('}').and_then(|(token, _)| annotation(token));
        annotations.extend(key.map(|key| (key.to_owned(), String::new())));
    }
    let any = TemplateValues { claim: "", namespace: "", annotations: &annotations, volume: "" };
    filled(text, named, &any).map(|_| ())
}

fn value<'a>(token: &str, named: Named, values: &TemplateValues<'a>) -> Result<&'a str, String> {
    match (token, named) {
        ("pv.name", _) => Ok(values.volume),
        ("pvc.namespace", _) => Ok(values.namespace),
        ("pvc.name", Named::Secret) => Ok(values.claim),
        (_, Named::Secret) if annotation(token).is_some() => {
            let key = annotation(token).unwrap_or_default();
            values
                .annotations
                .get(key)
                .map(String::as_str)
                .ok_or_else(|| format!("the claim has no annotation {key:?}, which is asked for"))
        }
        _ => {
            let token: String = token.chars().take(64).flat_map(char::escape_debug).collect();
            Err(format!("${{{token}}} is no template that can stand here: use {}", known(named)))
        }
    }
}

/// Returns the key of a template that asks for an annotation, with single quotes, double ones or none.
fn annotation(token: &str) -> Option<&str> {
    let key = token.strip_prefix("pvc.annotations[")?.strip_suffix(']')?;
    let quoted = |quote| key.strip_prefix(quote).and_then(|key| key.strip_suffix(quote));
    quoted('\'').or_else(|| quoted('"')).or(Some(key)).filter(|key| !key.is_empty())
}

fn known(named: Named) -> &'static str {
    match named {
        Named::Secret => "${pvc.name}, ${pvc.namespace}, ${pvc.annotations['KEY']} or ${pv.name}",
        Named::Namespace => "${pvc.namespace} or ${pv.name}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(text: &str, named: Named) -> Result<String, String> {
        let annotations = BTreeMap::from([("team.example/key".to_owned(), "blue".to_owned())]);
        let values = TemplateValues {
            claim: "disk",
            namespace: "lab",
            annotations: &annotations,
            volume: "pvc-1",
        };
        filled(text, named, &values)
    }

    #[test]
    fn names_take_every_template() {
        let cases = [
            ("plain", "plain"),
            ("${pvc.name}", "disk"),
            ("a-${pvc.namespace}-${pvc.name}.${pv.name}", "a-lab-disk.pvc-1"),
            ("${pvc.annotations['team.example/key']}", "blue"),
            ("${pvc.annotations[\"team.example/key\"]}", "blue"),
            ("${pvc.annotations[team.example/key]}x", "bluex"),
        ];
        for (text, wanted) in cases {
            assert_eq!(fill(text, Named::Secret).as_deref(), Ok(wanted));
            assert_eq!(check(text, Named::Secret), Ok(()));
        }
    }

    #[test]
    fn namespaces_are_not_chosen_by_the_owner_of_a_claim() {
        assert_eq!(fill("${pvc.namespace}", Named::Namespace).as_deref(), Ok("lab"));
        assert_eq!(fill("${pv.name}", Named::Namespace).as_deref(), Ok("pvc-1"));
        for text in ["${pvc.name}", "${pvc.annotations['team.example/key']}"] {
            assert!(fill(text, Named::Namespace).unwrap_err().contains("${pvc.namespace}"));
            assert!(check(text, Named::Namespace).is_err());
        }
    }

    #[test]
    fn what_is_no_template_is_an_error_and_not_a_name() {
        for text in ["${pvc.uid}", "${", "$pvc.name", "$", "${}", "${pvc.annotations[]}", "a$"] {
            assert!(fill(text, Named::Secret).is_err(), "{text}");
            assert!(check(text, Named::Secret).is_err(), "{text}");
        }
        let missing = fill("${pvc.annotations['other']}", Named::Secret).unwrap_err();
        assert!(missing.contains("other"), "{missing}");
        assert_eq!(check("${pvc.annotations['other']}", Named::Secret), Ok(()));
    }
}
