//! Bodies as peers send them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The name of an image as a peer forms it.
pub(crate) const IMAGE: &str =
    "net-peer-simple-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Nothing listens at its registry: the image is then a partial one.
pub(crate) const DOCKERFILE: &[u8] =
    b"FROM 127.0.0.1:1/fabric-baseos:2.5\nADD binpackage.tar /usr/local/bin";

pub(crate) fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o100_644);
        archive.append_data(&mut header, path, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

pub(crate) fn context(members: &[(&str, &[u8])]) -> Vec<u8> {
    gzip(&tar(members))
}

/// The context of a build whose package is `package`.
pub(crate) fn packed(dockerfile: &[u8], package: &[u8]) -> Vec<u8> {
    context(&[("Dockerfile", dockerfile), ("binpackage.tar", package)])
}

pub(crate) fn complete() -> Vec<u8> {
    packed(DOCKERFILE, &tar(&[("chaincode", b"program")]))
}
