//! Where volumes can be reached: on this node.

use tonic::Status;

use crate::messages::{Map, Topology, TopologyRequirement};

/// The one segment of this node: `topology.DRIVER/node`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    key: String,
    node: String,
}

impl Place {
    pub(crate) fn new(driver: &str, node: &str) -> Self {
        Self { key: format!("topology.{driver}/node"), node: node.to_owned() }
    }

    /// Returns it as CSI writes it.
    pub(crate) fn topology(&self) -> Topology {
        Topology { segments: Map::from([(self.key.clone(), self.node.clone())]) }
    }

    /// Tells whether a topology holds this node. One that says nothing of nodes does.
    pub(crate) fn is_in(&self, topology: &Topology) -> bool {
        topology.segments.get(&self.key).is_none_or(|node| *node == self.node)
    }

    /// Refuses a volume that must be elsewhere.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED`, with which the provisioner goes to another node.
    pub(crate) fn check(&self, requirement: Option<&TopologyRequirement>) -> Result<(), Status> {
        let requisite = requirement.map(|requirement| requirement.requisite.as_slice());
        match requisite {
            Some(places) if !places.is_empty() && !places.iter().any(|place| self.is_in(place)) => {
                Err(Status::resource_exhausted(format!(
                    "the volume must be on another node than {}, and this pool is on that one alone",
                    self.node
                )))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(key: &str, node: &str) -> Topology {
        Topology { segments: Map::from([(key.to_owned(), node.to_owned())]) }
    }

    #[test]
    fn a_volume_is_made_where_it_may_be_and_nowhere_else() {
        let place = Place::new("csi.example", "node-1");
        let key = "topology.csi.example/node";
        let check = |requisite| {
            place.check(Some(&TopologyRequirement { requisite, preferred: Vec::new() }))
        };
        assert!(place.check(None).is_ok());
        assert!(check(Vec::new()).is_ok());
        assert!(check(vec![on(key, "node-2"), on(key, "node-1")]).is_ok());
        assert!(check(vec![on("zone", "a")]).is_ok());
        let refused = check(vec![on(key, "node-2")]).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        assert!(place.is_in(&place.topology()));
    }
}
