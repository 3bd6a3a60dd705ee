//! Documents by their names, kinds and labels.

use super::{Served, class, secret};
use crate::secrecy::CANARY;

/// Returns a server with three classes and a Secret. `gold` and `silver` belong to teams.
fn with_classes() -> Served {
    let served = Served::new();
    served.applied(&secret("lab", "key", CANARY));
    for (name, labels) in
        [("gold", "team: blue, tier: a"), ("silver", "team: red, tier: b"), ("plain", "tier: c")]
    {
        let class = class(name, "key", "");
        let labelled = format!("{{name: {name}, labels: {{{labels}}}}}");
        served.applied(&class.replace(&format!("{{name: {name}}}"), &labelled));
    }
    served
}

fn names(served: &Served, words: &[&str]) -> Vec<String> {
    let outcome = served.run_words(words);
    outcome.ok().lines().map(str::to_owned).collect()
}

#[test]
fn documents_are_got_by_their_labels() {
    let served = with_classes();
    let of = |selector: &str| -> Vec<String> {
        let found = names(&served, &["get", "sc", "-o", "name", "-l", selector]);
        found.into_iter().map(|name| name.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(of("team=blue"), ["gold"]);
    assert_eq!(of("team==blue,tier=a"), ["gold"]);
    assert_eq!(of("team!=blue"), ["plain", "silver"]);
    assert_eq!(of("tier in (a, c)"), ["gold", "plain"]);
    assert_eq!(of("tier notin (a),team"), ["silver"]);
    assert_eq!(of("!team"), ["plain"]);
    assert_eq!(of("team=green"), [""; 0]);
    let told = served.run_words(&["get", "sc", "-l", "team in blue"]).fails(2);
    assert!(told.contains("KEY in (A,B)"), "{told}");
    let table = served.run("get sc -l team=red").ok();
    assert!(table.contains("silver") && !table.contains("gold"), "{table}");
}

#[test]
fn several_kinds_are_shown_with_the_kind_of_each() {
    let served = with_classes();
    let shown = served.run("get sc,secrets,pvc -n lab").ok();
    for name in ["storageclass.storage.k8s.io/gold", "secret/key"] {
        assert!(shown.contains(name), "{shown}");
    }
    let both = served.json("sc,secrets -n lab");
    assert_eq!(both["items"].as_array().unwrap().len(), 4, "{both:#}");
    let named = names(&served, &["get", "sc/gold", "secret/key", "-n", "lab", "-o", "name"]);
    assert_eq!(named, ["storageclass.storage.k8s.io/gold", "secret/key"]);
    served.run("get sc,nothing").fails(2);
}

#[test]
fn documents_are_sorted_and_looked_into() {
    let served = with_classes();
    let sorted =
        names(&served, &["get", "sc", "-o", "name", "--sort-by", "{.metadata.labels.tier}"]);
    let order = ["gold", "silver", "plain"];
    assert_eq!(sorted, order.map(|name| format!("storageclass.storage.k8s.io/{name}")));
    let table = served.run("get sc --sort-by .metadata.labels.tier").ok();
    let lines: Vec<&str> = table.lines().skip(1).collect();
    for (line, name) in lines.iter().zip(order) {
        assert!(line.starts_with(name), "{table}");
    }
    let template = "jsonpath={range .items[?(@.metadata.labels.team)]}{.metadata.name}{\"\\t\"}\
                    {.metadata.labels.team}{\"\\n\"}{end}";
    assert_eq!(names(&served, &["get", "sc", "-o", template]), ["gold\tblue", "silver\tred"]);
    let one = served.run_words(&["get", "sc", "gold", "-o", "jsonpath={.metadata.labels.tier}"]);
    assert_eq!(one.ok(), "a");
    assert!(served.run("get sc -o jsonpath={.a").fails(2).contains("brace"));
    assert!(served.run("get sc -o xml").fails(2).contains("table, wide, yaml"));
}

#[test]
fn documents_are_deleted_by_their_labels_and_kinds() {
    let served = with_classes();
    assert!(served.run("delete sc").fails(2).contains("--all"));
    served.run("delete").fails(2);
    served.run("delete sc gold -f nothing.yaml").fails(2);
    assert!(served.run("delete sc gold --all").fails(2).contains("gold is named"));
    let deleted =
        names(&served, &["delete", "sc,secrets", "-l", "team in (blue,red)", "-n", "lab"]);
    let title = |name: &str| format!("storageclass.storage.k8s.io/{name} deleted");
    assert_eq!(deleted, [title("gold"), title("silver")]);
    assert_eq!(names(&served, &["delete", "sc/plain", "secret/key", "-n", "lab"]).len(), 2);
    assert_eq!(names(&served, &["delete", "sc", "-l", "team"]), [""; 0]);
    assert_eq!(names(&served, &["delete", "secret", "--all", "-n", "lab"]), [""; 0]);
}

#[test]
fn directories_are_applied_with_those_below_when_that_is_said() {
    let served = Served::new();
    std::fs::create_dir_all(served.place.path("docs/deep/deeper")).unwrap();
    served.place.write("docs/deep/1.yaml", class("gold", "key", ""));
    served.place.write(
        "docs/deep/deeper/2.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"other\"}}",
    );
    std::os::unix::fs::symlink("..", served.place.path("docs/deep/loop")).unwrap();
    let told = served.run("apply -f docs").fails(2);
    assert!(told.contains("hint: -R looks into the directories below"), "{told}");
    served.place.write("docs/0.yml", secret("lab", "key", CANARY));
    assert_eq!(names(&served, &["apply", "-f", "docs"]), ["secret/key created"]);
    assert_eq!(
        names(&served, &["apply", "-R", "-f", "docs"]),
        [
            "secret/key unchanged",
            "storageclass.storage.k8s.io/gold created",
            "namespace/other created"
        ]
    );
    served.place.write("silver.yaml", class("silver", "key", ""));
    let again = served.run_reading(
        "apply -f silver.yaml -f - -f docs/deep",
        class("plain", "key", "").as_bytes(),
    );
    assert_eq!(again.ok().lines().count(), 3);
    assert!(served.run("apply -f - -f -").fails(2).contains("twice"));
    served.run("delete sc plain").ok();
    assert_eq!(names(&served, &["delete", "-R", "-f", "docs", "-f", "silver.yaml"]).len(), 4);
}
