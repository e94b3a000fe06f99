//! Strategic merge of a part of a pod over a pod, as Kubernetes does it: maps are merged, `null` deletes, lists
//! whose items have a merge key are merged item by item, other lists and all else are replaced. Pure JSON;
//! `templates` decides what is laid over what.
//!
//! One departure: a volume of the same name is replaced and not merged, since it may have one source only
//! (Kubernetes: `patchStrategy: merge,retainKeys`, which wants a directive in the patch for that).

use serde_json::{Map, Value};

/// Lists whose items have a key, by the name of their field: `x-kubernetes-patch-merge-key` of the Kubernetes API's
/// OpenAPI document for PodSpec and Container. No other list of a pod has one of these names.
const MERGE_KEYS: [(&str, &str); 12] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("schedulingGates", "name"),
    ("resourceClaims", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
];

/// The key by which the items of the list `field` are told apart.
pub(super) fn merge_key(field: &str) -> Option<&'static str> {
    let found = MERGE_KEYS.iter().find(|(list, _)| *list == field);
    found.map(|(_, key)| *key)
}

/// Lays `over` over `base`.
pub(super) fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (field, value) in over {
        match (base.get_mut(field), value) {
            (_, Value::Null) => {
                base.remove(field);
            }
            (Some(Value::Object(base)), Value::Object(over)) => merge(base, over),
            (Some(Value::Array(base)), Value::Array(over)) => merge_list(field, base, over),
            _ => {
                base.insert(field.clone(), without_nulls(value));
            }
        }
    }
}

fn merge_list(field: &str, base: &mut Vec<Value>, over: &[Value]) {
    let Some(key) = merge_key(field) else {
        *base = over.iter().map(without_nulls).collect();
        return;
    };
    for item in over {
        let same = base.iter_mut().find(|known| known[key] == item[key]);
        match (same, item) {
            (Some(Value::Object(known)), Value::Object(item)) if field != "volumes" => {
                merge(known, item);
            }
            (Some(known), item) => *known = without_nulls(item),
            (None, item) => base.push(without_nulls(item)),
        }
    }
}

/// `value` without what would only delete something.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(field, value)| (field.clone(), without_nulls(value)))
            .collect(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// The paths of the fields of `sent` that `kept` does not have, whatever their values are. Items of lists with a
/// merge key are found by it: who keeps them may have put others between them.
pub(super) fn vanished(sent: &Value, kept: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", "", sent, kept, &mut found);
    found
}

fn compare(path: &str, field: &str, sent: &Value, kept: &Value, found: &mut Vec<String>) {
    let mut step = |path: String, field: &str, sent: &Value, kept: Option<&Value>| match kept {
        Some(kept) => compare(&path, field, sent, kept, found),
        None => found.push(path),
    };
    match (sent, kept) {
        (Value::Object(sent), Value::Object(kept)) => {
            for (field, value) in sent {
                let path = match path {
                    "" => field.clone(),
                    path => format!("{path}.{field}"),
                };
                step(path, field, value, kept.get(field));
            }
        }
        (Value::Array(sent), Value::Array(kept)) => {
            let key = merge_key(field);
            for (index, value) in sent.iter().enumerate() {
                let same = match key {
                    Some(key) if !value[key].is_null() => {
                        kept.iter().find(|item| item[key] == value[key])
                    }
                    _ => kept.get(index),
                };
                step(format!("{path}[{index}]"), "", value, same);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(mut base: Value, over: Value) -> Value {
        merge(base.as_object_mut().unwrap(), over.as_object().unwrap());
        base
    }

    #[test]
    fn each_kind_has_its_way() {
        for (base, over, expected) in [
            // maps
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": 3}}),
                json!({"a": {"b": 3, "c": 2}}),
            ),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": null}}),
                json!({"a": {"c": 2}}),
            ),
            (
                json!({"a": 1}),
                json!({"a": {"b": null, "c": 1}}),
                json!({"a": {"c": 1}}),
            ),
            (json!({"a": 1}), json!({"b": null}), json!({"a": 1})),
            // lists without a key
            (
                json!({"args": ["a", "b"]}),
                json!({"args": ["c"]}),
                json!({"args": ["c"]}),
            ),
            (
                json!({"tolerations": [{"key": "a"}]}),
                json!({"tolerations": [{"key": "b"}]}),
                json!({"tolerations": [{"key": "b"}]}),
            ),
            // lists with one
            (
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}),
                json!({"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
                json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}),
            ),
            (
                json!({"env": [{"name": "A", "value": "1"}]}),
                json!({"env": [{"name": "A", "value": null, "valueFrom": {"fieldRef": {}}}]}),
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}),
            ),
            (
                json!({"volumeMounts": [{"mountPath": "/a", "name": "x", "readOnly": true}]}),
                json!({"volumeMounts": [{"mountPath": "/a", "name": "y"}, {"mountPath": "/b", "name": "x"}]}),
                json!({"volumeMounts": [{"mountPath": "/a", "name": "y", "readOnly": true}, {"mountPath": "/b", "name": "x"}]}),
            ),
            (
                json!({"hostAliases": [{"ip": "::1", "hostnames": ["a"]}]}),
                json!({"hostAliases": [{"ip": "::1", "hostnames": ["b"]}]}),
                json!({"hostAliases": [{"ip": "::1", "hostnames": ["b"]}]}),
            ),
            (
                json!({"ports": [{"containerPort": 1}]}),
                json!({"ports": [{"containerPort": 1, "name": "a"}]}),
                json!({"ports": [{"containerPort": 1, "name": "a"}]}),
            ),
            // a volume has one source
            (
                json!({"volumes": [{"name": "home", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}),
                json!({"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "c"}}]}),
                json!({"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "tmp", "emptyDir": {}}]}),
            ),
            // deep
            (
                json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]}),
                json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": null, "memory": "2Gi"}}}]}),
                json!({"containers": [{"name": "a", "image": "x", "resources": {"limits": {"memory": "2Gi"}}}]}),
            ),
        ] {
            assert_eq!(
                merged(base.clone(), over.clone()),
                expected,
                "{base} < {over}"
            );
        }
    }

    #[test]
    fn what_vanished_is_found_by_its_path() {
        let sent = json!({"spec": {
            "hostNetwork": true,
            "volumes": [{"name": "a", "image": {"reference": "x"}}, {"name": "b", "emptyDir": {}}],
            "containers": [{"name": "c", "args": ["1", "2"], "resources": {"limits": {"cpu": "1"}}}],
        }});
        let kept = json!({"spec": {
            "hostNetwork": false,
            "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "injected"}, {"name": "a"}, {"name": "b", "emptyDir": {}}],
            "containers": [{"name": "injected"}, {"name": "c", "args": ["1"], "resources": {"limits": {"cpu": "1000m"}}}],
        }});
        assert_eq!(
            vanished(&sent, &kept),
            ["spec.containers[0].args[1]", "spec.volumes[0].image"]
        );
        assert_eq!(vanished(&sent, &sent), Vec::<String>::new());
    }

    /// Parts of pods: maps, keyed and other lists, and nulls where they may stand.
    fn part() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            Just(json!(1)),
            Just(json!("x")),
            Just(json!(true))
        ];
        scalar.prop_recursive(3, 24, 4, |inner| {
            let field = prop_oneof!["[a-c]", Just("env".to_owned()), Just("args".to_owned())];
            let item = (
                prop_oneof![Just("A"), Just("B")],
                prop::option::of(inner.clone()),
            )
                .prop_map(|(name, value)| match value {
                    Some(value) => json!({"name": name, "value": value}),
                    None => json!({"name": name}),
                });
            let unique = |items: Vec<Value>| {
                let mut unique: Vec<Value> = Vec::new();
                for item in items {
                    if unique.iter().all(|known| known["name"] != item["name"]) {
                        unique.push(item);
                    }
                }
                Value::from(unique)
            };
            prop_oneof![
                prop::collection::vec(item, 0..3).prop_map(unique),
                prop::collection::btree_map(field, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Map<String, Value>> {
        prop::collection::btree_map("[a-c]|env|args", part(), 0..4)
            .prop_map(|map| map.into_iter().collect())
    }

    fn over(mut base: Map<String, Value>, over: &Map<String, Value>) -> Map<String, Value> {
        merge(&mut base, over);
        base
    }

    fn clean(map: &Map<String, Value>) -> Map<String, Value> {
        match without_nulls(&Value::Object(map.clone())) {
            Value::Object(map) => map,
            _ => unreachable!("a map stays a map"),
        }
    }

    proptest! {
        #[test]
        fn nothing_laid_over_changes_nothing(base in object()) {
            prop_assert_eq!(over(base.clone(), &Map::new()), base);
        }

        #[test]
        fn laid_over_nothing_it_is_itself_without_nulls(part in object()) {
            prop_assert_eq!(over(Map::new(), &part), clean(&part));
        }

        #[test]
        fn twice_is_once(base in object(), part in object()) {
            let once = over(clean(&base), &part);
            prop_assert_eq!(over(once.clone(), &part), once);
        }

        #[test]
        fn no_null_remains(base in object(), part in object()) {
            let merged = over(clean(&base), &part);
            prop_assert_eq!(clean(&merged), merged);
        }
    }
}
