use proptest::prelude::*;

use super::*;

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn the_dockerfiles_of_2_x_and_3_x() {
    for (kind, runtime, destination) in [
        ("GOLANG", "hyperledger/fabric-baseos:2.5", "/usr/local/bin"),
        ("NODE", "hyperledger/fabric-nodeenv:2.5", "/usr/local/src"),
        (
            "JAVA",
            "hyperledger/fabric-javaenv:2.5",
            "/root/chaincode-java/chaincode",
        ),
    ] {
        let text = format!(
            "FROM {runtime}\nADD binpackage.tar {destination}\n\
             LABEL org.hyperledger.fabric.chaincode.type=\"{kind}\" \\\n      \
             org.hyperledger.fabric.version=\"2.5.16\"\n\
             ENV CORE_CHAINCODE_BUILDLEVEL=2.5.16"
        );
        let parsed = parse(&text).unwrap();
        let expected = Dockerfile {
            from: runtime.parse().unwrap(),
            destination: destination.to_owned(),
            env: owned(&[("CORE_CHAINCODE_BUILDLEVEL", "2.5.16")]),
            labels: BTreeMap::from_iter(owned(&[
                ("org.hyperledger.fabric.chaincode.type", kind),
                ("org.hyperledger.fabric.version", "2.5.16"),
            ])),
        };
        assert_eq!(parsed, expected, "{kind}");
    }
}

#[test]
fn the_dockerfiles_of_1_4() {
    for (kind, runtime, destination) in [
        (
            "GOLANG",
            "hyperledger/fabric-baseos:amd64-0.4.22",
            "/usr/local/bin",
        ),
        (
            "NODE",
            "hyperledger/fabric-baseimage:amd64-0.4.22",
            "/usr/local/src",
        ),
        (
            "JAVA",
            "hyperledger/fabric-javaenv:1.4",
            "/root/chaincode-java/chaincode",
        ),
    ] {
        let text = format!(
            "FROM {runtime}\nADD binpackage.tar {destination}\n\
             LABEL org.hyperledger.fabric.chaincode.id.name=\"simple\" \\\n      \
             org.hyperledger.fabric.chaincode.id.version=\"1.0+b2\" \\\n      \
             org.hyperledger.fabric.chaincode.type=\"{kind}\" \\\n      \
             org.hyperledger.fabric.version=\"1.4.12\" \\\n      \
             org.hyperledger.fabric.base.version=\"0.4.22\"\n\
             ENV CORE_CHAINCODE_BUILDLEVEL=1.4.12"
        );
        let parsed = parse(&text).unwrap();
        assert_eq!(parsed.from, runtime.parse().unwrap());
        assert_eq!(parsed.destination, destination);
        assert_eq!(
            parsed.env,
            owned(&[("CORE_CHAINCODE_BUILDLEVEL", "1.4.12")])
        );
        assert_eq!(parsed.labels.len(), 5);
        assert_eq!(
            parsed.labels["org.hyperledger.fabric.chaincode.id.version"],
            "1.0+b2"
        );
        assert_eq!(parsed.labels["org.hyperledger.fabric.chaincode.type"], kind);
    }
}

#[test]
fn values_are_read_as_docker_reads_them() {
    for (instruction, expected) in [
        ("ENV A=1 B=2", owned(&[("A", "1"), ("B", "2")])),
        ("env A=1 A=2", owned(&[("A", "2")])),
        ("ENV A the whole  rest", owned(&[("A", "the whole  rest")])),
        ("ENV A b=c", owned(&[("A", "b=c")])),
        ("ENV A='x \"y\" $z'", owned(&[("A", "x \"y\" $z")])),
        (
            "ENV A=\"x \\\"y\\\" \\n \\$z\"",
            owned(&[("A", "x \"y\" \\n $z")]),
        ),
        ("ENV A=x\\ y B=", owned(&[("A", "x y"), ("B", "")])),
        ("ENV A=b=c", owned(&[("A", "b=c")])),
        (
            "ENV A=1 \\\n# why\n\n  B=2",
            owned(&[("A", "1"), ("B", "2")]),
        ),
        ("ENV A=x\\\\", owned(&[("A", "x\\")])),
        ("\tENV\tA=1\r", owned(&[("A", "1")])),
        ("ENV A=1 \\", owned(&[("A", "1")])),
        ("ENV A=1 \\\n\n# end", owned(&[("A", "1")])),
    ] {
        let text =
            format!("# syntax=docker/dockerfile:1\nfrom a\nadd binpackage.tar /b\n{instruction}");
        assert_eq!(parse(&text).unwrap().env, expected, "{instruction}");
    }
}

#[test]
fn the_destination_is_absolute_and_clean() {
    for (written, clean) in [
        ("/usr/local/bin", "/usr/local/bin"),
        ("/usr//local/./bin/", "/usr/local/bin"),
        ("/a", "/a"),
    ] {
        let text = format!("FROM a\nADD binpackage.tar {written}");
        assert_eq!(parse(&text).unwrap().destination, clean);
    }
}

#[test]
fn what_is_not_accepted_is_refused_by_its_line() {
    for (text, line, said) in [
        ("", 1, "without FROM"),
        ("FROM a", 1, "without ADD"),
        ("FROM a\nENV A=1", 2, "without ADD"),
        ("ENV A=1\nFROM a", 1, "FROM comes first"),
        ("ARG V=1\nFROM a", 1, "FROM comes first"),
        ("FROM a\nRUN rm -rf /", 2, "\"RUN\" is not accepted"),
        ("FROM a\n\n# x\ncopy . .", 4, "\"COPY\" is not accepted"),
        ("FROM a AS b", 1, "no AS"),
        ("FROM --platform=linux/arm64 a", 1, "no option"),
        ("FROM $BASE", 1, "no variable"),
        ("FROM", 1, "FROM <image>"),
        ("FROM scratch", 1, "scratch"),
        ("FROM A//b", 1, "image name"),
        ("FROM a\nFROM b", 2, "second FROM"),
        ("FROM a\nADD other.tar /x", 2, "ADD binpackage.tar <"),
        ("FROM a\nADD binpackage.tar", 2, "ADD binpackage.tar <"),
        ("FROM a\nADD [\"binpackage.tar\", \"/x\"]", 2, "accepted"),
        ("FROM a\nADD --chown=1 binpackage.tar /x", 2, "accepted"),
        ("FROM a\nADD binpackage.tar x/y", 2, "relative"),
        ("FROM a\nADD binpackage.tar /x/../y", 2, ".."),
        ("FROM a\nADD binpackage.tar /", 2, "root"),
        ("FROM a\nADD binpackage.tar /$X", 2, "no plain path"),
        (
            "FROM a\nADD binpackage.tar /x\nADD binpackage.tar /y",
            3,
            "second ADD",
        ),
        ("FROM a\nLABEL", 2, "missing"),
        ("FROM a\nLABEL a", 2, "no =value"),
        ("FROM a\nLABEL a=\"b", 2, "not closed"),
        ("FROM a\nLABEL a='b", 2, "not closed"),
        ("FROM a\nLABEL =b", 2, "empty"),
        ("FROM a\nENV", 2, "missing"),
        ("FROM a\nENV A", 2, "no =value"),
        ("FROM a\nENV A=$PATH", 2, "not expanded"),
        ("FROM a\nENV A \"$PATH\"", 2, "not expanded"),
        ("FROM a\nLABEL a=b \\\n c", 2, "no =value"),
        ("# escape=`\nFROM a", 1, "escape"),
        ("FROM a\nONBUILD RUN x", 2, "ONBUILD"),
        ("FROM a\n{\"a\":1}", 2, "not accepted"),
    ] {
        match parse(text) {
            Err(Error::Dockerfile { line: at, reason }) => {
                assert!(reason.contains(said), "{text:?}: {reason}");
                assert_eq!(at, line, "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        text in "(FROM|ADD|LABEL|ENV|add|x)?([ \\\\\"'$=#\t\n\ra-z/.:]|\\PC){0,80}",
    ) {
        let _ = parse(&text);
        let _ = parse(&format!("FROM a\nADD binpackage.tar /b\n{text}"));
        let _ = parse(&format!("FROM a\nENV {text}"));
    }

    #[test]
    fn a_quoted_value_comes_back(value in "[^\\x00\n\r]{0,40}") {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let text = format!("FROM a\nADD binpackage.tar /b\nENV A=\"{quoted}\"");
        prop_assert_eq!(parse(&text).unwrap().env, vec![("A".to_owned(), value)]);
    }
}
