use std::path::Path;

use secrecy::ExposeSecret as _;

use crate::config::{Config, Error, HostAlias, ImageMode, LogColor, LogFormat, Origins, Scheme};

const SAMPLE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/original-peitho.yml"
);

fn load(yaml: &str) -> Result<(Config, Origins), Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), yaml).unwrap();
    Config::load_with_origins(Some(file.path()), [], &[])
}

/// `line:column: message` of each notice.
fn told(origins: &Origins) -> Vec<String> {
    let shown = origins.notices().iter().map(ToString::to_string);
    let file = origins.file().unwrap().display().to_string();
    shown
        .map(|line| line.replace(&format!("{file}:"), ""))
        .collect()
}

fn notices(yaml: &str) -> Vec<String> {
    told(&load(yaml).unwrap().1)
}

fn refused(yaml: &str) -> String {
    let text = load(yaml).expect_err("this must be refused").to_string();
    let place = text.find(".tmp").unwrap();
    let place = place + text[place..].find(':').unwrap() + 1;
    text[place..].to_owned()
}

fn alias(ip: &str, hostnames: &[&str]) -> HostAlias {
    HostAlias {
        ip: ip.parse().unwrap(),
        hostnames: hostnames.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn the_sample_of_the_original_becomes_our_configuration() {
    let (config, origins) = Config::load_with_origins(Some(Path::new(SAMPLE)), [], &[]).unwrap();
    assert_eq!(config.kubernetes.namespace, "fabric");
    assert_eq!(
        config.kubernetes.kubeconfig.as_deref(),
        Some(Path::new("/root/kube/kubeconfig"))
    );
    let names = [
        "peer0.org1.example.com",
        "peer1.org1.example.com",
        "peer0.org2.example.com",
        "peer1.org2.example.com",
    ];
    assert_eq!(config.kubernetes.host_aliases, [alias("127.0.0.1", &names)]);
    assert_eq!(config.delivery.for_pods(), "https://peitho:8081");
    assert_eq!(config.docker.endpoint, "unix:///host/var/run/docker.sock");
    assert_eq!(config.images.mode, ImageMode::Delivery);
    let registry = &config.images.registry;
    assert_eq!(registry.address, "xxx.xxx.xxx.xxx:xxxx");
    assert_eq!(registry.project, "chaincode");
    assert_eq!(registry.username.as_deref(), Some("admin"));
    assert_eq!(
        registry.password.as_ref().unwrap().secret().expose_secret(),
        "a-password-in-the-open"
    );
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.color, LogColor::Always);
    assert_eq!(
        told(&origins),
        [
            "4:3: sweeper.enable, sweeper.interval have no effect: there is no sweeper: a pod goes when its peer removes \
             the chaincode, and what a peer never removes stays (README, Limits)",
            "7:3: peitho.imageMode is called images.mode now",
            "8:3: peitho.pullerAccessAddress is called delivery.address now, with the value https://peitho:8081; the \
             Service needs that port too",
            "9:3: peitho.pullerImage has no effect: Peitho's own image does the puller's work: set agent.image where \
             the name of that image is not the default",
            "11:3: k8s.namespace is called kubernetes.namespace now",
            "12:3: k8s.kubeconfig is called kubernetes.kubeconfig now",
            "13:3: k8s.dns is called kubernetes.hostAliases now, with items {ip, hostnames}",
            "21:5: docker.registry.server-address is called images.registry.address now",
            "23:5: docker.registry.project is called images.registry.project now",
            "25:5: docker.registry.email has no effect: no registry asks for it; remove it",
            "27:5: docker.registry.username is called images.registry.username now",
            "29:5: docker.registry.password is called images.registry.password now",
            "33:3: log.name, log.development, log.disable-caller, log.disable-stacktrace have no effect: a line of the \
             log has no such part; remove it",
            "36:3: log.format: console is called text now",
            "37:3: log.enable-color is called log.color now, with the value always",
        ]
    );
    let set: Vec<&str> = origins.settings().map(|(key, _)| key).collect();
    assert_eq!(
        set,
        [
            "delivery.address",
            "docker.endpoint",
            "images.mode",
            "images.registry",
            "kubernetes.hostAliases",
            "kubernetes.kubeconfig",
            "kubernetes.namespace",
            "log.color",
            "log.format",
            "log.level",
        ]
    );
}

#[test]
fn what_is_shown_of_the_sample_is_the_new_form_without_its_password() {
    let (config, origins) = Config::load_with_origins(Some(Path::new(SAMPLE)), [], &[]).unwrap();
    let shown = config.to_yaml();
    let (again, later) = load(&shown).unwrap();
    assert_eq!(again.to_yaml(), shown);
    assert!(later.notices().is_empty(), "{:?}", later.notices());
    let password = "a-password-in-the-open";
    assert!(std::fs::read_to_string(SAMPLE).unwrap().contains(password));
    for text in [shown, format!("{config:?}{origins:?}")] {
        assert!(!text.contains(password), "{text}");
    }
}

#[test]
fn a_new_file_says_nothing() {
    let yaml = "log: {level: debug, format: json, color: never}\nkubernetes: {namespace: a}\n";
    assert_eq!(notices(yaml), Vec::<String>::new());
    assert_eq!(
        notices("k8s:\ndocker:\n  registry:\n"),
        Vec::<String>::new()
    );
    assert_eq!(notices(""), ["1:1: the file sets nothing"]);
    assert_eq!(notices("# log: {}\n"), ["1:1: the file sets nothing"]);
}

#[test]
fn old_and_new_keys_may_stand_in_one_file_but_a_setting_once() {
    let yaml = "kubernetes:\n  instance: two\nk8s:\n  namespace: fabric\nlisten:\n";
    let (config, _) = load(yaml).unwrap();
    assert_eq!(config.kubernetes.instance, "two");
    assert_eq!(config.kubernetes.namespace, "fabric");
    assert_eq!(
        refused("kubernetes:\n  namespace: a\nk8s:\n  namespace: b\n"),
        "4:3: k8s.namespace sets what kubernetes.namespace in line 2 sets too: remove k8s.namespace"
    );
    assert_eq!(
        refused("log:\n  enable-color: true\n  color: never\n"),
        "2:3: log.enable-color sets what log.color in line 3 sets too: remove log.enable-color"
    );
}

#[test]
fn a_registry_of_the_original_is_pushed_to() {
    let yaml = "peitho:\n  imageMode: Registry\n  pullerAccessAddress: ''\ndocker:\n  registry:\n    \
                server-address: https://registry.example.com:5000/v2/\n    project: fabric\n    username: me\n    \
                password: 4711\n";
    let (config, origins) = load(yaml).unwrap();
    let registry = config.images.pushed_to().unwrap();
    assert_eq!(
        registry.repository().unwrap().to_string(),
        "registry.example.com:5000/fabric/chaincode:latest"
    );
    let password = registry.password.as_ref().unwrap().secret();
    assert_eq!(password.expose_secret(), "4711");
    let open = yaml
        .replace("username: me", "username: ''")
        .replace("password: 4711", "password: ''");
    let registry = load(&open).unwrap().0.images.registry;
    assert_eq!((registry.username, registry.password), (None, None));
    let plain = yaml.replace("https://", "http://");
    let (asked, of_plain) = load(&plain).unwrap();
    assert_eq!(asked.images.registry.scheme, Scheme::Http);
    let notice = told(&of_plain)
        .into_iter()
        .find(|line| line.contains("server-address"));
    assert!(notice.unwrap().ends_with(
        "with images.registry.scheme http unless that is set: user and password are sent without TLS"
    ));
    for both in [
        format!("{plain}images: {{registry: {{scheme: https}}}}\n"),
        format!("images: {{registry: {{scheme: https}}}}\n{plain}"),
    ] {
        let (asked, _) = load(&both).unwrap();
        assert_eq!(asked.images.registry.scheme, Scheme::Https);
    }
    assert_eq!(
        told(&origins)[0],
        "2:3: peitho.imageMode is called images.mode now"
    );
    assert_eq!(
        refused("peitho:\n  imageMode: registry\n"),
        "2:3: images.registry.address is \"\"; accepted: host or host:port as in image names, without a scheme, user or \
         path, since images.mode is registry"
    );
    assert_eq!(
        refused("images:\n  registry: {project: a}\ndocker: {registry: {project: b}}\n"),
        "3:21: docker.registry.project sets what images.registry.project in line 2 sets too: remove \
         docker.registry.project"
    );
}

#[test]
fn names_of_hosts_come_with_either_kind_of_address() {
    let yaml = "k8s:\n  dns:\n    - ' 10.0.0.7:a.example '\n    - fd00::1:b\n    - '[fd00::1]:c'\n";
    assert_eq!(
        load(yaml).unwrap().0.kubernetes.host_aliases,
        [
            alias("10.0.0.7", &["a.example"]),
            alias("fd00::1", &["b", "c"])
        ]
    );
    let yaml = "k8s: {dns: '10.0.0.7:a,10.0.0.8:b'}\n";
    assert_eq!(
        load(yaml).unwrap().0.kubernetes.host_aliases,
        [alias("10.0.0.7", &["a"]), alias("10.0.0.8", &["b"])]
    );
}

#[test]
fn the_address_keeps_its_host() {
    for (old, new) in [
        ("http://peitho:8080/tar", "https://peitho:8081"),
        (
            "peitho.fabric.svc:8080/tar",
            "https://peitho.fabric.svc:8081",
        ),
        ("http://[fd00::1]:8080/tar", "https://[fd00::1]:8081"),
        ("http://me:hunter2@peitho/tar", "https://peitho:8081"),
    ] {
        let yaml = format!("peitho: {{pullerAccessAddress: '{old}'}}");
        let (config, origins) = load(&yaml).unwrap();
        assert_eq!(config.delivery.for_pods(), new);
        assert!(!told(&origins)[0].contains("hunter2"));
    }
}

#[test]
fn words_of_zap_become_ours() {
    for (old, new) in [("fatal", "error"), ("DPanic", "error"), ("warn", "warn")] {
        let yaml = format!("log: {{level: {old}}}");
        assert_eq!(load(&yaml).unwrap().0.log.level, new);
    }
    let (config, _) = load("log: {format: Console, Enable-Color: 'false'}").unwrap();
    assert_eq!(config.log.format, LogFormat::Text);
    assert_eq!(config.log.color, LogColor::Never);
}

#[test]
fn the_case_of_old_keys_is_all_one() {
    let (config, _) = load("K8S: {NameSpace: fabric}\npeitho: {imagemode: delivery}\n").unwrap();
    assert_eq!(config.kubernetes.namespace, "fabric");
}

#[test]
fn what_cannot_be_read_is_told_by_line() {
    for (yaml, message) in [
        (
            "k8s:\n  namspace: a\n",
            "2:3: k8s.namspace is not a key; did you mean kubernetes.namespace?",
        ),
        (
            "docker:\n  endpont: unix:///a\n",
            "2:3: docker.endpont is not a key; did you mean docker.endpoint?",
        ),
        (
            "docker:\n  endpoint: tcp://hunter2\n",
            "2:3: docker.endpoint is \"tcp://hunter2\"; accepted: unix:///path/to/docker.sock or tcp://host:port",
        ),
        (
            "docker:\n  registry:\n    passwort: hunter2\n",
            "3:5: docker.registry.passwort is not a key; did you mean images.registry.password?",
        ),
        ("peitho: hunter2\n", "1:1: peitho is not a mapping of keys"),
        (
            "k8s:\n  dns:\n    - 10.0.0.7:a\n    - peer0.org1\n",
            "4:7: k8s.dns cannot be read; accepted: a list of ip:host, for example 10.0.0.7:peer0.org1.example.com",
        ),
        (
            "peitho:\n  pullerAccessAddress: http://:8080/hunter2\n",
            "2:24: peitho.pullerAccessAddress cannot be read; accepted: the address of Peitho as pods reach it, for \
             example http://peitho:8080/tar",
        ),
        (
            "peitho:\n  imageMode: hunter2\n",
            "2:14: peitho.imageMode cannot be read; accepted: registry or delivery",
        ),
        (
            "k8s:\n  namespace: Fabric\n",
            "2:3: kubernetes.namespace is \"Fabric\"; accepted: a namespace: a-z, 0-9 and -, at most 63 characters; or \
             nothing",
        ),
        (
            "log:\n  enable-colour: true\n",
            "2:3: log.enable-colour is not a key; did you mean log.color?",
        ),
        (
            "k8s:\n  kubeconfig: [a]\n",
            "2:15: kubernetes.kubeconfig is a list; accepted: text",
        ),
    ] {
        assert_eq!(refused(yaml), message);
    }
}
