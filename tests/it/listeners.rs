//! How connections to the Engine API begin: TLS, client certificates, files that change, sockets, and clients that begin
//! in the wrong way.

mod crowd;
pub(crate) mod log;
mod mutual;
mod pki;
mod reload;
mod socket;
mod tenants;
mod wrong;
