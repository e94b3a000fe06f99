//! The cases, in the order in which they run.

mod caches;
mod legacy;
mod lifecycle;
mod node;
mod roles;
mod rootless;
mod server;

use testbed::scenario::PeerEnd::{Killed, Terminated};
use testbed::suite::Case;

use crate::world::Counterparts;
use crate::world::Runtime::{Docker, Oci};

/// All cases by name.
pub(crate) const ALL: &[(&str, Case<Counterparts>)] = &[
    ("oci_main_job_and_upgrade", |c| lifecycle::main_job(c, Oci)),
    ("oci_crash_then_next_invoke_works", |c| {
        lifecycle::crash(c, Oci)
    }),
    ("oci_process_killed_then_next_invoke_works", |c| {
        lifecycle::process_killed(c, Oci)
    }),
    ("oci_compile_error_reaches_the_user", |c| {
        lifecycle::compile_error(c, Oci)
    }),
    ("oci_peer_terminated_then_next_invoke_works", |c| {
        lifecycle::restart(c, Oci, Terminated)
    }),
    ("oci_peer_killed_then_next_invoke_works", |c| {
        lifecycle::restart(c, Oci, Killed)
    }),
    ("oci_server_killed_while_chaincode_runs", |c| {
        server::killed_while_chaincode_runs(c, Oci)
    }),
    (
        "oci_supervisor_killed_is_an_end_of_the_process",
        server::supervisor_killed_is_an_end_of_the_process,
    ),
    (
        "oci_server_killed_during_a_compile_and_the_next_install_joins",
        server::killed_during_a_compile_and_the_next_install_joins,
    ),
    (
        "oci_server_killed_while_a_cache_goes_back_and_comes",
        caches::server_killed_while_it_goes_back_and_comes,
    ),
    ("docker_main_job_and_upgrade", |c| {
        lifecycle::main_job(c, Docker)
    }),
    ("docker_crash_then_next_invoke_works", |c| {
        lifecycle::crash(c, Docker)
    }),
    ("docker_process_killed_then_next_invoke_works", |c| {
        lifecycle::process_killed(c, Docker)
    }),
    ("docker_compile_error_reaches_the_user", |c| {
        lifecycle::compile_error(c, Docker)
    }),
    ("docker_peer_terminated_then_next_invoke_works", |c| {
        lifecycle::restart(c, Docker, Terminated)
    }),
    ("docker_peer_killed_then_next_invoke_works", |c| {
        lifecycle::restart(c, Docker, Killed)
    }),
    ("docker_server_killed_while_chaincode_runs", |c| {
        server::killed_while_chaincode_runs(c, Docker)
    }),
    ("oci_node_chaincode", |c| node::install_and_crash(c, Oci)),
    ("docker_node_chaincode", |c| {
        node::install_and_crash(c, Docker)
    }),
    (
        "roles_compile_by_docker_and_run_by_oci",
        roles::compile_by_docker_and_run_by_oci,
    ),
    (
        "roles_compile_by_oci_and_run_by_docker",
        roles::compile_by_oci_and_run_by_docker,
    ),
    (
        "rootless_main_job_of_an_ordinary_user",
        rootless::main_job_of_an_ordinary_user,
    ),
    // Peers of 1.4: the network is another from here on.
    ("oci_legacy_main_job_and_upgrade", |c| {
        legacy::main_job(c, Oci)
    }),
    ("oci_legacy_crash_then_next_invoke_works", |c| {
        legacy::crash(c, Oci)
    }),
    ("oci_legacy_compile_error_reaches_the_user", |c| {
        legacy::compile_error(c, Oci)
    }),
    ("oci_legacy_peer_terminated_then_next_invoke_works", |c| {
        legacy::restart(c, Oci, Terminated)
    }),
    ("oci_legacy_peer_killed_then_next_invoke_works", |c| {
        legacy::restart(c, Oci, Killed)
    }),
    ("docker_legacy_main_job_and_upgrade", |c| {
        legacy::main_job(c, Docker)
    }),
    ("docker_legacy_crash_then_next_invoke_works", |c| {
        legacy::crash(c, Docker)
    }),
    ("docker_legacy_compile_error_reaches_the_user", |c| {
        legacy::compile_error(c, Docker)
    }),
    ("docker_legacy_peer_killed_then_next_invoke_works", |c| {
        legacy::restart(c, Docker, Killed)
    }),
    (
        "nothing_is_left_when_all_is_removed",
        server::nothing_is_left_when_all_is_removed,
    ),
];
