//! The cases, in the order in which they run.

mod deployment;
mod legacy;
mod lifecycle;
mod protocol;
mod secrets;

use anyhow::Result;
use testbed::Steps;

use crate::world::Counterparts;

/// A case: what it asserts it asserts itself; it may give the times of its steps.
pub(crate) type Case = fn(&Counterparts) -> Result<Option<Steps>>;

/// All cases by name.
pub(crate) const ALL: &[(&str, Case)] = &[
    // The reference is judged first.
    (
        "dockerd_main_job_and_upgrade",
        lifecycle::dockerd_main_job_and_upgrade,
    ),
    (
        "dockerd_crash_then_next_invoke_works",
        lifecycle::dockerd_crash_then_next_invoke_works,
    ),
    (
        "dockerd_compile_error_reaches_the_user",
        lifecycle::dockerd_compile_error_reaches_the_user,
    ),
    (
        "dockerd_log_of_41_mb_is_complete_for_a_slow_client",
        protocol::dockerd_log_of_41_mb_is_complete_for_a_slow_client,
    ),
    // Then Peitho.
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
        "pod_deleted_then_next_invoke_works",
        lifecycle::pod_deleted_then_next_invoke_works,
    ),
    (
        "compile_error_reaches_the_user",
        lifecycle::compile_error_reaches_the_user,
    ),
    (
        "chaincode_slow_to_connect_launches",
        lifecycle::chaincode_slow_to_connect_launches,
    ),
    (
        "log_of_41_mb_is_complete_for_a_slow_client",
        protocol::log_of_41_mb_is_complete_for_a_slow_client,
    ),
    (
        "compile_that_the_cluster_refuses_tells_why",
        protocol::compile_that_the_cluster_refuses_tells_why,
    ),
    (
        "relaunch_after_removal_never_runs_two_processes",
        protocol::relaunch_after_removal_never_runs_two_processes,
    ),
    (
        "two_launches_at_once_never_run_two_processes",
        protocol::two_launches_at_once_never_run_two_processes,
    ),
    (
        "server_killed_while_chaincode_runs",
        lifecycle::server_killed_while_chaincode_runs,
    ),
    // Peers of 1.4, in the same order: the network is another from here on.
    (
        "legacy_dockerd_main_job_and_upgrade",
        legacy::dockerd_main_job_and_upgrade,
    ),
    (
        "legacy_dockerd_crash_then_next_invoke_works",
        legacy::dockerd_crash_then_next_invoke_works,
    ),
    (
        "legacy_dockerd_compile_error_reaches_the_user",
        legacy::dockerd_compile_error_reaches_the_user,
    ),
    (
        "legacy_dockerd_peer_terminated_then_next_invoke_works",
        legacy::dockerd_peer_terminated_then_next_invoke_works,
    ),
    (
        "legacy_dockerd_peer_killed_then_next_invoke_works",
        legacy::dockerd_peer_killed_then_next_invoke_works,
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
    ("legacy_dockerd_without_tls", legacy::dockerd_without_tls),
    (
        "legacy_without_tls_nothing_is_uploaded",
        legacy::without_tls_nothing_is_uploaded,
    ),
    (
        "keys_appear_nowhere_but_in_their_secret",
        secrets::keys_appear_nowhere_but_in_their_secret,
    ),
    (
        "nothing_is_left_and_foreign_objects_are_untouched",
        secrets::nothing_is_left_and_foreign_objects_are_untouched,
    ),
    (
        "main_job_with_peitho_as_a_pod",
        deployment::main_job_with_peitho_as_a_pod,
    ),
];
