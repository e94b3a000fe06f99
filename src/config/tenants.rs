//! Section `tenants`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::is_dns_label;
use super::{
    ByTenant, Compile, Config, ListenTls, Pattern, Problems, Roles, RuntimeKind, TenantChaincode,
    TenantCompile,
};
use crate::names::Tenant;

/// Several organisations on one server: see [tenants](tenants.md). Names and images of one are not seen by the
/// others. Without tenants there is one, `default`, to which also belongs who names none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tenants {
    /// Those that there are. Others are refused, and never made.
    pub known: Vec<KnownTenant>,
    /// Believes a path `/t/<name>` without a proof, for tenants without `clientCaFile`: whoever reaches the listener may
    /// then take the name of any of them. A scope against mistakes, not against people.
    pub trust_path: bool,
}

/// One tenant.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KnownTenant {
    /// As it stands in the path of `CORE_VM_ENDPOINT`, `tcp://host:port/t/<name>`: 1 to 40 characters out of a-z, 0-9
    /// and -.
    pub name: String,
    /// The certificate authorities of its peers, in PEM. A client that shows a certificate of one of them is this tenant,
    /// with the path or without. Needs `listen.tls`.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
    /// Patterns such as `*.org1.example.com`. Where there are any, one has to match the certificate's common name. Alternative
    /// names do not count: Fabric's CA lets whoever enrols write them as he likes.
    #[serde(default)]
    pub subjects: Vec<Pattern>,
    /// Namespace of this tenant's pods and Secrets. Empty: that of `kubernetes.namespace`. Peitho needs its Role there too.
    #[serde(default)]
    pub namespace: String,
    /// Where this tenant's compiles differ from section `compile`.
    #[serde(default)]
    pub compile: TenantCompile,
    /// Where this tenant's chaincode differs from section `chaincode`.
    #[serde(default)]
    pub chaincode: TenantChaincode,
}

/// Who knows the clients of the Engine API's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Nobody.
    Anyone,
    /// They show certificates.
    Proven,
}

impl KnownTenant {
    /// Its name; `None` where it is none, which [`Config::check`] tells.
    pub fn tenant(&self) -> Option<Tenant> {
        self.name.parse().ok()
    }

    /// The namespace of its own, where it has one.
    pub fn own_namespace(&self) -> Option<&str> {
        Some(self.namespace.as_str()).filter(|it| !it.is_empty())
    }

    /// Its keys that are set and change nothing with `roles`, each with the key that would have to lead elsewhere.
    fn idle(&self, roles: Roles) -> Vec<(&'static str, &'static str)> {
        let (compile, chaincode) = (roles.compile, roles.chaincode);
        let pods = RuntimeKind::Kubernetes;
        let either = "neither compile.runtime nor chaincode.runtime is kubernetes";
        let compiles = "compile.runtime is not kubernetes";
        let launches = "chaincode.runtime is not kubernetes";
        [
            (
                "namespace",
                !self.namespace.is_empty() && !roles.use_runtime(pods),
                either,
            ),
            (
                "compile.requests",
                !self.compile.requests.is_empty() && compile != pods,
                compiles,
            ),
            (
                "compile.podTemplate",
                !self.compile.pod_template.is_empty() && compile != pods,
                compiles,
            ),
            (
                "chaincode",
                !self.chaincode.is_empty() && chaincode != pods,
                launches,
            ),
        ]
        .into_iter()
        .filter_map(|(key, is_idle, why)| is_idle.then_some((key, why)))
        .collect()
    }
}

impl Tenants {
    /// All that a path may name.
    pub fn names(&self) -> impl Iterator<Item = Tenant> {
        self.known.iter().filter_map(KnownTenant::tenant)
    }

    /// For whom a client may speak that has proved to be no tenant: `default`, and those that a path is believed for.
    pub fn unproven(&self) -> Vec<Tenant> {
        let is_proven = |tenant: &Tenant| {
            let mut known = self.known.iter();
            known.any(|it| it.client_ca_file.is_some() && it.tenant().as_ref() == Some(tenant))
        };
        let believed = self.names().filter(|_| self.trust_path);
        let all = std::iter::once(Tenant::default_tenant()).chain(believed);
        let unproven: BTreeSet<Tenant> = all.filter(|it| !is_proven(it)).collect();
        unproven.into_iter().collect()
    }

    /// `general` for all tenants, but for those of which `own` makes something else. It is asked with the key of each.
    pub fn each<'a, T>(
        &'a self,
        general: T,
        mut own: impl FnMut(&str, &'a KnownTenant) -> Option<T>,
    ) -> ByTenant<T> {
        let own = self
            .known
            .iter()
            .enumerate()
            .filter_map(|(index, known)| Some((known.tenant()?, own(&key_of(index), known)?)));
        ByTenant::new(general, own)
    }

    /// One line for each key that is set and has no effect with `roles`.
    pub fn idle(&self, roles: Roles) -> Vec<String> {
        let of = |(index, known): (usize, &KnownTenant)| {
            let idle = known.idle(roles).into_iter();
            idle.map(move |(key, why)| format!("{}.{key} has no effect: {why}", key_of(index)))
                .collect::<Vec<_>>()
        };
        self.known.iter().enumerate().flat_map(of).collect()
    }

    /// `tls` is that of the Engine API, `compile` what holds for all tenants.
    pub(super) fn check(&self, tls: &ListenTls, compile: &Compile, problems: &mut Problems) {
        let certificate = tls.certificate_file.as_ref();
        if let Some(file) = &tls.client_ca_file
            && self.unproven().is_empty()
        {
            let accepted = "none where the tenant default has a clientCaFile and tenants.trustPath is not set: its clients would be nobody";
            problems.add("listen.tls.clientCaFile", file, accepted);
        }
        let mut seen = BTreeSet::new();
        for (index, tenant) in self.known.iter().enumerate() {
            let key = |name: &str| format!("{}.{name}", key_of(index));
            if tenant.tenant().is_none() {
                let accepted = "1 to 40 characters out of a-z, 0-9 and -";
                problems.add(key("name"), &tenant.name, accepted);
            }
            if !seen.insert(&tenant.name) {
                problems.add(key("name"), &tenant.name, "a name that no other tenant has");
            }
            match (&tenant.client_ca_file, certificate) {
                (Some(file), None) => {
                    let accepted =
                        "together with listen.tls.certificateFile and listen.tls.keyFile";
                    problems.add(key("clientCaFile"), file, accepted);
                }
                (None, _) if !self.trust_path => {
                    let key = key("name");
                    let message = format!(
                        "{key} is {:?}, a tenant without clientCaFile: nothing proves who is that tenant; set \
                         clientCaFile, or tenants.trustPath: true to believe every path",
                        tenant.name
                    );
                    problems.tell(key, message);
                }
                _ => {}
            }
            if tenant.client_ca_file.is_none() && !tenant.subjects.is_empty() {
                let accepted = "together with clientCaFile";
                problems.add(key("subjects"), &tenant.subjects, accepted);
            }
            if tenant.subjects.iter().any(Pattern::is_empty) {
                problems.add(
                    key("subjects"),
                    &tenant.subjects,
                    "patterns that are not empty",
                );
            }
            if !tenant.namespace.is_empty() && !is_dns_label(&tenant.namespace) {
                let accepted = "a namespace: a-z, 0-9 and -, at most 63 characters; or nothing";
                problems.add(key("namespace"), &tenant.namespace, accepted);
            }
            tenant.compile.check(&key("compile"), compile, problems);
            tenant.chaincode.check(&key("chaincode"), problems);
        }
    }
}

/// Where an item of `tenants.known` stands.
fn key_of(index: usize) -> String {
    format!("tenants.known[{index}]")
}

impl Config {
    /// Whether the Engine API's clients over TCP show certificates.
    pub fn clients(&self) -> Clients {
        let of_tenants = self.tenants.known.iter();
        let mut authorities = of_tenants
            .map(|it| &it.client_ca_file)
            .chain([&self.listen.tls.client_ca_file]);
        match authorities.any(Option::is_some) {
            true => Clients::Proven,
            false => Clients::Anyone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str, file: Option<&str>) -> KnownTenant {
        KnownTenant {
            name: name.to_owned(),
            client_ca_file: file.map(PathBuf::from),
            subjects: Vec::new(),
            namespace: String::new(),
            compile: TenantCompile::default(),
            chaincode: TenantChaincode::default(),
        }
    }

    fn told(tenants: &Tenants, certificate: Option<&str>) -> Vec<String> {
        let mut problems = Problems::default();
        let tls = ListenTls {
            certificate_file: certificate.map(PathBuf::from),
            ..ListenTls::default()
        };
        tenants.check(&tls, &Compile::default(), &mut problems);
        problems.iter().map(|(_, text)| text.to_owned()).collect()
    }

    #[test]
    fn a_path_is_believed_only_where_that_is_said() {
        let mut tenants = Tenants {
            known: vec![tenant("org1", None)],
            trust_path: false,
        };
        let wrong = told(&tenants, None);
        assert_eq!(wrong.len(), 1);
        assert!(wrong[0].contains("tenants.trustPath: true"), "{wrong:?}");
        tenants.trust_path = true;
        assert_eq!(told(&tenants, None), Vec::<String>::new());
        let names: Vec<_> = tenants.unproven().iter().map(Tenant::to_string).collect();
        assert_eq!(names, ["default", "org1"]);
    }

    #[test]
    fn who_has_an_authority_is_nobody_without_it() {
        let tenants = Tenants {
            known: vec![
                tenant("org1", Some("/1")),
                tenant("org2", None),
                tenant("default", Some("/d")),
            ],
            trust_path: true,
        };
        let names: Vec<_> = tenants.unproven().iter().map(Tenant::to_string).collect();
        assert_eq!(names, ["org2"]);
        assert_eq!(told(&tenants, Some("/c")), Vec::<String>::new());
        assert_eq!(told(&tenants, None).len(), 2);
    }

    #[test]
    fn an_authority_of_nobody_is_refused() {
        let tenants = Tenants {
            known: vec![tenant("default", Some("/d"))],
            trust_path: false,
        };
        let tls = ListenTls {
            certificate_file: Some("/c".into()),
            key_file: Some("/k".into()),
            client_ca_file: Some("/ca".into()),
        };
        let mut problems = Problems::default();
        tenants.check(&tls, &Compile::default(), &mut problems);
        let told: Vec<_> = problems.iter().map(|(key, _)| key).collect();
        assert_eq!(told, ["listen.tls.clientCaFile"]);
    }

    #[test]
    fn names_and_patterns_are_checked() {
        let mut tenants = Tenants {
            known: vec![tenant("Org1", Some("/1")), tenant("a", Some("/2"))],
            trust_path: false,
        };
        tenants.known.push(tenant("a", Some("/3")));
        tenants.known[1].subjects = vec![Pattern::from("")];
        let wrong = told(&tenants, Some("/c"));
        assert_eq!(wrong.len(), 3, "{wrong:#?}");
        assert!(wrong[0].contains("\"Org1\"") && wrong[2].contains("no other tenant has"));
    }
}
