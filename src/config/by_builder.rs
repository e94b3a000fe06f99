//! Requests and limits of compiles: those of all, and those of some builder images, laid one over the other. Made of the sections `compile` and
//! `tenants`; runtimes ask with the image of what they have to run.

use super::{ByTenant, Compile, CompileOverride, Config, Pattern, Quantities, TenantCompile};
use crate::names::ImageName;

/// Quantities by builder image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByBuilder {
    /// For which images, and what is laid over what stands before it; `None`: for all.
    layers: Vec<(Option<Pattern>, Quantities)>,
}

impl ByBuilder {
    /// Those of compiles by `builder`.
    pub fn of(&self, builder: &ImageName) -> Quantities {
        let fits = |pattern: &Pattern| pattern.matches_image(builder);
        let fitting = (self.layers.iter())
            .filter(|(pattern, _)| pattern.as_ref().is_none_or(fits))
            .flat_map(|(_, quantities)| quantities.clone());
        fitting.collect()
    }

    fn lay(
        &mut self,
        general: &Quantities,
        overrides: &[CompileOverride],
        of: fn(&CompileOverride) -> &Quantities,
    ) {
        self.layers.push((None, general.clone()));
        let some = overrides.iter();
        (self.layers).extend(some.map(|it| (Some(it.image.clone()), of(it).clone())));
    }
}

impl From<Quantities> for ByBuilder {
    /// The same for all.
    fn from(general: Quantities) -> Self {
        Self {
            layers: vec![(None, general)],
        }
    }
}

impl Compile {
    /// The requests of all compiles, or those of a tenant that has `own`.
    pub fn requests_by_builder(&self, own: Option<&TenantCompile>) -> ByBuilder {
        let mut requests = ByBuilder::default();
        requests.lay(&self.requests, &self.overrides, |it| &it.requests);
        if let Some(own) = own {
            requests.lay(&own.requests, &own.overrides, |it| &it.requests);
        }
        requests
    }

    /// The same of limits.
    pub fn limits_by_builder(&self, own: Option<&TenantCompile>) -> ByBuilder {
        let mut limits = ByBuilder::default();
        limits.lay(&self.limits, &self.overrides, |it| &it.limits);
        if let Some(own) = own {
            limits.lay(&own.limits, &own.overrides, |it| &it.limits);
        }
        limits
    }
}

impl Config {
    /// The limits of each tenant's compiles.
    pub fn compile_limits(&self) -> ByTenant<ByBuilder> {
        let general = self.compile.limits_by_builder(None);
        self.tenants.each(general, |_, known| {
            let own = &known.compile;
            (!own.is_empty()).then(|| self.compile.limits_by_builder(Some(own)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_laid_over_in_the_order_of_the_file() {
        let yaml = "
compile:
  limits: {cpu: 4, memory: 4Gi}
  overrides:
    - {image: '*fabric-javaenv*', requests: {memory: 1Gi}, limits: {memory: 8Gi}}
    - {image: 'docker.io/hyperledger/*', limits: {cpu: 2}}
    - {image: 'hyperledger/fabric-javaenv:2.5', limits: {memory: 6Gi}}
tenants:
  trustPath: true
  known:
    - {name: org1, compile: {limits: {memory: 1Gi}, overrides: [{image: '*nodeenv*', limits: {memory: 3Gi}}]}}
    - {name: org2, compile: {parallel: 1}}
";
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), yaml).unwrap();
        let config = Config::load(Some(file.path()), [], &[]).unwrap();
        let limits = config.compile_limits();
        for (tenant, image, cpu, memory) in [
            ("default", "busybox", "4", "4Gi"),
            (
                "default",
                "registry.example.com/fabric-javaenv:1.4",
                "4",
                "8Gi",
            ),
            ("default", "hyperledger/fabric-javaenv:2.4", "2", "8Gi"),
            ("org2", "hyperledger/fabric-javaenv:2.5", "2", "6Gi"),
            ("default", "hyperledger/fabric-nodeenv:2.5", "2", "4Gi"),
            ("org1", "hyperledger/fabric-nodeenv:2.5", "2", "3Gi"),
            // The tenant's own limits are laid over all of the section.
            ("org1", "hyperledger/fabric-javaenv:2.5", "2", "1Gi"),
        ] {
            let of = limits
                .of(&tenant.parse().unwrap())
                .of(&image.parse().unwrap());
            let found = [of["cpu"].as_str(), of["memory"].as_str()];
            assert_eq!(found, [cpu, memory], "{tenant} {image}");
        }
        let requests = config.compile.requests_by_builder(None);
        let java = requests.of(&"a/fabric-javaenv".parse().unwrap());
        assert_eq!(
            (java["cpu"].as_str(), java["memory"].as_str()),
            ("200m", "1Gi")
        );
    }
}
