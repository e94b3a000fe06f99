//! The cases, in the order in which they run.

mod legacy;
mod lifecycle;
mod server;

use testbed::suite::Case;

use crate::world::Counterparts;

/// All cases by name.
pub(crate) const ALL: &[(&str, Case<Counterparts>)] = &[
    ("main_job_and_upgrade", lifecycle::main_job_and_upgrade),
    (
        "crash_then_next_invoke_works",
        lifecycle::crash_then_next_invoke_works,
    ),
    (
        "process_killed_then_next_invoke_works",
        lifecycle::process_killed_then_next_invoke_works,
    ),
    (
        "compile_error_reaches_the_user",
        lifecycle::compile_error_reaches_the_user,
    ),
    (
        "peer_terminated_then_next_invoke_works",
        lifecycle::peer_terminated_then_next_invoke_works,
    ),
    (
        "peer_killed_then_next_invoke_works",
        lifecycle::peer_killed_then_next_invoke_works,
    ),
    (
        "server_killed_while_chaincode_runs",
        server::server_killed_while_chaincode_runs,
    ),
    (
        "supervisor_killed_is_an_end_of_the_process",
        server::supervisor_killed_is_an_end_of_the_process,
    ),
    (
        "server_killed_during_a_compile_and_the_next_install_joins",
        server::server_killed_during_a_compile_and_the_next_install_joins,
    ),
    ("legacy_main_job_and_upgrade", legacy::main_job_and_upgrade),
    (
        "legacy_crash_then_next_invoke_works",
        legacy::crash_then_next_invoke_works,
    ),
    (
        "legacy_compile_error_reaches_the_user",
        legacy::compile_error_reaches_the_user,
    ),
    (
        "legacy_peer_terminated_then_next_invoke_works",
        legacy::peer_terminated_then_next_invoke_works,
    ),
    (
        "legacy_peer_killed_then_next_invoke_works",
        legacy::peer_killed_then_next_invoke_works,
    ),
    (
        "nothing_is_left_when_all_is_removed",
        server::nothing_is_left_when_all_is_removed,
    ),
];
