//! Archives as strangers make them, read.

use std::io::{Read, Write as _};

use tar::EntryType;

use super::*;

mod changing;
mod increments;
mod layer;
mod model;
mod tree;

/// One member of a hand-made archive.
#[derive(Clone)]
struct Raw {
    name: &'static str,
    kind: EntryType,
    link: &'static str,
    mode: u32,
    owner: u64,
    content: Vec<u8>,
}

fn member(kind: EntryType, name: &'static str, link: &'static str) -> Raw {
    Raw {
        name,
        kind,
        link,
        mode: 0o644,
        owner: 0,
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
        header.set_uid(raw.owner);
        header.set_gid(raw.owner);
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
