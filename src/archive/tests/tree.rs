//! Trees that survive the way through an archive, and archives that do not get out of theirs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};

use proptest::prelude::*;

use super::*;

/// A directory with `in` to unpack into and a file beside it that must stay as it is.
pub(super) fn jail() -> tempfile::TempDir {
    let jail = tempfile::tempdir().unwrap();
    fs::create_dir(jail.path().join("in")).unwrap();
    fs::write(jail.path().join("secret"), "untouched").unwrap();
    jail
}

pub(super) fn assert_nothing_outside(jail: &Path) {
    let mut found: Vec<_> = fs::read_dir(jail)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, ["in", "secret"]);
    let secret = jail.join("secret");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
    let mode = fs::metadata(&secret).unwrap().permissions().mode() & 0o777;
    assert_ne!(mode, 0o666, "the mode went through a link");
}

fn packed(from: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    pack(from, &mut bytes).unwrap();
    bytes
}

#[test]
fn nothing_is_written_outside() {
    let link = |name, target| member(EntryType::Symlink, name, target);
    let hard = |name, target| member(EntryType::Link, name, target);
    let loose = |name| Raw {
        mode: 0o666,
        ..file(name, "evil")
    };
    let cases = [
        vec![link("l", ".."), loose("l/secret")],
        vec![link("l", "../secret"), hard("h", "l")],
        vec![link("l", ".."), hard("h", "l/secret")],
        vec![link("l", ".."), member(EntryType::Directory, "l/new", "")],
        vec![link("l", ".."), member(EntryType::Directory, "l", "")],
        vec![link("l", ".."), link("l/new", "x")],
        vec![hard("h", "../secret")],
        vec![hard("h", "nothing")],
        vec![file("f", ""), hard("f", "f")],
        vec![file("d/f", ""), hard("h", "d")],
        vec![file("f", ""), loose("f/below")],
        vec![file("d/f", ""), file("d", "")],
        vec![file("../secret", "evil")],
    ];
    for (number, members) in cases.into_iter().enumerate() {
        let jail = jail();
        let into = jail.path().join("in");
        let result = unpack(&tar(&members)[..], Limits::default(), &into);
        let refused = matches!(result, Err(Error::Member { .. }));
        assert!(refused, "case {number}: {result:?}");
        assert_nothing_outside(jail.path());
    }
    // Allowed: a link out is made, and what comes later takes its place instead of following it.
    let jail = jail();
    let into = jail.path().join("in");
    let members = [link("l", "../secret"), loose("l"), link("abs", "/etc")];
    unpack(&tar(&members)[..], Limits::default(), &into).unwrap();
    assert_nothing_outside(jail.path());
    assert_eq!(fs::read_to_string(into.join("l")).unwrap(), "evil");
    assert_eq!(fs::read_link(into.join("abs")).unwrap(), Path::new("/etc"));
}

#[test]
fn links_that_are_there_already_are_not_followed_either() {
    let jail = jail();
    let into = jail.path().join("in");
    symlink("..", into.join("l")).unwrap();
    let archive = tar(&[file("l/secret", "evil")]);
    assert!(unpack(&archive[..], Limits::default(), &into).is_err());
    assert_nothing_outside(jail.path());
}

#[test]
fn modes_and_hard_links_arrive() {
    let into = tempfile::tempdir().unwrap();
    let with = |mode, raw: Raw| Raw { mode, ..raw };
    let archive = tar(&[
        with(0o555, member(EntryType::Directory, "d", "")),
        with(0o4755, file("d/run", "program")),
        with(0o200, file("d/odd", "")),
        member(EntryType::Link, "again", "d/run"),
    ]);
    unpack(&archive[..], Limits::default(), into.path()).unwrap();
    let mode = |name| {
        let found = fs::metadata(into.path().join(name)).unwrap();
        found.permissions().mode() & 0o7777
    };
    let modes = ["d", "d/run", "d/odd", "again"].map(mode);
    assert_eq!(modes, [0o755, 0o755, 0o600, 0o755]);
    let again = fs::read_to_string(into.path().join("again")).unwrap();
    assert_eq!(again, "program");
}

#[test]
fn a_full_or_missing_place_is_named() {
    let archive = tar(&[file("a", "one")]);
    let error = unpack(&archive[..], Limits::default(), Path::new("/nowhere")).unwrap_err();
    assert!(error.to_string().contains("/nowhere"), "{error}");
}

#[test]
fn packing_is_sorted_and_owned_by_nobody() {
    let from = tempfile::tempdir().unwrap();
    let long = "n".repeat(150);
    for name in ["b", "a.b", &long] {
        fs::write(from.path().join(name), name).unwrap();
    }
    fs::create_dir(from.path().join("a")).unwrap();
    fs::write(from.path().join("a/z"), "").unwrap();
    symlink("m".repeat(150), from.path().join("a/link")).unwrap();
    let archive = packed(from.path());
    let expected = ["a", "a/link", "a/z", "a.b", "b", long.as_str()];
    assert_eq!(names(&archive), expected);
    let target = "m".repeat(150).into();
    let members = listed(&archive).unwrap();
    assert_eq!(members[1].0.kind, Kind::Symlink { target });
    for entry in tar::Archive::new(&archive[..]).entries().unwrap() {
        let header = entry.unwrap().header().clone();
        assert_eq!(header.uid().unwrap(), 0);
        assert_eq!(header.gid().unwrap(), 0);
        assert_eq!(header.mtime().unwrap(), 0);
    }
}

#[test]
fn what_is_no_file_is_not_packed() {
    let from = tempfile::tempdir().unwrap();
    let socket = from.path().join("sub/socket");
    fs::create_dir(from.path().join("sub")).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    let error = pack(from.path(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("sub/socket"), "{error}");
    let fifo = from.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let error = pack(from.path(), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("fifo"), "{error}");
}

#[test]
fn a_failed_pack_is_no_whole_archive() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("a"), "one").unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(from.path().join("s")).unwrap();
    let mut bytes = Vec::new();
    pack(from.path(), &mut bytes).unwrap_err();
    assert_ne!(bytes.len(), 2048, "the end was written");
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>, u32),
    Directory(u32),
    Symlink(String),
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    let name = prop_oneof![4 => "[ab]", 1 => "[a-c.é ]{1,3}x", 1 => "long[ab]{110,140}"];
    let path = prop::collection::vec(name, 1..4).prop_map(|names| names.join("/"));
    let mode = 0_u32..0o1000;
    let node = prop_oneof![
        3 => (prop::collection::vec(any::<u8>(), 0..1500), mode.clone())
            .prop_map(|(content, mode)| Node::File(content, mode)),
        1 => mode.prop_map(Node::Directory),
        1 => "(/|\\.\\./|a//|b/\\./)?[ab]{1,120}".prop_map(Node::Symlink),
    ];
    prop::collection::btree_map(path, node, 0..12)
}

/// Makes what of `tree` can stand side by side: what would be below a file is left out.
fn make(tree: &BTreeMap<String, Node>, root: &Path) {
    for (path, node) in tree {
        let path = root.join(path);
        let is_real = |p: &Path| fs::symlink_metadata(p).is_ok_and(|m| m.is_dir());
        let above = path.ancestors().skip(1).take_while(|p| p.starts_with(root));
        if fs::symlink_metadata(&path).is_ok()
            || above
                .filter(|p| fs::symlink_metadata(p).is_ok())
                .any(|p| !is_real(p))
        {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let chmod = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        match node {
            Node::File(content, mode) => {
                fs::write(&path, content).unwrap();
                chmod(mode | 0o400);
            }
            Node::Directory(mode) => {
                fs::create_dir(&path).unwrap();
                chmod(mode | 0o700);
            }
            Node::Symlink(target) => symlink(target, &path).unwrap(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_tree_survives_its_archive(tree in tree()) {
        let from = tempfile::tempdir().unwrap();
        make(&tree, from.path());
        let first = packed(from.path());
        for archive in [first.clone(), gzip(&first)] {
            let into = tempfile::tempdir().unwrap();
            unpack(&archive[..], Limits::default(), into.path()).unwrap();
            prop_assert!(packed(into.path()) == first);
        }
    }

    #[test]
    fn a_damaged_archive_harms_nothing(
        tree in tree(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let from = tempfile::tempdir().unwrap();
        make(&tree, from.path());
        let mut archive = packed(from.path());
        for (at, byte) in damage {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        archive.truncate(cut.index(archive.len()) + 1);
        let jail = jail();
        let _ = unpack(&archive[..], Limits::default(), &jail.path().join("in"));
        assert_nothing_outside(jail.path());
    }
}
