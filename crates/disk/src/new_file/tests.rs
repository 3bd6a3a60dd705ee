use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;
use crate::Access;

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn create(target: &Path, overwrite: Overwrite) -> Result<NewFile> {
    NewFile::create(target, overwrite, &[]).map(|(file, _permit)| file)
}

/// Creates the file as on a file system that has no files without a name.
fn create_named(target: &Path, overwrite: Overwrite) -> Result<NewFile> {
    NewFile::create_by(target, overwrite, &[], create_partial).map(|(file, _permit)| file)
}

type Create = fn(&Path, Overwrite) -> Result<NewFile>;

const BOTH_WAYS: [Create; 2] = [create, create_named];

#[test]
fn nothing_of_it_is_in_the_directory_until_it_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk.luks");
    let new = create(&target, Overwrite::Refuse).unwrap();
    new.disk().set_len(4096).unwrap();
    new.disk().write_at(b"whole", 0).unwrap();
    assert_eq!(new.disk().label(), target.display().to_string());
    assert!(names(&directory).is_empty());
    new.commit().unwrap();
    assert_eq!(names(&directory), ["disk.luks"]);
    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(&fs::read(&target).unwrap()[..5], b"whole");
}

#[test]
fn a_process_that_is_killed_leaves_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
        let new = create(&directory.path().join("disk"), overwrite).unwrap();
        new.disk().set_len(4096).unwrap();
        new.disk().write_at(b"half", 0).unwrap();
        // What a kill does: no destructor runs, and the kernel closes the descriptor.
        std::mem::forget(new);
        assert!(names(&directory).is_empty());
    }
}

#[test]
fn a_file_that_cannot_be_without_a_name_has_another_until_it_is_committed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk.luks");
    let new = create_named(&target, Overwrite::Refuse).unwrap();
    new.disk().set_len(4096).unwrap();
    new.disk().write_at(b"whole", 0).unwrap();
    assert_eq!(new.disk().label(), target.display().to_string());
    let partial = names(&directory);
    assert_eq!(partial.len(), 1);
    assert!(partial[0].starts_with(".disk.luks.") && partial[0].ends_with(".partial"));
    new.commit().unwrap();
    assert_eq!(names(&directory), ["disk.luks"]);
    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(&fs::read(&target).unwrap()[..5], b"whole");
}

#[test]
fn dropped_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    for create in BOTH_WAYS {
        drop(create(&directory.path().join("disk"), Overwrite::Refuse).unwrap());
        assert!(names(&directory).is_empty());
    }
}

#[test]
fn an_existing_target_is_kept_unless_it_shall_be_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    fs::write(&target, "old").unwrap();
    let error = create(&target, Overwrite::Refuse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(names(&directory), ["disk"]);

    for create in BOTH_WAYS {
        fs::write(&target, "old").unwrap();
        let new = create(&target, Overwrite::Replace).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        new.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn a_target_that_could_be_replaced_need_not_exist() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let new = create(&directory.path().join("disk"), Overwrite::Replace).unwrap();
        new.commit().unwrap();
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn a_file_that_cannot_be_replaced_is_kept_and_nothing_left_beside_it() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let mut new = create(&target, Overwrite::Replace).unwrap();
        fs::create_dir(&target).unwrap();
        assert_eq!(new.replace().unwrap_err(), Errno::ISDIR);
        drop(new);
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn a_target_that_appeared_meanwhile_is_kept() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let new = create(&target, Overwrite::Refuse).unwrap();
        fs::write(&target, "theirs").unwrap();
        assert_eq!(new.take_free_name().unwrap_err(), Errno::EXIST);
        assert_eq!(new.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn the_source_is_never_its_own_target() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    let link = directory.path().join("hard link");
    fs::write(&source, "data").unwrap();
    fs::hard_link(&source, &link).unwrap();
    let raw = Raw::open(&source, Access::ReadOnly).unwrap();
    for target in [&source, &link] {
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            let error = NewFile::create(target, overwrite, &[&raw]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::SameFile);
        }
    }
}

#[test]
fn links_devices_directories_and_pipes_are_no_targets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "data").unwrap();
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    let dangling = directory.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    for (target, words) in [
        (link.as_path(), "name the file that it points to"),
        (&dangling, "name the file that it points to"),
        (Path::new("/dev/null"), "not a plain file"),
        (directory.path(), "it is a directory"),
        (Path::new("/"), "it names a directory"),
        (Path::new("some/.."), "it names a directory"),
    ] {
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            let error = create(target, overwrite).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADisk);
            assert!(error.to_string().contains(words), "{error}");
        }
    }
    assert_eq!(fs::read(&file).unwrap(), b"data");
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let error = create(&directory.path().join("missing/disk"), Overwrite::Refuse).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().ends_with("missing"), "{error}");
}

#[test]
fn the_longest_name_has_a_partial_one_too() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("n".repeat(LONGEST_NAME));
    for create in BOTH_WAYS {
        create(&target, Overwrite::Replace).unwrap().commit().unwrap();
        assert!(target.exists());
    }
}

#[test]
fn a_directory_renamed_meanwhile_still_gets_its_file() {
    let parent = tempfile::tempdir().unwrap();
    let (before, after) = (parent.path().join("before"), parent.path().join("after"));
    fs::create_dir(&before).unwrap();
    let new = create(&before.join("disk"), Overwrite::Refuse).unwrap();
    fs::rename(&before, &after).unwrap();
    new.commit().unwrap();
    assert!(after.join("disk").exists());
}

fn create_pair(directory: &Path, overwrite: Overwrite, create: Create) -> (NewFile, NewFile) {
    let data = create(&directory.join("data"), overwrite).unwrap();
    let header = create(&directory.join("header"), overwrite).unwrap();
    for (file, words) in [(&data, b"data"), (&header, b"head")] {
        file.disk().set_len(4).unwrap();
        file.disk().write_at(words, 0).unwrap();
    }
    (data, header)
}

#[test]
fn a_pair_gets_both_names() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        for overwrite in [Overwrite::Refuse, Overwrite::Replace, Overwrite::Replace] {
            let (data, header) = create_pair(directory.path(), overwrite, create);
            NewFile::commit_pair(data, header).unwrap();
            assert_eq!(names(&directory), ["data", "header"]);
            assert_eq!(fs::read(directory.path().join("data")).unwrap(), b"data");
            assert_eq!(fs::read(directory.path().join("header")).unwrap(), b"head");
        }
    }
}

#[test]
fn data_without_its_header_keeps_no_name() {
    for create in BOTH_WAYS {
        for overwrite in [Overwrite::Refuse, Overwrite::Replace] {
            let directory = tempfile::tempdir().unwrap();
            let (mut data, header) = create_pair(directory.path(), overwrite, create);
            assert_eq!(data.take_name().unwrap(), Naming::Made);
            data.give_name_back();
            assert!(header.found().unwrap().is_none());
            drop((data, header));
            assert!(names(&directory).is_empty());

            let (data, header) = create_pair(directory.path(), overwrite, create);
            fs::create_dir(directory.path().join("header")).unwrap();
            let error = NewFile::commit_pair(data, header).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotADisk);
            assert_eq!(names(&directory), ["header"]);
        }
    }
}

#[test]
fn a_name_that_belongs_to_another_file_by_now_is_not_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let (mut data, _header) = create_pair(directory.path(), Overwrite::Refuse, create);
    data.take_name().unwrap();
    let target = directory.path().join("data");
    fs::remove_file(&target).unwrap();
    fs::write(&target, "theirs").unwrap();
    data.give_name_back();
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
}

#[test]
fn a_header_that_cannot_replace_the_old_one_replaces_no_data() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("data"), "old").unwrap();
        let (data, header) = create_pair(directory.path(), Overwrite::Replace, create);
        symlink("nowhere", directory.path().join("header")).unwrap();
        let error = NewFile::commit_pair(data, header).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADisk);
        assert_eq!(fs::read(directory.path().join("data")).unwrap(), b"old");
        assert_eq!(names(&directory), ["data", "header"]);
    }
}

#[test]
fn the_same_place_is_known_by_any_path_to_its_directory() {
    let parent = tempfile::tempdir().unwrap();
    let (real, link) = (parent.path().join("real"), parent.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink("real", &link).unwrap();
    for create in BOTH_WAYS {
        let one = |path: PathBuf| create(&path, Overwrite::Replace).unwrap();
        let data = one(real.join("disk"));
        assert!(data.is_same_place(&one(link.join("disk"))).unwrap());
        assert!(data.is_same_place(&one(real.join("../link/disk"))).unwrap());
        assert!(!data.is_same_place(&one(real.join("other"))).unwrap());
        assert!(!data.is_same_place(&one(parent.path().join("disk"))).unwrap());
        let error = NewFile::commit_pair(data, one(link.join("disk"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SameFile);
        assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
    }
}

#[test]
fn two_hard_links_of_one_file_are_two_places() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("data"), "old").unwrap();
    fs::hard_link(directory.path().join("data"), directory.path().join("header")).unwrap();
    let (data, header) = create_pair(directory.path(), Overwrite::Replace, create);
    assert!(!data.is_same_place(&header).unwrap());
    NewFile::commit_pair(data, header).unwrap();
    assert_eq!(fs::read(directory.path().join("data")).unwrap(), b"data");
    assert_eq!(fs::read(directory.path().join("header")).unwrap(), b"head");
}

#[test]
fn a_header_whose_name_leads_to_its_data_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (mut data, mut header) = create_pair(directory.path(), Overwrite::Replace, create);
    data.take_name().unwrap();
    // A second link stands for a file system that takes both names for the same.
    fs::hard_link(directory.path().join("data"), directory.path().join("header")).unwrap();
    let error = header.take_name_beside(&data).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SameFile);
    assert_eq!(fs::read(directory.path().join("header")).unwrap(), b"data");
}

#[test]
fn an_error_between_the_names_takes_that_of_new_data_away() {
    for (old, left) in [(None, None), (Some("old"), Some(b"data".to_vec()))] {
        let parent = tempfile::tempdir().unwrap();
        let (target, gone) = (parent.path().join("data"), parent.path().join("gone"));
        fs::create_dir(&gone).unwrap();
        if let Some(old) = old {
            fs::write(&target, old).unwrap();
        }
        let (data, header) = (
            create(&target, Overwrite::Replace).unwrap(),
            create(&gone.join("header"), Overwrite::Refuse).unwrap(),
        );
        data.disk().set_len(4).unwrap();
        data.disk().write_at(b"data", 0).unwrap();
        // A directory that is gone lets its files be written, but takes no names.
        fs::remove_dir(&gone).unwrap();
        let error = NewFile::commit_pair(data, header).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(fs::read(&target).ok(), left);
        assert_eq!(names(&parent).len(), usize::from(left.is_some()));
    }
}

#[test]
fn the_permissions_of_a_replaced_file_are_kept() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        for mode in [0o640, 0o600, 0o444, 0o4755] {
            fs::write(&target, "old").unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
            create(&target, Overwrite::Replace).unwrap().commit().unwrap();
            assert_eq!(target.metadata().unwrap().mode() & 0o7777, mode & 0o777, "{mode:o}");
            fs::remove_file(&target).unwrap();
        }
    }
}

#[test]
fn owner_and_group_of_a_replaced_file_are_kept_by_who_may_set_them() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    fs::write(&target, "old").unwrap();
    // Who is not root keeps what he has.
    let _ = std::os::unix::fs::chown(&target, Some(12), Some(34));
    let before = target.metadata().unwrap();
    create(&target, Overwrite::Replace).unwrap().commit().unwrap();
    let after = target.metadata().unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!((before.uid(), before.gid()), (after.uid(), after.gid()));
}

#[test]
fn a_file_that_appeared_meanwhile_lends_no_permissions() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let new = create(&target, Overwrite::Replace).unwrap();
        fs::write(&target, "theirs").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o666)).unwrap();
        new.commit().unwrap();
        assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_file_with_an_access_list_lends_its_owners_permissions_only() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    fs::write(&target, "old").unwrap();
    // Version 2; tag, permissions and number of: owner, user 1, group, mask, others.
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, number) in
        [(1, 6, u32::MAX), (2, 4, 1), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)]
    {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(permissions));
        list.extend(u32::to_le_bytes(number));
    }
    let flags = rustix::fs::XattrFlags::empty();
    match rustix::fs::setxattr(&target, "system.posix_acl_access", &list, flags) {
        Ok(()) => assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o644),
        // A file system without such lists: without the list, nothing is to be left out.
        Err(Errno::OPNOTSUPP) => {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Err(errno) => panic!("{errno}"),
    }
    create(&target, Overwrite::Replace).unwrap().commit().unwrap();
    assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o600);
}
