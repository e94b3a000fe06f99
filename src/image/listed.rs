//! The images that Peitho has, for people: what it built for a tenant, and the bases that it holds whole. `engine_api` asks for
//! the list; here also one is removed.

use std::collections::BTreeMap;

use futures::TryStreamExt as _;

use super::{Error, Image, Images};
use crate::events::{Action, Event, Kind};
use crate::names::{Digest, ImageName, LANGUAGE_LABEL, Language, Tenant, labels};
use crate::registry;
use crate::store::{self, Place, Read, RefKind, Scope, Store};

/// An image in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: Digest,
    /// Its name; another one of the same id is another entry.
    pub name: ImageName,
    /// When it was built or fetched, in seconds since the Unix epoch.
    pub created: i64,
    /// Length of what Peitho holds of it, in bytes: the added layer of a built one, and its base where that is held too.
    pub size: u64,
    /// `LABEL`s of its build, and what else is known, by [`labels`].
    pub labels: BTreeMap<String, String>,
}

impl Images {
    /// What `tenant` built, and the bases that are held for all; the newest first.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn list(&self, tenant: &Tenant) -> Result<Vec<Listed>, Error> {
        let dated = self.store.dated_refs(RefKind::Held, Scope::Nobody).await?;
        let dates: BTreeMap<String, i64> = dated.into_iter().collect();
        let mut bases = BTreeMap::new();
        let mut all = Vec::new();
        for (name, held) in registry::list_held(&self.store).await? {
            bases.insert(name.full(), held.size());
            all.push(Listed {
                id: held.id,
                created: dates.get(&name.full()).copied().unwrap_or_default(),
                size: held.size(),
                labels: BTreeMap::new(),
                name,
            });
        }
        for (image, created) in self.all_built(tenant).await? {
            let base = bases.get(&image.base.name.full()).copied();
            all.push(Listed {
                id: image.id,
                created,
                size: image.layer.blob.size + base.unwrap_or_default(),
                labels: told(tenant, &image),
                name: image.name,
            });
        }
        all.sort_by(|one, other| {
            let key = |it: &Listed| (it.created, it.name.clone());
            key(other).cmp(&key(one))
        });
        Ok(all)
    }

    /// Takes the name of `image`, which `tenant` built, away. Its layer stays in the store, where others may need it. Peers go on
    /// to believe that the image exists (protocol rule 5), hence the warning.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub async fn remove(&self, tenant: &Tenant, image: &Image) -> Result<(), Error> {
        let turn = self.turn(tenant, &image.name).await;
        self.store
            .remove_ref(RefKind::Image, tenant, &image.name.full())
            .await?;
        drop(turn);
        tracing::warn!(
            %tenant, image = %image.name, image.digest = %image.id,
            "image: {} was removed by order; a peer that used it believes that it is there: install its package again, or restart the peer",
            image.name
        );
        self.tell(tenant, image, Action::Untag);
        Ok(())
    }

    /// Tells what happened to a name that `tenant` gave to `image`.
    pub(super) fn tell(&self, tenant: &Tenant, image: &Image, action: Action) {
        let mut attributes = told(tenant, image);
        attributes.insert("name".to_owned(), image.name.to_string());
        let event = Event {
            kind: Kind::Image,
            action,
            id: image.id.to_string(),
            attributes,
        };
        self.events.tell(tenant, event);
    }

    /// What `tenant` built and `name` means: the image called so, else each name of the one whose id begins so. Never empty.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Held`], [`Error::Ambiguous`], [`Error::Store`].
    pub async fn mine(&self, tenant: &Tenant, name: &ImageName) -> Result<Vec<Image>, Error> {
        if let Some(image) = self.built(tenant, name).await? {
            return Ok(vec![image]);
        }
        let same = self.of_id(tenant, name).await?;
        if !same.is_empty() {
            return Ok(same);
        }
        let held = registry::list_held(&self.store).await?;
        match held.iter().any(|(held, _)| held == name) {
            true => Err(Error::Held(name.clone())),
            false => Err(Error::NotFound(name.clone())),
        }
    }

    /// As [`mine`](Self::mine), where that is one name alone. An id has no peer in it: several may have built the same.
    ///
    /// # Errors
    /// [`Error::ManyNames`], and those of [`mine`](Self::mine).
    pub async fn mine_alone(&self, tenant: &Tenant, name: &ImageName) -> Result<Image, Error> {
        let mut all = self.mine(tenant, name).await?;
        match all.len() {
            1 => Ok(all.remove(0)),
            names => Err(Error::ManyNames {
                id: all[0].id,
                names,
            }),
        }
    }

    /// The images that `tenant` built whose id begins with what `name` is: all have the same id.
    pub(super) async fn of_id(
        &self,
        tenant: &Tenant,
        name: &ImageName,
    ) -> Result<Vec<Image>, Error> {
        let Some(digits) = name.as_id_prefix() else {
            return Ok(Vec::new());
        };
        let all = self.all_built(tenant).await?;
        let fit: Vec<Image> = all
            .into_iter()
            .map(|(image, _)| image)
            .filter(|image| image.id.hex().starts_with(digits))
            .collect();
        match fit.iter().all(|image| image.id == fit[0].id) {
            true => Ok(fit),
            false => Err(Error::Ambiguous(digits.to_owned())),
        }
    }

    async fn all_built(&self, tenant: &Tenant) -> Result<Vec<(Image, i64)>, Error> {
        let read = (self.store).every_ref_of::<Image>(RefKind::Image, Scope::Of(tenant));
        let sound = read.and_then(async |read| match read {
            Read::Ref { place, value, .. } => Ok((value, place.written)),
            Read::Damaged { place, reason }
            | Read::Unread { place, reason }
            | Read::Strange { place, reason } => Err(store::Error::Corrupt {
                name: place.to_string(),
                reason,
            }),
        });
        Ok(sound.try_collect().await?)
    }
}

/// Every image of every tenant, for operators.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// With its tenant, and the second since the Unix epoch in which it was built.
    pub images: Vec<(Tenant, Image, i64)>,
    /// Records that cannot be read, and why.
    pub unreadable: Vec<(Place, String)>,
}

/// What all tenants built, sorted by tenant and name.
///
/// # Errors
/// When the store cannot be read.
pub async fn catalogue(store: &Store) -> Result<Catalogue, store::Error> {
    let mut all = Catalogue::default();
    let mut read = std::pin::pin!(store.every_ref::<Image>(RefKind::Image));
    while let Some(read) = read.try_next().await? {
        match read {
            Read::Ref { place, value, .. } => {
                let tenant = place.tenant.unwrap_or_else(Tenant::default_tenant);
                all.images.push((tenant, value, place.written));
            }
            Read::Damaged { place, reason }
            | Read::Unread { place, reason }
            | Read::Strange { place, reason } => {
                all.unreadable.push((place, reason));
            }
        }
    }
    let by_name = |(tenant, image, _): &(Tenant, Image, i64)| (tenant.clone(), image.name.clone());
    all.images.sort_by_cached_key(by_name);
    Ok(all)
}

pub(super) fn told(tenant: &Tenant, image: &Image) -> BTreeMap<String, String> {
    let mut told = image.labels.clone();
    let language = image.labels.get(LANGUAGE_LABEL);
    let language = language.and_then(|label| Language::of_label(label));
    if let Some(language) = language {
        told.insert(labels::LANGUAGE.to_owned(), language.as_str().to_owned());
    }
    told.insert(labels::TENANT.to_owned(), tenant.to_string());
    told.insert(labels::BASE.to_owned(), image.base.name.to_string());
    if let Some(digest) = image.base.digest {
        told.insert(labels::BASE_DIGEST.to_owned(), digest.to_string());
    }
    if let Some(hash) = image.name.package_hash() {
        told.insert(labels::PACKAGE_HASH.to_owned(), hash.to_owned());
    }
    if let Some(builder) = &image.builder {
        told.insert(labels::BUILDER.to_owned(), builder.name.to_string());
        told.insert(
            labels::BUILDER_DIGEST.to_owned(),
            builder.digest.to_string(),
        );
    }
    told
}
