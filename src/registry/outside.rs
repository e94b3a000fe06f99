//! Which layers are had outside: a registry or an archive showed the bytes, or a registry mounted them. Whoever names such a
//! one in a base of its own may have it. Of any other blob that the store or the registry of built images has, nobody learns
//! by its digest alone (design D4): a base may list whatever its maker wants, the layer of another tenant's chaincode too.
//! `pull`, `push` and `import` note what comes, and ask before they spare themselves a way.
//!
//! A note says nothing of whether the store has the layer. One that is lost costs that the layer is moved once more.

use crate::store::{self, Blob, RefKind, Scope, Store};

/// Whether `layer` is had outside.
///
/// # Errors
/// When the store cannot tell.
pub(super) async fn has(store: &Store, layer: &Blob) -> Result<bool, store::Error> {
    let name = layer.digest.to_string();
    match store.get_ref(RefKind::Outside, Scope::Nobody, &name).await {
        Ok(size) => Ok(size == Some(layer.size)),
        Err(store::Error::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps in mind that `layer` is.
///
/// # Errors
/// When the store does not take it.
pub(super) async fn note(store: &Store, layer: &Blob) -> Result<(), store::Error> {
    let name = layer.digest.to_string();
    let put = store.put_ref(RefKind::Outside, Scope::Nobody, &name, &layer.size);
    put.await
}
