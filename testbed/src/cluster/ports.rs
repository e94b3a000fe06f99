//! Owns the cluster's port numbers: away from the usual ones, so that another Kubernetes on the machine is not in the way.

pub(super) const ETCD: u16 = 12379;
pub(super) const ETCD_PEER: u16 = 12380;
pub(super) const API_SERVER: u16 = 16443;
pub(super) const KUBELET: u16 = 11250;
pub(super) const KUBELET_HEALTH: u16 = 11248;
pub(super) const CONTROLLERS: u16 = 11257;
pub(super) const SCHEDULER: u16 = 11259;
pub(super) const PROXY_HEALTH: u16 = 11256;
pub(super) const PROXY_METRICS: u16 = 11255;
