//! Orders: accepted under a key, published, delivered. One file for each stage, [`read`] for those who look.

mod accept;
mod claims;
mod expire;
mod hand_over;
mod model;
mod publish;
mod read;
mod restore;
mod settle;
mod timeline;
mod turn;

pub use model::*;

/// The queries of these files, for SQLite.
pub(in crate::store) mod sqlite {
    #[cfg(test)]
    pub(in crate::store) use super::read::sqlite::page;
    pub(in crate::store) use super::{
        claims::sqlite as claims, expire::sqlite as expire, hand_over::sqlite as hand_over, publish::sqlite as publish,
        turn::sqlite as turn,
    };
}

/// The queries of these files, for MySQL.
pub(in crate::store) mod mysql {
    #[cfg(test)]
    pub(in crate::store) use super::read::mysql::page;
    pub(in crate::store) use super::{
        claims::mysql as claims, expire::mysql as expire, hand_over::mysql as hand_over, publish::mysql as publish,
        turn::mysql as turn,
    };
}
