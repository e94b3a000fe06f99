//! Which pod templates of the configuration are laid over which pod (design D15), and in which order: Peitho's own
//! pod < `kubernetes.podTemplate` < that of the role < by language < by label. `pod` and `compile_pod` hand their
//! pods over; `template_check` says what a template may hold. Pure.

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde_json::{Map, Value};

use super::overlay::{merge, merge_key};
use super::template::fit;
use super::template_check::{self, Place};
use crate::config::{Chaincode, Compile, Kubernetes, Override, PodTemplate, Problems};
use crate::names::{Digest, Language};
use crate::runtime::{ChaincodeSpec, Error};

/// The templates of the configuration, found good. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    all: PodTemplate,
    compile: PodTemplate,
    chaincode: PodTemplate,
    /// With their keys; those without a label first.
    overrides: Vec<(String, Override)>,
}

impl Templates {
    /// Reads and checks the templates of three sections.
    ///
    /// # Errors
    /// What in them cannot be laid over a pod of Peitho's, by key.
    pub fn read(
        kubernetes: &Kubernetes,
        compile: &Compile,
        chaincode: &Chaincode,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut check = |key: &str, template: &PodTemplate, place| {
            template_check::check(key, template.content(), place, &mut problems);
        };
        let compile = &compile.pod_template;
        check(
            "kubernetes.podTemplate",
            &kubernetes.pod_template,
            Place::All,
        );
        check("compile.podTemplate", compile, Place::Compile);
        check(
            "chaincode.podTemplate",
            &chaincode.pod_template,
            Place::Chaincode,
        );
        for (index, it) in chaincode.overrides.iter().enumerate() {
            let key = format!("chaincode.overrides[{index}].podTemplate");
            check(&key, &it.pod_template, Place::Chaincode);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut overrides: Vec<_> = chaincode
            .overrides
            .iter()
            .enumerate()
            .map(|(index, it)| (format!("chaincode.overrides[{index}]"), it.clone()))
            .collect();
        overrides.sort_by_key(|(_, it)| it.label.is_some());
        Ok(Self {
            all: kubernetes.pod_template.clone(),
            compile: compile.clone(),
            chaincode: chaincode.pod_template.clone(),
            overrides,
        })
    }

    /// Digest of what is laid over compile pods; `None` for nothing. A result depends on it (design D7).
    pub(super) fn compile_digest(&self) -> Option<Digest> {
        let parts = [&self.all, &self.compile];
        if parts.iter().all(|part| part.content().is_empty()) {
            return None;
        }
        let text =
            serde_json::to_vec(&parts).expect("plain data with string keys always serializes");
        Some(Digest::of(&text))
    }

    /// The overrides with their keys, in the order in which they are laid over a pod.
    pub(super) fn overrides(&self) -> &[(String, Override)] {
        &self.overrides
    }

    /// `pod` with the templates for the chaincode of `spec`.
    ///
    /// # Errors
    /// [`Error::Refused`] when what comes out is no pod.
    pub(super) fn over_chaincode(&self, spec: &ChaincodeSpec, pod: Pod) -> Result<Pod, Error> {
        let fitting = self
            .overrides
            .iter()
            .filter(|(_, it)| fits(it, spec.language, spec.label()))
            .map(|(_, it)| &it.pod_template);
        lay([&self.all, &self.chaincode].into_iter().chain(fitting), pod)
    }

    /// `pod` with the templates for compiles.
    ///
    /// # Errors
    /// As [`Templates::over_chaincode`].
    pub(super) fn over_compile(&self, pod: Pod) -> Result<Pod, Error> {
        lay([&self.all, &self.compile].into_iter(), pod)
    }
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
