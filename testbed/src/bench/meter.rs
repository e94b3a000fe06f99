//! A way through which bytes are passed on and counted: what really goes over a socket, whatever those at its ends believe.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::Result;
use testbed::HOST_ADDRESS;

/// Listens on the bridge until the program ends.
pub(super) struct Meter {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
}

impl Meter {
    /// Passes on to `target`.
    pub(super) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((HOST_ADDRESS, 0))?;
        let meter = Self {
            address: listener.local_addr()?,
            passed: Arc::default(),
        };
        let passed = Arc::clone(&meter.passed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Where the target is away, the client sees a connection that ends.
                let Ok(server) = TcpStream::connect(target) else {
                    continue;
                };
                let ends = (client.try_clone(), server.try_clone());
                if let (Ok(client_too), Ok(server_too)) = ends {
                    for (from, to) in [(client, server), (server_too, client_too)] {
                        let passed = Arc::clone(&passed);
                        thread::spawn(move || pass(from, to, &passed));
                    }
                }
            }
        });
        Ok(meter)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes so far, in both directions.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// A connection that breaks ends for both sides.
fn pass(mut from: TcpStream, mut to: TcpStream, passed: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return to.shutdown(Shutdown::Write);
        }
        passed.fetch_add(count as u64, Ordering::Relaxed);
        to.write_all(&buffer[..count])?;
    }
}
