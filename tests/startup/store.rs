//! Stores that cannot be opened, as far as no server is asked; the rest is in `src/store/tests/s3.rs`.

use crate::program::Place;

/// Starts with `settings`; gives what it ends with.
fn refused(place: &Place, settings: &[&str]) -> String {
    let arguments = place.serve(settings);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = place.run(&arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    ended.stderr.lines().last().unwrap().to_owned()
}

#[test]
fn the_store_of_a_later_peitho_is_left_alone() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("store")).unwrap();
    let marker = place.file("store/layout.json", "{\"layout\": 2}\n");
    assert_eq!(
        refused(&place, &[]),
        "error: store: store has layout.json {\"layout\": 2}, and this Peitho knows layout 1; run the Peitho that wrote it or \
         a later one, or name another store"
    );
    assert_eq!(std::fs::read(marker).unwrap(), b"{\"layout\": 2}\n");
}

#[test]
fn a_bucket_that_cannot_be_asked_is_told_by_key() {
    let place = Place::new();
    place.file("secret", "s3cret");
    place.file("empty", "");
    let at = "error: store: the bucket images/a at https://127.0.0.1:9 cannot be opened: ";
    let bucket = [
        "store.s3.bucket=images",
        "store.s3.prefix=a/",
        "store.s3.endpoint=https://127.0.0.1:9/",
    ];
    for (settings, told) in [
        (
            &[][..],
            "there are no credentials; set store.s3.accessKeyId and store.s3.secretAccessKeyFile, or AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY",
        ),
        (
            &[
                "store.s3.accessKeyId=me",
                "store.s3.secretAccessKeyFile=nowhere",
            ],
            "store.s3.secretAccessKeyFile nowhere cannot be read: No such file or directory (os error 2)",
        ),
        (
            &[
                "store.s3.accessKeyId=me",
                "store.s3.secretAccessKeyFile=secret",
                "store.s3.caFile=empty",
            ],
            "store.s3.caFile empty: no certificate is in it",
        ),
    ] {
        assert_eq!(
            refused(&place, &[&bucket, settings].concat()),
            format!("{at}{told}")
        );
    }
}

#[test]
fn a_store_that_goes_with_the_machine_is_warned_of() {
    let place = Place::new();
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = format!("store.directory={}", memory.path().display());
    let arguments = place.serve(&[&store]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let told = place.start(&arguments).line_with("store: it is on ");
    assert!(
        told.contains("memory, which goes with the machine") && told.contains("store.directory"),
        "{told}"
    );
}
