//! The key of a compile (design D7): all that its result depends on, and nothing else. Pure.

use crate::names::{CompileKey, Digest, Hasher, ImageName};

use super::Request;
use crate::runtime::Resolution;

/// Digest over tenant, builder, Peitho's own architecture, command, environment, working directory, user and input. The
/// architecture that is compiled for is the builder's, and counts with its digest.
///
/// Each part goes in with its length, so that no two requests write the same bytes. A builder whose digest
/// nobody could tell counts by its name. `surroundings` is what the runtime adds: where that is nothing, the key
/// is that of a Peitho without such settings. So it is with how names resolve, on which what is fetched may depend.
pub(super) fn of(request: &Request, surroundings: Option<&Digest>) -> CompileKey {
    let mut parts = Parts(Hasher::default());
    parts.add("compile/1");
    parts.add(request.tenant.as_str());
    parts.add(&builder(&request.image, request.builder.as_ref()));
    parts.add(std::env::consts::ARCH);
    parts.list(request.command.iter().map(String::as_str));
    parts.list(
        request
            .env
            .iter()
            .flat_map(|(name, value)| [name.as_str(), value.as_str()]),
    );
    parts.add(request.working_dir.as_deref().unwrap_or(""));
    parts.add(&request.user.map_or(String::new(), |user| user.to_string()));
    parts.add(
        &request
            .input
            .as_ref()
            .map_or(String::new(), |input| input.content.to_string()),
    );
    let resolution = &request.resolution;
    if *resolution != Resolution::default() {
        parts.add("resolution");
        parts.list(resolution.dns.iter().map(String::as_str));
        parts.list(resolution.dns_search.iter().map(String::as_str));
        let hosts = resolution.extra_hosts.iter();
        parts.list(hosts.flat_map(|(name, address)| [name.as_str(), address.as_str()]));
    }
    if let Some(surroundings) = surroundings {
        parts.add(&surroundings.to_string());
    }
    CompileKey::new(parts.0.finish())
}

fn builder(name: &ImageName, digest: Option<&Digest>) -> String {
    digest.map_or_else(|| name.full(), Digest::to_string)
}

struct Parts(Hasher);

impl Parts {
    fn add(&mut self, part: &str) {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part.as_bytes());
    }

    fn list<'a>(&mut self, items: impl Iterator<Item = &'a str>) {
        let items: Vec<_> = items.collect();
        self.0.update(&(items.len() as u64).to_be_bytes());
        for item in items {
            self.add(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::Input;
    use crate::names::Tenant;
    use crate::store::Store;

    async fn request() -> Request {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).await.unwrap();
        Request {
            tenant: Tenant::default_tenant(),
            image: "hyperledger/fabric-ccenv:2.1".parse().unwrap(),
            builder: Some(Digest::of(b"builder")),
            facts: Default::default(),
            manifest: Some(Digest::of(b"manifest")),
            command: vec!["/bin/sh".into(), "-c".into(), "go build".into()],
            env: vec![("GOPROXY".into(), "off".into())],
            working_dir: None,
            user: None,
            resolution: Resolution::default(),
            input: Some(Input {
                archive: store.ingest().await.unwrap().into(),
                content: Digest::of(b"tar"),
            }),
        }
    }

    #[tokio::test]
    async fn each_part_counts() {
        let changed: [fn(&mut Request); 11] = [
            |r| r.tenant = "org1".parse().unwrap(),
            |r| r.builder = Some(Digest::of(b"other")),
            |r| r.builder = None,
            |r| r.command.push("x".into()),
            |r| r.env[0].1 = "on".into(),
            |r| r.working_dir = Some("/w".into()),
            |r| r.user = Some(1),
            |r| r.resolution.dns = vec!["10.0.0.1".into()],
            |r| r.resolution.dns_search = vec!["10.0.0.1".into()],
            |r| r.resolution.extra_hosts = vec![("10.0.0.1".into(), "10.0.0.1".into())],
            |r| r.input.as_mut().unwrap().content = Digest::of(b"other"),
        ];
        let mut keys = std::collections::BTreeSet::from([
            of(&request().await, None),
            of(&request().await, Some(&Digest::of(b"one"))),
            of(&request().await, Some(&Digest::of(b"other"))),
        ]);
        assert_eq!(keys.len(), 3);
        for change in changed {
            let mut request = request().await;
            change(&mut request);
            assert!(keys.insert(of(&request, None)), "{request:?}");
        }
    }

    #[tokio::test]
    async fn the_upload_itself_and_the_name_of_a_known_builder_do_not_count() {
        let mut other = request().await;
        other.image = "mirror.example.com/ccenv:2.1".parse().unwrap();
        assert_eq!(of(&request().await, None), of(&other, None));
    }

    #[tokio::test]
    async fn parts_do_not_run_into_each_other() {
        let mut a = request().await;
        a.command = vec!["ab".into(), "c".into()];
        let mut b = request().await;
        b.command = vec!["a".into(), "bc".into()];
        assert_ne!(of(&a, None), of(&b, None));
    }
}
