//! Which builder made which output of a tenant, for as long as it takes from a compile to its build: the body of a `/build` holds
//! the output verbatim and says nothing of where it comes from. `compile` notes it, `image` asks. Another tenant may have made the
//! same bytes with a builder of its own: none learns of that (design D7).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Compiles, End};
use crate::image_spec::Builder;
use crate::names::{Digest, ImageName, Tenant};

/// A peer builds seconds after its compile; so many compiles between the two are far more than run at once.
const MOST: usize = 1024;

/// What is remembered; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Origins(Arc<Mutex<VecDeque<Origin>>>);

#[derive(Debug)]
struct Origin {
    tenant: Tenant,
    output: Digest,
    builder: Builder,
}

impl Origin {
    fn is_of(&self, tenant: &Tenant, output: &Digest) -> bool {
        (&self.tenant, &self.output) == (tenant, output)
    }
}

impl Origins {
    /// `builder` made `output` for `tenant`.
    pub fn note(&self, tenant: &Tenant, output: Digest, builder: Builder) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|other| !other.is_of(tenant, &output));
        if known.len() >= MOST {
            known.pop_front();
        }
        let tenant = tenant.clone();
        known.push_back(Origin {
            tenant,
            output,
            builder,
        });
    }

    /// What made the output of `tenant` with this digest; the last one, where several made the same.
    pub fn of(&self, tenant: &Tenant, output: &Digest) -> Option<Builder> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|it| it.is_of(tenant, output));
        found.map(|it| it.builder.clone())
    }
}

impl Compiles {
    /// What `image` made for `tenant` in a compile that came to this `end`, where it has a `manifest`.
    pub(super) fn note_origin(
        &self,
        tenant: &Tenant,
        image: &ImageName,
        manifest: Option<Digest>,
        end: Option<&End>,
    ) {
        if let (Some(digest), Some(End::Exited { output, .. })) = (manifest, end)
            && let Some(output) = output
        {
            let name = image.clone();
            let builder = Builder { name, digest };
            self.0.origins.note(tenant, output.digest, builder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_known() {
        let origins = Origins::default();
        let builder = |text: &str| Builder {
            name: text.parse().unwrap(),
            digest: Digest::of(text.as_bytes()),
        };
        let output = |number: usize| Digest::of(&number.to_be_bytes());
        let tenant = Tenant::default_tenant();
        let of = |number: usize| origins.of(&tenant, &output(number));
        for number in 0..=MOST {
            origins.note(&tenant, output(number), builder("ccenv:1"));
        }
        origins.note(&tenant, output(7), builder("ccenv:2"));
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some(builder("ccenv:1")));
        assert_eq!(of(7), Some(builder("ccenv:2")));

        // Nobody else's builder is this tenant's.
        let other = "org2".parse().unwrap();
        origins.note(&other, output(7), builder("own:1"));
        assert_eq!(of(7), Some(builder("ccenv:2")));
        assert_eq!(origins.of(&other, &output(7)), Some(builder("own:1")));
        assert_eq!(origins.of(&other, &output(8)), None);
    }
}
