//! The life of one container.

use crate::world::{World, exited, id};

#[tokio::test]
async fn exit_codes_are_the_processes_own() {
    let world = World::new().await;
    for (name, script, code) in [
        ("zero", "exit 0", 0),
        ("three", "exit 3", 3),
        ("signal", "sh -c 'kill -TERM $$'", 143),
    ] {
        let id = id(name);
        world.host.start(&id, &world.shell(script)).await.unwrap();
        assert_eq!(world.host.ended(&id).await, exited(code), "{script}");
        world.host.remove(&id).await.unwrap();
    }
}
