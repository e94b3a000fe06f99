//! Layers over each other, as images have them and as nobody should make them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use super::tree::{assert_nothing_outside, jail};
use super::*;

fn directory(name: &'static str) -> Raw {
    Raw {
        mode: 0o755,
        ..member(EntryType::Directory, name, "")
    }
}

fn link(name: &'static str, target: &'static str) -> Raw {
    member(EntryType::Symlink, name, target)
}

fn hard(name: &'static str, target: &'static str) -> Raw {
    member(EntryType::Link, name, target)
}

fn apply(layer: &[Raw], into: &Path) -> Result<Digest, Error> {
    apply_layer(&tar(layer)[..], Limits::default(), Owners::Dropped, into)
}

/// Everything below `root`: files with their content, directories with `/`, links with their target.
pub(super) fn listing(root: &Path) -> Vec<String> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                found.push(format!("{shown}/"));
                walk(root, &path, found);
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.push(format!("{shown} -> {}", target.display()));
            } else {
                found.push(format!("{shown}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

#[test]
fn layers_lie_over_each_other_as_the_specification_says() {
    let lower = || {
        vec![
            directory("d/"),
            file("d/a", "1"),
            directory("d/sub/"),
            file("d/sub/b", "1"),
            file("f", "1"),
            link("l", "d"),
        ]
    };
    let cases: Vec<(&str, Vec<Raw>, &[&str])> = vec![
        (
            "a file is taken away",
            vec![file("d/.wh.a", "")],
            &["d/", "d/sub/", "d/sub/b=1", "f=1", "l -> d"],
        ),
        (
            "a directory is taken away",
            vec![file(".wh.d", "")],
            &["f=1", "l -> d"],
        ),
        (
            "a link is taken away, not what it leads to",
            vec![file(".wh.l", "")],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=1"],
        ),
        (
            "nothing is there to be taken away",
            vec![
                file(".wh.x", ""),
                file("y/.wh.x", ""),
                file("f/.wh.x", ""),
                file("y/.wh..wh..opq", ""),
            ],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=1", "l -> d"],
        ),
        (
            "opaque, said first",
            vec![
                directory("d/"),
                file("d/.wh..wh..opq", ""),
                file("d/n", "2"),
            ],
            &["d/", "d/n=2", "f=1", "l -> d"],
        ),
        (
            "opaque, said last",
            vec![
                file("d/n", "2"),
                file("d/sub/c", "2"),
                file("d/.wh..wh..opq", ""),
            ],
            &["d/", "d/n=2", "d/sub/", "d/sub/c=2", "f=1", "l -> d"],
        ),
        (
            "opaque, a name that both have",
            vec![file("d/a", "2"), file("d/.wh..wh..opq", "")],
            &["d/", "d/a=2", "f=1", "l -> d"],
        ),
        (
            "opaque for all",
            vec![file(".wh..wh..opq", ""), file("n", "2")],
            &["n=2"],
        ),
        (
            "opaque through a link",
            vec![file("l/n", "2"), file("l/.wh..wh..opq", "")],
            &["d/", "d/n=2", "f=1", "l -> d"],
        ),
        (
            "taken away and brought anew",
            vec![file(".wh.d", ""), directory("d/"), file("d/n", "2")],
            &["d/", "d/n=2", "f=1", "l -> d"],
        ),
        (
            "brought anew and taken away",
            vec![directory("d/"), file("d/n", "2"), file(".wh.d", "")],
            &["d/", "d/n=2", "f=1", "l -> d"],
        ),
        (
            "what a layer brings its own whiteout leaves",
            vec![file("f", "2"), file(".wh.f", "")],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=2", "l -> d"],
        ),
        (
            "a directory over a file",
            vec![directory("f/"), file("f/n", "2")],
            &[
                "d/",
                "d/a=1",
                "d/sub/",
                "d/sub/b=1",
                "f/",
                "f/n=2",
                "l -> d",
            ],
        ),
        (
            "a file over a directory",
            vec![file("d", "2")],
            &["d=2", "f=1", "l -> d"],
        ),
        (
            "a link over a directory",
            vec![link("d", "f"), file("n", "2")],
            &["d -> f", "f=1", "l -> d", "n=2"],
        ),
        (
            "a directory over a link",
            vec![directory("l/"), file("l/n", "2")],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=1", "l/", "l/n=2"],
        ),
        (
            "a file through a link",
            vec![file("l/sub/b", "2"), file("l/n", "2")],
            &[
                "d/",
                "d/a=1",
                "d/n=2",
                "d/sub/",
                "d/sub/b=2",
                "f=1",
                "l -> d",
            ],
        ),
        (
            "a file over a link",
            vec![file("l", "2")],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=1", "l=2"],
        ),
        (
            "a hard link to a lower layer",
            vec![hard("h", "d/a"), hard("g", "l/a")],
            &[
                "d/",
                "d/a=1",
                "d/sub/",
                "d/sub/b=1",
                "f=1",
                "g=1",
                "h=1",
                "l -> d",
            ],
        ),
        (
            "a hard link to a link",
            vec![hard("h", "l")],
            &[
                "d/",
                "d/a=1",
                "d/sub/",
                "d/sub/b=1",
                "f=1",
                "h -> d",
                "l -> d",
            ],
        ),
        (
            "a directory that nobody brought",
            vec![file("x/y/z", "2")],
            &[
                "d/",
                "d/a=1",
                "d/sub/",
                "d/sub/b=1",
                "f=1",
                "l -> d",
                "x/",
                "x/y/",
                "x/y/z=2",
            ],
        ),
        (
            "the same directory in two ways",
            vec![
                file("d/m", "2"),
                file("l/n", "2"),
                link("l", "x"),
                file("l/o", "2"),
            ],
            &[
                "d/",
                "d/a=1",
                "d/m=2",
                "d/n=2",
                "d/sub/",
                "d/sub/b=1",
                "f=1",
                "l -> x",
                "x/",
                "x/o=2",
            ],
        ),
        (
            "devices and what AUFS kept",
            vec![
                member(EntryType::Char, "n", ""),
                member(EntryType::Fifo, "p", ""),
                directory(".wh..wh.plnk/"),
                file(".wh..wh.plnk/1.2", ""),
                file(".wh..wh.aufs", ""),
            ],
            &["d/", "d/a=1", "d/sub/", "d/sub/b=1", "f=1", "l -> d"],
        ),
    ];
    for (case, upper, expected) in cases {
        let into = tempfile::tempdir().unwrap();
        apply(&lower(), into.path()).unwrap();
        let digest = apply(&upper, into.path()).unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!(listing(into.path()), expected, "{case}");
        assert_eq!(digest, Digest::of(&tar(&upper)), "{case}");
    }
}

#[test]
fn links_are_taken_as_if_the_tree_were_all_there_is() {
    let layer = [
        directory("usr/lib/"),
        link("lib", "usr/lib"),
        link("abs", "/usr/lib"),
        link("up", "../../../../usr"),
        link("var/run", "/run"),
        link("secret", "../secret"),
        link("usr/lib/round", "../../lib/round"),
        file("lib/a", "1"),
        file("abs/b", "2"),
        file("up/lib/c", "3"),
        file("var/run/pid", "4"),
    ];
    let unpacked = || {
        let jail = jail();
        let into = jail.path().join("in");
        apply(&layer, &into).unwrap();
        (jail, into)
    };
    let (jail, into) = unpacked();
    for (path, content) in [
        ("usr/lib/a", "1"),
        ("usr/lib/b", "2"),
        ("usr/lib/c", "3"),
        ("run/pid", "4"),
    ] {
        assert_eq!(fs::read_to_string(into.join(path)).unwrap(), content);
    }
    for hostile in [
        vec![file("secret/x", "evil")],
        vec![file("usr/lib/round/x", "evil")],
        vec![hard("h", "secret/x")],
        vec![hard("h", "../secret")],
        vec![hard("h", "nothing")],
        vec![hard("usr/lib/a", "lib/a")],
        vec![hard("usr", "usr/lib/a")],
        vec![file("lib/a/x", "evil")],
        vec![file(".wh.", "")],
        vec![file(".wh..", "")],
        vec![file(".wh...", "")],
        vec![file("lib/.wh...", "")],
        vec![file(".wh.a/x", "evil")],
        vec![file("../secret", "evil")],
    ] {
        let (jail, into) = unpacked();
        let name = hostile[0].name;
        let result = apply(&hostile, &into);
        let refused = matches!(result, Err(Error::Member { .. }));
        assert!(refused, "{name}: {result:?}");
        assert_nothing_outside(jail.path());
    }
    let replaced = [
        link("lib", "/../.."),
        file("lib/x", "inside"),
        Raw {
            mode: 0o666,
            ..file("secret", "inside")
        },
    ];
    apply(&replaced, &into).unwrap();
    assert_nothing_outside(jail.path());
    assert_eq!(fs::read_to_string(into.join("x")).unwrap(), "inside");
}

#[test]
fn a_tree_gets_no_deeper_than_an_archive_may_say() {
    let into = tempfile::tempdir().unwrap();
    let steps =
        |start: &str, step: &str| -> &'static str { format!("{start}{}", step.repeat(45)).leak() };
    let (first, second) = (steps("", "d/"), steps("l/", "e/"));
    let layer = [
        directory(first),
        link("l", first),
        directory(second),
        link("m", second),
    ];
    apply(&layer, into.path()).unwrap();
    apply(&[file("m/f/g", "")], into.path()).unwrap();
    let error = apply(&[file(steps("m/", "f/"), "")], into.path()).unwrap_err();
    assert!(error.to_string().contains("128 directories"), "{error}");
    apply(&[file(".wh.d", "")], into.path()).unwrap();
    assert_eq!(listing(into.path()).len(), 2, "the links");
}

/// Root may, but not in every user namespace.
fn may_give_away(directory: &Path) -> bool {
    let file = directory.join("given");
    fs::write(&file, "").unwrap();
    let given = std::os::unix::fs::chown(&file, Some(1), Some(1)).is_ok();
    fs::remove_file(&file).unwrap();
    given
}

#[test]
fn modes_and_owners_arrive_where_they_may_be_set() {
    let with = |mode, owner, raw: Raw| Raw { mode, owner, ..raw };
    let layer = [
        with(0o755, 0, member(EntryType::Directory, "./", "")),
        with(0o1777, 0, directory("tmp/")),
        with(0o555, 7, directory("d/")),
        with(0o2755, 7, file("d/group", "")),
        with(0o4755, 0, file("d/run", "")),
        with(0o000, 8, file("d/none", "")),
        with(0o777, 3, file("d/first", "")),
        with(0o640, 6, hard("d/again", "d/first")),
        with(0o777, 9, link("d/l", "nothing")),
    ];
    let seen = |into: &Path| {
        let names = ["tmp", "d", "d/group", "d/run", "d/none", "d/first"];
        names.map(|name| {
            let found = fs::symlink_metadata(into.join(name)).unwrap();
            (
                found.permissions().mode() & 0o7777,
                found.uid(),
                found.gid(),
            )
        })
    };
    let into = tempfile::tempdir().unwrap();
    apply(&layer, into.path()).unwrap();
    let here = fs::metadata(into.path()).unwrap();
    let (user, group) = (here.uid(), here.gid());
    let dropped = [0o1777, 0o755, 0o2755, 0o4755, 0o400, 0o640].map(|mode| (mode, user, group));
    assert_eq!(seen(into.path()), dropped);

    let into = tempfile::tempdir().unwrap();
    let kept = apply_layer(
        &tar(&layer)[..],
        Limits::default(),
        Owners::Kept,
        into.path(),
    );
    if may_give_away(into.path()) {
        kept.unwrap();
        let expected = [
            (0o1777, 0),
            (0o555, 7),
            (0o2755, 7),
            (0o4755, 0),
            (0o000, 8),
            (0o640, 6),
        ];
        let expected = expected.map(|(mode, owner)| (mode, owner, owner));
        assert_eq!(seen(into.path()), expected);
        let link = fs::symlink_metadata(into.path().join("d/l")).unwrap();
        assert_eq!((link.uid(), link.gid()), (9, 9));
        let mode = fs::metadata(into.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    } else {
        assert!(matches!(kept, Err(Error::Write { .. })), "{kept:?}");
    }
}

#[test]
fn compressed_layers_are_the_same_layer() {
    let layer = tar(&[file("a", "1")]);
    let level = ruzstd::encoding::CompressionLevel::Fastest;
    let zstd = ruzstd::encoding::compress_to_vec(&layer[..], level);
    for bytes in [&layer, &gzip(&layer), &zstd] {
        let into = tempfile::tempdir().unwrap();
        let limits = Limits::default();
        let digest = apply_layer(&bytes[..], limits, Owners::Dropped, into.path());
        assert_eq!(digest.unwrap(), Digest::of(&layer));
        assert_eq!(listing(into.path()), ["a=1"]);
        let cut = &bytes[..bytes.len() - 700.min(bytes.len() / 2)];
        let into = tempfile::tempdir().unwrap();
        let cut = apply_layer(cut, limits, Owners::Dropped, into.path());
        assert!(cut.is_err() || bytes.len() == layer.len());
    }
}

#[test]
fn what_stands_there_already_is_not_followed_out() {
    let jail = jail();
    let into = jail.path().join("in");
    symlink("/", into.join("root")).unwrap();
    let inside = [
        file("root/etc/peitho-test", "inside"),
        hard("h", "root/etc/peitho-test"),
    ];
    apply(&inside, &into).unwrap();
    assert_nothing_outside(jail.path());
    assert!(!Path::new("/etc/peitho-test").exists());
    assert_eq!(
        listing(&into),
        ["etc/", "etc/peitho-test=inside", "h=inside", "root -> /"]
    );
}
