//! What Docker can and Peitho does not: each of Docker's endpoints that people come upon by a command, with the words of that
//! command, and what does it instead where the container is. `router` asks for paths and methods that it does not serve, `archive` for people.

use http::{Method, StatusCode};

use super::error::ApiError;
use crate::container::{Containers, Shown};
use crate::names::{ContainerRef, Tenant};
use crate::runtime::Place;

/// How the same is done by the means of a container's runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// There is no such means.
    None,
    /// A command runs in the container.
    Exec,
    /// Files are copied.
    Copy,
    /// What its processes use.
    Top,
}

/// Method, path with `{}` for one segment and `{*}` for the rest, the command, and what does it instead.
type Row = (&'static str, &'static str, &'static str, Instead);

/// Any of the path's methods.
const ANY: &str = "*";

const ROWS: &[Row] = &[
    ("POST", "/containers/{}/exec", "docker exec", Instead::Exec),
    (ANY, "/exec/{*}", "docker exec", Instead::Exec),
    ("GET", "/containers/{}/archive", "docker cp", Instead::Copy),
    ("GET", "/containers/{}/top", "docker top", Instead::Top),
    ("GET", "/containers/{}/stats", "docker stats", Instead::Top),
    (
        "GET",
        "/containers/{}/changes",
        "docker diff",
        Instead::None,
    ),
    (
        "GET",
        "/containers/{}/export",
        "docker export",
        Instead::None,
    ),
    (
        "GET",
        "/containers/{}/attach/ws",
        "attach by web socket",
        Instead::None,
    ),
    (
        "POST",
        "/containers/{}/pause",
        "docker pause",
        Instead::None,
    ),
    (
        "POST",
        "/containers/{}/unpause",
        "docker unpause",
        Instead::None,
    ),
    (
        "POST",
        "/containers/{}/rename",
        "docker rename",
        Instead::None,
    ),
    ("POST", "/containers/{}/resize", "a terminal", Instead::None),
    (
        "POST",
        "/containers/{}/update",
        "docker update",
        Instead::None,
    ),
    (
        "POST",
        "/containers/{}/restart",
        "docker restart (the peer starts its chaincode anew at the next invoke)",
        Instead::None,
    ),
    (
        "POST",
        "/containers/prune",
        "docker container prune",
        Instead::None,
    ),
    ("POST", "/commit", "docker commit", Instead::None),
    ("POST", "/images/prune", "docker image prune", Instead::None),
    (
        "POST",
        "/images/load",
        "docker load (peitho images import takes such archives)",
        Instead::None,
    ),
    ("GET", "/images/get", "docker save", Instead::None),
    ("GET", "/images/search", "docker search", Instead::None),
    ("GET", "/images/{*}/get", "docker save", Instead::None),
    (
        "GET",
        "/images/{*}/history",
        "docker history",
        Instead::None,
    ),
    ("POST", "/images/{*}/push", "docker push", Instead::None),
    ("POST", "/images/{*}/tag", "docker tag", Instead::None),
    ("POST", "/build/{*}", "docker builder", Instead::None),
    ("POST", "/session", "BuildKit", Instead::None),
    ("POST", "/grpc", "BuildKit", Instead::None),
    ("POST", "/auth", "docker login", Instead::None),
    ("GET", "/system/df", "docker system df", Instead::None),
    ("GET", "/distribution/{*}", "docker manifest", Instead::None),
    (ANY, "/networks", "docker network", Instead::None),
    (ANY, "/networks/{*}", "docker network", Instead::None),
    (ANY, "/volumes", "docker volume", Instead::None),
    (ANY, "/volumes/{*}", "docker volume", Instead::None),
    (ANY, "/plugins", "docker plugin", Instead::None),
    (ANY, "/plugins/{*}", "docker plugin", Instead::None),
    (ANY, "/swarm", "docker swarm", Instead::None),
    (ANY, "/swarm/{*}", "docker swarm", Instead::None),
    (ANY, "/nodes", "docker node", Instead::None),
    (ANY, "/nodes/{*}", "docker node", Instead::None),
    (ANY, "/services", "docker service", Instead::None),
    (ANY, "/services/{*}", "docker service", Instead::None),
    (ANY, "/tasks", "docker service", Instead::None),
    (ANY, "/tasks/{*}", "docker service", Instead::None),
    (ANY, "/secrets", "docker secret", Instead::None),
    (ANY, "/secrets/{*}", "docker secret", Instead::None),
    (ANY, "/configs", "docker config", Instead::None),
    (ANY, "/configs/{*}", "docker config", Instead::None),
];

/// The refusal of what Docker would do for this request; `None` where it knows none either.
pub(super) async fn refusal(
    containers: &Containers,
    tenant: &Tenant,
    method: &Method,
    path: &str,
) -> Option<ApiError> {
    let (command, instead, id) = find(method, path)?;
    let shown = match id.map(str::parse::<ContainerRef>) {
        Some(Ok(container)) => match containers.show(tenant, &container).await {
            Ok(shown) => Some(shown),
            Err(error) => return Some(error.into()),
        },
        _ => None,
    };
    let instead = shown.and_then(|shown| line(instead, &shown));
    Some(ApiError::unsupported(command, instead))
}

/// The command, what does it instead, and the container that the path names.
fn find<'a>(method: &Method, path: &'a str) -> Option<(&'static str, Instead, Option<&'a str>)> {
    let (_, pattern, command, instead) = ROWS
        .iter()
        .find(|(of, pattern, ..)| (*of == ANY || *of == method.as_str()) && fits(pattern, path))?;
    let id = pattern
        .starts_with("/containers/{}")
        .then(|| path.split('/').nth(2))
        .flatten();
    Some((command, *instead, id))
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern, path);
    while let Some(at) = pattern.find('{') {
        let Some(rest) = path.strip_prefix(&pattern[..at]) else {
            return false;
        };
        if let Some(end) = pattern[at..].strip_prefix("{*}") {
            return rest.len() > end.len() && rest.ends_with(end);
        }
        let segment = rest.find('/').unwrap_or(rest.len());
        if segment == 0 {
            return false;
        }
        (pattern, path) = (&pattern[at + 2..], &rest[segment..]);
    }
    pattern == path
}

/// The line that does it where the container is.
fn line(instead: Instead, shown: &Shown) -> Option<String> {
    let engine =
        |name: &str, line: &str| format!("docker {line} at the Docker Engine, with {name}");
    Some(match (instead, &shown.life.place) {
        (Instead::Exec, Place::Pod { namespace, name }) => {
            format!("kubectl -n {namespace} exec -it {name} -- COMMAND")
        }
        (Instead::Copy, Place::Pod { namespace, name }) => {
            format!("kubectl -n {namespace} cp {name}:PATH PATH")
        }
        (Instead::Top, Place::Pod { namespace, name }) => {
            format!("kubectl -n {namespace} top pod {name} --containers")
        }
        (Instead::Exec, Place::Process { pid }) => {
            format!("nsenter -t {pid} -m -u -i -n -p -- COMMAND on the host of Peitho")
        }
        (Instead::Copy, Place::Process { pid }) => {
            format!("cp /proc/{pid}/root/PATH PATH on the host of Peitho")
        }
        (Instead::Top, Place::Process { pid }) => format!("top -p {pid} on the host of Peitho"),
        (Instead::Exec, Place::Engine { name }) => engine(name, "exec"),
        (Instead::Copy, Place::Engine { name }) => engine(name, "cp"),
        (Instead::Top, Place::Engine { name }) => engine(name, "top"),
        (Instead::None, _) | (_, Place::Unknown) => return None,
    })
}

/// The status that says so.
pub(super) const STATUS: StatusCode = StatusCode::NOT_IMPLEMENTED;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_paths_are_known_and_no_others() {
        for (method, path, command, id) in [
            ("POST", "/containers/cc/exec", "docker exec", Some("cc")),
            ("GET", "/exec/0a/json", "docker exec", None),
            ("POST", "/images/a/b:1/push", "docker push", None),
            ("GET", "/networks", "docker network", None),
            ("DELETE", "/volumes/v", "docker volume", None),
        ] {
            let (found, _, of) = find(&method.parse().unwrap(), path).unwrap();
            assert_eq!((found, of), (command, id), "{method} {path}");
        }
        for (method, path) in [
            ("GET", "/containers/cc/exec"),
            ("POST", "/containers//exec"),
            ("POST", "/containers/a/b/exec"),
            ("POST", "/images/push"),
            ("GET", "/network"),
            ("GET", "/networks/"),
            ("GET", "/"),
        ] {
            assert_eq!(
                find(&method.parse().unwrap(), path),
                None,
                "{method} {path}"
            );
        }
    }
}
