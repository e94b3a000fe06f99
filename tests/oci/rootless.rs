//! Containers of an ordinary user.
