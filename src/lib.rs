//! Peitho.
