//! Archives that no tool would make, written header by header.

use tar::EntryType;

/// One member as it stands in the archive, true or not.
#[derive(Clone)]
pub(crate) struct Raw {
    name: Vec<u8>,
    kind: EntryType,
    link: &'static str,
    size: u64,
    content: Vec<u8>,
}

pub(crate) fn member(kind: EntryType, name: &str, link: &'static str) -> Raw {
    Raw {
        name: name.as_bytes().to_vec(),
        kind,
        link,
        size: 0,
        content: Vec::new(),
    }
}

pub(crate) fn file(name: impl AsRef<[u8]>, content: &[u8]) -> Raw {
    Raw {
        name: name.as_ref().to_vec(),
        size: content.len() as u64,
        content: content.to_vec(),
        ..member(EntryType::Regular, "", "")
    }
}

pub(crate) fn pax(records: &[(&str, &[u8])]) -> Raw {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        content.extend_from_slice(format!("{length} {key}=").as_bytes());
        content.extend_from_slice(value);
        content.push(b'\n');
    }
    Raw {
        kind: EntryType::XHeader,
        ..file("pax", &content)
    }
}

pub(crate) fn archive(members: &[Raw]) -> Vec<u8> {
    let mut archive = Vec::new();
    for raw in members {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..raw.name.len()].copy_from_slice(&raw.name);
        old.linkname[..raw.link.len()].copy_from_slice(raw.link.as_bytes());
        header.set_entry_type(raw.kind);
        header.set_mode(0o644);
        header.set_size(raw.size);
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(&raw.content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A GNU header that claims a terabyte of which nothing is there.
fn gnu_sparse() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.as_old_mut().name[0] = b's';
    header.set_mode(0o644);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    // 1 TiB in binary, as GNU writes what eleven octal digits cannot hold.
    let mut terabyte = [0; 12];
    terabyte[0] = 0x80;
    terabyte[6] = 1;
    gnu.realsize = terabyte;
    gnu.sparse[0].offset = terabyte;
    gnu.sparse[0].numbytes = *b"00000000000\0";
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.resize(1536, 0);
    archive
}

/// What every reader refuses: a name for it, the archive, and a part of what is said.
pub(crate) fn refused_by_all() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let one = |name, raw, said| (name, archive(&[raw]), said);
    let after = |name, records: &[(&str, &[u8])], said| {
        (name, archive(&[pax(records), file("m", b"")]), said)
    };
    let claims = |size| Raw {
        size,
        ..file("m", b"a little")
    };
    let long_link = Raw {
        kind: EntryType::GNULongName,
        ..file("././@LongLink", &vec![b'n'; 2 << 20])
    };
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"m"),
        ("GNU.sparse.realsize", b"1099511627776"),
    ];
    let mut damaged = archive(&[file("m", b"")]);
    damaged[0] ^= 1;
    let deep = "d/".repeat(200) + "f";
    vec![
        ("nothing", Vec::new(), "there is nothing in it"),
        (
            "text",
            b"no archive at all\n".repeat(100),
            "not a readable tar",
        ),
        ("a damaged header", damaged, "not a readable tar"),
        (
            "a half header",
            archive(&[file("m", b"")])[..300].to_vec(),
            "not a readable tar",
        ),
        (
            "a half file",
            archive(&[file("m", &[7; 2000])])[..1024].to_vec(),
            "bytes before a member's end",
        ),
        one(
            "a name that leads out",
            file("../m", b"x"),
            "leads out of the archive",
        ),
        one(
            "a name that comes back",
            file("a/../m", b"x"),
            "leads out of the archive",
        ),
        one(
            "a character device",
            member(EntryType::Char, "m", ""),
            "device files are refused",
        ),
        one(
            "a block device",
            member(EntryType::Block, "m", ""),
            "device files are refused",
        ),
        one(
            "a fifo",
            member(EntryType::Fifo, "m", ""),
            "fifos are refused",
        ),
        one(
            "a hard link out",
            member(EntryType::Link, "m", "../etc/passwd"),
            "no place inside",
        ),
        ("a sparse file of GNU's", gnu_sparse(), "sparse"),
        after("a sparse file of PAX", sparse, "sparse files are refused"),
        after(
            "an old sparse file of PAX",
            &[("GNU.sparse.size", b"1099511627776")],
            "sparse files are refused",
        ),
        one(
            "a file longer than the archive",
            claims(1 << 20),
            "bytes before a member's end",
        ),
        one(
            "a file shorter than its content",
            claims(0),
            "not a readable tar",
        ),
        one("a file of 1 TB", claims(1 << 40), "more than"),
        one(
            "a file of all bytes there are",
            claims(u64::MAX),
            "not a readable tar",
        ),
        after(
            "another size by PAX",
            &[("size", b"18446744073709551615")],
            "",
        ),
        after(
            "a name of 900,000 bytes",
            &[("path", &vec![b'n'; 900_000])],
            "longer than 4096 bytes",
        ),
        after(
            "a name of 2 MiB",
            &[("path", &vec![b'n'; 2 << 20])],
            "bytes of headers before one member",
        ),
        (
            "a long name of 2 MiB",
            archive(&[long_link, file("m", b"")]),
            "bytes of headers before one member",
        ),
        after(
            "a zero byte in a name",
            &[("path", b"a\0b")],
            "a zero byte in its name",
        ),
        after(
            "two names",
            &[("path", b"a"), ("path", b"b")],
            "says one thing twice",
        ),
        after(
            "a deep name",
            &[("path", deep.as_bytes())],
            "128 directories deep",
        ),
    ]
}
