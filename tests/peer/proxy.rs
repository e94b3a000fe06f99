//! A proxy between a peer and its engine that passes bytes on and keeps the small answers: what the peer
//! was really told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::Result;

/// As much of each direction as is kept.
const KEPT: usize = 64 << 10;

/// One connection as it went by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) request: Vec<u8>,
    pub(crate) answer: Vec<u8>,
    pub(crate) answered: bool,
}

impl Exchange {
    pub(crate) fn request_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.request);
        text.lines().next().unwrap_or_default().to_owned()
    }

    pub(crate) fn answer(&self) -> String {
        String::from_utf8_lossy(&self.answer).into_owned()
    }
}

/// The proxy; it goes on until the process ends.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    exchanges: Arc<Mutex<Vec<Arc<Mutex<Exchange>>>>>,
}

impl Proxy {
    pub(crate) fn start(engine: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let proxy = Self {
            address: listener.local_addr()?,
            exchanges: Arc::default(),
        };
        let exchanges = Arc::clone(&proxy.exchanges);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(engine) else {
                    continue;
                };
                let exchange = Arc::<Mutex<Exchange>>::default();
                exchanges
                    .lock()
                    .expect("no panic")
                    .push(Arc::clone(&exchange));
                let (client_in, server_in) = (client.try_clone(), server.try_clone());
                if let (Ok(client_in), Ok(server_in)) = (client_in, server_in) {
                    let kept = Arc::clone(&exchange);
                    thread::spawn(move || {
                        pass(client_in, server, |bytes| {
                            keep(&mut kept.lock().expect("no panic").request, bytes)
                        })
                    });
                    thread::spawn(move || {
                        pass(server_in, client, |bytes| {
                            keep(&mut exchange.lock().expect("no panic").answer, bytes)
                        });
                        exchange.lock().expect("no panic").answered = true;
                    });
                }
            }
        });
        Ok(proxy)
    }

    /// The exchanges whose request line contains `part`, oldest first.
    pub(crate) fn exchanges(&self, part: &str) -> Vec<Exchange> {
        let exchanges = self.exchanges.lock().expect("no panic");
        exchanges
            .iter()
            .map(|exchange| exchange.lock().expect("no panic").clone())
            .filter(|exchange| exchange.request_line().contains(part))
            .collect()
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Passes bytes on; ends the other side's direction when this one ends, so that half-closes go through.
fn pass(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => {
                seen(&buffer[..count]);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
