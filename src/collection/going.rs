//! Records that go at a pass, one after the other, each only if nobody has written it since it was read: what they name is
//! `collection`'s to count, and goes later. What is gone when an error ends this is told all the same.

use std::collections::HashSet;

use super::Collected;
use crate::compile::{StoredIncrement, StoredResult};
use crate::image::Image;
use crate::names::{Digest, Tenant};
use crate::store::{self, Place, Store, Sum};

/// Those that are to go, or are gone.
#[derive(Default)]
pub(super) struct Going {
    pub(super) images: Vec<(Place, Image)>,
    pub(super) results: Vec<StoredResult>,
    pub(super) increments: Vec<StoredIncrement>,
}

impl Going {
    /// Removes them; gives those that are gone, also where an error came before the end. What the others name, which were built
    /// or used since they were read, and stay, is `named`.
    pub(super) async fn remove(
        self,
        store: &Store,
        named: &mut HashSet<Digest>,
    ) -> (Self, Result<(), store::Error>) {
        let mut gone = Self::default();
        let ended = self.remove_into(&mut gone, store, named).await;
        (gone, ended)
    }

    async fn remove_into(
        self,
        gone: &mut Self,
        store: &Store,
        named: &mut HashSet<Digest>,
    ) -> Result<(), store::Error> {
        for (place, image) in self.images {
            match store.remove_place(&place).await? {
                true => gone.images.push((place, image)),
                false => named.extend(image.digests()),
            }
        }
        for increment in self.increments {
            match store.remove_place(&increment.place).await? {
                true => gone.increments.push(increment),
                false => drop(named.insert(increment.blob.digest)),
            }
        }
        for result in self.results {
            match store.remove_place(&result.place).await? {
                true => gone.results.push(result),
                false => named.extend(result.blobs.iter().map(|blob| blob.digest)),
            }
        }
        Ok(())
    }

    /// What the results and increments name: its loss harms nobody, where nothing else names it.
    pub(super) fn digests(&self) -> impl Iterator<Item = Digest> {
        let of_results = self.results.iter().flat_map(|result| &result.blobs);
        let of_increments = self.increments.iter().map(|increment| &increment.blob);
        of_results.chain(of_increments).map(|blob| blob.digest)
    }

    /// The same as it is told.
    pub(super) fn told(&self) -> Collected {
        let whose = |(place, image): &(Place, Image)| {
            let tenant = place.tenant.clone();
            let tenant = tenant.unwrap_or_else(Tenant::default_tenant);
            (tenant, image.name.clone())
        };
        Collected {
            images: self.images.iter().map(whose).collect(),
            results: Sum {
                blobs: self.results.len() as u64,
                bytes: self.results.iter().map(StoredResult::size).sum(),
            },
            caches: Sum {
                blobs: self.increments.len() as u64,
                bytes: self.increments.iter().map(|it| it.blob.size).sum(),
            },
            ..Collected::default()
        }
    }
}
