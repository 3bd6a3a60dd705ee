//! Floors: a crate depends only on floors below its own.

use cargo_metadata::DependencyKind;

use super::finding::Finding;
use super::house::{Member, Origin};

/// On which floor a crate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    /// A floor of the product, 0 at the bottom.
    Product(u8),
    /// For tests and upkeep alone: nothing that ships depends on it.
    Development,
}

/// Returns every dependency that does not lead downwards.
pub(crate) fn check(members: &[Member]) -> Vec<Finding> {
    members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> Vec<Finding> {
    let folder = member.folder.as_str();
    let path = format!("crates/{folder}/Cargo.toml");
    let Some(floor) = floor(folder) else {
        let message = format!("crate `{folder}` has no floor: add it to the table in {TABLE}");
        return vec![Finding::new(&path, 1, message)];
    };
    let lines = member.dependencies.iter().filter(|line| line.origin == Origin::House);
    lines
        .filter_map(|line| {
            let other = line.name.as_str();
            if folder == "backup" && other == "crypto" {
                return Some("`backup` must not know key types: remove `crypto`".to_owned());
            }
            if line.kind == DependencyKind::Development {
                return None;
            }
            match (floor, self::floor(other)) {
                (_, Some(Floor::Development)) if floor != Floor::Development => Some(format!(
                    "`{folder}` ships and `{other}` does not: make `{other}` a dev-dependency"
                )),
                (Floor::Product(own), Some(Floor::Product(below))) if below >= own => {
                    Some(format!(
                        "`{folder}` (floor {own}) depends on `{other}` (floor {below}): \
                         move what is needed to a lower floor"
                    ))
                }
                _ => None,
            }
        })
        .map(|message| Finding::new(&path, 1, message))
        .collect()
}

fn floor(folder: &str) -> Option<Floor> {
    FLOORS.iter().find(|(name, _)| *name == folder).map(|(_, floor)| *floor)
}

const TABLE: &str = "crates/xtask/src/tidy/floors.rs";

/// Every crate that there is or may be.
const FLOORS: &[(&str, Floor)] = &[
    ("crypto", Floor::Product(0)),
    ("model", Floor::Product(0)),
    ("luks", Floor::Product(1)),
    ("disk", Floor::Product(2)),
    ("kms", Floor::Product(2)),
    ("pool", Floor::Product(3)),
    ("clone", Floor::Product(3)),
    ("fetch", Floor::Product(3)),
    ("attach", Floor::Product(3)),
    ("backup", Floor::Product(3)),
    ("strongroom", Floor::Product(4)),
    ("csi", Floor::Product(5)),
    ("server", Floor::Product(5)),
    ("operator", Floor::Product(5)),
    ("server", Floor::Product(5)),
    ("cli", Floor::Product(6)),
    ("testkit", Floor::Development),
    ("xtask", Floor::Development),
];

#[cfg(test)]
mod tests {
    use super::super::house::Dependency;
    use super::*;

    fn complaints(folder: &str, other: &str, kind: DependencyKind) -> String {
        let line = Dependency { name: other.to_owned(), kind, origin: Origin::House };
        let member = Member { folder: folder.to_owned(), dependencies: vec![line] };
        check(&[member]).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lets_dependencies_lead_downwards() {
        assert_eq!(complaints("luks", "crypto", DependencyKind::Normal), "");
        assert_eq!(complaints("cli", "strongroom", DependencyKind::Normal), "");
    }

    #[test]
    fn finds_a_dependency_upwards() {
        let text = complaints("luks", "disk", DependencyKind::Normal);
        assert!(text.starts_with("crates/luks/Cargo.toml:1: `luks` (floor 1)"), "{text}");
    }

    #[test]
    fn finds_a_dependency_on_the_same_floor() {
        assert!(complaints("clone", "pool", DependencyKind::Normal).contains("floor 3"));
        assert!(complaints("model", "crypto", DependencyKind::Build).contains("floor 0"));
    }

    #[test]
    fn finds_the_testkit_in_what_ships() {
        assert!(complaints("cli", "testkit", DependencyKind::Normal).contains("dev-dependency"));
        assert_eq!(complaints("cli", "testkit", DependencyKind::Development), "");
        assert_eq!(complaints("testkit", "disk", DependencyKind::Normal), "");
    }

    #[test]
    fn finds_a_crate_without_a_floor() {
        assert!(
            complaints("attic", "crypto", DependencyKind::Normal).contains("add it to the table")
        );
    }

    #[test]
    fn finds_keys_in_backup_even_for_its_tests() {
        for kind in [DependencyKind::Normal, DependencyKind::Development] {
            assert!(complaints("backup", "crypto", kind).contains("must not know key types"));
        }
    }
}
