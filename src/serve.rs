//! The composition root: configuration → store → runtime → images, compiles, containers → listeners → drain.
//! `cli` calls it; nothing else knows all the parts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compile::{self, Compiles};
use crate::config::Config;
use crate::container::Containers;
use crate::delivery::{self, Delivery, Records};
use crate::grant::Grants;
use crate::image::Images;
use crate::names::{InstanceName, Tenant};
use crate::registry::Registries;
use crate::runtime::Runtime;
use crate::runtime::kubernetes::{self, Kubernetes};
use crate::store::Store;
use crate::{admin, engine_api, listener};

/// How long a compile that nobody waits for any more goes on: a peer that was restarted asks again within it.
const ABANDON_GRACE: Duration = Duration::from_secs(30);

/// Requests in flight get this long at the end; Kubernetes allows a pod 30 s.
const DRAIN: Duration = Duration::from_secs(20);
