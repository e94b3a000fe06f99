//! What every runtime must do, as cases against `dyn Runtime`: `tests/kubernetes`, `tests/oci` and `tests/docker` run all of them. Peers
//! depend on each of these.
//!
//! Where the runtimes differ by design, [`Subject`] says how, and the case asserts just that. On Kubernetes a process that ends by order
//! counts as killed, root becomes the configured user, and uploaded files can be read by their group. How soon
//! the outside sees what goes on inside differs, and where a process finds its own limit of memory.

#[path = "subject.rs"]
pub(crate) mod subject;

#[path = "course.rs"]
mod course;
#[path = "layers.rs"]
mod layers;
#[path = "life.rs"]
mod life;
#[path = "look.rs"]
mod look;
#[path = "output.rs"]
mod output;
#[path = "surroundings.rs"]
mod surroundings;
#[path = "troubles.rs"]
mod troubles;

use futures::future::BoxFuture;

pub(crate) use subject::Subject;

/// A case; it panics when the runtime fails it.
pub(crate) type Case = for<'a> fn(&'a dyn Subject) -> BoxFuture<'a, ()>;

/// All of them, by what must hold.
pub(crate) const ALL: &[(&str, Case)] = &[
    ("a container lives from create to remove", |s| {
        Box::pin(life::from_create_to_remove(s))
    }),
    ("exit codes are true, and told again", |s| {
        Box::pin(life::exit_codes(s))
    }),
    ("a process deaf to SIGTERM ends all the same", |s| {
        Box::pin(life::deaf(s))
    }),
    ("a process may end by itself when it is told to", |s| {
        Box::pin(life::obedient(s))
    }),
    ("a container that was stopped starts again", |s| {
        Box::pin(life::started_again(s))
    }),
    ("who waits hears of a start that comes later", |s| {
        Box::pin(life::waits_before_the_start(s))
    }),
    ("a restart of Peitho changes nothing", |s| {
        Box::pin(life::adopted(s))
    }),
    ("the end of a process is known to who comes later", |s| {
        Box::pin(life::ended_meanwhile(s))
    }),
    ("removal ends what runs, and frees the name", |s| {
        Box::pin(life::removed_while_it_runs(s))
    }),
    ("removal of what never ran is told to who waits", |s| {
        Box::pin(life::removed_before_the_start(s))
    }),
    ("one name is one container", |s| {
        Box::pin(life::name_taken(s))
    }),
    ("equal names of two tenants never meet", |s| {
        Box::pin(life::of_two_tenants(s))
    }),
    ("of many creators one wins", |s| {
        Box::pin(life::many_creators(s))
    }),
    ("many containers at once", |s| {
        Box::pin(life::many_at_once(s))
    }),
    ("tenants with equal names have no contact", |s| {
        Box::pin(life::tenants(s))
    }),
    ("a launch is followed to its end, whoever waits", |s| {
        Box::pin(course::to_its_end(s))
    }),
    ("a launch is followed through its removal", |s| {
        Box::pin(course::through_its_removal(s))
    }),
    (
        "the end of what is removed right after its start is heard",
        |s| Box::pin(course::removed_at_once(s)),
    ),
    ("a launch of an earlier process is followed", |s| {
        Box::pin(course::of_an_earlier_process(s))
    }),
    (
        "output comes from the first byte, while it runs and after",
        |s| Box::pin(output::from_the_start(s)),
    ),
    ("41 MB of output reach a slow reader whole", |s| {
        Box::pin(output::slow_reader(s))
    }),
    ("output is asked for before the start", |s| {
        Box::pin(output::before_the_start(s))
    }),
    ("output goes on over a restart of Peitho", |s| {
        Box::pin(output::adopted(s))
    }),
    ("the layer and the uploaded files are there", |s| {
        Box::pin(surroundings::files(s))
    }),
    ("a tree of files with links is what it was", |s| {
        Box::pin(surroundings::tree(s))
    }),
    ("no files are put into what was started", |s| {
        Box::pin(surroundings::files_after_the_start(s))
    }),
    ("arguments and variables arrive byte for byte", |s| {
        Box::pin(surroundings::literal(s))
    }),
    (
        "entrypoint, working directory and user are the order's",
        |s| Box::pin(surroundings::entrypoint(s)),
    ),
    ("a limit of memory holds", |s| {
        Box::pin(surroundings::memory(s))
    }),
    ("extra hosts are known", |s| {
        Box::pin(surroundings::extra_hosts(s))
    }),
    (
        "a read-only root has its layer and nothing else to write",
        |s| Box::pin(surroundings::read_only_root(s)),
    ),
    ("privileges are not gained", |s| {
        Box::pin(surroundings::no_new_privileges(s))
    }),
    ("a list tells what there is, and since when", |s| {
        Box::pin(look::listed(s))
    }),
    ("lines have their times", |s| Box::pin(look::lines(s))),
    ("no such command is told in words", |s| {
        Box::pin(troubles::no_such_command(s))
    }),
    ("no such image is told in words", |s| {
        Box::pin(troubles::no_such_image(s))
    }),
    ("no such container", |s| {
        Box::pin(troubles::no_such_container(s))
    }),
    ("a layer that is lost is told in words", |s| {
        Box::pin(troubles::no_such_layer(s))
    }),
];
