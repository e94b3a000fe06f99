//! Wrong configurations: refused before anything is opened, with exit code 2.

use crate::program::Place;

const KEYS: &str =
    "hint: `peitho config schema` describes all keys, `peitho config show` prints the defaults\n";
const FILE: &str = "hint: name the file with --config or PEITHO_CONFIG\n";

/// Both commands that read a configuration say the same.
fn refused(place: &Place, line: &str, hint: &str) {
    for command in [
        &["serve", "--config", "peitho.yml"][..],
        &["config", "check", "peitho.yml"],
    ] {
        let ended = place.run(command);
        assert_eq!(
            ended.stderr,
            format!("error: {line}\n{hint}"),
            "{command:?}"
        );
        assert_eq!(ended.code, Some(2), "{command:?}");
        assert_eq!(ended.stdout, "", "{command:?}");
    }
}

#[test]
fn a_wrong_file_is_one_line_with_its_place() {
    let wrong: [(&[u8], &str); 11] = [
        (
            b"log:\n  levle: info\n",
            "peitho.yml:2:3: log.levle is not a key; did you mean log.level?",
        ),
        (
            b"k8s:\n  namspace: a\n",
            "peitho.yml:2:3: k8s.namspace is not a key; did you mean kubernetes.namespace?",
        ),
        (
            b"compile:\n  parallel: many\n",
            "peitho.yml:2:3: compile.parallel: invalid type: string \"many\", expected usize",
        ),
        (
            b"log: debug\n",
            "peitho.yml:1:6: log is text; accepted: a mapping with color, format, level",
        ),
        (
            b"chaincode:\n  runAsUser: 0\n",
            "peitho.yml:2:3: chaincode.runAsUser is 0; accepted: 1 to 2147483647, or none",
        ),
        (
            b"- a\n",
            "peitho.yml:1:1: the configuration is a mapping of sections, for example `log: {level: debug}`",
        ),
        (
            b"kubernetes:\n  namespace: a\nk8s:\n  namespace: b\n",
            "peitho.yml:4:3: k8s.namespace sets what kubernetes.namespace in line 2 sets too: remove k8s.namespace",
        ),
        (
            b"log:\n  level: info\nlog:\n",
            "peitho.yml:3:1: duplicate mapping key `log` is not allowed here",
        ),
        (
            b"log:\n  level: [\n",
            "peitho.yml:2:10: unclosed bracket '['",
        ),
        (
            b"log:\n\tlevel: info\n",
            "peitho.yml:2:2: tabs disallowed within this context (block indentation)",
        ),
        (
            b"store:\n  directory: \xff\n",
            "peitho.yml:2:14: not UTF-8; save the file as UTF-8 text",
        ),
    ];
    for (content, line) in wrong {
        let place = Place::new();
        place.file("peitho.yml", content);
        refused(&place, line, KEYS);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_cause() {
    let place = Place::new();
    let missing =
        "cannot read the configuration peitho.yml: No such file or directory (os error 2)";
    refused(&place, missing, FILE);
    std::fs::create_dir(place.path().join("peitho.yml")).unwrap();
    let directory = "cannot read the configuration peitho.yml: Is a directory (os error 21)";
    refused(&place, directory, FILE);
    // Also where none is named, since one was meant to be there: a volume whose file is missing looks so.
    let ended = place.run(&["serve"]);
    assert_eq!(
        ended.stderr,
        format!(
            "error: {}\n{FILE}",
            directory.replace("peitho.yml", "./peitho.yml")
        )
    );
    assert_eq!(ended.code, Some(2));
}

#[test]
fn a_file_that_sets_nothing_is_good_and_says_so() {
    let place = Place::new();
    for content in ["", "# log:\n#   level: debug\n", "---\n"] {
        place.file("peitho.yml", content);
        let ended = place.run(&["config", "check"]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let last = ended.stdout.lines().last().unwrap();
        assert_eq!(last, "warning: ./peitho.yml:1:1: the file sets nothing");
    }
}

#[test]
fn variables_and_flags_are_named_as_they_were_given() {
    let place = Place::new();
    let cases = [
        (
            &[("PEITHO_LOG__LEVLE", "debug")][..],
            &[][..],
            "PEITHO_LOG__LEVLE sets nothing; did you mean PEITHO_LOG__LEVEL?",
        ),
        (
            &[("PEITHO_COMPILE__PARALLEL", "0")],
            &[],
            "PEITHO_COMPILE__PARALLEL: compile.parallel is 0; accepted: 1 to 1000",
        ),
        (
            &[],
            &["--set", "log.level=loud"],
            "--set log.level: log.level is \"loud\"; accepted: error, warn, info, debug, trace, off, or a filter such as \
             info,peitho::runtime=debug",
        ),
    ];
    for (variables, flags, line) in cases {
        let ended = place.run_with(&[&["serve"], flags].concat(), variables);
        assert_eq!(ended.stderr, format!("error: {line}\n{KEYS}"));
        assert_eq!(ended.code, Some(2));
    }
}

#[test]
fn the_sample_of_the_original_is_good_and_each_old_key_is_told_once() {
    let place = Place::new();
    let sample = include_str!("../fixtures/original-peitho.yml");
    place.file("peitho.yml", sample);
    let ended = place.run(&["config", "check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, "");
    let old: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("warning: ./peitho.yml:"))
        .collect();
    for key in [
        "sweeper.enable",
        "sweeper.interval",
        "peitho.imageMode",
        "peitho.pullerAccessAddress",
        "peitho.pullerImage",
        "k8s.namespace",
        "k8s.kubeconfig",
        "k8s.dns",
        "docker.registry.server-address",
        "docker.registry.project",
        "docker.registry.email",
        "docker.registry.username",
        "docker.registry.password",
        "log.name",
        "log.development",
        "log.format",
        "log.enable-color",
        "log.disable-caller",
        "log.disable-stacktrace",
    ] {
        let is_key = |word: &str| word.trim_end_matches([',', ':']) == key;
        let told = old.iter().filter(|line| line.split(' ').any(is_key));
        assert_eq!(told.count(), 1, "{key} in {old:#?}");
    }
    // As it is shown it is all ours, and the password is nowhere.
    let shown = place.run(&["config", "show"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(sample.contains("a-password-in-the-open"));
    assert!(!shown.stdout.contains("a-password-in-the-open"));
    place.file("peitho.yml", &shown.stdout);
    let again = place.run(&["config", "check"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(!again.stdout.contains("warning"), "{}", again.stdout);
}

#[test]
fn what_a_tenant_has_for_pods_alone_is_told_where_there_are_none() {
    let place = Place::new();
    let tenant = "tenants.known=[{name: org1, namespace: of-org1, compile: {limits: {cpu: 1}}}]";
    let arguments = place.serve(&[
        "compile.runtime=docker",
        "chaincode.runtime=docker",
        "docker.endpoint=unix:///nowhere/docker.sock",
        "tenants.trustPath=true",
        tenant,
    ]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = place.run(&arguments);
    let told: Vec<&str> = (ended.stderr.lines())
        .filter_map(|line| line.split_once("tenants.known[0]."))
        .map(|(_, rest)| rest)
        .collect();
    let expected =
        "namespace has no effect: neither compile.runtime nor chaincode.runtime is kubernetes";
    assert_eq!(told, [expected], "{}", ended.stderr);
    assert_eq!(ended.code, Some(1));
}

#[test]
fn an_architecture_that_this_machine_does_not_run_is_told() {
    let place = Place::new();
    let roles = ["compile.runtime=oci", "chaincode.runtime=kubernetes"];
    let settings = [&roles[..], &["images.architecture=s390x"]].concat();
    let arguments = place.serve(&settings);
    let ended = place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let told = "error: images.architecture is s390x, and this machine, on which the runtime oci runs containers, is ";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
}
