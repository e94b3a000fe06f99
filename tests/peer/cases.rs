//! The cases, in the order in which they run.

mod burst;
mod deployment;
mod gone;
mod install_faults;
mod launch_faults;
mod legacy;
mod life_faults;
mod lifecycle;
mod node;
mod outages;
mod protocol;
mod registry;
mod roles;
mod secrets;
mod startup;
mod templates;

use testbed::suite::Case;

use crate::world::Counterparts;

/// All cases by name.
pub(crate) const ALL: &[(&str, Case<Counterparts>)] = &[
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
        "launch_that_fails_tells_why",
        launch_faults::launch_that_fails_tells_why,
    ),
    (
        "pull_secret_opens_a_closed_registry",
        launch_faults::pull_secret_opens_a_closed_registry,
    ),
    (
        "end_of_a_process_is_told_and_the_next_invoke_works",
        life_faults::end_of_a_process_is_told_and_the_next_invoke_works,
    ),
    (
        "sixteen_crashes_sixteen_recoveries",
        life_faults::sixteen_crashes_sixteen_recoveries,
    ),
    (
        "restarted_peer_finds_exactly_one_pod",
        life_faults::restarted_peer_finds_exactly_one_pod,
    ),
    (
        "api_server_away_for_a_minute",
        outages::api_server_away_for_a_minute,
    ),
    (
        "api_server_slow_or_failing",
        outages::api_server_slow_or_failing,
    ),
    (
        "server_killed_at_every_request_of_a_life",
        outages::server_killed_at_every_request_of_a_life,
    ),
    (
        "install_that_fails_tells_why",
        install_faults::install_that_fails_tells_why,
    ),
    (
        "compile_that_is_ended_tells_by_what",
        install_faults::compile_that_is_ended_tells_by_what,
    ),
    ("registry_silent", outages::registry_silent),
    (
        "full_store_is_told_and_recovers",
        install_faults::full_store_is_told_and_recovers,
    ),
    (
        "startup_without_the_role_names_the_missing_rights",
        startup::startup_without_the_role_names_the_missing_rights,
    ),
    (
        "startup_without_events_warns_once_and_serves",
        startup::startup_without_events_warns_once_and_serves,
    ),
    (
        "startup_with_a_wrong_token_is_refused_at_once",
        startup::startup_with_a_wrong_token_is_refused_at_once,
    ),
    (
        "startup_in_a_namespace_that_does_not_exist_names_it",
        startup::startup_in_a_namespace_that_does_not_exist_names_it,
    ),
    (
        "startup_with_the_configuration_of_the_original",
        startup::startup_with_the_configuration_of_the_original,
    ),
    (
        "templates_host_config_reaches_the_process",
        templates::templates_host_config_reaches_the_process,
    ),
    (
        "templates_change_the_pods_of_their_label",
        templates::templates_change_the_pods_of_their_label,
    ),
    (
        "templates_compiles_have_proxies_and_certificates",
        templates::templates_compiles_have_proxies_and_certificates,
    ),
    (
        "templates_that_the_cluster_refuses_are_told_at_the_start",
        templates::templates_that_the_cluster_refuses_are_told_at_the_start,
    ),
    (
        "roles_compile_on_this_machine_and_run_as_a_pod",
        roles::compile_on_this_machine_and_run_as_a_pod,
    ),
    ("dockerd_node_chaincode", node::dockerd_node_chaincode),
    ("node_chaincode", node::node_chaincode),
    (
        "images_in_a_registry_run_by_their_digest",
        registry::images_in_a_registry_run_by_their_digest,
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
        "legacy_images_in_a_registry_run_by_their_digest",
        registry::legacy_images_in_a_registry_run_by_their_digest,
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
