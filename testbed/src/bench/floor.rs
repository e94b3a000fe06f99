//! What an install costs without any daemon: the peer's own share of it. A daemon that has every image, compiles everything in no
//! time to the same program, and answers at once; it knows what a peer of 2.1 asks for an install, and no more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::Result;
use testbed::engine::tar;

/// Starts it, until the program ends; what a peer has in `CORE_VM_ENDPOINT`. `program` is what all code compiles to.
pub(super) fn start(program: Vec<u8>) -> Result<String> {
    let output: Arc<[u8]> = tar(&[("./chaincode", 0o755, &program)])?.into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = format!("tcp://{}", listener.local_addr()?);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let output = Arc::clone(&output);
            // A client that goes away has what it wanted.
            thread::spawn(move || serve(client, &output).ok());
        }
    });
    Ok(endpoint)
}

/// All requests of a connection.
fn serve(client: TcpStream, output: &[u8]) -> io::Result<()> {
    let mut requests = BufReader::new(client.try_clone()?);
    let mut client = client;
    while let Some(line) = head(&mut requests)? {
        let (status, kind, body): (_, _, &[u8]) = match line.as_str() {
            attach if attach.contains("/attach?") => {
                let switch = "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
                return client.write_all(switch.as_bytes());
            }
            own if own.contains("/images/net-") => {
                (404, "json", b"{\"message\":\"no such image\"}")
            }
            image if image.contains("/images/") => (200, "json", b"{\"Id\":\"sha256:00\"}"),
            version if version.contains("/version") => (200, "json", b"{\"ApiVersion\":\"1.41\"}"),
            create if create.contains("/containers/create") => (201, "json", b"{\"Id\":\"00\"}"),
            wait if wait.contains("/wait") => (200, "json", b"{\"StatusCode\":0}"),
            get if get.starts_with("GET ") && get.contains("/archive") => (200, "x-tar", output),
            start if start.contains("/start") || start.starts_with("DELETE ") => (204, "json", b""),
            _ => (200, "json", b"{}"),
        };
        let length = match status {
            204 => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head =
            format!("HTTP/1.1 {status} Fine\r\nContent-Type: application/{kind}\r\n{length}\r\n");
        client.write_all(head.as_bytes())?;
        client.write_all(body)?;
    }
    Ok(())
}

/// The line of the next request, once its body is read to the end; `None` when there is none.
fn head(requests: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut request = String::new();
    if requests.read_line(&mut request)? == 0 {
        return Ok(None);
    }
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut line = String::new();
        requests.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
        is_chunked |= line == "transfer-encoding: chunked";
    }
    if is_chunked {
        while let size @ 1.. = chunk(requests)? {
            // With the line's end behind it.
            skip(requests, size + 2)?;
        }
        skip(requests, 2)?;
    } else {
        skip(requests, length)?;
    }
    Ok(Some(request))
}

/// The size of the chunk that comes.
fn chunk(requests: &mut impl BufRead) -> io::Result<u64> {
    let mut line = String::new();
    requests.read_line(&mut line)?;
    u64::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)
}

fn skip(requests: &mut impl Read, bytes: u64) -> io::Result<()> {
    io::copy(&mut requests.take(bytes), &mut io::sink()).map(drop)
}
