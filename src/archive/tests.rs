//! Archives as strangers make them, and trees that survive the way through one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use tar::EntryType;

use super::*;

/// One member of a hand-made archive.
#[derive(Clone)]
struct Raw {
    name: &'static str,
    kind: EntryType,
    link: &'static str,
    mode: u32,
    content: Vec<u8>,
}

fn member(kind: EntryType, name: &'static str, link: &'static str) -> Raw {
    Raw {
        name,
        kind,
        link,
        mode: 0o644,
        content: Vec::new(),
    }
}

fn file(name: &'static str, content: &str) -> Raw {
    Raw {
        content: content.as_bytes().to_vec(),
        ..member(EntryType::Regular, name, "")
    }
}

/// Names are written as they are: the tar crate would refuse half of these.
fn tar(members: &[Raw]) -> Vec<u8> {
    let mut archive = Vec::new();
    for raw in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..raw.name.len()].copy_from_slice(raw.name.as_bytes());
        header.as_old_mut().linkname[..raw.link.len()].copy_from_slice(raw.link.as_bytes());
        header.set_entry_type(raw.kind);
        header.set_mode(raw.mode);
        header.set_size(raw.content.len() as u64);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&raw.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

fn pax(records: &[(&str, &str)]) -> Raw {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len() + 1;
        while length != rest.len() + length.to_string().len() {
            length += 1;
        }
        content.extend_from_slice(format!("{length}{rest}").as_bytes());
    }
    Raw {
        content,
        ..member(EntryType::XHeader, "pax", "")
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn listed(archive: &[u8]) -> Result<Vec<(Member, String)>, Error> {
    let mut members = Vec::new();
    read(archive, Limits::default(), |member, content| {
        let mut text = String::new();
        let _ = content.read_to_string(&mut text);
        members.push((member.clone(), text));
        Ok::<_, Error>(())
    })?;
    Ok(members)
}

fn names(archive: &[u8]) -> Vec<String> {
    let members = listed(archive).unwrap();
    (members.iter())
        .map(|(m, _)| m.path.to_str().unwrap().to_owned())
        .collect()
}

/// A directory with `in` to unpack into and a file beside it that must stay as it is.
fn jail() -> tempfile::TempDir {
    let jail = tempfile::tempdir().unwrap();
    fs::create_dir(jail.path().join("in")).unwrap();
    fs::write(jail.path().join("secret"), "untouched").unwrap();
    jail
}

fn assert_nothing_outside(jail: &Path) {
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
fn names_are_relative_and_the_root_is_skipped() {
    let archive = tar(&[
        member(EntryType::Directory, "./", ""),
        member(EntryType::Directory, ".", ""),
        member(EntryType::Directory, "/", ""),
        file("/etc/tls/key", "k"),
        file("./a//b/./c", ""),
        member(EntryType::Directory, "d/", ""),
        member(EntryType::Regular, "old/", ""),
        member(EntryType::Symlink, "d/l", "../../../etc/passwd"),
        member(EntryType::Link, "h", "/a/b/c"),
    ]);
    assert_eq!(
        names(&archive),
        ["etc/tls/key", "a/b/c", "d", "old", "d/l", "h"]
    );
    let members = listed(&archive).unwrap();
    assert_eq!(members[0].0.kind, Kind::File { size: 1 });
    assert_eq!(members[0].1, "k");
    assert_eq!(members[3].0.kind, Kind::Directory);
    let target = "a/b/c".into();
    assert_eq!(members[5].0.kind, Kind::Hardlink { target });
}

#[test]
fn modes_lose_type_and_special_bits() {
    let raw = Raw {
        mode: 0o107_755,
        ..file("f", "")
    };
    assert_eq!(listed(&tar(&[raw])).unwrap()[0].0.mode, 0o755);
}

#[test]
fn extended_headers_give_long_names_and_global_ones_are_skipped() {
    let long = "n".repeat(200) + "/" + &"m".repeat(200);
    let global = Raw {
        kind: EntryType::XGlobalHeader,
        ..pax(&[("comment", "0123456789abcdef")])
    };
    let archive = tar(&[
        global,
        pax(&[("path", &long), ("mtime", "1.5")]),
        file("short", "text"),
    ]);
    assert_eq!(names(&archive), [long]);
}

#[test]
fn gzip_is_seen_by_its_first_bytes_and_may_come_in_pieces() {
    let archive = tar(&[file("a", "one"), file("b", "two")]);
    let (first, second) = archive.split_at(700);
    for archive in [gzip(&archive), [gzip(first), gzip(second)].concat()] {
        assert_eq!(names(&archive), ["a", "b"]);
    }
}

#[test]
fn a_gzip_that_is_cut_or_damaged_anywhere_is_an_error() {
    let whole = gzip(&tar(&[file("a", "one"), file("b", "two")]));
    for length in 0..whole.len() {
        assert!(listed(&whole[..length]).is_err(), "cut at {length}");
    }
    let mut damaged = whole.clone();
    let checksum = whole.len() - 6;
    damaged[checksum] ^= 1;
    assert!(listed(&damaged).is_err());
}

#[test]
fn a_tar_cut_inside_a_member_is_an_error() {
    let content = "x".repeat(600);
    let archive = tar(&[file("a", "one"), file("b", &content)]);
    // a: 0..1024, b: 1024..2560, then the two blocks of the end.
    for length in (0..=archive.len()).step_by(256) {
        let result = listed(&archive[..length]);
        let whole_members = matches!(length, 1024 | 2560 | 3072..);
        assert_eq!(result.is_ok(), whole_members, "cut at {length}");
    }
}

#[test]
fn a_cut_is_reported_even_if_the_caller_did_not_look() {
    let archive = tar(&[file("a", &"x".repeat(600))]);
    let cut = &archive[..1024];
    type Look = fn(&mut dyn Read);
    let looks: [Look; 2] = [
        |_| {},
        |content| {
            let _ = content.read_to_end(&mut Vec::new());
        },
    ];
    for look in looks {
        let result = read(cut, Limits::default(), |_, content| {
            look(content);
            Ok::<_, Error>(())
        });
        assert!(matches!(result, Err(Error::Unreadable(_))), "{result:?}");
    }
}

#[test]
fn what_is_no_tar_is_refused() {
    for bytes in [&b""[..], b"\x1f\x8b", &[7; 4096], b"hello"] {
        let result = listed(bytes);
        assert!(matches!(result, Err(Error::Unreadable(_))), "{result:?}");
    }
}

#[test]
fn hostile_members_are_refused_by_name() {
    let content_on = |kind| Raw {
        content: vec![0; 512],
        ..member(kind, "m", "t")
    };
    let doubled = [("path", "a"), ("path", "b")];
    let deep: &'static str = "d/d/d/d/".repeat(12).leak();
    let cases: Vec<(Vec<Raw>, &str)> = vec![
        (vec![file("..", "")], "leads out"),
        (vec![file("../a", "")], "leads out"),
        (vec![file("a/../../b", "")], "leads out"),
        (vec![file("/a/..", "")], "leads out"),
        (vec![file("", "")], "empty name"),
        (vec![file("./", "x")], "ends in /"),
        (vec![file(".", "x")], "only be a directory"),
        (vec![member(EntryType::Symlink, ".", "/")], "only be a dir"),
        (vec![member(EntryType::Char, "m", "")], "device"),
        (vec![member(EntryType::Block, "m", "")], "device"),
        (vec![member(EntryType::Fifo, "m", "")], "fifo"),
        (vec![member(EntryType::Continuous, "m", "")], "unknown kind"),
        (vec![member(EntryType::new(b'V'), "m", "")], "unknown kind"),
        (vec![member(EntryType::Symlink, "m", "")], "symbolic link"),
        (vec![member(EntryType::Link, "m", "")], "no place inside"),
        (vec![member(EntryType::Link, "m", "../a")], "no place"),
        (vec![member(EntryType::Link, "m", "/")], "no place"),
        (vec![content_on(EntryType::Symlink)], "content on"),
        (vec![content_on(EntryType::Link)], "content on"),
        (vec![content_on(EntryType::Directory)], "content on"),
        (vec![pax(&doubled), file("m", "")], "twice"),
        (vec![pax(&[("path", "../m")]), file("m", "")], "leads out"),
        (vec![pax(&[("path", "a\0b")]), file("m", "")], "zero byte"),
        (vec![pax(&[("size", "x")]), file("m", "")], "another size"),
        (
            vec![pax(&[("GNU.sparse.major", "1")]), file("m", "")],
            "sparse",
        ),
        (
            vec![pax(&[("comment", "a\nb")]), file("m", "")],
            "malformed",
        ),
        (
            vec![pax(&[("path", &"p/".repeat(2049))]), file("m", "")],
            "longer than 4096",
        ),
        (
            vec![pax(&[("path", &deep.repeat(3))]), file("m", "")],
            "directories deep",
        ),
    ];
    for (members, reason) in cases {
        let error = listed(&tar(&members)).expect_err(reason);
        assert!(matches!(error, Error::Member { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}: {reason}");
    }
}

#[test]
fn sparse_files_are_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.as_old_mut().name[0] = b's';
    header.set_mode(0o644);
    header.set_size(0);
    header.as_gnu_mut().unwrap().realsize = *b"77777777777\0";
    header.as_gnu_mut().unwrap().sparse[0].offset = *b"77777777777\0";
    header.as_gnu_mut().unwrap().sparse[0].numbytes = *b"00000000000\0";
    header.set_cksum();
    assert!(listed(header.as_bytes()).is_err());
}

#[test]
fn limits_hold_while_reading() {
    let many = tar(&vec![file("a", "1234"); 100_001]);
    let entries = |entries| Limits {
        entries,
        ..Limits::default()
    };
    let bytes = |bytes| Limits {
        bytes,
        ..Limits::default()
    };
    let run = |limits, archive: &[u8]| {
        let mut seen = 0_u64;
        let result = read(archive, limits, |_, _| {
            seen += 1;
            Ok::<_, Error>(())
        });
        (seen, result.err().map(|e| e.to_string()))
    };
    assert_eq!(run(entries(100_001), &many), (100_001, None));
    let (seen, error) = run(entries(100_000), &many);
    assert_eq!(seen, 100_000);
    assert!(error.unwrap().contains("more than 100000 entries"));
    let (seen, error) = run(bytes(40), &many);
    assert_eq!(seen, 10);
    assert!(error.unwrap().contains("more than 40 bytes"));
    assert_eq!(run(bytes(400_004), &many), (100_001, None));
}

#[test]
fn headers_and_trailers_are_bounded_too() {
    let limits = Limits {
        entries: 10,
        bytes: 1000,
    };
    let long_name = Raw {
        content: vec![b'a'; 2 << 20],
        ..member(EntryType::GNULongName, "././@LongLink", "")
    };
    let mut endless = tar(&[file("a", "x")]);
    endless.resize(8 << 20, 0);
    for archive in [tar(&[long_name, file("m", "")]), endless] {
        let result = read(&gzip(&archive)[..], limits, |_, _| Ok::<_, Error>(()));
        assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    }
}

#[test]
fn the_error_of_the_caller_comes_back() {
    let archive = tar(&[file("a", "one"), file("b", "two")]);
    let result = read(&archive[..], Limits::default(), |member, _| {
        Err(Error::Member {
            path: member.path.clone(),
            reason: "mine",
        })
    });
    assert!(matches!(result, Err(Error::Member { reason: "mine", .. })));
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
