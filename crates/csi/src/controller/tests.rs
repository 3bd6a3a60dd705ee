use std::future::Future;

use strongroom::catalog::MemoryCatalog;
use strongroom::volumes::{Backend, Volumes};
use strongroom_attach::Launcher;
use strongroom_pool::Directory;
use tempfile::TempDir;
use tonic::Code;

use super::*;
use crate::Settings;
use crate::capability::tests::mount;
use crate::messages::{CapacityRange, SnapshotSource};

/// A controller over a pool in a directory, and a catalog in memory. Nothing is ever attached.
struct House {
    _directory: TempDir,
    controller: ControllerService,
    runtime: tokio::runtime::Runtime,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pool = Directory::open(&directory.path().join("pool")).unwrap();
        let launcher = Launcher { program: "/nowhere".into(), arguments: Vec::new() };
        let run = directory.path().join("run");
        let volumes =
            Volumes::new(Arc::new(pool), Arc::new(MemoryCatalog::default()), launcher, run);
        let settings = Settings {
            driver_name: "csi.example.com".to_owned(),
            node_id: "node-1".to_owned(),
            kek_file: None,
            backend: Backend::Auto,
            allowed_uids: Vec::new(),
        };
        let controller = ControllerService(Arc::new(Driver::new(volumes, settings)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { _directory: directory, controller, runtime }
    }

    fn wait<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Status> {
        self.runtime.block_on(call).map(Response::into_inner)
    }

    fn create(&self, request: CreateVolumeRequest) -> Result<VolumeMessage, Status> {
        let answer = self.wait(self.controller.create_volume(Request::new(request)))?;
        Ok(answer.volume.unwrap())
    }

    fn snapshot(&self, of: &str, name: &str) -> Result<(), Status> {
        let request = CreateSnapshotRequest {
            source_volume_id: of.to_owned(),
            name: name.to_owned(),
            ..Default::default()
        };
        let answer = self.wait(self.controller.create_snapshot(Request::new(request)))?;
        assert!(answer.snapshot.unwrap().ready_to_use);
        Ok(())
    }
}

fn named(name: &str) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 16 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![mount("", 1)],
        ..Default::default()
    }
}

fn map(pairs: &[(&str, &str)]) -> Map {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_volume_is_made_once_and_another_of_its_name_refused() {
    let house = House::new();
    let parameters = map(&[("encrypted", "true")]);
    let request = || CreateVolumeRequest { parameters: parameters.clone(), ..named("a") };
    let made = house.create(request()).unwrap();
    assert_eq!((made.capacity_bytes, made.volume_id.as_str()), (16 << 20, "a"));
    assert_eq!(made.volume_context.get("encrypted").map(String::as_str), Some("true"));
    assert_eq!(
        made.accessible_topology[0].segments,
        map(&[("topology.csi.example.com/node", "node-1")])
    );
    assert_eq!(house.create(request()).unwrap(), made);

    let larger = Some(CapacityRange { required_bytes: 32 << 20, limit_bytes: 32 << 20 });
    let refused = house.create(CreateVolumeRequest { capacity_range: larger, ..request() });
    assert_eq!(refused.unwrap_err().code(), Code::AlreadyExists);
    let refused = house.create(named("a")).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("encrypted with a passphrase"), "{refused:?}");
}

#[test]
fn what_a_volume_cannot_be_is_refused_before_anything_is_made() {
    let house = House::new();
    let elsewhere =
        crate::messages::Topology { segments: map(&[("topology.csi.example.com/node", "node-2")]) };
    let source = |id: &str| {
        let snapshot = Some(SnapshotSource { snapshot_id: id.to_owned() });
        Some(VolumeContentSource { snapshot, volume: None })
    };
    let cases = [
        (CreateVolumeRequest { name: String::new(), ..named("a") }, Code::InvalidArgument),
        (
            CreateVolumeRequest { volume_capabilities: Vec::new(), ..named("a") },
            Code::InvalidArgument,
        ),
        (
            CreateVolumeRequest { volume_capabilities: vec![mount("", 5)], ..named("a") },
            Code::InvalidArgument,
        ),
        (
            CreateVolumeRequest { parameters: map(&[("encryptd", "true")]), ..named("a") },
            Code::InvalidArgument,
        ),
        (
            CreateVolumeRequest { mutable_parameters: map(&[("encrypted", "true")]), ..named("a") },
            Code::InvalidArgument,
        ),
        (
            CreateVolumeRequest {
                accessibility_requirements: Some(crate::messages::TopologyRequirement {
                    requisite: vec![elsewhere],
                    preferred: Vec::new(),
                }),
                ..named("a")
            },
            Code::ResourceExhausted,
        ),
        (
            CreateVolumeRequest { volume_content_source: source("gone"), ..named("a") },
            Code::NotFound,
        ),
    ];
    for (request, code) in cases {
        let refused = house.create(request).unwrap_err();
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let request = Request::new(ListVolumesRequest::default());
    assert!(house.wait(house.controller.list_volumes(request)).unwrap().entries.is_empty());
}

#[test]
fn volumes_come_in_pages() {
    let house = House::new();
    for name in ["c", "a", "e", "b", "d"] {
        house.create(named(name)).unwrap();
    }
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = house.wait(house.controller.list_volumes(Request::new(request))).unwrap();
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    for token in ["invalid-token", "after:../x"] {
        let request = ListVolumesRequest { max_entries: 0, starting_token: token.to_owned() };
        let refused = house.wait(house.controller.list_volumes(Request::new(request)));
        assert_eq!(refused.unwrap_err().code(), Code::Aborted);
    }
}

#[test]
fn snapshots_are_made_found_and_copied() {
    let house = House::new();
    for name in ["a", "b"] {
        house.create(named(name)).unwrap();
    }
    for (of, name) in [("a", "s1"), ("a", "s2"), ("b", "s3"), ("a", "s1")] {
        house.snapshot(of, name).unwrap();
    }
    assert_eq!(house.snapshot("b", "s1").unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(house.snapshot("gone", "s9").unwrap_err().code(), Code::NotFound);

    let list = |of: &str, id: &str, max_entries| {
        let request = ListSnapshotsRequest {
            source_volume_id: of.to_owned(),
            snapshot_id: id.to_owned(),
            max_entries,
            ..Default::default()
        };
        let page = house.wait(house.controller.list_snapshots(Request::new(request))).unwrap();
        let names = page.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id);
        (names.collect::<Vec<_>>().join(" "), page.next_token)
    };
    assert_eq!(list("", "", 0).0, "s1 s2 s3");
    assert_eq!(list("a", "", 0).0, "s1 s2");
    assert_eq!(list("", "s3", 0).0, "s3");
    assert_eq!(list("a", "s3", 0).0, "");
    assert_eq!(list("", "gone", 0).0, "");
    assert_eq!(list("", "", 2), ("s1 s2".to_owned(), "after:s2".to_owned()));

    let snapshot = Some(SnapshotSource { snapshot_id: "s1".to_owned() });
    let source = Some(VolumeContentSource { snapshot, volume: None });
    let request = CreateVolumeRequest {
        volume_content_source: source.clone(),
        capacity_range: None,
        ..named("c")
    };
    let made = house.create(request).unwrap();
    assert_eq!((made.content_source, made.capacity_bytes), (source, 16 << 20));
    for _ in 0..2 {
        let request = DeleteSnapshotRequest { snapshot_id: "s1".to_owned(), secrets: Map::new() };
        house.wait(house.controller.delete_snapshot(Request::new(request))).unwrap();
    }
    assert_eq!(list("a", "", 0).0, "s2");
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let house = House::new();
    house.create(named("a")).unwrap();
    let expand = |required_bytes, limit_bytes| {
        let request = ControllerExpandVolumeRequest {
            volume_id: "a".to_owned(),
            capacity_range: Some(CapacityRange { required_bytes, limit_bytes }),
            ..Default::default()
        };
        let answer = house.wait(house.controller.expand_volume(Request::new(request)))?;
        assert!(answer.node_expansion_required);
        Ok::<_, Status>(answer.capacity_bytes)
    };
    assert_eq!(expand((20 << 20) + 1, 0).unwrap(), 22 << 20);
    assert_eq!(expand(16 << 20, 0).unwrap(), 22 << 20);
    assert_eq!(expand(0, 16 << 20).unwrap_err().code(), Code::OutOfRange);
    let request = ControllerExpandVolumeRequest { volume_id: "a".to_owned(), ..Default::default() };
    let refused = house.wait(house.controller.expand_volume(Request::new(request)));
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn only_what_is_tunable_is_modified() {
    let house = House::new();
    house.create(named("a")).unwrap();
    let modify = |id: &str, key: &str| {
        let request = ControllerModifyVolumeRequest {
            volume_id: id.to_owned(),
            mutable_parameters: map(&[(key, "true")]),
            ..Default::default()
        };
        house.wait(house.controller.modify_volume(Request::new(request)))
    };
    modify("a", "noReadWorkqueue").unwrap();
    let tuning = house.controller.0.volumes.volume(&"a".parse().unwrap()).unwrap().tuning;
    assert!(tuning.no_read_workqueue && !tuning.discard);
    assert_eq!(modify("a", "encrypted").unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(modify("gone", "discard").unwrap_err().code(), Code::NotFound);
}

#[test]
fn one_call_works_on_a_volume_at_a_time() {
    let house = House::new();
    let turn = house.controller.0.in_flight.begin("volume a".to_owned()).unwrap();
    assert_eq!(house.create(named("a")).unwrap_err().code(), Code::Aborted);
    house.create(named("b")).unwrap();
    drop(turn);
    house.create(named("a")).unwrap();
}

#[test]
fn capabilities_are_confirmed_or_the_reason_is_said() {
    let house = House::new();
    house.create(named("a")).unwrap();
    let validate = |id: &str, capability| {
        let request = ValidateVolumeCapabilitiesRequest {
            volume_id: id.to_owned(),
            volume_capabilities: vec![capability],
            ..Default::default()
        };
        house.wait(house.controller.validate_volume_capabilities(Request::new(request)))
    };
    assert!(validate("a", mount("xfs", 1)).unwrap().confirmed.is_some());
    let unfit = validate("a", mount("", 5)).unwrap();
    assert!(unfit.confirmed.is_none() && unfit.message.contains("one node alone"), "{unfit:?}");
    assert_eq!(validate("gone", mount("", 1)).unwrap_err().code(), Code::NotFound);
}

#[test]
fn there_is_room_here_and_none_elsewhere() {
    let house = House::new();
    let room = |node: &str| {
        let segments = map(&[("topology.csi.example.com/node", node)]);
        let request = GetCapacityRequest {
            accessible_topology: Some(crate::messages::Topology { segments }),
            parameters: map(&[("encrypted", "true")]),
            ..Default::default()
        };
        house.wait(house.controller.capacity(Request::new(request))).unwrap().available_capacity
    };
    assert!(room("node-1") > 0);
    assert_eq!(room("node-2"), 0);
}
