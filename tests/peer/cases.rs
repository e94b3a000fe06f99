//! The cases, in the order in which they run.

mod burst;
mod deployment;
mod gone;
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
    (
        "refused_start_of_chaincode_ends_attach",
        gone::refused_start_of_chaincode_ends_attach,
    ),
    (
        "burst_of_20_stops_is_over_within_5_s",
        burst::twenty_chaincodes_are_ended_at_once_within_five_seconds,
    ),
    (
        "gone_client_ends_its_compile",
        gone::gone_client_ends_its_compile,
    ),
    (
        "gone_peer_during_compile_and_during_life",
        gone::gone_peer_during_compile_and_during_life,
    ),
    (
        "gone_server_leaves_no_compile_that_nobody_asks_for",
        gone::gone_server_leaves_no_compile_that_nobody_asks_for,
    ),
    (
        "gone_server_during_compile_and_the_next_install_joins",
        gone::gone_server_during_compile_and_the_next_install_joins,
    ),
    // Its network is a new one: what comes after it finds no chaincode of earlier cases at the peers.
    (
        "two_peers_at_once_share_a_compile_and_do_not_share_two",
        gone::two_peers_at_once_share_a_compile_and_do_not_share_two,
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
