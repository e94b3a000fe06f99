//! A value that all tenants share, but for those that have their own. Made of section `tenants` by
//! [`super::Tenants::each`]; who holds one asks with the tenant of what he has to do.

use std::collections::BTreeMap;

use crate::names::Tenant;

/// What holds for all tenants, and for some instead of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByTenant<T> {
    general: T,
    own: BTreeMap<Tenant, T>,
}

impl<T> ByTenant<T> {
    /// `general`, but for the tenants of `own`.
    pub fn new(general: T, own: impl IntoIterator<Item = (Tenant, T)>) -> Self {
        Self {
            general,
            own: own.into_iter().collect(),
        }
    }

    /// That of `tenant`.
    pub fn of(&self, tenant: &Tenant) -> &T {
        self.own.get(tenant).unwrap_or(&self.general)
    }

    /// What those have that have none of their own.
    pub fn general(&self) -> &T {
        &self.general
    }

    /// The same of what `of` makes of each.
    pub fn map<U>(&self, of: impl Fn(&T) -> U) -> ByTenant<U> {
        let own = self
            .own
            .iter()
            .map(|(tenant, own)| (tenant.clone(), of(own)));
        ByTenant::new(of(&self.general), own)
    }

    /// What tenants have of their own.
    pub fn own(&self) -> impl Iterator<Item = (&Tenant, &T)> {
        self.own.iter()
    }
}

impl<T> From<T> for ByTenant<T> {
    /// One for all tenants.
    fn from(general: T) -> Self {
        Self::new(general, [])
    }
}
