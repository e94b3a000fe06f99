//! Containers as pods.
