//! Trees that are not what they were a moment ago, or not what a compile may leave: processes of an untrusted compile
//! may still run while its output is packed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;

use super::*;

/// Longer than what is held before it is written.
const LARGE: usize = 200 << 10;

/// A sink that does something to the tree when the first bytes come: the names are listed by then, and the first
/// file, which is a large one, is half read.
struct Meddler<F: FnOnce()> {
    act: Option<F>,
    written: Vec<u8>,
}

impl<F: FnOnce()> Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(act) = self.act.take() {
            act();
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A tree of `a`, large, and `b` in `jail/in`; what comes of packing it while `act` is done to it.
fn packed_while(act: impl FnOnce(&Path)) -> (Result<(), Error>, Vec<u8>) {
    let jail = tempfile::tempdir().unwrap();
    fs::write(jail.path().join("secret"), "TOP SECRET").unwrap();
    let from = jail.path().join("in");
    fs::create_dir_all(from.join("d")).unwrap();
    fs::write(from.join("a"), vec![b'a'; LARGE]).unwrap();
    fs::write(from.join("b"), "b").unwrap();
    fs::write(from.join("d/e"), "e").unwrap();
    let mut meddler = Meddler {
        act: Some(|| act(&from)),
        written: Vec::new(),
    };
    let result = pack(&from, &mut meddler);
    assert!(meddler.act.is_none(), "nothing was done to the tree");
    let secret = b"TOP SECRET";
    let written = meddler.written;
    assert!(!written.windows(secret.len()).any(|w| w == secret));
    (result, written)
}

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
}

#[test]
fn what_changes_is_told_by_its_name() {
    type Act = fn(&Path);
    let cases: [(Act, &str); 5] = [
        (
            |from| drop(File::create(from.join("a")).unwrap()),
            "\"a\": it shrank while it was packed",
        ),
        (
            |from| fs::remove_file(from.join("b")).unwrap(),
            "/in/b\": No such file",
        ),
        (
            |from| {
                fs::remove_file(from.join("b")).unwrap();
                fifo(&from.join("b"));
            },
            "\"b\": fifos are refused",
        ),
        (
            |from| fs::remove_dir_all(from.join("d")).unwrap(),
            "/in/d\": No such file",
        ),
        (
            |from| drop(File::create(from.join("b")).unwrap().set_len(1 << 40)),
            "more than 17179869184 bytes",
        ),
    ];
    for (act, said) in cases {
        let (result, written) = packed_while(act);
        let error = result.expect_err(said).to_string();
        assert!(error.contains(said), "{said}: {error}");
        assert!(written.len() < 2 * LARGE, "{said}: {}", written.len());
    }
}

#[test]
fn what_grows_is_packed_as_it_was() {
    let (result, written) = packed_while(|from| {
        let mut file = File::options().append(true).open(from.join("a")).unwrap();
        file.write_all(&[b'x'; LARGE]).unwrap();
    });
    result.unwrap();
    let members = listed(&written).unwrap();
    let size = LARGE as u64;
    assert_eq!(members[0].0.kind, Kind::File { size });
    assert!(members[0].1.bytes().all(|byte| byte == b'a'));
    assert_eq!(names(&written), ["a", "b", "d", "d/e"]);
}

#[test]
fn a_link_that_takes_the_place_of_a_file_or_directory_is_not_followed() {
    let (result, written) = packed_while(|from| {
        fs::remove_file(from.join("b")).unwrap();
        symlink("../secret", from.join("b")).unwrap();
        fs::remove_dir_all(from.join("d")).unwrap();
        symlink("..", from.join("d")).unwrap();
    });
    result.unwrap();
    assert_eq!(names(&written), ["a", "b", "d"]);
    let target = "..".into();
    assert_eq!(
        listed(&written).unwrap()[2].0.kind,
        Kind::Symlink { target }
    );
}

#[test]
fn links_out_are_links_and_hard_links_are_files() {
    let jail = tempfile::tempdir().unwrap();
    let secret = jail.path().join("secret");
    fs::write(&secret, "TOP SECRET").unwrap();
    let from = jail.path().join("in");
    fs::create_dir(&from).unwrap();
    symlink("../secret", from.join("relative")).unwrap();
    symlink(&secret, from.join("absolute")).unwrap();
    symlink("..", from.join("directory")).unwrap();
    symlink("/proc/self/root", from.join("root")).unwrap();
    symlink("nothing", from.join("broken")).unwrap();
    fs::write(from.join("f"), "text").unwrap();
    fs::hard_link(from.join("f"), from.join("g")).unwrap();
    let mut written = Vec::new();
    pack(&from, &mut written).unwrap();
    for (member, content) in listed(&written).unwrap() {
        match member.path.to_str().unwrap() {
            "f" | "g" => assert_eq!(content, "text"),
            _ => assert!(matches!(member.kind, Kind::Symlink { .. }) && content.is_empty()),
        }
    }
    assert_eq!(names(&written).len(), 7);
}

#[test]
fn devices_are_refused_and_a_terabyte_of_nothing_is_not_read() {
    let error = pack(Path::new("/dev"), io::sink()).unwrap_err().to_string();
    assert!(error.contains("device files are refused"), "{error}");
    let from = tempfile::tempdir().unwrap();
    let sparse = File::create(from.path().join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let mut written = Vec::new();
    let error = pack(from.path(), &mut written).unwrap_err().to_string();
    assert!(error.contains("more than 17179869184 bytes"), "{error}");
    assert!(written.is_empty());
}
