//! The part of the Docker Engine API that Fabric peers use. Requests pass `prefix` (tenant and API version
//! leave the path), `metrics` (one count, one log line for each failure), `body` (an answered request leaves
//! no unread body on its connection), and end in a handler: [`mod@router`] shows all of them on one page. Handlers
//! parse the wire into types, ask `image` or `container`, and put the answer back on the wire. Nothing
//! below knows HTTP: `error` alone turns the errors of the domain into Docker's.
//!
//! # What ends when the client goes away (design D19)
//!
//! | request | when the client is gone |
//! |---|---|
//! | `POST /build`, body still coming | the body ends without its last chunk: it is discarded (protocol rule 8) |
//! | `POST /build`, body complete | goes on: a task of its own finishes, and a later inspect finds the image |
//! | `PUT …/archive` | discarded while the body comes; what was complete is kept |
//! | `GET …/archive` | dropped at the next write |
//! | `attach` | dropped at the next write, or when its connection is reset; a half-close is no end (rule 11) |
//! | `events` | dropped, and what was behind it |
//! | `wait` on a builder | its compile counts on it no more: with nobody else, it ends after a grace (ADR 0006) |
//! | `wait` on a chaincode, before its head | goes on, and its answer is thrown away: a launch that fails has to be cleaned up |
//! | `wait` on a chaincode, with heartbeats | dropped when one cannot be written: they come every 30 s |
//! | create, start, stop, kill, DELETE, inspect, pull | go on to their end |
//!
//! None of these owns a compile or a launch: those belong to `compile` and to the runtime. That a `/build` breaks
//! off says nothing about a compile: no header ties the two together, and one peer has several at once. When the server ends, `listener` lets requests go
//! on for a while and then drops them; builds whose body is complete are waited for.

mod archive;
mod attach;
mod body;
mod container;
mod error;
mod events;
mod filters;
#[doc(hidden)]
pub mod fuzzing;
mod hijack;
mod image;
mod logs;
mod look;
pub mod metrics;
mod prefix;
mod router;
mod stdcopy;
mod system;
mod tenants;
mod types;
mod unsupported;
mod utf8;

pub use prefix::Prefixed;
pub use router::{State, router};
pub use tenants::Tenants;

/// The version of the API that is spoken: below 1.44 the clients of 2.5.15, 2.5.16 and 3.1.4 ping before
/// every request (protocol rule 2). Any version is accepted in a path.
const API_VERSION: &str = "1.44";

/// The oldest one that is told: fsouza sends another body to `start` below it (protocol §2).
const MIN_API_VERSION: &str = "1.24";
