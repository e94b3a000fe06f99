//! Peitho gives Hyperledger Fabric peers the part of the Docker Engine API that they use, and lets
//! Kubernetes compile, run, watch and remove the chaincode; without a cluster a runtime of this machine does, or an
//! existing Docker Engine.
//!
//! # The way of a chaincode
//!
//! *Install.* A peer opens `POST /build` and keeps it silent. On other connections it creates an unnamed
//! container, the **builder**, uploads the source, attaches, starts, waits, and downloads the output; then it
//! sends Dockerfile and output into the open `/build`.
//!
//! *Launch.* It removes and creates the named **chaincode** container, uploads TLS files, starts it, and
//! waits for its end, which may be days away.
//!
//! # The way of a request
//!
//! [`listener`] accepts the connection, [`engine_api`] takes tenant and version off the path, and its router
//! finds the handler. From there:
//!
//! | request | way |
//! |---|---|
//! | `GET /images/…/json`, `POST /images/create` | [`image`] → [`store`], else [`registry`] |
//! | `POST /build` | [`image`]: context, Dockerfile, layer, assembly → [`store`] |
//! | `POST /containers/create` | [`container`] → [`image`]; a chaincode goes on to [`runtime`]: its record |
//! | `PUT …/archive` | [`container`] → [`store`] for a builder, [`runtime`] for a chaincode |
//! | `POST …/start` of a builder | [`container`] → [`compile`] → [`runtime`]: a pod with the agent |
//! | `POST …/start` of a chaincode | [`container`] → [`runtime`]: a pod that fetches its layer |
//! | `attach`, `wait` | [`container`] → the log and end of a [`compile`], or what [`runtime`] sees of the pod |
//! | stop, kill, `DELETE` | [`container`] → [`runtime`] |
//! | `GET /events` | [`events`], which [`container`] and [`image`] tell |
//!
//! From the other side come the pods: the [`agent`] in them fetches inputs and layers from [`delivery`], and
//! reports logs, outputs and exit codes there, with a [`grant`] for just that. People pull whole images there. [`serve`] puts all of it
//! together; [`admin`] tells operators how it is.
//!
//! A module may use those below it and none above: `serve` → `engine_api`, `delivery`, `admin` →
//! `container` → `image`, `compile` → `runtime` → `registry` → `image_spec` → `store`, `archive` →
//! `grant` → `names`. `ARCHITECTURE.md` has the same with file names, and why.

pub mod admin;
pub mod agent;
pub mod archive;
pub mod cli;
pub mod collection;
pub mod compile;
pub mod config;
pub mod container;
pub mod delivery;
pub mod engine_api;
pub mod events;
pub mod grant;
pub mod image;
pub mod image_spec;
pub mod inotify_limit;
pub mod listener;
pub mod names;
pub mod orders;
pub mod registry;
pub mod runtime;
pub mod serve;
pub mod single_flight;
pub mod store;
pub mod telemetry;
