//! Which pod templates of the configuration are laid over which pod (design D15), and in which order: Peitho's own
//! pod < `kubernetes.podTemplate` < that of the role < by language < by label < the same of the tenant. `pod` and `compile_pod` hand their
//! pods over; `template_check` says what a template may hold. Pure.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde_json::{Map, Value};

use super::overlay::{merge, merge_key};
use super::template::fit;
use super::template_check::{self, Place};
use crate::config::{
    ByTenant, Chaincode, Compile, KnownTenant, Kubernetes, Override, PodTemplate, Problems, Tenants,
};
use crate::names::{Digest, Language};
use crate::runtime::{ChaincodeSpec, Error};

/// The templates for the pods of a tenant, found good. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// With their keys, in the order in which they are laid over a pod.
    compile: Vec<(String, PodTemplate)>,
    /// With their keys, in the order in which those that fit are laid over a pod.
    chaincode: Vec<(String, Override)>,
}

impl Templates {
    /// Reads and checks the templates of four sections: those of all tenants, and for each tenant that has its own what
    /// is laid over its pods.
    ///
    /// # Errors
    /// What in them cannot be laid over a pod of Peitho's, by key.
    pub fn read(
        kubernetes: &Kubernetes,
        compile: &Compile,
        chaincode: &Chaincode,
        tenants: &Tenants,
    ) -> Result<ByTenant<Self>, Problems> {
        let mut problems = Problems::default();
        let all = &kubernetes.pod_template;
        let mut general = Self::default();
        check("kubernetes.podTemplate", all, Place::All, &mut problems);
        general
            .compile
            .push(("kubernetes.podTemplate".to_owned(), all.clone()));
        general
            .chaincode
            .push(("kubernetes.podTemplate".to_owned(), always(all)));
        general.lay_compile("compile", &compile.pod_template, &mut problems);
        let (template, overrides) = (&chaincode.pod_template, &chaincode.overrides);
        general.lay_chaincode("chaincode", template, overrides, &mut problems);
        let by_tenant = tenants.each(general.clone(), |key, known| {
            let KnownTenant {
                compile, chaincode, ..
            } = known;
            let mut own = general.clone();
            let place = format!("{key}.compile");
            own.lay_compile(&place, &compile.pod_template, &mut problems);
            let (template, overrides) = (&chaincode.pod_template, &chaincode.overrides);
            let place = format!("{key}.chaincode");
            own.lay_chaincode(&place, template, overrides, &mut problems);
            (!compile.is_empty() || !chaincode.is_empty()).then_some(own)
        });
        match problems.is_empty() {
            true => Ok(by_tenant),
            false => Err(problems),
        }
    }

    fn lay_compile(&mut self, section: &str, template: &PodTemplate, problems: &mut Problems) {
        let key = format!("{section}.podTemplate");
        check(&key, template, Place::Compile, problems);
        self.compile.push((key, template.clone()));
    }

    fn lay_chaincode(
        &mut self,
        section: &str,
        template: &PodTemplate,
        overrides: &[Override],
        problems: &mut Problems,
    ) {
        let key = format!("{section}.podTemplate");
        check(&key, template, Place::Chaincode, problems);
        self.chaincode.push((key, always(template)));
        let mut fitting = Vec::new();
        for (index, it) in overrides.iter().enumerate() {
            let key = format!("{section}.overrides[{index}]");
            let template = format!("{key}.podTemplate");
            check(&template, &it.pod_template, Place::Chaincode, problems);
            fitting.push((key, it.clone()));
        }
        fitting.sort_by_key(|(_, it)| it.label.is_some());
        self.chaincode.extend(fitting);
    }

    /// Digest of what is laid over compile pods; `None` for nothing. A result depends on it (design D7).
    pub(super) fn compile_digest(&self) -> Option<Digest> {
        let parts: Vec<&PodTemplate> = self.compile.iter().map(|(_, it)| it).collect();
        if parts.iter().all(|part| part.is_empty()) {
            return None;
        }
        // A tenant that has no template for compiles shares nothing with others, but has the key that it had before.
        let (general, own) = parts.split_at(parts.len().min(2));
        let own = own.iter().copied().filter(|part| !part.is_empty());
        let parts: Vec<_> = general.iter().copied().chain(own).collect();
        let text =
            serde_json::to_vec(&parts).expect("plain data with string keys always serializes");
        Some(Digest::of(&text))
    }

    /// The key of the last template that is laid over each compile pod.
    pub(super) fn compile_key(&self) -> &str {
        self.compile
            .last()
            .map_or("compile.podTemplate", |(key, _)| key)
    }

    /// The key of the last template that is laid over each chaincode pod.
    pub(super) fn chaincode_key(&self) -> &str {
        let mut always = self.chaincode.iter().filter(|(_, it)| is_always(it));
        always
            .next_back()
            .map_or("chaincode.podTemplate", |(key, _)| key)
    }

    /// The templates for some of the chaincode, with their keys, in the order in which they are laid over a pod.
    pub(super) fn overrides(&self) -> impl Iterator<Item = (&str, &Override)> {
        let some = self.chaincode.iter().filter(|(_, it)| !is_always(it));
        some.map(|(key, it)| (key.as_str(), it))
    }

    /// `pod` with the templates for the chaincode of `spec`.
    ///
    /// # Errors
    /// [`Error::Refused`] when what comes out is no pod.
    pub(super) fn over_chaincode(&self, spec: &ChaincodeSpec, pod: Pod) -> Result<Pod, Error> {
        let fitting = self
            .chaincode
            .iter()
            .filter(|(_, it)| fits(it, spec.language, spec.label()));
        lay(fitting.map(|(_, it)| &it.pod_template), pod)
    }

    /// `pod` with the templates for compiles.
    ///
    /// # Errors
    /// As [`Templates::over_chaincode`].
    pub(super) fn over_compile(&self, pod: Pod) -> Result<Pod, Error> {
        lay(self.compile.iter().map(|(_, it)| it), pod)
    }
}

fn check(key: &str, template: &PodTemplate, place: Place, problems: &mut Problems) {
    template_check::check(key, template.content(), place, problems);
}

/// `template` as one that is for all chaincode.
fn always(template: &PodTemplate) -> Override {
    Override {
        pod_template: template.clone(),
        ..Override::default()
    }
}

fn is_always(it: &Override) -> bool {
    it.language.is_none() && it.label.is_none()
}

fn fits(it: &Override, language: Option<Language>, label: Option<&str>) -> bool {
    let language_fits = it.language.is_none_or(|wanted| Some(wanted) == language);
    let label_fits = match &it.label {
        None => true,
        Some(pattern) => label.is_some_and(|label| pattern.matches(label)),
    };
    language_fits && label_fits
}

fn lay<'a>(templates: impl Iterator<Item = &'a PodTemplate>, pod: Pod) -> Result<Pod, Error> {
    let mut templates = templates
        .map(PodTemplate::content)
        .filter(|content| !content.is_empty())
        .peekable();
    if templates.peek().is_none() {
        return Ok(pod);
    }
    let Ok(Value::Object(mut merged)) = serde_json::to_value(&pod) else {
        unreachable!("a pod is an object with string keys");
    };
    for template in templates {
        let present = of_present_containers(template, &merged);
        merge(&mut merged, &present);
    }
    let merged = serde_path_to_error::deserialize(Value::Object(merged)).map_err(|error| {
        // Each template is right for itself: one lays a list over another's map, or the like.
        Error::Refused(format!(
            "the pod templates do not fit together: {} cannot be read; see the podTemplate keys",
            error.path()
        ))
    })?;
    Ok(with_fitting_requests(merged))
}

/// `template` without what it says of containers that `pod` does not have: one template may speak of both roles.
fn of_present_containers(
    template: &Map<String, Value>,
    pod: &Map<String, Value>,
) -> Map<String, Value> {
    let mut template = template.clone();
    for list in template_check::CONTAINER_LISTS {
        let key = merge_key(list).unwrap_or_default();
        let there = pod["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(items) = template
            .get_mut("spec")
            .and_then(|spec| spec.get_mut(list)?.as_array_mut())
        {
            items.retain(|item| there.iter().any(|known| known[key] == item[key]));
        }
    }
    template
}

/// A template that lowers a limit need not lower the request of Peitho's, too.
fn with_fitting_requests(mut pod: Pod) -> Pod {
    let spec = pod.spec.get_or_insert_default();
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for container in containers {
        if let Some(ResourceRequirements {
            limits: Some(limits),
            requests: Some(requests),
            ..
        }) = &mut container.resources
        {
            fit(requests, limits);
        }
    }
    pod
}

#[cfg(test)]
pub(super) mod tests;
