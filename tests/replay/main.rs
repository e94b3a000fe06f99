//! Recorded peers, played again: each request of each client as it was on the wire, against the real server with the `oci`
//! runtime, and each reply judged by what that client makes of it. The fixtures hold what was recorded: seven families of
//! clients in up to ten scenarios each (one file a family), and two whole peers with their network. What is not in a
//! recording, the contents of archives, is made here. Peers of Fabric itself are in `tests/peer` and `tests/machine`; these
//! recordings cover more releases in less time, and need no network. Beside them, clients that nobody recorded: many,
//! slow, broken and malicious ones; and a server whose machine is gone.
//!
//! `cargo test --test replay` plays all of them, as root with runc and busybox; a name or a part of one plays some.

mod archives;
mod bucket;
mod hostile;
mod judge;
mod peer;
mod probe;
mod recording;
mod server;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};

use recording::Recording;
use server::Server;

/// Steps of the families, and of the whole peers: a fixture that was lost or cut is missed.
const STEPS: usize = 742 + 65;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let recordings = recording::all();
    let steps: usize = recordings.iter().map(Recording::steps).sum();
    let mut trials = vec![trial("all_steps_are_there".into(), move || {
        ensure!(steps == STEPS, "{steps} recorded steps, not {STEPS}");
        Ok(())
    })];
    if arguments.list {
        trials.extend(names(&recordings).map(|name| trial(name, || Ok(()))));
        trials.extend(trials_beside(Path::new("")));
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    let started = testbed::peitho::program()
        .and_then(|program| Ok((Server::with_images(&program, &recordings)?, program)));
    let (server, program) = match started {
        Ok((server, program)) => (Arc::new(server), program),
        Err(error) => {
            testbed::say(format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut number = 0;
    for recording in recordings.into_iter().map(Arc::new) {
        for index in 0..recording.scenarios.len() {
            let (server, recording) = (Arc::clone(&server), Arc::clone(&recording));
            number += 1;
            let name = recording.scenarios[index].full_name(&recording);
            trials.push(trial(name, move || {
                peer::play(&server, &recording, index, number)
            }));
        }
    }
    let ended = Arc::clone(&server);
    trials.push(trial(
        "what_is_unknown_is_a_404_and_one_label".into(),
        move || judge::unknown_requests(&ended),
    ));
    let asked = Arc::clone(&server);
    trials.push(trial("probe::a_builder_is_asked_once".into(), move || {
        probe::a_builder_is_asked_once(&asked)
    }));
    trials.extend(trials_beside(&program));
    let conclusion = libtest_mimic::run(&arguments, trials);
    if conclusion.has_failed() {
        testbed::say(format!("the server warned of:\n{}", server.warnings()));
    }
    conclusion.exit_code()
}

fn trials_beside(program: &Path) -> impl Iterator<Item = Trial> {
    let hostile = hostile::ALL.iter().map(|(name, case)| {
        let program = program.to_owned();
        trial(format!("hostile::{name}"), move || case(&program))
    });
    let program = program.to_owned();
    let name = "bucket::another_server_launches_what_one_built";
    hostile.chain([trial(name.to_owned(), move || {
        bucket::another_server_launches_what_one_built(&program)
    })])
}

fn names(recordings: &[Recording]) -> impl Iterator<Item = String> {
    let of = |recording: &Recording| {
        let scenarios = recording.scenarios.iter();
        scenarios
            .map(|it| it.full_name(recording))
            .collect::<Vec<_>>()
    };
    recordings
        .iter()
        .flat_map(of)
        .collect::<Vec<_>>()
        .into_iter()
}

fn trial(name: String, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}
