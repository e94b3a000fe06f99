//! Owns a Docker client of a few lines for what no peer does on demand: launches in a chosen order, slow readers,
//! requests cut short. One connection per request, as the peers of most releases make them.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// What a streamed body is sent in.
const CHUNK: usize = 64 << 10;

/// A Docker Engine API: Peitho's or dockerd's.
#[derive(Clone, Debug)]
pub struct Engine {
    address: SocketAddr,
    /// Before every path.
    prefix: String,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }
}

impl Engine {
    /// The engine at `address`.
    pub fn new(address: SocketAddr) -> Self {
        let prefix = String::new();
        Self { address, prefix }
    }

    /// The same as a peer of `tenant` has it.
    pub fn of_tenant(&self, tenant: &str) -> Self {
        Self {
            address: self.address,
            prefix: format!("/t/{tenant}"),
        }
    }

    /// Sends one request and reads its whole answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Answer> {
        let stream = self.open(method, path, content_type, body)?;
        read_answer(BufReader::new(stream))
    }

    /// An order without a body.
    pub fn post(&self, path: &str) -> Result<Answer> {
        self.send("POST", path, "plain/text", b"")
    }

    /// Sends one request and leaves the connection open: for `attach` and `wait`.
    pub fn open(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        write!(
            stream,
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            self.prefix,
            self.address,
            body.len()
        )?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// Sends one request whose body `write` makes while it is sent, in chunks, and reads its whole answer: for bodies that
    /// are not to be in memory.
    pub fn send_streamed(
        &self,
        path: &str,
        content_type: &str,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        write!(
            stream,
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n",
            self.prefix, self.address
        )?;
        let mut chunks = BufWriter::with_capacity(CHUNK, Chunks(&stream));
        write(&mut chunks)?;
        chunks.flush()?;
        drop(chunks);
        stream.write_all(b"0\r\n\r\n")?;
        read_answer(BufReader::new(stream))
    }

    /// Attaches as a peer does, from the first byte (`logs=1`), and returns the stream after the 101.
    pub fn attach(&self, container: &str, prefix: &str) -> Result<BufReader<TcpStream>> {
        self.attached(container, prefix, "logs=1&stderr=1&stdout=1&stream=1")
    }

    /// Attaches to what a container says from now on. dockerd answers `logs=1` before it reads the log: what a
    /// container that starts in between says comes twice, from the log and from the stream.
    pub fn attach_from_now(&self, container: &str, prefix: &str) -> Result<BufReader<TcpStream>> {
        self.attached(container, prefix, "stderr=1&stdout=1&stream=1")
    }

    fn attached(&self, container: &str, prefix: &str, query: &str) -> Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        write!(
            stream,
            "POST {}{prefix}/containers/{container}/attach?{query} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n\r\n",
            self.prefix, self.address
        )?;
        let mut reader = BufReader::new(stream);
        let head = read_head(&mut reader)?;
        ensure!(
            head.starts_with("HTTP/1.1 101"),
            "attach was answered with {head}"
        );
        Ok(reader)
    }

    /// Creates a container; its id.
    pub fn create(&self, name: Option<&str>, body: &Value) -> Result<String> {
        let path = match name {
            Some(name) => format!("/containers/create?name={name}"),
            None => "/containers/create".to_owned(),
        };
        let answer = self.send(
            "POST",
            &path,
            "application/json",
            body.to_string().as_bytes(),
        )?;
        ensure!(
            answer.status == 201,
            "create: {} {}",
            answer.status,
            answer.text()
        );
        Ok(answer.json()?["Id"].as_str().context("no Id")?.to_owned())
    }

    /// Puts an archive into a container, at a path that is encoded for a query.
    pub fn upload(&self, container: &str, path: &str, archive: &[u8]) -> Result<()> {
        let path = format!("/containers/{container}/archive?path={path}");
        let put = self.send("PUT", &path, "application/x-tar", archive)?;
        ensure!(put.status == 200, "upload: {} {}", put.status, put.text());
        Ok(())
    }

    /// Builds `image` from a program that is a shell script, over `base`.
    pub fn build_script(&self, image: &str, base: &str, script: &str) -> Result<()> {
        let package = tar(&[("chaincode", 0o755, script.as_bytes())])?;
        self.build(image, &build_context(base, &package)?)
    }

    /// Builds `image` from what [`build_context`] made.
    pub fn build(&self, image: &str, context: &[u8]) -> Result<()> {
        let path = format!("/build?t={image}");
        let answer = self.send("POST", &path, "application/tar", context)?;
        ensure!(
            answer.status == 200,
            "build: {} {}",
            answer.status,
            answer.text()
        );
        Ok(())
    }

    /// Waits for the end of a container; its code.
    pub fn wait(&self, container: &str) -> Result<i64> {
        let answer = self.post(&format!("/containers/{container}/wait"))?;
        ensure!(
            answer.status == 200,
            "wait: {} {}",
            answer.status,
            answer.text()
        );
        answer.json()?["StatusCode"]
            .as_i64()
            .context("no StatusCode")
    }

    /// Sends an order whose answer must be one of `accepted`.
    pub fn order(&self, method: &str, path: &str, accepted: &[u16]) -> Result<u16> {
        let answer = self.send(method, path, "plain/text", b"")?;
        if !accepted.contains(&answer.status) {
            bail!("{method} {path}: {} {}", answer.status, answer.text());
        }
        Ok(answer.status)
    }
}

/// The create body of a chaincode container as a 2.1 peer sends it.
pub fn chaincode_body(image: &str, package_id: &str) -> Value {
    json!({
        "Env": [format!("CORE_CHAINCODE_ID_NAME={package_id}")],
        "Cmd": ["chaincode", "-peer.address=127.0.0.1:1"],
        "Image": image,
        "Entrypoint": null,
        "HostConfig": {"NetworkMode": "host", "Memory": 268_435_456}
    })
}

/// What a peer sends to `/build`: a tar with the compiled `package`, itself a tar, compressed.
pub fn build_context(base: &str, package: &[u8]) -> Result<Vec<u8>> {
    gzip(&tar(&[
        ("Dockerfile", 0o100_644, dockerfile(base).as_bytes()),
        ("binpackage.tar", 0o100_644, package),
    ])?)
}

/// As a peer writes it for Go, but for the labels.
pub fn dockerfile(base: &str) -> String {
    format!("FROM {base}\nADD binpackage.tar /usr/local/bin")
}

/// A tar of files: name, mode, content.
pub fn tar(members: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, name, *content)?;
    }
    Ok(builder.into_inner()?)
}

/// The same, compressed.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

/// The head of an answer, with the empty line at its end.
pub fn read_head(reader: &mut impl BufRead) -> Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        ensure!(
            reader.read_line(&mut head)? > 0,
            "the connection was closed in the head: {head:?}"
        );
    }
    Ok(head)
}

/// A whole answer.
pub fn read_answer(mut reader: impl BufRead) -> Result<Answer> {
    let head = read_head(&mut reader)?;
    read_body(&head, reader)
}

/// The rest of an answer whose head was read.
pub fn read_body(head: &str, mut reader: impl BufRead) -> Result<Answer> {
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let mut body = Vec::new();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size =
                u64::from_str_radix(line.trim(), 16).with_context(|| format!("chunk {line:?}"))?;
            std::io::copy(&mut reader.by_ref().take(size), &mut body)?;
            reader.read_line(&mut line)?;
            if size == 0 {
                break;
            }
        }
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Answer { status, body })
}

/// Each write is a chunk of its own.
struct Chunks<'a>(&'a TcpStream);

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !bytes.is_empty() {
            write!(self.0, "{:x}\r\n", bytes.len())?;
            self.0.write_all(bytes)?;
            self.0.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
