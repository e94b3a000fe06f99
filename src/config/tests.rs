use std::io::Write as _;
use std::path::Path;

use super::*;

mod pods;

fn load(yaml: &str, env: &[(&str, &str)], flags: &[&str]) -> Result<Config, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    let env = env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let flags: Vec<Setting> = flags.iter().map(|flag| flag.parse().unwrap()).collect();
    Config::load(Some(file.path()), env, &flags).map_err(|error| {
        error
            .to_string()
            .replace(&file.path().display().to_string(), "peitho.yml")
    })
}

fn refused(yaml: &str) -> String {
    load(yaml, &[], &[]).expect_err("this must be refused")
}

#[test]
fn defaults_are_good() {
    assert_eq!(Config::default().check().iter().collect::<Vec<_>>(), []);
    assert!(load("", &[], &[]).is_ok());
    assert!(load("# nothing\n", &[], &[]).is_ok());
    assert!(load("log:\nstore:\n  # directory: /x\n", &[], &[]).is_ok());
}

#[test]
fn later_sources_win() {
    let yaml = "log:\n  level: warn\n  format: json\nstore: {directory: /file}\n";
    let env = [
        ("PEITHO_LOG__LEVEL", "debug"),
        ("PEITHO_STORE__DIRECTORY", "/env"),
    ];
    let config = load(yaml, &env, &["store.directory=/flag"]).unwrap();
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.store.directory.as_deref(), Some(Path::new("/flag")));
    assert_eq!(config.compile.parallel, 4);
}

#[test]
fn variables_carry_numbers_lists_and_mappings() {
    let env = [
        ("PEITHO_COMPILE__PARALLEL", "7"),
        ("PEITHO_COMPILE__ENV", "{GOPROXY: off-site, N: 1}"),
        ("PEITHO_KUBERNETES__IMAGE_PULL_SECRETS", "[a, b]"),
        ("PEITHO_KUBERNETES__INSTANCE", "1234"),
        ("PEITHO_LISTEN__ENGINEAPI", "127.0.0.1:1"),
        ("PEITHO_PORT_8080_TCP", "tcp://10.96.0.80:8080"),
    ];
    let config = load("", &env, &[]).unwrap();
    assert_eq!(config.compile.parallel, 7);
    assert_eq!(config.compile.env["GOPROXY"], "off-site");
    assert_eq!(config.compile.env["N"], "1");
    assert_eq!(config.kubernetes.image_pull_secrets, ["a", "b"]);
    assert_eq!(config.kubernetes.instance, "1234");
    assert_eq!(config.listen.engine_api.unwrap().to_string(), "127.0.0.1:1");
}

#[test]
fn keys_within_a_key_are_set_alone() {
    let yaml = "listen: {tls: {certificateFile: /file.crt, keyFile: /file.key}}";
    let env = [
        ("PEITHO_LISTEN__TLS__KEY_FILE", "/env.key"),
        ("PEITHO_DOCKER__TLS__CA", "/env.ca"),
        (
            "PEITHO_DOCKER__TLS",
            "{cert: /env.crt, key: /env.key, ca: /no}",
        ),
    ];
    let tls = load(yaml, &env[..1], &["listen.tls.certificateFile=/flag.crt"]);
    let tls = tls.unwrap().listen.tls;
    assert_eq!(
        tls.certificate_file.as_deref(),
        Some(Path::new("/flag.crt"))
    );
    assert_eq!(tls.key_file.as_deref(), Some(Path::new("/env.key")));
    // The order of variables is nobody's choice: what is said of a part holds.
    for env in [[env[1], env[2]], [env[2], env[1]]] {
        let yaml = "docker: {endpoint: 'tcp://engine:2376'}";
        let tls = load(yaml, &env, &[]).unwrap().docker.tls;
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/env.ca")));
        assert_eq!(tls.cert.as_deref(), Some(Path::new("/env.crt")));
    }
    let wrong = load("", &[], &["listen.tls.certificate=/x"]).unwrap_err();
    assert!(
        wrong.contains("did you mean listen.tls.certificateFile?"),
        "{wrong}"
    );
}

#[test]
fn integers_are_quantities() {
    let config = load("compile: {limits: {cpu: 4, memory: 8Gi}}", &[], &[]).unwrap();
    assert_eq!(config.compile.limits["cpu"], "4");
}

#[test]
fn json_is_yaml() {
    let json = r#"{"listen": {"admin": "127.0.0.1:19090"}, "agent": {"image": "localhost:5000/peitho@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}}"#;
    assert!(load(json, &[], &[]).is_ok());
}

#[test]
fn unknown_keys_come_with_line_and_the_nearest_known() {
    for (yaml, message) in [
        (
            "log:\n  levle: info\n",
            "peitho.yml:2:3: log.levle is not a key; did you mean log.level?",
        ),
        (
            "logs:\n  level: info\n",
            "peitho.yml:1:1: logs is not a key; did you mean log?",
        ),
        (
            "namespace: chaincode\n",
            "peitho.yml:1:1: namespace is not a key; did you mean kubernetes.namespace?",
        ),
        (
            "images:\n  registries:\n    - host: a\n      user: me\n",
            "peitho.yml:4:7: images.registries[0].user is not a key; did you mean images.registries[0].username?",
        ),
        (
            "listen:\n  engine_api: \"[::]:1\"\n",
            "peitho.yml:2:3: listen.engine_api is not a key; did you mean listen.engineApi?",
        ),
    ] {
        assert_eq!(refused(yaml), message);
    }
}

#[test]
fn values_are_refused_with_what_is_accepted() {
    for (yaml, message) in [
        (
            "delivery:\n  address: http://peitho:8081\n",
            "peitho.yml:2:3: delivery.address is \"http://peitho:8081\"; accepted: https://host:port as pods reach it, without user and path",
        ),
        (
            "compile:\n  requests:\n    cpu: 1 core\n",
            "peitho.yml:3:10: compile.requests.cpu is \"1 core\"; accepted: a quantity such as 500m, 2 or 4Gi",
        ),
        (
            "compile: {requests: {memory: 8Gi}}",
            "peitho.yml:1:30: compile.requests.memory is \"8Gi\"; accepted: at most its limit 4Gi",
        ),
        (
            "chaincode:\n  runAsUser: 0\n",
            "peitho.yml:2:3: chaincode.runAsUser is 0; accepted: 1 to 2147483647, or none",
        ),
        (
            "chaincode:\n  runAsUser: root\n",
            "peitho.yml:2:3: chaincode.runAsUser: invalid value: string \"root\", expected a number or none",
        ),
        (
            "compile:\n  proxy:\n    https: proxy:3128\n",
            "peitho.yml:3:5: compile.proxy.https is \"proxy:3128\"; accepted: http://host:port or http://user:password@host:port, without a path",
        ),
        (
            "compile: {proxy: {htttps: a}}",
            "peitho.yml:1:19: compile.proxy.htttps is not a key; did you mean compile.proxy.https?",
        ),
        (
            "compile:\n  allowedImages: ['']\n",
            "peitho.yml:2:19: compile.allowedImages[0] is \"\"; accepted: a pattern such as docker.io/hyperledger/*",
        ),
        (
            "chaincode: {allowedCapabilities: [CAP_CHOWN]}",
            "peitho.yml:1:35: chaincode.allowedCapabilities[0] is \"CAP_CHOWN\"; accepted: a capability as Kubernetes spells it, such as NET_BIND_SERVICE",
        ),
        (
            "kubernetes: {imagePullPolicy: always}",
            "peitho.yml:1:14: kubernetes.imagePullPolicy: unknown variant `always`, expected one of `IfNotPresent`, `Always`, `Never`",
        ),
        (
            "log:\n  level: true\n",
            "peitho.yml:2:10: log.level is text: write the value in quotes",
        ),
        (
            "log: debug\n",
            "peitho.yml:1:6: log is text; accepted: a mapping with color, format, level",
        ),
        (
            "images:\n  mode: registry2\n",
            "peitho.yml:2:3: images.mode: unknown variant `registry2`, expected `delivery` or `registry`",
        ),
        (
            "listen:\n  admin: 9090\n",
            "peitho.yml:2:3: listen.admin: invalid socket address syntax",
        ),
        (
            "compile:\n  parallel: many\n",
            "peitho.yml:2:3: compile.parallel: invalid type: string \"many\", expected usize",
        ),
        (
            "images: {mode: registry, registry: {address: registry, username: me}}\n",
            "peitho.yml:1:37: images.registry.address is \"registry\"; accepted: host or host:port as in image names, without a scheme, user or path\npeitho.yml:1:56: images.registry.username is \"me\"; accepted: together with password or passwordFile",
        ),
        (
            "images: {mode: registry, registry: {address: 'r:1', project: /a}, registries: [{host: 'r:1'}]}\n",
            "peitho.yml:1:81: images.registries[0].host is \"r:1\"; accepted: each host once, here or as images.registry.address\npeitho.yml:1:53: images.registry.project is \"/a\"; accepted: words of a-z, 0-9, ., _ and -, with / between them; or nothing",
        ),
        (
            "images: {mode: registry, registry: {address: 'r:1', password: hunter2, passwordFile: /p}}\n",
            "peitho.yml:1:72: images.registry.passwordFile is \"/p\"; accepted: instead of password, not beside it",
        ),
        (
            "images: {mode: registry, registry: {address: 'r:1', password: hunter2}}\n",
            "peitho.yml:1:53: images.registry.password is (hidden); accepted: together with username",
        ),
        (
            "images: {registries: [{host: docker.io}, {host: index.docker.io}]}\n",
            "peitho.yml:1:43: images.registries[1].host is \"index.docker.io\"; accepted: each host once, here or as images.registry.address",
        ),
        (
            "images: {registries: [{host: a, mirrors: ['m.io', 'https://m.io']}]}\n",
            "peitho.yml:1:51: images.registries[0].mirrors[1] is \"https://m.io\"; accepted: host, host:port or host/path, without a scheme or user",
        ),
        (
            "images: {registries: [{host: a, replacedBy: 'me:hunter2@m.io'}]}\n",
            "peitho.yml:1:33: images.registries[0].replacedBy is \"m.io\"; accepted: host, host:port or host/path, without a scheme or user",
        ),
        (
            "images: {architecture: x86_64}\n",
            "peitho.yml:1:10: images.architecture: invalid architecture \"x86_64\": amd64, as nodes of Kubernetes are labelled",
        ),
        (
            "images: {registry: {pullSecret: peitho-pull}}\n",
            "peitho.yml:1:21: images.registry.pullSecret is \"peitho-pull\"; accepted: a Secret of your own; Peitho writes and removes the one of this name",
        ),
        (
            "images:\n  registries:\n    - scheme: http\n",
            "peitho.yml:3:7: images.registries[0]: missing field `host`",
        ),
        (
            "kubernetes:\n  instance: Peitho_1\n",
            "peitho.yml:2:3: kubernetes.instance is \"Peitho_1\"; accepted: 1 to 40 characters out of a-z, 0-9 and -, no - at either end",
        ),
    ] {
        assert_eq!(refused(yaml), message);
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let message = refused("a: 1\nlog:\n  b: 2\n");
    assert_eq!(message.lines().count(), 2, "{message}");
}

#[test]
fn a_variable_is_named_when_its_value_is_wrong() {
    let error = load("", &[("PEITHO_COMPILE__PARALLEL", "0")], &[]).unwrap_err();
    assert_eq!(
        error,
        "PEITHO_COMPILE__PARALLEL: compile.parallel is 0; accepted: 1 to 1000"
    );
    let error = load("", &[], &["compile.paralel=2"]).unwrap_err();
    assert_eq!(
        error,
        "--set compile.paralel: compile.paralel is not a key; did you mean compile.parallel?"
    );
    let both = [
        ("PEITHO_LISTEN__ENGINE_API", "[::]:1"),
        ("PEITHO_LISTEN__ENGINEAPI", "[::]:2"),
    ];
    let error = load("", &both, &[]).unwrap_err();
    assert_eq!(
        error,
        "PEITHO_LISTEN__ENGINEAPI: listen.engineApi is set by PEITHO_LISTEN__ENGINE_API too"
    );
}

#[test]
fn broken_yaml_names_its_line() {
    for yaml in [
        "log:\n  level: [\n",
        "log: {}\nlog: {}\n",
        "log:\n\tlevel: a\n",
    ] {
        let message = refused(yaml);
        assert!(message.starts_with("peitho.yml:"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(
        refused("- a\n"),
        "peitho.yml:1:1: the configuration is a mapping of sections, for example `log: {level: debug}`"
    );
}

#[test]
fn a_file_that_was_named_must_exist() {
    let error = Config::load(Some(Path::new("/nowhere/peitho.yml")), [], &[]).unwrap_err();
    assert!(matches!(error, Error::Read { .. }), "{error}");
}

#[test]
fn a_user_is_a_number_or_left_to_the_platform() {
    for (yaml, user) in [
        ("chaincode: {runAsUser: none}", RunAs::Platform),
        ("chaincode: {runAsUser: 7}", RunAs::User(7)),
        ("chaincode: {runAsUser: '7'}", RunAs::User(7)),
        ("", RunAs::User(500)),
    ] {
        let config = load(yaml, &[], &[]).unwrap();
        assert_eq!(config.chaincode.run_as_user, user, "{yaml}");
        assert!(load(&config.to_yaml(), &[], &[]).is_ok());
    }
    let env = [("PEITHO_COMPILE__RUN_AS_USER", "none")];
    let config = load("", &env, &[]).unwrap();
    assert_eq!(config.compile.run_as_user, RunAs::Platform);
}

#[test]
fn secrets_are_not_shown() {
    const SECRET: &str = "hunter2";
    let proxied = format!("compile: {{proxy: {{http: 'http://me:{SECRET}@proxy:1', no: [a]}}}}");
    let config = load(&proxied, &[], &[]).unwrap();
    assert!(config.compile.proxy.http.contains(SECRET));
    assert!(!format!("{config:?} {}", config.to_yaml()).contains(SECRET));
    assert!(load(&config.to_yaml(), &[], &[]).is_ok());
    let yaml = format!("compile:\n  env:\n    HTTPS_PROXY: http://me:{SECRET}@proxy\n");
    let config = load(&yaml, &[], &[]).unwrap();
    assert!(config.to_yaml().contains("HTTPS_PROXY"));
    assert!(!config.to_yaml().contains(SECRET));
    assert!(!format!("{config:?}").contains(SECRET));
    let variable = format!("{{name: chaincode, env: [{{name: A, value: {SECRET}}}]}}");
    let template = format!("podTemplate: {{spec: {{containers: [{variable}]}}}}");
    for section in ["kubernetes", "compile", "chaincode"] {
        let config = load(&format!("{section}: {{{template}}}"), &[], &[]).unwrap();
        assert!(!config.to_yaml().contains(SECRET) && config.to_yaml().contains("(hidden)"));
        assert!(!format!("{config:?}").contains(SECRET));
    }
    let yaml = format!("chaincode: {{overrides: [{{label: a, {template}}}]}}");
    let config = load(&yaml, &[], &[]).unwrap();
    assert!(!format!("{config:?} {}", config.to_yaml()).contains(SECRET));
    for own in [
        format!("compile: {{{template}}}"),
        format!("chaincode: {{{template}}}"),
        format!("chaincode: {{overrides: [{{label: a, {template}}}]}}"),
    ] {
        let yaml = format!("tenants: {{trustPath: true, known: [{{name: org1, {own}}}]}}");
        let config = load(&yaml, &[], &[]).unwrap();
        assert!(config.to_yaml().contains("(hidden)"), "{yaml}");
        assert!(!format!("{config:?} {}", config.to_yaml()).contains(SECRET));
    }
    for yaml in [
        format!("delivery: {{address: 'https://me:{SECRET}@peitho'}}"),
        format!("images: {{registries: [{{host: 'me:{SECRET}@registry'}}]}}"),
        format!("images: {{registry: {{address: 'me:{SECRET}@registry:5000'}}}}"),
        format!("images: {{registry: {{address: 'https://me:{SECRET}@registry'}}}}"),
        format!("images: {{mode: registry, registry: {{address: 'me:{SECRET}@registry:5000'}}}}"),
        format!("images: {{mode: registry, registry: {{address: r.io, password: {SECRET}}}}}"),
        format!(
            "docker: {{registry: {{server-address: 'https://me:{SECRET}@registry:5000/v1/'}}}}"
        ),
        format!("compile: {{proxy: {{http: 'http://me:{SECRET}@proxy/path'}}}}"),
        format!("compile: {{proxy: {{https: 'me:{SECRET}@proxy'}}}}"),
        format!("compile: {{env: ['{SECRET}']}}"),
        format!("compile: {{env: {{A: ['{SECRET}']}}}}"),
    ] {
        assert!(!refused(&yaml).contains(SECRET), "{}", refused(&yaml));
    }
    let error = load(
        "",
        &[("PEITHO_COMPILE__ENV", &format!("{{A: {SECRET}"))],
        &[],
    )
    .unwrap_err();
    assert!(!error.contains(SECRET), "{error}");
}

#[test]
fn what_is_shown_can_be_loaded() {
    let set = "\
chaincode:
  overrides:
    - {language: java, label: 'a*', podTemplate: {metadata: {labels: {a: null}}}}
";
    for yaml in ["", set] {
        let shown = load(yaml, &[], &[]).unwrap().to_yaml();
        assert_eq!(load(&shown, &[], &[]).unwrap().to_yaml(), shown);
    }
}
