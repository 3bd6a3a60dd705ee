use strongroom_disk::qcow2::{Closed, CreateOptions, Qcow2, create};
use strongroom_disk::{Access, Disk, ExtentKind, Extents, Memory, Resizable};
use strongroom_testkit::{Body, Reply, Server};

use crate::content::{MIB, bytes, open_ranged, options};

/// An image of 64 MiB with data at its beginning, in its middle and at its end.
fn image() -> Vec<u8> {
    let memory = Memory::new(0);
    create(&memory, &CreateOptions::new(64 * MIB)).unwrap();
    let image = Qcow2::open(&memory, Access::ReadWrite, &Closed).unwrap();
    for start in DATA {
        image.write_at(&bytes(start..start + MIB), start).unwrap();
    }
    image.flush().unwrap();
    memory.to_vec()
}

const DATA: [u64; 3] = [0, 30 * MIB, 63 * MIB];

#[test]
fn an_image_is_read_where_it_lies() {
    let file = image();
    let len = file.len() as u64;
    let server = Server::start(move |request| {
        let reply = Reply::ranged(request, len, "\"one\"");
        let Body::Content(range) = reply.body else { return reply };
        let body = file[range.start as usize..range.end as usize].to_vec();
        Reply { body: Body::Bytes(body), ..reply }
    });
    let remote = open_ranged(&server.url("/disk.qcow2"), &options());
    assert!(remote.set_len(0).is_err());
    let image = Qcow2::open(&remote, Access::ReadOnly, &Closed).unwrap();
    assert_eq!(image.len(), 64 * MIB);
    let extents: Vec<_> = Extents::new(&image, 0..image.len()).map(Result::unwrap).collect();
    let data = extents.iter().filter(|extent| extent.kind == ExtentKind::Data);
    let found: Vec<u64> = data.map(|extent| extent.range.start).collect();
    assert_eq!(found, DATA);
    for start in DATA {
        let mut found = vec![0; MIB as usize];
        image.read_at(&mut found, start).unwrap();
        assert!(found == bytes(start..start + MIB), "wrong bytes at {start}");
    }
    assert!(server.served() <= len, "{} of {len}", server.served());
}
