mod attach;
mod build;
mod cluster;
mod drain;
mod shapes;
mod system;
mod wait;
mod world;
