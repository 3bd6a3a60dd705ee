use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::*;
use crate::{Access, Disk, Resizable, Unfinished};

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

type Create = fn(&Path, Overwrite) -> Result<NewFile>;

fn create(target: &Path, overwrite: Overwrite) -> Result<NewFile> {
    NewFile::create_named(target, overwrite, &[]).map(|(file, _permit)| file)
}

/// Creates the file as on a file system that has no files without a name.
fn create_in_steps(target: &Path, overwrite: Overwrite) -> Result<NewFile> {
    NewFile::create_named_by(target, overwrite, &[], create_and_lock).map(|(file, _permit)| file)
}

const BOTH_WAYS: [Create; 2] = [create, create_in_steps];

fn reopen(target: &Path) -> Result<NewFile> {
    NewFile::reopen(target, Overwrite::Refuse, &[]).map(|(file, _permit)| file)
}

fn write_half(new: &NewFile) -> [u8; 8] {
    let disk = Unfinished::new(new.disk()).unwrap();
    disk.set_len(4096).unwrap();
    disk.write_at(b"magic and half of it", 0).unwrap();
    disk.flush().unwrap();
    disk.first_bytes()
}

#[test]
fn it_is_called_partial_until_it_is_committed_and_gone_when_dropped() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        drop(create(&target, Overwrite::Refuse).unwrap());
        assert!(names(&directory).is_empty());

        let new = create(&target, Overwrite::Refuse).unwrap();
        assert_eq!(names(&directory), [".disk.qcow2.partial"]);
        let partial = NewFile::partial_path(&target);
        assert_eq!(partial, directory.path().join(".disk.qcow2.partial"));
        assert_eq!(partial.metadata().unwrap().mode() & 0o777, 0o600);
        new.disk().set_len(5).unwrap();
        new.disk().write_at(b"whole", 0).unwrap();
        new.commit().unwrap();
        assert_eq!(names(&directory), ["disk.qcow2"]);
        assert_eq!(fs::read(&target).unwrap(), b"whole");
    }
}

#[test]
fn two_jobs_never_share_it() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let new = create(&target, Overwrite::Refuse).unwrap();
        write_half(&new);
        for error in [
            create(&target, Overwrite::Refuse).unwrap_err(),
            reopen(&target).unwrap_err(),
            NewFile::leftover(&target).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert!(error.to_string().contains("another job is at work"), "{error}");
        }
        new.keep().unwrap();
        let again = reopen(&target).unwrap();
        assert_eq!(reopen(&target).unwrap_err().kind(), ErrorKind::Busy);
        again.commit().unwrap();
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn what_was_kept_is_reported_and_not_overwritten_but_gone_on_with() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        assert_eq!(NewFile::leftover(&target).unwrap(), None);
        let new = create(&target, Overwrite::Refuse).unwrap();
        let first = write_half(&new);
        let partial = new.keep().unwrap();
        assert_eq!(NewFile::leftover(&target).unwrap().as_deref(), Some(&*partial));

        let error = create(&target, Overwrite::Replace).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        let text = error.to_string();
        let left = format!("an interrupted job left {}", partial.display());
        assert!(text.ends_with(&left), "{text}");

        fs::set_permissions(&partial, fs::Permissions::from_mode(0o640)).unwrap();
        let new = reopen(&target).unwrap();
        assert_eq!(new.disk().label(), target.display().to_string());
        Unfinished::resume(new.disk(), first).unwrap().finish().unwrap();
        new.commit().unwrap();
        assert_eq!(target.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read(&target).unwrap()[..20], *b"magic and half of it");
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn a_file_that_is_gone_on_with_stays_when_dropped_until_it_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    let new = create(&target, Overwrite::Refuse).unwrap();
    write_half(&new);
    new.keep().unwrap();
    drop(reopen(&target).unwrap());
    reopen(&target).unwrap().remove();
    assert!(names(&directory).is_empty());
    assert_eq!(reopen(&target).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn only_our_own_unfinished_files_are_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    let partial = NewFile::partial_path(&target);
    for content in [&b""[..], b"short", b"QFI\xfb and a whole image"] {
        fs::write(&partial, content).unwrap();
        let error = reopen(&target).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.label(), partial.display().to_string());
        assert_eq!(fs::read(&partial).unwrap(), content);
    }
    fs::rename(&partial, directory.path().join("elsewhere")).unwrap();
    symlink("elsewhere", &partial).unwrap();
    assert_eq!(reopen(&target).unwrap_err().kind(), ErrorKind::NotADisk);
    assert_eq!(create(&target, Overwrite::Refuse).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert!(NewFile::leftover(&target).unwrap().is_some());
}

#[test]
fn a_file_of_another_user_is_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    let new = create(&target, Overwrite::Refuse).unwrap();
    write_half(&new);
    let partial = new.keep().unwrap();
    // Only root can give a file away; for anyone else there is nothing to be refused.
    if std::os::unix::fs::chown(&partial, Some(12), None).is_ok() {
        assert_eq!(reopen(&target).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(partial.exists());
    } else {
        reopen(&target).unwrap();
    }
}

#[test]
fn the_source_is_not_gone_on_with_as_a_target() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    let new = create(&target, Overwrite::Refuse).unwrap();
    write_half(&new);
    let partial = new.keep().unwrap();
    let source = Raw::open(&partial, Access::ReadOnly).unwrap();
    let error = NewFile::reopen(&target, Overwrite::Refuse, &[&source]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SameFile);
    assert!(partial.exists());
}

#[test]
fn a_target_that_appeared_meanwhile_is_kept_and_so_is_nothing_else() {
    for create in BOTH_WAYS {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let new = create(&target, Overwrite::Refuse).unwrap();
        fs::write(&target, "theirs").unwrap();
        assert_eq!(new.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
        assert_eq!(names(&directory), ["disk"]);
        create(&target, Overwrite::Replace).unwrap().commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"");
        assert_eq!(names(&directory), ["disk"]);
    }
}

#[test]
fn a_partial_file_that_is_another_one_by_now_is_neither_committed_nor_removed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    for end in [|new: NewFile| assert!(new.commit().is_err()), drop] {
        let new = create(&target, Overwrite::Refuse).unwrap();
        let partial = NewFile::partial_path(&target);
        fs::remove_file(&partial).unwrap();
        fs::write(&partial, "theirs").unwrap();
        end(new);
        assert_eq!(names(&directory), [".disk.partial"]);
        assert_eq!(fs::read(&partial).unwrap(), b"theirs");
        fs::remove_file(&partial).unwrap();
    }
}

#[test]
fn a_file_without_a_name_gets_that_of_a_partial_one_when_it_is_kept() {
    let unnamed: Create =
        |target, overwrite| NewFile::create(target, overwrite, &[]).map(|(file, _permit)| file);
    let random: Create = |target, overwrite| {
        NewFile::create_by(target, overwrite, &[], super::super::create_partial)
            .map(|(file, _permit)| file)
    };
    for create in [unnamed, random] {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk");
        let new = create(&target, Overwrite::Refuse).unwrap();
        let first = write_half(&new);
        assert_eq!(new.keep().unwrap(), NewFile::partial_path(&target));
        assert_eq!(names(&directory), [".disk.partial"]);

        let error = create(&target, Overwrite::Refuse).unwrap().keep().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(&directory), [".disk.partial"]);

        let new = reopen(&target).unwrap();
        Unfinished::resume(new.disk(), first).unwrap();
        let error = create(&target, Overwrite::Refuse).unwrap().keep().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
    }
}

#[test]
fn long_names_have_partial_files_and_journals_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let long = |last: &str| directory.path().join("n".repeat(LONGEST_NAME - 1) + last);
    let (one, two) = (long("1"), long("2"));
    let paths = [
        NewFile::partial_path(&one),
        NewFile::partial_path(&two),
        NewFile::journal_path(&one),
        NewFile::journal_path(&two),
    ];
    for (index, path) in paths.iter().enumerate() {
        assert_eq!(path.file_name().unwrap().len(), LONGEST_NAME);
        assert!(!paths[..index].contains(path));
    }
    let (first, second) =
        (create(&one, Overwrite::Refuse).unwrap(), create(&two, Overwrite::Refuse).unwrap());
    first.keep().unwrap();
    second.commit().unwrap();
    assert!(paths[0].exists() && !paths[1].exists() && two.exists());
    let exact = "n".repeat(LONGEST_NAME - 1 - ".partial".len());
    assert_eq!(NewFile::partial_path(&exact).to_str().unwrap(), format!(".{exact}.partial"));
    assert_eq!(NewFile::journal_path("a/b"), Path::new("a/.b.journal"));
}

#[test]
fn a_process_that_is_killed_leaves_it_for_the_next_one() {
    const TARGET: &str = "STRONGROOM_TEST_KILLED_TARGET";
    if let Some(target) = std::env::var_os(TARGET) {
        let new = create(Path::new(&target), Overwrite::Refuse).unwrap();
        write_half(&new);
        println!("\nwritten");
        std::thread::sleep(std::time::Duration::from_secs(60));
        unreachable!("the parent kills this process");
    }
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("disk");
    let name = std::thread::current().name().unwrap().to_owned();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(TARGET, &target)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "written"));
    assert_eq!(reopen(&target).unwrap_err().kind(), ErrorKind::Busy);
    child.kill().unwrap();
    child.wait().unwrap();

    let new = reopen(&target).unwrap();
    Unfinished::resume(new.disk(), *b"magic an").unwrap().finish().unwrap();
    new.commit().unwrap();
    assert_eq!(names(&directory), ["disk"]);
    assert_eq!(fs::read(&target).unwrap()[..20], *b"magic and half of it");
}
