//! HTTP connections below the routes: the listening socket, how many connections there may be, which ones are closed, and the memory and
//! speed of the bodies that arrive on them.

pub mod bodies;
pub mod connections;
pub mod descriptors;
pub mod listener;
pub mod reaper;
