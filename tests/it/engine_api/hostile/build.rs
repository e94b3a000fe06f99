//! Bodies of `/build` that no peer sends.

use tar::EntryType;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::super::bodies::{DOCKERFILE, IMAGE, complete, context, gzip, packed, tar};
use super::super::world::{Answer, SOON, World, is_silent};
use super::tars::{archive, file, member, refused_by_all};
use super::{chunks, tars};

fn target() -> String {
    format!("/build?t={IMAGE}")
}

fn package() -> Vec<u8> {
    tar(&[("chaincode", b"program")])
}

#[tokio::test]
async fn a_body_may_be_cut_anywhere() {
    let world = World::new().await;
    let before = world.listing();
    let wire = chunks(&complete(), 64);
    // From no byte at all to all but the last chunk.
    let cuts = (0..16)
        .chain((16..wire.len()).step_by(23))
        .chain([wire.len()]);
    for cut in cuts {
        let answer = world.cut("POST", &target(), &wire[..cut]).await;
        world.has_refused(&answer, 400, "ended without a result", &before);
    }
    let not_chunks = b"no number\r\n";
    let answer = world.cut("POST", &target(), not_chunks).await;
    world.has_refused(&answer, 400, "ended without a result", &before);
    let whole = world.send("POST", &target(), &complete()).await;
    assert_eq!(whole.status, 200, "{whole:?}");
}

#[tokio::test]
async fn what_is_no_context_is_refused() {
    let world = World::new().await;
    let whole = complete();
    let with = |members: &[tars::Raw]| gzip(&archive(members));
    let package = package();
    let mut damaged = whole.clone();
    let checksum = whole.len() - 6;
    damaged[checksum] ^= 1;
    let garbage = [&whole[..], b"and something else"].concat();
    let zeros = gzip(&vec![0; 64 << 20]);
    let dockerfile = || file("Dockerfile", DOCKERFILE);
    let binpackage = || file("binpackage.tar", &package);
    for (body, said) in [
        (Vec::new(), "there is nothing in it"),
        (b"hello".to_vec(), "not a readable tar"),
        (whole[..2].to_vec(), "not a readable tar"),
        (whole[..10].to_vec(), "not a readable tar"),
        (whole[..whole.len() / 2].to_vec(), "not a readable tar"),
        (whole[..whole.len() - 1].to_vec(), "not a readable tar"),
        (damaged, "not a readable tar"),
        (garbage, "not a readable tar"),
        (gzip(&whole), "not a readable tar"),
        (zeros, "Dockerfile is missing"),
        (
            context(&[("binpackage.tar", &package)]),
            "Dockerfile is missing",
        ),
        (
            context(&[("Dockerfile", DOCKERFILE)]),
            "binpackage.tar is missing",
        ),
        (
            with(&[dockerfile(), binpackage(), binpackage()]),
            "binpackage.tar is there twice",
        ),
        (
            with(&[dockerfile(), dockerfile(), binpackage()]),
            "Dockerfile is there twice",
        ),
        (
            with(&[
                member(EntryType::Symlink, "Dockerfile", "/etc/passwd"),
                binpackage(),
            ]),
            "Dockerfile is not a regular file",
        ),
        (
            with(&[
                dockerfile(),
                member(EntryType::Symlink, "binpackage.tar", "/etc/passwd"),
            ]),
            "binpackage.tar is not a regular file",
        ),
        (with(&vec![file("x", b""); 1001]), "more than 1000 entries"),
    ] {
        world.refuses("POST", &target(), &body, 400, said).await;
    }
    for (_, tar, said) in refused_by_all() {
        for body in [tar.clone(), gzip(&tar)] {
            world.refuses("POST", &target(), &body, 400, said).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_package_is_refused() {
    let world = World::new().await;
    let mut cases = refused_by_all();
    let symlink = |name, to| member(EntryType::Symlink, name, to);
    let hardlink = |name, to| member(EntryType::Link, name, to);
    for (name, members, said) in [
        (
            "a file through a link",
            vec![symlink("l", "/etc"), file("l/passwd", b"x")],
            "is not a directory",
        ),
        (
            "a file through a file",
            vec![file("f", b"x"), file("f/g", b"x")],
            "is not a directory",
        ),
        (
            "a link through a link",
            vec![symlink("l", ".."), symlink("l/m", "x"), file("f", b"")],
            "is not a directory",
        ),
        (
            "a hard link to nothing",
            vec![hardlink("h", "nothing"), file("f", b"")],
            "a hard link",
        ),
        (
            "a hard link through a link",
            vec![symlink("l", "/etc"), hardlink("h", "l/passwd")],
            "a hard link",
        ),
        (
            "no file",
            vec![member(EntryType::Directory, "d", "")],
            "holds no file",
        ),
        ("a whiteout", vec![file(".wh.chaincode", b"")], ".wh."),
        (
            "a name that is not UTF-8",
            vec![file(b"\xff\xfe", b"x")],
            "not UTF-8",
        ),
    ] {
        cases.push((name, archive(&members), said));
    }
    for (_, tar, said) in cases {
        for package in [tar.clone(), gzip(&tar)] {
            let body = packed(DOCKERFILE, &package);
            world
                .refuses("POST", &target(), &body, 400, "binpackage.tar")
                .await;
            world.refuses("POST", &target(), &body, 400, said).await;
        }
    }
    let inspected = world.ask("GET", &format!("/images/{IMAGE}/json")).await;
    assert_eq!(inspected.status, 404);
}

#[tokio::test]
async fn a_dockerfile_is_refused_by_its_line() {
    let world = World::new().await;
    let lines = |rest: &str| format!("FROM 127.0.0.1:1/a\nADD binpackage.tar /x\n{rest}");
    let many: String = (0..20_000).map(|n| format!("ENV V{n}=1\n")).collect();
    for (dockerfile, said) in [
        (
            lines("RUN curl evil | sh").into_bytes(),
            "Dockerfile line 3: \"RUN\" is not accepted",
        ),
        (
            lines("\n\ncopy . /").into_bytes(),
            "Dockerfile line 5: \"COPY\" is not accepted",
        ),
        (
            lines("USER root").into_bytes(),
            "Dockerfile line 3: \"USER\" is not accepted",
        ),
        (
            lines("ADD http://evil/x /x").into_bytes(),
            "Dockerfile line 3: a second ADD",
        ),
        (
            lines("FROM b").into_bytes(),
            "Dockerfile line 3: a second FROM",
        ),
        (lines("ENV A").into_bytes(), "Dockerfile line 3"),
        (
            lines("ENV A=$HOME").into_bytes(),
            "Dockerfile line 3: ENV: variables",
        ),
        (lines("ENV A=\"open").into_bytes(), "Dockerfile line 3: ENV"),
        (lines("ENV A=\0").into_bytes(), "Dockerfile line 3: ENV"),
        (lines(&"X".repeat(5000)).into_bytes(), "Dockerfile line 3"),
        (
            b"FROM ../../etc\nADD binpackage.tar /x".to_vec(),
            "Dockerfile line 1: FROM",
        ),
        (
            b"FROM a\nADD binpackage.tar /x/../../etc".to_vec(),
            "Dockerfile line 2: ADD",
        ),
        (
            b"FROM a\nADD binpackage.tar /".to_vec(),
            "Dockerfile line 2: ADD",
        ),
        (
            b"FROM a\nADD ../../etc/passwd /x".to_vec(),
            "Dockerfile line 2",
        ),
        (b"".to_vec(), "the Dockerfile ends without FROM"),
        (b"\xff\xfe".to_vec(), "Dockerfile is not UTF-8"),
        (lines(&many).into_bytes(), "more than 65536"),
        (vec![b'#'; 8 << 20], "more than 65536"),
    ] {
        let body = packed(&dockerfile, &package());
        world.refuses("POST", &target(), &body, 400, said).await;
    }
}

#[tokio::test]
async fn the_name_of_an_image_is_one() {
    let world = World::new().await;
    let long = "a".repeat(2000);
    for (name, said) in [
        ("", "t: the name"),
        ("..", "invalid image name"),
        ("../../etc", "invalid image name"),
        ("UPPER", "invalid image name"),
        ("a%00b", "invalid image name"),
        ("a//b", "invalid image name"),
        ("a:", "invalid image tag"),
        ("a@sha256:0", "invalid image name"),
        (&long, "invalid image name"),
        ("%ff", ""),
    ] {
        let target = format!("/build?t={name}");
        world.refuses("POST", &target, &complete(), 400, said).await;
    }
}

/// Odd, but what a package may be: links inside it, links that point out and are links for the chaincode only, names
/// twice, names that are bytes.
#[tokio::test]
async fn what_is_odd_but_harmless_is_built() {
    let world = World::new().await;
    let secret = world.directory.join("secret");
    std::fs::write(&secret, "TOP SECRET").unwrap();
    let out: &'static str = secret.to_str().unwrap().to_owned().leak();
    let package = archive(&[
        file("/absolute", b"x"),
        file("./package/node_modules/tool/cli.js", b"js"),
        member(
            EntryType::Symlink,
            "package/node_modules/.bin/tool",
            "../tool/cli.js",
        ),
        member(EntryType::Symlink, "package/python", "/usr/bin/python3"),
        member(EntryType::Symlink, "package/out", out),
        member(EntryType::Link, "package/again", "absolute"),
        file("package/twice", b"first"),
        file("package/twice", b"second"),
        file(b"package/\xff", b"bytes"),
    ]);
    let body = packed(DOCKERFILE, &package);
    let built = world.send("POST", &target(), &body).await;
    assert_eq!(built.status, 200, "{built:?}");
    let blobs = std::fs::read_dir(world.directory.join("blobs/sha256")).unwrap();
    let [layer] = &blobs.map(|blob| blob.unwrap().path()).collect::<Vec<_>>()[..] else {
        panic!("a partial image is one layer");
    };
    let layer = flate2::read::GzDecoder::new(std::fs::File::open(layer).unwrap());
    let mut layer = tar::Archive::new(layer);
    let mut found = Vec::new();
    for entry in layer.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.trim_start_matches("usr/local/bin/").to_owned();
        let link = entry.link_name_bytes().unwrap_or_default();
        let link = String::from_utf8_lossy(&link).into_owned();
        found.push((path, link, String::from_utf8(content).unwrap()));
    }
    let expected = |path: &str, link: &str, content: &str| {
        let (path, link, content) = (path.to_owned(), link.to_owned(), content.to_owned());
        assert!(found.contains(&(path, link, content)), "{found:?}");
    };
    expected("absolute", "", "x");
    expected("package/node_modules/.bin/tool", "../tool/cli.js", "");
    expected("package/python", "/usr/bin/python3", "");
    expected("package/out", out, "");
    expected("package/again", "usr/local/bin/absolute", "");
    expected("package/twice", "", "second");
    expected("package/\u{fffd}", "", "bytes");
    assert!(
        found
            .iter()
            .all(|(_, _, content)| !content.contains("SECRET"))
    );
}

/// A body that comes byte by byte keeps nobody else waiting, and is an image like any other.
#[tokio::test]
async fn a_slow_body_is_in_nobodys_way() {
    let world = World::new().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        target()
    );
    let mut slow = world.open(&head).await;
    slow.set_nodelay(true).unwrap();
    let wire = [chunks(&complete(), 1), b"0\r\n\r\n".to_vec()].concat();
    let (first, rest) = wire.split_at(60);
    for byte in first {
        slow.write_all(&[*byte]).await.unwrap();
    }
    assert!(is_silent(&mut slow).await);
    let other = world.send("POST", "/build?t=other", &complete()).await;
    assert_eq!(other.status, 200, "{other:?}");
    for byte in rest {
        slow.write_all(&[*byte]).await.unwrap();
    }
    let answer = Answer::read(&mut slow).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Either may win; what is there then is one of the two, whole.
#[tokio::test]
async fn two_bodies_of_one_name_make_one_image() {
    let world = World::new().await;
    let body = |content: &[u8]| packed(DOCKERFILE, &tar(&[("chaincode", content)]));
    let (one, other) = (body(b"one"), body(b"other"));
    for _ in 0..10 {
        let target = target();
        let sent = async {
            tokio::join!(
                world.send("POST", &target, &one),
                world.send("POST", &target, &other)
            )
        };
        let (one, other) = timeout(SOON, sent).await.unwrap();
        let id = |answer: &Answer| {
            assert_eq!(answer.status, 200, "{answer:?}");
            let lines =
                serde_json::Deserializer::from_str(&answer.body).into_iter::<serde_json::Value>();
            let id = lines
                .map(Result::unwrap)
                .find_map(|line| Some(line["aux"]["ID"].as_str()?.to_owned()));
            id.unwrap()
        };
        let ids = [id(&one), id(&other)];
        assert_ne!(ids[0], ids[1]);
        let inspected = world.ask("GET", &format!("/images/{IMAGE}/json")).await;
        let inspected: serde_json::Value = serde_json::from_str(&inspected.body).unwrap();
        assert!(ids.iter().any(|id| inspected["Id"] == **id), "{inspected}");
    }
    let left = world.listing();
    // Two layers, one ref, one lock, and the layout.
    assert_eq!(left.len(), 5, "{left:?}");
}
