//! A way to Kubernetes that leads nowhere, or to somebody else: exit code 1, and never a silent wait.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::program::{Ended, Place};

/// Starts the server with `kubeconfig` until it gives up; the log is off, so that the last word stands alone.
fn serve(place: &Place, kubeconfig: &str) -> Ended {
    serve_with(place, kubeconfig, &[])
}

/// The same with `variables`.
fn serve_with(place: &Place, kubeconfig: &str, variables: &[(&str, &str)]) -> Ended {
    let setting = format!("kubernetes.kubeconfig={kubeconfig}");
    let arguments = place.serve(&[&setting, "log.level=off"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place.run_with(&arguments, variables)
}

/// A kubeconfig whose cluster is `cluster` and whose user is `user`, both as YAML.
pub(crate) fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n"
    )
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

#[test]
fn a_kubeconfig_that_does_not_serve_is_one_line_with_the_cause() {
    let advice = "name a readable kubeconfig file with a current context";
    let server = "server: 'https://127.0.0.1:1'";
    let cases: [(Option<String>, &str); 9] = [
        (None, "No such file or directory (os error 2)"),
        (Some(String::new()), "it has no current-context"),
        (
            Some("apiVersion: v1\nkind: Config\n".to_owned()),
            "it has no current-context",
        ),
        (
            Some("current-context: prod\n".to_owned()),
            "its current context \"prod\" is not one of its contexts",
        ),
        (
            Some(
                "contexts: [{name: x, context: {cluster: gone}}]\ncurrent-context: x\n".to_owned(),
            ),
            "the cluster \"gone\" of its current context is not one of its clusters",
        ),
        (
            Some(kubeconfig("server: ''", "")),
            "failed to parse cluster url: empty string",
        ),
        (
            Some(kubeconfig(
                &format!("{server}, certificate-authority: nowhere.crt"),
                "",
            )),
            "failed to load certificate authority: failed to read file '\"nowhere.crt\"': No such file or directory (os \
             error 2)",
        ),
        (
            Some(kubeconfig(
                &format!("{server}, proxy-url: 'http://me:hunter2@127.0.0.1:1'"),
                "",
            )),
            "its current cluster has a proxy-url, and Peitho reaches the API server without proxies",
        ),
        (
            Some("users:\n- name: u\n  user: {token: hunter2\n".to_owned()),
            "line 3, column 9 is not what a kubeconfig has there",
        ),
    ];
    for (content, cause) in cases {
        let place = Place::new();
        if let Some(content) = &content {
            place.file("kubeconfig", content);
        }
        let ended = serve(&place, "kubeconfig");
        let begin = format!("error: kubernetes.kubeconfig kubeconfig: {cause}");
        let end = format!("; {advice}\n");
        assert!(
            ended.stderr.starts_with(&begin) && ended.stderr.ends_with(&end),
            "{content:?}: {}",
            ended.stderr
        );
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
        assert_eq!(ended.code, Some(1));
    }
    let place = Place::new();
    let ended = serve(&place, "");
    assert_eq!(
        ended.stderr,
        "error: no Kubernetes: not in a pod, and .kube/config: No such file or directory (os error 2); set \
         kubernetes.kubeconfig or KUBECONFIG\n"
    );
    assert_eq!(ended.code, Some(1));
}

#[test]
fn the_start_says_that_it_waits_for_the_api_server_and_can_be_ended() {
    let place = Place::new();
    let server = nobody();
    let kubeconfig = kubeconfig(&format!("server: 'https://{server}'"), "token: hunter2");
    place.file("kubeconfig", kubeconfig);
    let arguments = place.serve(&["kubernetes.kubeconfig=kubeconfig", "log.color=never"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let mut running = place.start(&arguments);
    let line = running.line_with("waiting for");
    // A second of silence, and what a busy machine adds to the start.
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let expected = format!(
        " WARN peitho::runtime::kubernetes::access: waiting for the Kubernetes API server https://{server}: "
    );
    assert!(
        line.contains(&expected) && line.contains("Connection refused"),
        "{line}"
    );
    let ended = running.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("error:"), "{}", ended.stderr);
}

#[test]
fn a_certificate_of_another_authority_ends_the_start_at_once() {
    let place = Place::new();
    let (server, _) = api_server(String::new());
    let mut other = rcgen::CertificateParams::default();
    let name = rcgen::DnType::CommonName;
    other.distinguished_name.push(name, "another authority");
    let other = other.self_signed(&rcgen::KeyPair::generate().unwrap());
    let authority = place.file("ca.crt", other.unwrap().pem());
    let cluster = format!(
        "server: 'https://{server}', certificate-authority: {}",
        authority.display()
    );
    place.file("kubeconfig", kubeconfig(&cluster, ""));
    let begun = Instant::now();
    // A proxy is for registries. Nobody listens at this one.
    let proxies = [
        ("HTTPS_PROXY", "http://127.0.0.1:1"),
        ("https_proxy", "http://127.0.0.1:1"),
    ];
    let ended = serve_with(&place, "kubeconfig", &proxies);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let begin = format!("error: asking https://{server}: ");
    let end = "invalid peer certificate: UnknownIssuer; see certificate-authority and server of the kubeconfig\n";
    assert!(
        ended.stderr.starts_with(&begin) && ended.stderr.ends_with(end),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.code, Some(1));
}

/// What an API server says when it refuses: a Status.
fn refusal(code: u16, reason: &str, message: &str) -> String {
    let body = format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
    );
    format!(
        "HTTP/1.1 {code} {reason}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn a_token_that_is_not_accepted_ends_the_start_at_once() {
    let place = Place::new();
    let (server, certificate) = api_server(refusal(401, "Unauthorized", "Unauthorized"));
    let authority = place.file("ca.crt", certificate);
    let cluster = format!(
        "server: 'https://{server}', certificate-authority: {}",
        authority.display()
    );
    place.file("kubeconfig", kubeconfig(&cluster, "token: hunter2"));
    let begun = Instant::now();
    let ended = serve(&place, "kubeconfig");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        ended.stderr,
        format!(
            "error: asking https://{server}: Unauthorized; see whether the service account's token is valid\n"
        )
    );
    assert_eq!(ended.code, Some(1));
}

#[test]
fn an_api_server_that_does_not_tell_rights_is_asked_for_the_rest_all_the_same() {
    let place = Place::new();
    let (server, certificate) = api_server(refusal(403, "Forbidden", "x cannot do this"));
    let authority = place.file("ca.crt", certificate);
    let cluster = format!(
        "server: 'https://{server}', certificate-authority: {}",
        authority.display()
    );
    place.file("kubeconfig", kubeconfig(&cluster, "token: hunter2"));
    let arguments = place.serve(&["kubernetes.kubeconfig=kubeconfig", "log.level=warn"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = place.run(&arguments);
    let warning = "the API server does not say what Peitho may do; going on without knowing";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    assert_eq!(
        ended.stderr.lines().last(),
        Some(
            "error: reading secret default/peitho-instance: x cannot do this; bind the Role of the deployment to Peitho's \
             service account"
        )
    );
    assert_eq!(ended.code, Some(1));
}

/// A TLS server that gives `answer` to whoever asks: its address, and its certificate.
fn api_server(answer: String) -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that refuses the certificate goes away here.
            if tls.read(&mut [0; 4096]).is_ok() {
                let _ = tls.write_all(answer.as_bytes());
                let _ = tls.flush();
            }
        }
    });
    (address, own.cert.pem())
}
