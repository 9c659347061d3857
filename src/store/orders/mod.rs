//! Orders: accepted under a key, published, delivered. One file for each stage, [`read`] for those who look.

mod accept;
mod deliver;
mod model;
mod publish;
mod read;
mod settle;

pub use model::*;

/// The queries of these files, for SQLite.
pub(in crate::store) mod sqlite {
    pub(in crate::store) use super::deliver::sqlite as deliver;
}

/// The queries of these files, for MySQL.
pub(in crate::store) mod mysql {
    pub(in crate::store) use super::deliver::mysql as deliver;
}
