//! What the tests of this module's files share.

use super::*;
use crate::image_spec::{ImageFacts, Layer};
use crate::names::Digest;
use crate::runtime::HostSpec;
use crate::store::Blob;

pub(super) fn settings() -> Settings {
    Settings {
        instance: InstanceName::default(),
        delivery_address: "https://peitho:8081".to_owned(),
        delivery_ca_pem: "the CA".to_owned(),
        compile_limits: ByTenant::default(),
        compile_timeout: Duration::from_secs(600),
        surroundings: Surroundings::default(),
        places: Places::default(),
        logins: Logins::default(),
        program: PathBuf::from("/proc/self/exe"),
    }
}

pub(super) fn spec() -> ChaincodeSpec {
    let name = "dev-peer0-basic_1";
    ChaincodeSpec {
        key: ContainerKey {
            tenant: Tenant::default_tenant(),
            name: name.parse().unwrap(),
        },
        id: ContainerId::random(),
        image: name.parse().unwrap(),
        package_id: None,
        language: None,
        base: "busybox:1".parse().unwrap(),
        base_facts: ImageFacts::default(),
        layer: Layer {
            blob: Blob {
                digest: Digest::of(b"layer"),
                size: 5,
            },
            diff_id: Digest::of(b"diff"),
            destination: "/usr/local/bin".to_owned(),
            entries: Vec::new(),
        },
        whole: None,
        entrypoint: None,
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        user: None,
        host: HostSpec::default(),
    }
}

#[test]
fn engines_older_than_docker_20_10_are_refused() {
    for api in ["1.41", "1.53", "2.0"] {
        assert!(check_version(api).is_ok(), "{api}");
    }
    for api in ["1.40", "1.9", "", "x"] {
        let error = check_version(api).unwrap_err().to_string();
        assert!(error.contains("Docker 20.10"), "{error}");
    }
}

#[test]
fn passwords_do_not_show() {
    let mut settings = settings();
    settings.logins = Logins::with("registry:5000", "me", "hunter2");
    assert!(!format!("{settings:?}").contains("hunter2"));
}
