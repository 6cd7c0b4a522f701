//! What only PostgreSQL needs: the statements of the write path.

pub(super) mod write;
