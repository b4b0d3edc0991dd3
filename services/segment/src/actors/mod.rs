//! The actors of a segment host, one file each.
//!
//! ```text
//!  Attach stream ──Obey──▶ Host ──Obtain──▶ Model (one per resident model) ──DoGet──▶ a peer
//!        ▲                  │ ▲ ──FindShard─▶ Shards (the Arrow cache)
//!        └──── facts ───────┘ └─Worked─── Trainer (one per slot) ◀──Work── Host
//! ```

pub(crate) mod host;
pub(crate) mod model;
pub(crate) mod shards;
pub(crate) mod trainer;
