//! Listeners that cannot be: told by key before anything else is asked of the machine.

use rcgen::KeyPair;

use crate::program::Place;

/// Starts with `settings`; gives what it ends with.
fn refused(place: &Place, settings: &[&str]) -> String {
    let arguments = place.serve(settings);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = place.run(&arguments);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    ended.stderr.lines().last().unwrap().to_owned()
}

#[test]
fn files_of_tls_are_told_by_key() {
    let place = Place::new();
    let key = KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["peitho".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&key).unwrap().pem();
    place.file("tls.crt", &certificate);
    place.file("tls.key", key.serialize_pem());
    place.file("other.key", KeyPair::generate().unwrap().serialize_pem());
    place.file("empty", "");
    place.file(
        "broken",
        "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n",
    );
    let cases = [
        (
            ["nowhere", "tls.key", "tls.crt"],
            "listen.tls.certificateFile: nowhere: No such file or directory (os error 2)",
        ),
        (
            ["empty", "tls.key", "tls.crt"],
            "listen.tls.certificateFile: empty: no certificate in PEM is in it",
        ),
        (
            ["broken", "tls.key", "tls.crt"],
            "listen.tls.certificateFile: broken: not PEM",
        ),
        (
            ["tls.crt", "tls.crt", "tls.crt"],
            "listen.tls.keyFile: tls.crt: no private key in PEM is in it",
        ),
        (
            ["tls.crt", "other.key", "tls.crt"],
            "listen.tls.keyFile: other.key: the key is not that of the certificate in tls.crt",
        ),
        (
            ["tls.crt", "tls.key", "empty"],
            "listen.tls.clientCaFile: empty: no certificate in PEM is in it",
        ),
    ];
    for (files, told) in cases {
        let [certificate, key, ca] = files;
        let tls = format!(
            "listen.tls={{certificateFile: {certificate}, keyFile: {key}, clientCaFile: {ca}}}"
        );
        let line = refused(&place, &[&tls]);
        assert!(line.starts_with(&format!("error: {told}")), "{line}");
    }
}

#[test]
fn a_socket_that_cannot_be_is_told() {
    let place = Place::new();
    place.file("taken", "");
    let taken = format!("listen.socket={}", place.path().join("taken").display());
    let line = refused(&place, &["listen.engineApi=none", &taken]);
    assert!(
        line.starts_with(
            "error: listen.socket: cannot listen on the socket taken: something else than a socket"
        ),
        "{line}"
    );
}

#[test]
fn tenants_without_a_proof_are_refused() {
    let place = Place::new();
    place.file("peitho.yml", "tenants:\n  known:\n    - name: org1\n");
    let ended = place.run(&["config", "check", "peitho.yml"]);
    let begin = "error: peitho.yml:3:7: tenants.known[0].name is \"org1\", a tenant without clientCaFile: nothing proves";
    assert!(ended.stderr.starts_with(begin), "{}", ended.stderr);
    assert_eq!(ended.code, Some(2));
    let believed = "tenants:\n  trustPath: true\n  known:\n    - name: org1\n";
    place.file("peitho.yml", believed);
    let ended = place.run(&["config", "check", "peitho.yml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
