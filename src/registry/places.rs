//! Where images are taken from, when that is not where their names say: a place that stands for a registry for everybody, as a
//! network without Docker Hub needs it, and mirrors that are asked before. `Registries` reads by it, runtimes have their nodes or
//! engine pull by it; the name of an image stays what its peer calls it. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::access::spelled;
use crate::config;
use crate::names::ImageName;

/// The places of all registries; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Places(Arc<HashMap<String, OfRegistry>>);

/// As the configuration has them: `host`, or `host/path`.
#[derive(Debug)]
struct OfRegistry {
    replaced_by: Option<String>,
    mirrors: Vec<String>,
}

impl Places {
    pub(crate) fn of_config(registries: &[config::Registry]) -> Self {
        let all = registries.iter().map(|registry| {
            let places = OfRegistry {
                replaced_by: registry.replaced_by.clone(),
                mirrors: registry.mirrors.clone(),
            };
            (spelled(&registry.host), places)
        });
        Self(Arc::new(all.collect()))
    }

    /// Where `image` is for everybody: nodes pull it from there.
    pub fn of(&self, image: &ImageName) -> ImageName {
        let places = self.0.get(image.registry());
        let place = places.and_then(|it| it.replaced_by.as_deref());
        // The configuration was checked, and what is too long for a name is nowhere.
        let moved = place.and_then(|place| image.below(place).ok());
        moved.unwrap_or_else(|| image.clone())
    }

    /// Where `image` is looked for before that, in this order.
    pub(super) fn mirrors(&self, image: &ImageName) -> Vec<ImageName> {
        let places = self.0.get(image.registry());
        let mirrors = places.map_or(&[][..], |it| &it.mirrors);
        let moved = mirrors.iter().filter_map(|place| image.below(place).ok());
        moved.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_where_its_registry_was_replaced() {
        let places = Places::of_config(&[
            config::Registry {
                host: "index.docker.io".to_owned(),
                replaced_by: Some("r.example.com:5000/mirror".to_owned()),
                mirrors: vec!["near.example.com".to_owned(), "m.io/hub".to_owned()],
                ..config::Registry::default()
            },
            config::Registry {
                host: "r.example.com:5000".to_owned(),
                ..config::Registry::default()
            },
        ]);
        let digest = format!("@sha256:{}", "ab".repeat(32));
        for (image, expected) in [
            (
                "hyperledger/fabric-ccenv:2.5",
                "r.example.com:5000/mirror/hyperledger/fabric-ccenv:2.5",
            ),
            (
                "busybox",
                "r.example.com:5000/mirror/library/busybox:latest",
            ),
            (
                &format!("a/b{digest}"),
                &format!("r.example.com:5000/mirror/a/b{digest}"),
            ),
            ("r.example.com:5000/a/b:1", "r.example.com:5000/a/b:1"),
            ("elsewhere.io/a", "elsewhere.io/a:latest"),
        ] {
            assert_eq!(places.of(&image.parse().unwrap()).full(), expected);
        }
        let mirrors = |image: &str| places.mirrors(&image.parse().unwrap());
        assert_eq!(
            mirrors("a/b:1")
                .iter()
                .map(ImageName::full)
                .collect::<Vec<_>>(),
            ["near.example.com/a/b:1", "m.io/hub/a/b:1"]
        );
        assert!(mirrors("elsewhere.io/a").is_empty());
    }
}
