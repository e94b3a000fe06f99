//! What the platform of its image asks of a pod: nodes that can run it, in clusters with several architectures. An index lets a
//! node pull its own, but a chaincode was compiled for one. Pure; `pod` and `compile_pod` end with it.

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec,
};

use super::Settings;
use crate::config::PullPolicy;
use crate::image_spec::ImageFacts;
use crate::names::ImageName;

/// Labels that every kubelet gives its node.
pub(super) const ARCHITECTURE: &str = "kubernetes.io/arch";
const OS: &str = "kubernetes.io/os";

/// The image `name` as nodes pull it: from where it is, and by its digest where that was told there, so that a tag that moves
/// changes nothing under what was built on it. Not where nodes pull nothing: what was put there by hand has no digest.
pub(super) fn image(settings: &Settings, name: &ImageName, facts: &ImageFacts) -> String {
    let placed = settings.places.of(name);
    let is_told_there = match &facts.place {
        Some(place) => place.is_beside(&placed),
        // Of a time when none was kept: as good as always that of the name.
        None => placed == *name,
    };
    let digest = facts
        .digest
        .filter(|_| is_told_there && settings.image_pull_policy != PullPolicy::Never);
    let pinned = digest.and_then(|digest| placed.at(&digest.to_string()).ok());
    pinned.unwrap_or(placed).full()
}

/// `pod` on nodes that run linux, on the architecture of its image, unless it says itself on which it runs. Where nobody told the
/// image's, what the operator says of the nodes is as good: a compile and its chaincode have to land on the same.
pub(super) fn placed(mut pod: Pod, settings: &Settings, facts: &ImageFacts) -> Pod {
    let architecture = facts.architecture.as_ref();
    if let Some(spec) = &mut pod.spec {
        if let Some(architecture) = architecture.or(settings.architecture.as_ref()) {
            require(spec, ARCHITECTURE, architecture.as_str());
        }
        require(spec, OS, "linux");
    }
    pod
}

/// For which architectures `spec` asks by what it requires of nodes, be it by what was added here.
pub(super) fn asked_for(spec: &PodSpec) -> Vec<&str> {
    let nodes = spec.affinity.as_ref();
    let nodes = nodes.and_then(|it| it.node_affinity.as_ref());
    let required = nodes.and_then(|it| {
        it.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let terms = required.into_iter().flat_map(|it| &it.node_selector_terms);
    let wanted = terms.flat_map(|it| it.match_expressions.iter().flatten());
    let mut found: Vec<&str> = wanted
        .filter(|it| it.key == ARCHITECTURE && it.operator == "In")
        .flat_map(|it| it.values.iter().flatten().map(String::as_str))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn require(spec: &mut PodSpec, label: &str, value: &str) {
    let selector = spec.node_selector.as_ref();
    if spec.node_name.is_some() || selector.is_some_and(|it| it.contains_key(label)) {
        return;
    }
    let affinity = spec.affinity.get_or_insert_default();
    let nodes = affinity.node_affinity.get_or_insert_default();
    let required = &mut nodes.required_during_scheduling_ignored_during_execution;
    let NodeSelector {
        node_selector_terms,
    } = required.get_or_insert_default();
    if node_selector_terms.is_empty() {
        node_selector_terms.push(NodeSelectorTerm::default());
    }
    // A node has to fit one of the terms, and all of that.
    for term in node_selector_terms {
        let wanted = term.match_expressions.get_or_insert_default();
        if wanted.iter().all(|it| it.key != label) {
            wanted.push(NodeSelectorRequirement {
                key: label.to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![value.to_owned()]),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::settings;
    use super::*;
    use crate::config;
    use crate::names::Digest;
    use crate::registry::Places;

    /// Of `spec`, where the operator says `nodes`, and the image is for `image`.
    fn placed_on(spec: &Value, nodes: Option<&str>, image: Option<&str>) -> Value {
        let pod = serde_json::from_value(json!({"spec": spec})).unwrap();
        let settings = Settings {
            architecture: nodes.map(|it| it.parse().unwrap()),
            ..settings()
        };
        let facts = ImageFacts {
            architecture: image.map(|it| it.parse().unwrap()),
            ..ImageFacts::default()
        };
        let pod = serde_json::to_value(placed(pod, &settings, &facts)).unwrap();
        pod["spec"].clone()
    }

    /// Settings by which images of docker.io are taken from `place`.
    fn with_docker_io_at(place: &str) -> Settings {
        Settings {
            places: Places::of_config(&[config::Registry {
                host: "docker.io".to_owned(),
                replaced_by: Some(place.to_owned()),
                ..config::Registry::default()
            }]),
            ..settings()
        }
    }

    fn on_arm(spec: &Value) -> Value {
        placed_on(spec, None, Some("arm64"))
    }

    fn terms(spec: &Value) -> &Value {
        let nodes = &spec["affinity"]["nodeAffinity"];
        &nodes["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    }

    #[test]
    fn a_pod_goes_where_its_image_runs() {
        let is = |key: &str, value: &str| json!({"key": key, "operator": "In", "values": [value]});
        let (arm, linux) = (is(ARCHITECTURE, "arm64"), is(OS, "linux"));
        let plain = json!({"containers": []});
        assert_eq!(
            *terms(&on_arm(&plain)),
            json!([{"matchExpressions": [arm, linux]}])
        );
        // Nothing known: the system alone. What is known of the image is better than what is said of nodes.
        for (nodes, image, expected) in [
            (None, None, json!([linux])),
            (Some("arm64"), None, json!([arm, linux])),
            (Some("s390x"), Some("arm64"), json!([arm, linux])),
        ] {
            let found = placed_on(&plain, nodes, image);
            assert_eq!(*terms(&found), json!([{"matchExpressions": expected}]));
        }

        // What the operator wants is wanted too.
        let zone = |name: &str| is("topology.kubernetes.io/zone", name);
        let required = |terms: Value| {
            json!({"containers": [], "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
        };
        let either = required(json!([
            {"matchExpressions": [zone("a")]},
            {"matchFields": [is("metadata.name", "node-1")]},
        ]));
        assert_eq!(
            *terms(&on_arm(&either)),
            json!([
                {"matchExpressions": [zone("a"), arm, linux]},
                {"matchExpressions": [arm, linux], "matchFields": [is("metadata.name", "node-1")]},
            ])
        );

        // And what he says of platforms counts.
        let other = is(ARCHITECTURE, "s390x");
        let own = required(json!([{"matchExpressions": [other]}]));
        assert_eq!(
            *terms(&on_arm(&own)),
            json!([{"matchExpressions": [other, linux]}])
        );
        let selected =
            json!({"containers": [], "nodeSelector": {ARCHITECTURE: "s390x", OS: "linux"}});
        assert_eq!(on_arm(&selected), selected);
        let named = json!({"containers": [], "nodeName": "node-1"});
        assert_eq!(on_arm(&named), named);
    }

    #[test]
    fn an_image_is_pulled_by_its_digest_where_nodes_pull() {
        let digest = Digest::of(b"index");
        let name: ImageName = "hyperledger/fabric-baseos:2.5".parse().unwrap();
        let facts = ImageFacts {
            digest: Some(digest),
            place: Some(name.clone()),
            architecture: None,
        };
        let pinned = format!("docker.io/hyperledger/fabric-baseos@{digest}");
        let of = |policy: PullPolicy, facts: &ImageFacts| {
            let settings = Settings {
                image_pull_policy: policy,
                ..settings()
            };
            image(&settings, &name, facts)
        };
        assert_eq!(of(PullPolicy::IfNotPresent, &facts), pinned);
        assert_eq!(of(PullPolicy::Always, &facts), pinned);
        assert_eq!(of(PullPolicy::Never, &facts), name.full());
        assert_eq!(of(PullPolicy::Always, &ImageFacts::default()), name.full());

        // From where everybody takes it, in either form.
        let replaced = with_docker_io_at("r.example.com/mirror");
        let place = "r.example.com/mirror/hyperledger/fabric-baseos";
        let (by_tag, by_digest) = (format!("{place}:2.5"), format!("{place}@{digest}"));
        assert_eq!(image(&replaced, &name, &ImageFacts::default()), by_tag);
        let told_by = |place: &str| ImageFacts {
            place: Some(place.parse().unwrap()),
            ..facts.clone()
        };
        assert_eq!(image(&replaced, &name, &told_by(&by_tag)), by_digest);

        // What was told before its registry was replaced, or by what replaced it before, need not be there.
        let before = "old.example.com/mirror/hyperledger/fabric-baseos:2.5";
        for facts in [&facts, &told_by(before)] {
            assert_eq!(image(&replaced, &name, facts), by_tag);
        }
        assert_eq!(of(PullPolicy::Always, &told_by(before)), name.full());
    }

    #[test]
    fn facts_without_a_place_are_those_of_the_names_registry() {
        let digest = Digest::of(b"index");
        let name: ImageName = "hyperledger/fabric-baseos:2.5".parse().unwrap();
        // As they were written before.
        let facts = json!({"digest": digest, "architecture": "arm64"});
        let facts: ImageFacts = serde_json::from_value(facts).unwrap();
        assert_eq!(facts.place, None);
        let pinned = format!("docker.io/hyperledger/fabric-baseos@{digest}");
        assert_eq!(image(&settings(), &name, &facts), pinned);
        let replaced = with_docker_io_at("r.example.com");
        let by_tag = "r.example.com/hyperledger/fabric-baseos:2.5";
        assert_eq!(image(&replaced, &name, &facts), by_tag);
    }
}
