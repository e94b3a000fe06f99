//! What holds for every request: refusals, connections, labels.

use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt;

use super::world::{Answer, World, header, read_exactly, read_head};

#[tokio::test]
async fn what_no_peer_asks_for_is_refused_in_json() {
    let world = World::new().await;
    for (method, target, status, text) in [
        (
            "PUT",
            "/containers/json",
            405,
            "method not allowed: PUT /containers/json",
        ),
        ("GET", "/v1.44/nothing", 404, "page not found: GET /nothing"),
        ("GET", "/images/a/b/nothing", 404, "page not found"),
        (
            "GET",
            "/events?filters=%7B%22colour%22%3A%5B%22x%22%5D%7D",
            400,
            "invalid filter 'colour'",
        ),
        (
            "GET",
            "/events?since=yesterday",
            400,
            "since: \"yesterday\"",
        ),
        (
            "GET",
            "/events?since=2&until=1",
            400,
            "cannot be after `until` time (1970-01-01T00:00:01Z)",
        ),
        (
            "GET",
            "/images/a/b/history",
            501,
            "not supported by Peitho: docker history",
        ),
        (
            "POST",
            "/v1.41/images/a/b/push",
            501,
            "not supported by Peitho: docker push",
        ),
        (
            "GET",
            "/v1.44/networks",
            501,
            "not supported by Peitho: docker network",
        ),
        (
            "POST",
            "/containers/other/exec",
            404,
            "No such container: other",
        ),
        (
            "POST",
            "/containers/cc/kill?signal=HUP",
            501,
            "signal HUP, which does not end the process",
        ),
        (
            "GET",
            "/containers/cc/logs",
            400,
            "you must choose at least one stream",
        ),
        (
            "GET",
            "/containers/json?filters=%7B%22volume%22%3A%5B%22x%22%5D%7D",
            400,
            "invalid filter 'volume'",
        ),
        ("POST", "/_ping", 405, "method not allowed: POST /_ping"),
        ("PUT", "/containers/create", 405, "method not allowed"),
        ("GET", "/t/org2/_ping", 404, "unknown tenant"),
        ("GET", "/t/default/_ping", 404, "unknown tenant"),
        ("GET", "/t/ORG1/_ping", 404, "unknown tenant"),
        ("GET", "/t/org%31/_ping", 404, "unknown tenant"),
        ("GET", "/images/UPPER/json", 400, "invalid image name"),
        (
            "POST",
            "/containers/a%20b/start",
            404,
            "No such container: a b",
        ),
        (
            "POST",
            "/containers/other/stop?t=0",
            404,
            "No such container: other",
        ),
        (
            "POST",
            "/containers/other/kill?",
            404,
            "No such container: other",
        ),
        (
            "DELETE",
            "/v1.52/containers/other?force=1",
            404,
            "No such container: other",
        ),
        (
            "POST",
            "/containers/other/wait",
            404,
            "No such container: other",
        ),
        ("POST", "/containers/create?name=x", 400, "no body"),
        (
            "PUT",
            "/containers/cc/archive?path=etc",
            400,
            "absolute path",
        ),
        ("GET", "/containers/cc/archive", 400, "absolute path"),
        (
            "GET",
            "/containers/cc/archive?path=/chaincode/output/.",
            404,
            "Could not find the file",
        ),
        ("POST", "/images/create", 400, "fromImage"),
        ("POST", "/build", 400, "t: the name"),
        ("OPTIONS", "*", 404, "page not found"),
    ] {
        let answer = world.ask(method, target).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        let message = answer.message();
        assert!(message.contains(text), "{method} {target}: {message}");
    }
}

#[tokio::test]
async fn create_says_which_field_is_wrong() {
    let world = World::new().await;
    for (body, text) in [
        (r#"{"Image":"#, "EOF"),
        (
            r#"{"Image":"x","Cmd":7}"#,
            "Cmd: a string or a list of strings",
        ),
        (r#"{"Image":"x","Env":["A"]}"#, "Env"),
        (r#"{"Image":""}"#, "Image"),
        (
            r#"{"Image":"x","HostConfig":{"Memory":"2g"}}"#,
            "HostConfig.Memory",
        ),
    ] {
        let answer = world
            .send("POST", "/containers/create", body.as_bytes())
            .await;
        assert_eq!(answer.status, 400, "{body}");
        let message = answer.message();
        assert!(message.contains(text), "{body}: {message}");
    }
}

#[tokio::test]
async fn outcomes_have_no_body() {
    let world = World::new().await;
    for (method, target, status) in [
        ("POST", "/containers/cc/start", 204),
        ("POST", "/containers/cc/start", 304),
        ("POST", "/v1.44/containers/cc/stop?t=0", 204),
        ("POST", "/containers/cc/stop?t=0", 304),
        ("DELETE", "/containers/cc?force=1", 204),
    ] {
        let answer = world.ask(method, target).await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, ""),
            "{target}"
        );
    }
    let answer = world.ask("POST", "/containers/cc/kill?").await;
    assert_eq!(answer.status, 409);
    assert!(answer.message().contains("cc is not running"));
}

/// fsouza over a unix socket (protocol rule 20).
#[tokio::test]
async fn an_empty_host_is_accepted() {
    let world = World::new().await;
    let head = "GET /_ping HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n";
    assert_eq!(Answer::read(&mut world.open(head).await).await.status, 200);
}

#[tokio::test]
async fn a_half_closed_client_gets_its_answer() {
    let world = World::new().await;
    let head = "POST /containers/cc/wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let mut stream = world.open(head).await;
    stream.shutdown().await.unwrap();
    world.ask("POST", "/containers/cc/start").await;
    world.ask("POST", "/containers/cc/stop").await;
    let answer = Answer::read(&mut stream).await;
    assert!(answer.body.contains(r#""StatusCode":137"#), "{answer:?}");
}

/// moby sends its next request into the connection of a refused one.
#[tokio::test]
async fn a_refused_body_leaves_its_connection_usable() {
    let world = World::new().await;
    let length = 3 << 20;
    let head = format!("PUT /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    let mut stream = world.open(&head).await;
    stream.write_all(&vec![b'x'; length]).await.unwrap();
    let (head, mut body) = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert_eq!(header(&head, "connection"), None);
    let expected: usize = header(&head, "content-length").unwrap().parse().unwrap();
    body.extend(read_exactly(&mut stream, expected - body.len()).await);
    let next = "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(next.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 200);
}

#[tokio::test]
async fn labels_are_a_closed_set() {
    let world = World::new().await;
    for target in [
        "/_ping",
        "/v1.44/_ping",
        "/nothing/of/ours",
        "/t/org2/_ping",
        "/networks",
        "/volumes/x",
    ] {
        world.ask("GET", target).await;
    }
    world.ask("BREW", "/containers/a/start").await;
    world.ask("POST", "/containers/a/start").await;
    world.ask("POST", "/containers/b/start").await;
    let mut registry = Registry::default();
    world.requests.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let mut counts: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("engine_api_requests_total"))
        .collect();
    counts.sort_unstable();
    assert_eq!(
        counts,
        [
            r#"engine_api_requests_total{endpoint="GET /_ping",status="2xx"} 2"#,
            r#"engine_api_requests_total{endpoint="POST /containers/{id}/start",status="4xx"} 2"#,
            r#"engine_api_requests_total{endpoint="unknown",status="4xx"} 3"#,
            r#"engine_api_requests_total{endpoint="unsupported",status="5xx"} 2"#,
        ]
    );
    assert!(text.contains(r#"engine_api_request_duration_seconds_count{endpoint="GET /_ping"} 2"#));
}
