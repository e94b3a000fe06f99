//! The `docker` command against the real program whose containers run on this machine: a peer's requests make chaincode, a
//! person looks at it. Sessions of Debian's command and of a current one are recorded beside this file; look at the recording when it
//! changes, it is what people see. Beside it a person pulls an image from the server. As root; runc and busybox must be there, Go builds the current command the first time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod pull;
mod session;
mod world;

use session::Session;
use world::{RUNNING, World};

/// All commands that have a meaning, in an order in which a person might come to them.
fn look_around(session: &mut Session<'_>) {
    session.run(&["version"]);
    session.run(&["info"]);
    session.run(&["ps"]);
    session.run(&["ps", "-a"]);
    session.run(&["ps", "-aq", "--no-trunc"]);
    let format = "{{.Names}} {{.State}} {{.Label \"dev.peitho.package-id\"}} {{.Label \"dev.peitho.reason\"}}";
    session.run(&["ps", "-a", "--format", format]);
    for filter in [
        "name=fails",
        "status=exited",
        "status=created",
        "exited=2",
        "label=dev.peitho.package-id=runs_1:0123",
        "ancestor=dev-peer0.org1.example.com-basic",
        "label=nobody",
    ] {
        session.run(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]);
    }
    session.run(&["ps", "--filter", "volume=x"]);
    session.run(&["ps", "--filter", "status=tired"]);

    session.run(&["inspect", RUNNING]);
    let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
    session.run(&[
        "inspect",
        "--format",
        state,
        &world::name("fails"),
        &world::name("never"),
    ]);
    session.run(&["inspect", "--type", "container", "nobody"]);

    session.run(&["logs", RUNNING]);
    session.run(&["logs", "--tail", "1", RUNNING]);
    session.run(&["logs", "--timestamps", RUNNING]);
    session.run(&[
        "logs",
        "--since",
        "2020-01-01T00:00:00Z",
        "--tail",
        "1",
        RUNNING,
    ]);
    session.run(&["logs", "--until", "2020-01-01T00:00:00Z", RUNNING]);
    let id = session.id_of(RUNNING);
    session.run(&["logs", "--tail", "1", &id[..12]]);

    session.run(&["images"]);
    session.run(&[
        "images",
        "--filter",
        "reference=hyperledger/*",
        "--format",
        "{{.Repository}}",
    ]);
    session.run(&[
        "image",
        "inspect",
        "--format",
        "{{.RepoTags}} {{.Os}}",
        world::IMAGE,
    ]);
    session.run(&["image", "rm", world::IMAGE]);
}

/// What happened so far, and how it is told.
fn look_back(session: &mut Session<'_>) {
    // The command counts back from now in whole seconds.
    let now = format!("{:.9}", jiff::Timestamp::now());
    let so_far = |session: &mut Session<'_>, more: &[&str]| {
        session.run(&[&["events", "--since", "1h", "--until", &now], more].concat());
    };
    let package = "{{.Type}} {{.Action}} {{index .Actor.Attributes \"dev.peitho.package-id\"}}";
    so_far(session, &["--format", package]);
    let never = "label=dev.peitho.package-id=never_1:0123";
    so_far(session, &["--filter", never]);
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}} {{index .Actor.Attributes \"dev.peitho.reason\"}}";
    so_far(session, &["--filter", "event=die", "--format", format]);
    let format = "{{.Type}} {{.Action}}";
    for filter in [
        format!("container={RUNNING}"),
        format!("image={}", world::IMAGE),
        "type=image".to_owned(),
        "label=dev.peitho.package-id=fails_1:0123".to_owned(),
        "label=nobody".to_owned(),
        "network=bridge".to_owned(),
    ] {
        so_far(session, &["--filter", &filter, "--format", format]);
    }
    so_far(session, &["--filter", "colour=red"]);
    session.run(&[
        "events",
        "--since",
        "2020-01-01T00:00:00Z",
        "--until",
        "2019-01-01T00:00:00Z",
    ]);
}

/// Orders, and what stands in for those that are not taken.
fn give_orders(session: &mut Session<'_>) {
    session.run(&["exec", RUNNING, "ls"]);
    session.run(&["top", RUNNING]);
    session.run(&["cp", &format!("{RUNNING}:/etc/passwd"), "."]);
    session.run(&["restart", RUNNING]);
    session.run(&["network", "ls"]);
    session.run(&["volume", "ls"]);
    session.run(&["kill", "--signal", "HUP", RUNNING]);

    session.run(&["rm", RUNNING]);
    let container = format!("container={RUNNING}");
    let mut looking_on = session.begin(&["events", "--since", "1h", "--filter", &container]);
    looking_on.says("container start");
    let following = session.begin(&["logs", "--follow", RUNNING]);
    let waiting = session.begin(&["wait", RUNNING]);
    session.run(&["stop", RUNNING]);
    session.end(following);
    session.end(waiting);
    session.run(&["stop", RUNNING]);
    session.run(&["kill", RUNNING]);
    session.run(&["ps", "-a", "--filter", &format!("name={RUNNING}")]);
    session.run(&["start", RUNNING]);
    session.launched_anew();
    session.run(&["rm", "--force", RUNNING]);
    looking_on.says("container destroy");
    session.interrupt(looking_on);
    session.run(&[
        "rm",
        "--force",
        &world::name("fails"),
        &world::name("never"),
    ]);
    session.run(&["rm", "nobody"]);
    session.run(&["ps", "-a"]);
    session.run(&["image", "rm", world::IMAGE]);
    session.run(&["image", "rm", world::IMAGE]);
    session.run(&["image", "rm", world::BASE]);
    session.run(&["images"]);
}

fn recorded(program: &std::path::Path) -> String {
    let world = World::new();
    world.launch_chaincode();
    let mut session = Session::new(program, &world);
    look_around(&mut session);
    look_back(&mut session);
    give_orders(&mut session);
    session.recording()
}

#[test]
fn debians_command() {
    let program = world::assets().debian_docker_cli();
    insta::assert_snapshot!(recorded(&program));
}

#[test]
fn a_current_command() {
    let program = world::assets().docker_cli().unwrap();
    insta::assert_snapshot!(recorded(&program));
}
