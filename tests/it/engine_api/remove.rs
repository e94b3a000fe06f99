//! `DELETE /containers/{id}`: always forced for peers, and for people where they say so.

use peitho::runtime::{Exit, State};

use super::bodies::{IMAGE, complete};
use super::world::{Answer, World};

async fn remove(world: &World, agent: &str, query: &str) -> Answer {
    let request = format!(
        "DELETE /v1.44/containers/cc{query} HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    );
    Answer::read(&mut world.open(&request).await).await
}

const PERSON: &str = "Docker-Client/29.1.3 (linux)";
const PEER: &str = "Go-http-client/1.1";

#[tokio::test]
async fn what_runs_or_is_about_to_is_kept_from_people_without_force() {
    let world = World::new().await;
    let built = world
        .send("POST", &format!("/build?t={IMAGE}"), &complete())
        .await;
    assert_eq!(built.status, 200, "{built:?}");
    let order = format!(r#"{{"Image":"{IMAGE}"}}"#);
    // The cluster of these tests has it already.
    let created = world
        .send("POST", "/v1.44/containers/create?name=cc", order.as_bytes())
        .await;
    assert_eq!(created.status, 409, "{created:?}");
    for state in [State::Starting, State::Running] {
        world.cluster.state.send_replace(state.clone());
        let refused = remove(&world, PERSON, "").await;
        assert_eq!(refused.status, 409, "{refused:?}");
        assert!(
            refused.message().contains("container is running"),
            "{refused:?}"
        );
        assert_eq!(*world.cluster.state.borrow(), state);
        for (agent, query) in [(PERSON, "?force=1"), (PEER, "")] {
            world.cluster.state.send_replace(state.clone());
            let removed = remove(&world, agent, query).await;
            assert_eq!(removed.status, 204, "{state:?} {agent}: {removed:?}");
        }
    }
    for state in [State::Created, State::Exited(Exit { code: 1 })] {
        world.cluster.state.send_replace(state);
        assert_eq!(remove(&world, PERSON, "").await.status, 204);
    }
}
