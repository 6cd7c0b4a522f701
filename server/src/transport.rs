//! HTTP connections below the routes: the options of the listening socket, the limits of connections, the closing of
//! idle ones, and the memory and speed of arriving bodies.

pub mod bodies;
pub mod connections;
pub mod descriptors;
pub mod listener;
pub mod reaper;
