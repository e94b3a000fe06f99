//! A disk that dies gives some of its blocks and not others: the check tells what it could not read and goes on, moves what is
//! damaged, and leaves alone what may be sound.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use peitho::collection::{Depth, check};
use peitho::store::Store;
use tempfile::TempDir;

use crate::collected::{image, put};
use crate::disk;
use crate::server::strace;

/// What the first argument says to a process that is to check a store.
const CHECK: &str = "check-for-the-faults";

/// Checks, if that is the order of this process.
pub(crate) fn of_this_process() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != CHECK {
        return None;
    }
    let directory = arguments.next().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Store::open(Path::new(&directory)).await.unwrap();
        let findings = check(&store, Depth::Contents).await;
        assert!(findings.unfinished.is_none(), "{findings:?}");
        let told = findings.troubles.join("\n");
        std::io::stdout().write_all(told.as_bytes()).unwrap();
    });
    Some(ExitCode::SUCCESS)
}

pub(crate) async fn block_by_block() {
    let scratch = TempDir::new().unwrap();
    let directory = scratch.path().canonicalize().unwrap().join("store");
    let store = Store::open(&directory).await.unwrap();
    let place = |blob: &peitho::store::Blob| directory.join("blobs/sha256").join(blob.digest.hex());
    let (unread, rotten) = (put(&store, "unread").await, put(&store, "rotten").await);
    image(&store, "unread", &unread).await;
    let name = peitho::names::Digest::of(b"unread").hex();
    let record = directory.join(format!("refs/v1/image/default/{name}.json"));
    // On either side of what cannot be read, in whatever order they come.
    for name in ["a", "b", "c", "d"] {
        image(&store, name, &rotten).await;
    }
    image(&store, "e", &unread).await;
    fs::write(place(&rotten), "r0tten").unwrap();
    drop(store);

    let mut words = strace(
        &scratch.path().join("trace"),
        &[
            "-P",
            place(&unread).to_str().unwrap(),
            "-P",
            record.to_str().unwrap(),
            "-e",
            "trace=read,pread64",
            "-e",
            "inject=read,pread64:error=EIO",
        ],
    );
    words.push(std::env::current_exe().unwrap().into());
    words.extend([OsString::from(CHECK), directory.clone().into()]);
    let ended = Command::new(&words[0]).args(&words[1..]).output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let told = String::from_utf8(ended.stdout).unwrap();
    for part in [
        &format!("the blob {} could not be checked: ", unread.digest),
        &format!("the record refs/v1/image/default/{name}.json could not be checked: "),
        "Input/output error (os error 5); look after the volume",
        &format!("the blob {} does not have the content", rotten.digest),
        "the image a:latest of the tenant default has lost its layer",
        "the image d:latest of the tenant default has lost its layer",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(place(&unread).exists() && !place(&rotten).exists());
    assert_eq!(disk::files(&directory.join("refs/v1/image")).len(), 2);
}
