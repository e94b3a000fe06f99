//! Increments of a directory, laid one over the other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::*;

/// Everything below `directory`: mode, time of the last change, and content or target.
fn picture(directory: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let relative = path.strip_prefix(directory).unwrap().to_owned();
            let what = if stat.is_dir() {
                folders.push(path.clone());
                (stat.mode(), 0, Vec::new())
            } else if stat.is_symlink() {
                let target = fs::read_link(&path).unwrap().into_os_string();
                (stat.mode(), 0, target.into_encoded_bytes())
            } else {
                (stat.mode(), stat.mtime(), fs::read(&path).unwrap())
            };
            found.insert(relative, what);
        }
    }
    found
}

/// A directory and what was unpacked into it.
struct Kept {
    directory: tempfile::TempDir,
    known: Known,
}

impl Kept {
    fn of(increments: &[Vec<u8>]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut known = Known::default();
        for increment in increments {
            let unpacked = known.unpack(&increment[..], u64::MAX, directory.path());
            unpacked.unwrap();
        }
        Self { directory, known }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn date(&self, name: &str, seconds: u64) {
        let file = fs::File::options().write(true).open(self.path(name));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        file.unwrap().set_modified(time).unwrap();
    }

    fn found(&self, extent: Extent) -> Increment {
        Increment::of(self.directory.path(), &self.known, extent, u64::MAX).unwrap()
    }

    fn gained(&self) -> Vec<u8> {
        let found = self.found(Extent::New);
        assert_eq!(found.extent(), Extent::New);
        found.pack(Vec::new()).unwrap()
    }

    fn picture(&self) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
        picture(self.directory.path())
    }
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let read = super::super::read(archive, Limits::default(), |member, _| {
        names.push(member.path.display().to_string());
        Ok::<_, Error>(())
    });
    read.unwrap();
    names
}

#[test]
fn one_after_the_other_they_give_the_directory_back() {
    let first = Kept::of(&[]);
    first.write("go/a", "first");
    first.write("go/b", "second");
    fs::set_permissions(first.path("go/a"), fs::Permissions::from_mode(0o440)).unwrap();
    fs::create_dir(first.path("empty")).unwrap();
    symlink("a", first.path("go/link")).unwrap();
    first.date("go/b", 1_000_000_000);
    let one = first.gained();
    assert_eq!(names(&one), ["empty", "go", "go/a", "go/b", "go/link"]);

    let second = Kept::of(std::slice::from_ref(&one));
    assert_eq!(second.picture(), first.picture());
    assert!(second.found(Extent::New).is_empty());
    second.write("go/b", "2nd");
    second.write("deep/er/c", "third");
    fs::remove_file(second.path("go/link")).unwrap();
    symlink("b", second.path("go/link")).unwrap();
    fs::set_permissions(second.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let two = second.gained();
    let expected = ["deep", "deep/er", "deep/er/c", "empty", "go/b", "go/link"];
    assert_eq!(names(&two), expected);
    assert_eq!(Kept::of(&[one, two]).picture(), second.picture());
}

#[test]
fn what_was_touched_alone_is_not_new_and_what_was_changed_is() {
    let first = Kept::of(&[]);
    for name in ["touched", "changed", "same time"] {
        first.write(name, "content");
        first.date(name, 1_000_000_000);
    }
    let second = Kept::of(&[first.gained()]);
    second.date("touched", 1_000_000_001);
    second.write("changed", "CONTENT");
    second.write("same time", "content, and more");
    second.date("same time", 1_000_000_000);
    assert_eq!(names(&second.gained()), ["changed", "same time"]);
}

#[test]
fn all_of_it_is_wanted_where_a_directory_came_or_went() {
    for (before, after) in [("thing", "thing/inside"), ("thing/inside", "thing")] {
        let first = Kept::of(&[]);
        first.write(before, "x");
        first.write("other", "y");
        let second = Kept::of(&[first.gained()]);
        let thing = second.path("thing");
        match thing.is_dir() {
            true => fs::remove_dir_all(thing).unwrap(),
            false => fs::remove_file(thing).unwrap(),
        }
        second.write(after, "z");
        let found = second.found(Extent::New);
        assert_eq!(found.extent(), Extent::Whole);
        let whole = found.pack(Vec::new()).unwrap();
        assert_eq!(Kept::of(&[whole]).picture(), second.picture());
    }
}

#[test]
fn what_does_not_fit_is_what_was_not_changed_for_the_longest_time() {
    let kept = Kept::of(&[]);
    for (name, at) in [
        ("old", 1),
        ("older", 0),
        ("new", 3),
        ("newer", 4),
        ("mid", 2),
    ] {
        kept.write(&format!("d/{name}"), &"x".repeat(1000));
        kept.date(&format!("d/{name}"), at);
    }
    // A directory, and 1.5 KiB for each file.
    for (most, expected) in [
        (
            512 + 5 * 1536,
            &["d", "d/mid", "d/new", "d/newer", "d/old", "d/older"][..],
        ),
        (
            512 + 5 * 1536 - 1,
            &["d", "d/mid", "d/new", "d/newer", "d/old"],
        ),
        (512 + 2 * 1536, &["d", "d/new", "d/newer"]),
        (512 + 1535, &["d"]),
        (0, &["d"]),
    ] {
        let found = Increment::of(kept.directory.path(), &kept.known, Extent::Whole, most);
        let found = found.unwrap();
        let archive = found.pack(Vec::new()).unwrap();
        assert_eq!(names(&archive), expected, "{most}");
        assert!(archive.len() as u64 <= most.max(512) + 1024);
        assert_eq!(found.is_empty(), expected.len() == 1);
    }
}

/// It makes no room for itself.
#[test]
fn what_is_too_large_alone_is_left_out_alone() {
    let kept = Kept::of(&[]);
    kept.write("large", &"x".repeat(10_000));
    kept.write("old", "x");
    kept.date("old", 0);
    let found = Increment::of(kept.directory.path(), &kept.known, Extent::Whole, 8192);
    let archive = found.unwrap().pack(Vec::new()).unwrap();
    assert_eq!(names(&archive), ["old"]);
}

#[test]
fn what_is_no_plain_file_is_left_out() {
    let kept = Kept::of(&[]);
    kept.write("file", "x");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        kept.path("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(kept.path("socket")).unwrap();
    let mut deep = kept.directory.path().to_owned();
    for _ in 0..200 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let archive = kept.gained();
    let found = names(&archive);
    assert_eq!(found.last().unwrap(), "file");
    assert!(!found.iter().any(|name| name == "fifo" || name == "socket"));
    // As deep as readers go.
    Kept::of(&[archive]);
}

#[test]
fn what_changes_between_the_look_and_the_packing_is_left_out() {
    let kept = Kept::of(&[]);
    for name in ["gone", "linked", "longer", "d/in", "stays"] {
        kept.write(name, "content");
    }
    let found = kept.found(Extent::Whole);
    fs::remove_file(kept.path("gone")).unwrap();
    fs::remove_file(kept.path("linked")).unwrap();
    symlink("/etc/passwd", kept.path("linked")).unwrap();
    kept.write("longer", "longer content");
    fs::rename(kept.path("d"), kept.path("e")).unwrap();
    symlink("e", kept.path("d")).unwrap();
    let archive = found.pack(Vec::new()).unwrap();
    assert_eq!(names(&archive), ["d", "stays"]);
}

/// A sink that does something when the first bytes come.
struct Meddler<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> io::Write for Meddler<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.take().into_iter().for_each(|act| act());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was written of it cannot be taken back, so that all is lost. A smaller one is not begun.
#[test]
fn a_large_file_that_changes_while_it_is_packed_ends_it() {
    let kept = Kept::of(&[]);
    kept.write("large", &"x".repeat(2 << 20));
    kept.write("small", "x");
    let found = kept.found(Extent::Whole);
    let small = found.pack(Meddler(Some(|| kept.write("small", "changed"))));
    assert!(small.is_ok(), "{:?}", small.err());
    let found = kept.found(Extent::Whole);
    let large = found.pack(Meddler(Some(|| kept.write("large", "shorter"))));
    let error = large.err().unwrap().to_string();
    assert!(error.contains("it changed while it was packed"), "{error}");
}

/// One limit for all of them, however many parts they come in.
#[test]
fn all_increments_together_are_bounded() {
    let first = Kept::of(&[]);
    first.write("a", &"x".repeat(600));
    let one = first.gained();
    let second = Kept::of(&[]);
    second.write("b", &"x".repeat(600));
    let two = second.gained();
    let (directory, mut known) = (tempfile::tempdir().unwrap(), Known::default());
    known.unpack(&one[..], 1199, directory.path()).unwrap();
    let refused = known.unpack(&two[..], 1199, directory.path()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "archive too large: more than 1199 bytes"
    );
    // What would pass the limit when it is laid over the others comes as a whole.
    let kept = Kept::of(&[one]);
    kept.write("b", &"x".repeat(600));
    for (most, extent) in [(1199, Extent::Whole), (1200, Extent::New)] {
        let found = Increment::of(kept.directory.path(), &kept.known, Extent::New, most);
        assert_eq!(found.unwrap().extent(), extent, "{most}");
    }
}

/// Headers without content cost whoever remembers them memory all the same.
#[test]
fn names_are_bounded_too() {
    let increment = |names: &mut dyn Iterator<Item = String>| {
        let mut archive = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, "link", name).unwrap();
        }
        archive.into_inner().unwrap()
    };
    let unpacked = |increment: Vec<u8>| {
        let (directory, mut known) = (tempfile::tempdir().unwrap(), Known::default());
        let unpacked = known.unpack(&increment[..], u64::MAX, directory.path());
        unpacked.map_err(|error| error.to_string())
    };
    let long = "d/".repeat(1500);
    let many = increment(&mut (0..23_000).map(|number| format!("{long}{number}")));
    assert_eq!(
        unpacked(many),
        Err("archive too large: more than 67108864 bytes of paths".to_owned())
    );
    let few = increment(&mut (0..1_000).map(|number| format!("{long}{number}")));
    assert_eq!(unpacked(few), Ok(()));
}

/// The command may put a link where its directory was: everything that the container has would be packed.
#[test]
fn the_directory_itself_is_no_link() {
    let kept = Kept::of(&[]);
    kept.write("elsewhere/secret", "x");
    symlink("elsewhere", kept.path("cache")).unwrap();
    let found = |name: &str| {
        let known = Known::default();
        Increment::of(&kept.path(name), &known, Extent::Whole, u64::MAX)
    };
    assert!(matches!(found("cache"), Err(Error::Read { .. })));
    // It becomes one after the look.
    let looked = found("elsewhere").unwrap();
    fs::rename(kept.path("elsewhere"), kept.path("moved")).unwrap();
    symlink("moved", kept.path("elsewhere")).unwrap();
    assert!(looked.pack(Vec::new()).is_err());
}

/// Tools throw away what was not used for days, by these times.
#[test]
fn a_time_that_moved_by_days_travels_without_its_file() {
    let first = Kept::of(&[]);
    for name in ["used", "unused", "touched a moment later"] {
        first.write(name, &"x".repeat(10_000));
        first.date(name, 1_000_000_000);
    }
    let one = first.gained();
    let second = Kept::of(std::slice::from_ref(&one));
    second.date("used", 1_000_600_000);
    second.date("touched a moment later", 1_000_003_600);
    let found = second.found(Extent::New);
    assert!(!found.is_empty());
    let two = found.pack(Vec::new()).unwrap();
    assert_eq!(names(&two), ["used"]);
    assert!(two.len() < 2048, "{}", two.len());
    let third = Kept::of(&[one, two.clone()]);
    let times = |kept: &Kept| {
        let picture = kept.picture();
        picture
            .into_values()
            .map(|(_, time, _)| time)
            .collect::<Vec<_>>()
    };
    assert_eq!(times(&third), [1_000_000_000, 1_000_000_000, 1_000_600_000]);
    assert!(third.found(Extent::New).is_empty());
    // Without the file it is nothing, and it is for files alone.
    assert_eq!(Kept::of(std::slice::from_ref(&two)).picture().len(), 0);
    let linked = tempfile::tempdir().unwrap();
    symlink("elsewhere", linked.path().join("used")).unwrap();
    let refused = Known::default().unpack(&two[..], u64::MAX, linked.path());
    assert!(matches!(refused, Err(Error::Member { .. })));
    // Nobody else's archive may have one.
    assert!(super::super::unpack(&two[..], Limits::default(), linked.path()).is_err());
}

/// ext4 passes over each inode that was freed nearby within minutes, where directories are not spread.
#[test]
fn directories_are_spread_where_the_file_system_knows_how_to() {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let is_spread = |path: &Path| {
        let directory = fs::File::open(path).unwrap();
        ioctl_getflags(&directory).is_ok_and(|flags| flags.contains(IFlags::TOPDIR))
    };
    let probe = tempfile::tempdir().unwrap();
    let directory = fs::File::open(probe.path()).unwrap();
    let knows_how = ioctl_getflags(&directory)
        .and_then(|flags| ioctl_setflags(&directory, flags | IFlags::TOPDIR))
        .is_ok();
    let first = Kept::of(&[]);
    first.write("a/b/c", "content");
    let kept = Kept::of(&[first.gained()]);
    for path in [".", "a", "a/b"] {
        assert_eq!(is_spread(&kept.path(path)), knows_how, "{path}");
    }
}
