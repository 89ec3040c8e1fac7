//! Money: reservations, denials, windows, over one gateway and several.

mod changes;
mod chaos;
mod crowd;
mod elastic;
mod exhaustion;
mod names;
mod owners;
mod quotas;
mod thresholds;
mod windows;
