//! What the tests of the pure parts share, and the pod of a compile.

use super::record::{FileEntry, Record};
use super::*;
use crate::image_spec::{ImageFacts, Layer, TopEntry, TopKind};
use crate::names::Digest;
use crate::names::kubernetes as names;
use crate::runtime::HostSpec;
use crate::store::Blob;

fn quantities(pairs: &[(&str, &str)]) -> Quantities {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

pub(super) fn settings() -> Settings {
    Settings {
        namespace: "chaincode".to_owned(),
        instance: InstanceName::default(),
        host_aliases: Vec::new(),
        image_pull_secrets: vec!["registry".to_owned()],
        pull_secret: PullSecret::None,
        places: Places::default(),
        architecture: None,
        image_pull_policy: PullPolicy::default(),
        scheduling_grace: Duration::from_secs(120),
        agent_image: "registry.example.com/peitho:0.1.0".to_owned(),
        delivery_address: "https://peitho:8081".to_owned(),
        delivery_ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        compile_run_as_user: RunAs::User(500),
        compile_timeout: Duration::from_secs(1800),
        spares: Spares::default(),
        spare_idle: Duration::from_secs(1800),
        chaincode_run_as_user: RunAs::User(500),
        surroundings: Surroundings::default(),
        tenants: vec![Tenant::default_tenant()],
        provisions: ByTenant::from(provision()),
    }
}

pub(super) fn provision() -> Provision {
    Provision {
        compile_requests: quantities(&[("cpu", "200m"), ("memory", "512Mi")]).into(),
        compile_limits: quantities(&[("cpu", "4"), ("memory", "4Gi")]).into(),
        chaincode_requests: quantities(&[("cpu", "10m"), ("memory", "64Mi")]),
        templates: Templates::default(),
    }
}

/// The record of a Go chaincode of a peer with TLS.
pub(super) fn record() -> Record {
    let key = ContainerKey {
        tenant: Tenant::default_tenant(),
        name: format!("net-peer0.org1.example.com-basic_1-{}", "ab".repeat(32))
            .parse()
            .unwrap(),
    };
    let spec = ChaincodeSpec {
        id: "01".repeat(32).parse().unwrap(),
        image: "net-peer0-basic".parse().unwrap(),
        package_id: Some(format!("basic_1:{}", "ab".repeat(32))),
        language: None,
        base: "hyperledger/fabric-baseos:2.5".parse().unwrap(),
        base_facts: ImageFacts::default(),
        layer: Layer {
            blob: Blob {
                digest: Digest::of(b"layer"),
                size: 5,
            },
            diff_id: Digest::of(b"diff"),
            destination: "/usr/local/bin".to_owned(),
            entries: vec![TopEntry {
                name: "chaincode".to_owned(),
                kind: TopKind::File,
            }],
        },
        whole: None,
        entrypoint: None,
        args: ["chaincode", "-peer.address=peer0.org1.example.com:7052"]
            .map(str::to_owned)
            .into(),
        env: [
            ("PATH", "/usr/bin"),
            ("CORE_CHAINCODE_ID_NAME", "basic_1:ab"),
            ("CORE_CHAINCODE_LOGGING_FORMAT", "%{message} $(HOME) $$ a=b"),
            ("PATH", "/usr/local/bin:/usr/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        working_dir: None,
        user: None,
        host: HostSpec {
            memory: Some(2 << 30),
            ..HostSpec::default()
        },
        key,
    };
    let secret = record::secret(&spec, &settings(), &"the-token".into()).unwrap();
    let mut secret = secret;
    secret.metadata.uid = Some("0b5f5a5c-1111-2222-3333-444455556666".to_owned());
    let mut record = Record::read(secret).unwrap();
    record.files = ["client.key", "client_pem.crt"]
        .iter()
        .map(|name| {
            let path = format!("/etc/hyperledger/fabric/{name}");
            FileEntry {
                key: names::file_key(&path),
                mode: 0o100_600,
                path,
            }
        })
        .collect();
    record
}
