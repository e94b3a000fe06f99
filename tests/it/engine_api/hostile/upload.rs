//! Archives for containers that no peer sends: the input of a builder, the files of a chaincode.

use tar::EntryType;

use super::super::bodies::{gzip, tar};
use super::super::world::World;
use super::chunks;
use super::tars::{archive, file, member, refused_by_all};

const INPUT: &str = "path=%2Fchaincode%2Finput";
const FILES: &str = "/containers/cc/archive?path=/";

#[tokio::test]
async fn a_builder_takes_one_sound_archive_before_its_start() {
    let world = World::new().await;
    let id = world.builder().await;
    let put = |query: &str| format!("/containers/{id}/archive?{query}");
    let sound = tar(&[("src/main.go", b"package main")]);
    for (_, tar, said) in refused_by_all() {
        for body in [tar.clone(), gzip(&tar)] {
            world.refuses("PUT", &put(INPUT), &body, 400, said).await;
        }
    }
    let whole = gzip(&sound);
    let cut = &whole[..whole.len() - 3];
    world
        .refuses("PUT", &put(INPUT), cut, 400, "not a readable tar")
        .await;
    world
        .refuses("PUT", &put(INPUT), &gzip(&whole), 400, "not a readable tar")
        .await;
    for (query, said) in [
        ("", "an absolute path is needed"),
        ("path=chaincode/input", "an absolute path is needed"),
        ("path=/", "a builder takes its input at /chaincode/input"),
        ("path=/etc", "a builder takes its input at /chaincode/input"),
        ("path=/chaincode/input/../../etc", "holds .."),
    ] {
        world.refuses("PUT", &put(query), &sound, 400, said).await;
    }
    let before = world.listing();
    let wire = chunks(&whole, 16);
    for cut in [0, 3, 30, wire.len()] {
        let answer = world.cut("PUT", &put(INPUT), &wire[..cut]).await;
        world.has_refused(&answer, 400, "ended before its end", &before);
    }
    // None of that was taken for the input.
    assert_eq!(world.send("PUT", &put(INPUT), &whole).await.status, 200);
    world
        .refuses("PUT", &put(INPUT), &sound, 400, "was uploaded already")
        .await;
    let start = format!("/containers/{id}/start");
    assert_eq!(world.ask("POST", &start).await.status, 204);
    world
        .refuses("PUT", &put(INPUT), &sound, 400, "was started already")
        .await;
    // The output is asked for only where it is.
    for path in ["/", "/etc/passwd", "/chaincode/output/../../etc"] {
        let target = format!("/containers/{id}/archive?path={path}");
        let answer = world.ask("GET", &target).await;
        assert!(matches!(answer.status, 400 | 404), "{answer:?}");
        answer.message();
    }
}

#[tokio::test]
async fn links_inside_the_input_are_taken() {
    let world = World::new().await;
    let id = world.builder().await;
    let input = archive(&[
        file("src/node_modules/tool/cli.js", b"js"),
        member(
            EntryType::Symlink,
            "src/node_modules/.bin/tool",
            "../tool/cli.js",
        ),
        member(EntryType::Link, "src/again", "src/node_modules/tool/cli.js"),
    ]);
    let put = world
        .send("PUT", &format!("/containers/{id}/archive?{INPUT}"), &input)
        .await;
    assert_eq!(put.status, 200, "{put:?}");
}

#[tokio::test]
async fn a_chaincode_takes_few_small_files_and_nothing_else() {
    let world = World::new().await;
    let mut cases = refused_by_all();
    let symlink = member(EntryType::Symlink, "l", "/etc");
    let many = vec![file("f", b""); 1001];
    for (name, members, said) in [
        ("a link", vec![symlink.clone()], "only regular files"),
        (
            "a file through a link",
            vec![symlink, file("l/passwd", b"x")],
            "only regular files",
        ),
        (
            "a hard link",
            vec![file("f", b"x"), member(EntryType::Link, "h", "f")],
            "only regular files",
        ),
        (
            "a name that is not UTF-8",
            vec![file(b"\xff", b"x")],
            "not UTF-8",
        ),
        ("many files", many, "more than 1000 entries"),
        (
            "a large file",
            vec![file("f", &vec![0; (1 << 20) + 1])],
            "more than 1048576 bytes",
        ),
    ] {
        cases.push((name, archive(&members), said));
    }
    for (_, tar, said) in cases {
        // Names of 2 MiB are beyond the limit of the whole body before anybody looks into it.
        if tar.len() < 2 << 20 {
            world.refuses("PUT", FILES, &tar, 400, said).await;
        }
        world.refuses("PUT", FILES, &gzip(&tar), 400, said).await;
    }
    let bomb = gzip(&vec![0; 64 << 20]);
    world
        .refuses("PUT", FILES, &bomb, 400, "archive too large")
        .await;
    let large = vec![0; (2 << 20) + 1];
    world
        .refuses("PUT", FILES, &large, 413, "longer than 2097152 bytes")
        .await;
    let sound = tar(&[("etc/key", b"k")]);
    for path in ["", "etc", "/etc/..", "/../etc", "/a%00b"] {
        let target = format!("/containers/cc/archive?path={path}");
        world.refuses("PUT", &target, &sound, 400, "path").await;
    }
    let before = world.listing();
    let answer = world.cut("PUT", FILES, &chunks(&sound, 100)).await;
    world.has_refused(&answer, 400, "ended before its end", &before);
    assert!(world.cluster.files.lock().unwrap().is_empty());
    assert_eq!(world.send("PUT", FILES, &sound).await.status, 200);
    assert_eq!(world.cluster.files.lock().unwrap().len(), 1);
}
